"""CommandTracker: which pages another program writes, from outside and without privileges."""

from __future__ import annotations

import difflib
import errno
import inspect
import os
import shutil
import subprocess
import threading
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ._address_space import AddressSpace
from ._layout import Untracked
from ._memory import MostMemory
from ._placement import Packed
from ._preloaded import Reception, library
from ._processes import command_of, descendants, why_not_preloadable, why_not_preloaded
from ._source import BaseSource
from .maps import thread_stacks
from .probe import Probe, probed
from .process_tracker import DEFAULT_LENGTH, ProcessTracker, named

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence

    from .. import _core
    from ..timeline import Memory
    from ._layout import LayoutRow
    from ._placement import Placement

_NO_LAST_LOOK = "ended without telling (a signal, or exec): what it wrote last is not known"


class CommandTracker(BaseSource):
    """Runs a program and tracks writes to its memory, and to that of its children.

    A small library is loaded into the program (LD_PRELOAD), which hands descriptors for its memory
    over; all else happens here. It needs no privilege, and works with any dynamically linked
    program. Private writable mappings are tracked, as with `ProcessTracker`. Forked children are
    programs of their own, with addresses of their own in the one IOVA space; so is what a process
    becomes by exec. A program waits at its start, after fork() and at its end until this process
    has looked at its memory: a thread of the tracker sees to that.

    Parameters
    ----------
    argv : sequence of str
        The program and its arguments.
    placement : GuestRam, optional
        Which memory is tracked, and where it lies; else all private writable memory, packed.
    iova, length : int, optional
        The IOVA space, as with `ProcessTracker`; not with `placement`, which has its own.
    shared : bool
        Track shared writable mappings too: each process's writes through its own mapping. Not with
        `placement`, which decides that.
    **popen
        Further arguments of `subprocess.Popen`, as `stdout` or `cwd`.

    Attributes
    ----------
    process : subprocess.Popen or None
        The program, once started: to wait for, to talk to, to end. `stop()` does not end it. When
        it has ended, `start()` runs it again, as another process.

    Raises
    ------
    ValueError
        No program, iova and length do not fit, or one of iova, length, shared beside placement.
    TypeError
        argv is one text; or an argument that `subprocess.Popen` does not take.

    Notes
    -----
    Not tracked are static and setuid programs, and children that lost the environment; `untracked`
    lists those that are seen. What a process writes between its last collect and its end is seen
    when it ends by exit() or _exit(), and lost when a signal ends it, or exec replaces it.

    Examples
    --------
    >>> import iovabitmap as ib
    >>> from iovabitmap.sources import CommandTracker
    >>> with CommandTracker(["sort", "/etc/services"], stdout=-3) as tracker:  # -3: DEVNULL
    ...     status = tracker.wait()
    ...     bm = ib.IOVABitmap(tracker.iova, tracker.length)
    ...     tracker.collect(bm) > 0
    True
    """

    def __init__(
        self,
        argv: Sequence[str],
        *,
        placement: Placement | None = None,
        iova: int | None = None,
        length: int | None = None,
        shared: bool = False,
        **popen: Any,
    ) -> None:
        if isinstance(argv, str | bytes):
            raise TypeError(f"argv must be a sequence of words, as {[argv]!r}, not {argv!r}")
        if not argv:
            raise ValueError("argv is empty: it must name a program")
        _check_popen(popen)
        if placement is None:
            if iova is None:
                iova = 0
            if length is None:
                length = DEFAULT_LENGTH
            placement = Packed(iova, length, shared=shared)
        else:
            given = {"iova": iova is not None, "length": length is not None, "shared": shared}
            ignored = [name for name, is_given in given.items() if is_given]
            if ignored:
                raise ValueError(f"{' and '.join(ignored)} do not go with placement, which decides")
        self._placement = placement
        super().__init__(self._placement.iova, self._placement.length)
        self.argv = list(argv)
        self.process: subprocess.Popen[Any] | None = None
        self._popen = popen
        self._reception: Reception | None = None
        self._leaving: Reception | None = None
        self._spaces: dict[int, AddressSpace] = {}
        self._memory = MostMemory()
        self._count = 0
        self._rows: list[LayoutRow] = []  # of address spaces that are gone
        self._missed: list[Untracked] = []  # memory of those
        self._left_out: dict[int, Untracked] = {}
        self._first = False  # the program came, or never will
        self._came = threading.Condition(self._lock)

    @classmethod
    def probe(cls) -> Probe:
        """Whether this machine can: memory can be tracked, and the library is there. Never raises.

        Whether a certain program can be tracked only shows when it runs.
        """

        def look() -> Probe:
            library()
            os.close(os.pidfd_open(os.getpid()))
            return ProcessTracker.probe()

        return probed(look)

    def why_not(self) -> str:
        """Why this program's memory will not be tracked, as far as its file tells: static, setuid.

        "" where it may well be, and where there is no such program.
        """
        name = self._popen.get("executable") or self.argv[0]
        program = shutil.which(name, path=self._environment().get("PATH"))
        return "" if program is None else why_not_preloadable(Path(program))

    def _environment(self) -> dict[str, str]:
        """What the program would have without us; it may be anything that Popen takes."""
        given = self._popen.get("env")
        return dict(os.environ if given is None else given)

    # --- the life ---

    def _start(self) -> None:
        if self.process is not None and self.process.poll() is None:
            raise RuntimeError(
                f"the program still runs, as process {self.process.pid}: start() runs it again "
                "when it has ended"
            )
        self.process, self._first = None, False
        self._reception = Reception(self._on_hello, self._on_bye, self._on_gone)
        popen = {**self._popen, "env": self._reception.environment(self._environment())}
        try:
            self.process = subprocess.Popen(self.argv, **popen)
            self._reception.watch(self.process.pid)
            self._wait_for_first(self.process.pid)
        except BaseException:
            self._stop(owner=True)
            raise

    def _wait_for_first(self, pid: int) -> None:
        """Until the program handed over its memory, ended, or cannot do so."""
        reason = why_not_preloaded(pid)
        if reason:
            self._left_out[pid] = Untracked(pid, command_of(pid), reason)
            return
        self._came.wait_for(lambda: self._first)  # the lock is the reception's meanwhile

    def _stop(self, owner: bool) -> None:
        reception, self._reception = self._reception, None
        if reception is not None and owner:
            reception.close()
            self._leaving = reception
        if owner and self.process is not None:  # it is asked for no more
            self._left_out |= self._unheard(descendants(self.process.pid))
        if owner:
            self._memory.measure(self._spaces.values())
        for pid in list(self._spaces):
            if owner:
                self._spaces[pid].disarm()
            self._drop(pid, _stacks(pid))

    def start(self) -> None:
        """Runs the program; when this returns its memory is tracked, or `untracked` says why not.

        Does nothing where it is started. Raises OSError: there is no such program, or the system
        lacks something; RuntimeError: the program of the last start still runs.
        """
        try:
            super().start()
        finally:
            self._join()

    def stop(self) -> None:
        """Ends tracking, and not the program. Does nothing where it is stopped."""
        super().stop()
        self._join()

    def _join(self) -> None:
        """Waits for a thread that was asked to end: without the lock, for which it may wait."""
        leaving, self._leaving = self._leaving, None
        if leaving is not None:
            leaving.join()

    def wait(self, timeout: float | None = None) -> int:
        """Waits for the program's end: its exit status, negative for a signal.

        Raises RuntimeError before `start()`, subprocess.TimeoutExpired.
        """
        if self.process is None:
            raise RuntimeError("the CommandTracker is not started")
        return self.process.wait(timeout)

    @property
    def returncode(self) -> int | None:
        """The program's exit status, negative for a signal; None while it runs."""
        return None if self.process is None else self.process.poll()

    # --- what the reception tells, in its thread ---

    def _on_hello(self, pid: int, fds: tuple[int, int, int] | None, error: int) -> None:
        with self._lock:
            self._drop(pid)  # what it was before exec
            if self._reception is None:  # stopped
                for fd in fds or ():
                    os.close(fd)
                return
            try:
                if fds is None:
                    raise OSError(error, os.strerror(error))
                self._count += 1
                space = AddressSpace(self._count, pid, fds, self._placement)
                self._spaces[pid] = space
                space.arm()
                self._memory.measure([space])
                self._left_out.pop(pid, None)
            except OSError as failure:
                self._drop(pid)
                self._left_out[pid] = Untracked(
                    pid, command_of(pid), failure.strerror or repr(failure)
                )
            self._reception.watch(pid)
            self._tell_first()

    def _on_bye(self, pid: int) -> None:
        with self._lock:
            if pid in self._spaces:
                self._look_at(pid)
                if pid in self._spaces:
                    self._memory.measure([self._spaces[pid]])
                self._drop(pid, _stacks(pid))

    def _on_gone(self, pid: int) -> None:
        with self._lock:
            if pid in self._spaces:
                what = " ".join(self.argv) if self._is_first(pid) else "a child"
                self._left_out[pid] = Untracked(pid, what, _NO_LAST_LOOK)
                self._drop(pid)
            if self._is_first(pid):
                self._tell_first()

    def _tell_first(self) -> None:
        self._first = True
        self._came.notify_all()

    def _is_first(self, pid: int) -> bool:
        return self.process is None or pid == self.process.pid

    # --- looking ---

    def _find(self, pending: _core.IOVABitmap) -> None:
        del pending
        for pid in list(self._spaces):
            self._look_at(pid)

    def _look_at(self, pid: int) -> None:
        assert self._pending is not None
        try:
            self._spaces[pid].find(self._pending)
        except OSError as error:
            if error.errno != errno.ESRCH:
                raise
            # Its memory is gone: it ended, or exec replaced it.
            self._left_out[pid] = Untracked(pid, "a process", _NO_LAST_LOOK)
            self._drop(pid)

    def _drop(self, pid: int, stacks: dict[int, int] | None = None) -> None:
        """Its memory is tracked no more; what is known of it stays."""
        space = self._spaces.pop(pid, None)
        if space is not None:
            self._rows += named(space.rows(), stacks or {})
            self._missed += space.untracked
            self._memory.forget(space)
            space.close()

    def layout(self) -> list[LayoutRow]:
        """Which memory the IOVA space stands for, ascending by iova.

        Rows of mappings and processes that are gone stay; after `stop` all is as last known.
        """
        with self._lock:
            rows = list(self._rows)
            for pid, space in self._spaces.items():
                rows += named(space.rows(), _stacks(pid))
            return sorted(rows)

    def memory(self) -> Memory | None:
        """How much memory is tracked: the most that was seen resident at once, and what was mapped
        then; of `GuestRam` the guest's. None if none was.

        It is measured now, when a process comes, and before one ends by exit() or _exit(). Counted
        for each process are the pages of its own (docs/logs.md has which these are).
        """
        with self._lock:
            self._memory.measure(self._spaces.values())
            found = self._memory.found
            return None if found is None else self._placement.memory(found)

    @property
    def tracked(self) -> list[int]:
        """The processes whose memory is tracked just now, ascending."""
        with self._lock:
            return sorted(self._spaces)

    @property
    def untracked(self) -> list[Untracked]:
        """Processes and memory that should be tracked and are, or were, not; each with the reason.

        Processes: the program and its descendants, as far as they are to be seen now, or were when
        it was stopped.
        """
        with self._lock:
            missing = dict(self._left_out)
            if self.process is not None and self.started:
                missing |= self._unheard(descendants(self.process.pid))
            memory = [each for space in self._spaces.values() for each in space.untracked]
            return list(missing.values()) + self._missed + memory

    def _unheard(self, pids: Iterable[int]) -> dict[int, Untracked]:
        found = {}
        for pid in pids:
            if pid not in self._spaces and pid not in self._left_out:
                reason = why_not_preloaded(pid) or "it did not hand over its memory (yet)"
                found[pid] = Untracked(pid, command_of(pid), reason)
        return found


def _check_popen(given: dict[str, Any]) -> None:
    """TypeError for what `subprocess.Popen` would refuse when the program is started."""
    known = set(inspect.signature(subprocess.Popen).parameters) - {"args"}
    unknown = sorted(given.keys() - known)
    if unknown:
        close = difflib.get_close_matches(unknown[0], [*known, "placement", "shared"], 1)
        hint = f": {close[0]}?" if close else ""
        raise TypeError(f"subprocess.Popen takes no argument {', '.join(unknown)}{hint}")


def _stacks(pid: int) -> dict[int, int]:
    try:
        return thread_stacks(pid)
    except OSError:
        return {}
