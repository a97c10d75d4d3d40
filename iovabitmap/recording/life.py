"""Waiting for the end of any process, until a moment."""

from __future__ import annotations

import contextlib
import os
import select
import time

LONGEST_POLL_MS = 24.0 * 3600 * 1000  # the kernel takes at most 31 bits


class Life:
    """Of any process, from now on. OSError where there is none. To be closed.

    `wake` is a descriptor that can be read after a signal, as `handling` gives: waiting stops for
    the signal's handler, and goes on.

    Attributes
    ----------
    ended : bool
        Whether `over` has seen the process's end.
    """

    def __init__(self, pid: int, wake: int | None = None) -> None:
        self.ended = False
        self._wake = wake
        self._fd = os.pidfd_open(pid)
        self._poll = select.poll()
        self._poll.register(self._fd, select.POLLIN)
        if wake is not None:
            self._poll.register(wake, select.POLLIN)

    def over(self, until_ns: int | None) -> bool:
        """Waits until a moment of CLOCK_MONOTONIC, or for ever: whether the process has ended."""
        while not self.ended:
            ms = None if until_ns is None else max(0.0, (until_ns - time.monotonic_ns()) / 1e6)
            ready = [
                fd for fd, _ in self._poll.poll(None if ms is None else min(ms, LONGEST_POLL_MS))
            ]
            self.ended = self._fd in ready
            if not ready and (ms is None or ms <= LONGEST_POLL_MS):
                break
            if self._wake in ready:
                drain(self._wake)
        return self.ended

    def close(self) -> None:
        os.close(self._fd)


def drain(fd: int) -> None:
    """Reads what a descriptor that does not block has."""
    with contextlib.suppress(BlockingIOError):
        while os.read(fd, 4096):
            pass
