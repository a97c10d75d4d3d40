"""Threads for tests: started together, their failures seen, and switched often."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from collections.abc import Callable

GIL_ENABLED = getattr(sys, "_is_gil_enabled", lambda: True)()


def until(condition: Callable[[], object]) -> None:
    """Lets others run until it is so. For what no event tells: that a thread waits in C."""
    while not condition():
        getattr(os, "sched_yield", lambda: None)()


@contextlib.contextmanager
def switching_often():
    """Threads take turns as often as the interpreter can."""
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-6)
    try:
        yield
    finally:
        sys.setswitchinterval(interval)


class Started:
    """Threads that run `works`, from the same moment on. `finish` joins them, and raises the first
    exception of any."""

    def __init__(self, *works: Callable[[], object]) -> None:
        self._errors: list[BaseException] = []
        self.results: list[object] = [None] * len(works)
        self._together = threading.Barrier(len(works))
        self._threads = [
            threading.Thread(target=self._run, args=(n, work), daemon=True)
            for n, work in enumerate(works)
        ]
        for thread in self._threads:
            thread.start()

    def _run(self, n: int, work: Callable[[], object]) -> None:
        try:
            self._together.wait()
            self.results[n] = work()
        except BaseException as error:  # raised in finish
            self._errors.append(error)

    def finish(self) -> list:
        for thread in self._threads:
            thread.join()
        if self._errors:
            raise self._errors[0]
        return self.results


def run(*works: Callable[[], object]) -> list:
    """What the works return, each run in a thread of its own at the same time."""
    return Started(*works).finish()
