"""Running another program under a CommandTracker: signals that are passed on, waiting for its end,
and its exit status.

The recorder ends when the program does, and never before: a signal to end goes to the program,
whose last writes are recorded too. Ctrl-C in a terminal reaches both by itself, and is not sent
twice: a second one makes some servers give up at once. The recorder's handlers are in place before
the program starts, and each signal wakes it, whichever of its threads the kernel interrupts.
"""

from __future__ import annotations

import contextlib
import os
import resource
import signal
import time
from typing import TYPE_CHECKING

from .life import Life

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from types import FrameType

    from ..sources import CommandTracker

BY_SIGNAL = 128
PASSED_ON = (signal.SIGINT, signal.SIGTERM, signal.SIGHUP)
OF_TERMINAL = (signal.SIGINT, signal.SIGHUP)  # a terminal sends these to all of its foreground


class Running:
    """A program that is tracked: from its start to its end, with `with`.

    Leaving the block stops the tracking; the program goes on, if it runs. `start` starts it, by
    default as the tracker does.

    Attributes
    ----------
    start_ns : int
        When it was started: CLOCK_MONOTONIC.
    life : Life
        To wait for its end; inside the block only.
    """

    def __init__(self, tracker: CommandTracker, start: Callable[[], object] | None = None) -> None:
        self.tracker = tracker
        self._start = start or tracker.start
        self.start_ns = 0
        self._life: Life | None = None
        self._early: list[int] = []  # signals that came before there was a program

    def __enter__(self) -> Running:
        self._restore = contextlib.ExitStack()
        with self._restore:
            wake = self._restore.enter_context(handling(self._pass_on))
            self._restore.callback(self.tracker.stop)
            self.start_ns = time.monotonic_ns()
            self._start()
            assert self.tracker.process is not None
            self._life = Life(self.tracker.process.pid, wake)
            self._restore.callback(self._life.close)
            # A terminal's too: a program that it reached so early has ended, because a program
            # cannot have handlers before its memory is tracked.
            for number in self._early:
                self.tracker.process.send_signal(number)
            self._restore.enter_context(many_descriptors())
            self._restore = self._restore.pop_all()
        return self

    def __exit__(self, *exc: object) -> None:
        self._restore.close()

    @property
    def life(self) -> Life:
        assert self._life is not None
        return self._life

    def exit_status(self) -> int:
        """Waits for the end: the program's status, as a shell tells it: 128 + n for signal n."""
        self.life.over(None)
        status = self.tracker.wait()
        return status if status >= 0 else BY_SIGNAL - status

    def _pass_on(self, number: int, frame: FrameType | None) -> None:
        del frame
        process = self.tracker.process
        if process is None:
            self._early.append(number)
        elif self._life is not None and self._life.ended:  # it is us that should end
            if number == signal.SIGINT:
                raise KeyboardInterrupt
            raise SystemExit(BY_SIGNAL + number)
        # A program whose end we have not seen yet may be gone, by this very signal of a terminal:
        # then nothing is sent, and what it wrote is still to be recorded.
        elif not (number in OF_TERMINAL and reached_by_terminal(process.pid)):
            process.send_signal(number)


@contextlib.contextmanager
def handling(handler: Callable[[int, FrameType | None], None]) -> Iterator[int]:
    """Signals to end go to the handler inside; those that are ignored stay so.

    Yields a descriptor that can be read after each signal. A poll that includes it also ends for a
    signal that came just before the poll began, or that interrupted another thread.
    """
    before = {number: signal.getsignal(number) for number in PASSED_ON}
    wake, woken = os.pipe2(os.O_NONBLOCK | os.O_CLOEXEC)
    woken_before = signal.set_wakeup_fd(woken, warn_on_full_buffer=False)
    try:
        for number, old in before.items():
            if old not in (signal.SIG_IGN, None):  # None: not Python's to put back
                signal.signal(number, handler)
        yield wake
    finally:
        for number, old in before.items():
            if old is not None:
                signal.signal(number, old)
        signal.set_wakeup_fd(woken_before)
        os.close(wake)
        os.close(woken)


@contextlib.contextmanager
def many_descriptors() -> Iterator[None]:
    """As many open files as we may have inside: each tracked process takes four. Not before the
    program was started, which would inherit that."""
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_NOFILE, (soft, hard))


def reached_by_terminal(pid: int) -> bool:
    """Whether what is typed at our terminal to interrupt reaches this process just as us."""
    try:
        if os.getpgid(pid) != os.getpgrp():
            return False
        terminal = os.open("/dev/tty", os.O_RDONLY | os.O_NOCTTY | os.O_CLOEXEC)
    except OSError:  # it is gone, or we have no terminal
        return False
    try:
        return os.tcgetpgrp(terminal) == os.getpgrp()
    except OSError:
        return False
    finally:
        os.close(terminal)
