"""Another thread in the middle of a call, at a moment that can be chosen and repeated.

Left to themselves, threads meet in a window of a few instructions once in a million calls, and
never again at the same place. Here the interpreter's trace function starts the other thread when
the call reaches its n-th line of Python and waits for it. Code in C has no lines: a moment inside
of it can be offered by a callback into Python.
"""

from __future__ import annotations

import gc
import linecache
import sys
import sysconfig
import threading
from collections.abc import Callable
from functools import cache
from pathlib import Path
from types import FrameType
from typing import Any, TypeVar

T = TypeVar("T")


class Patience:
    """How long the other thread may take before the call goes on.

    Where a lock makes it wait for the call, that is how long both wait. That is not known before it
    is seen, and a busy machine may look like it: so the first wait is long, and where one was in
    vain, all others are short.
    """

    def __init__(self) -> None:
        self.seconds = 2.0

    def wait_for(self, thread: threading.Thread) -> None:
        thread.join(self.seconds)
        if thread.is_alive():
            self.seconds = 0.01


HERE = str(Path(__file__).parent)


@cache
def _is_library(file: str) -> bool:
    """Python's own, or of this package: its lines are no moments of anybody's tracker."""
    if file.startswith(HERE):
        return True
    paths = tuple(sysconfig.get_path(name) for name in ("stdlib", "platstdlib"))
    packages = ("site-packages", "dist-packages")
    return file.startswith("<frozen") or (
        file.startswith(paths) and not any(name in file for name in packages)
    )


class Interruption:
    """Runs `action` in another thread when a call has come to its `moment`-th line, from 0.

    `where` then says which line that was. Where the call has fewer lines, the action runs after it.
    """

    def __init__(self, action: Callable[[], object], moment: int, patience: Patience) -> None:
        self.action = action
        self.patience = patience
        self.left = moment
        self.where = "right after it"
        self._thread: threading.Thread | None = None
        self._error: BaseException | None = None

    def during(self, call: Callable[[], T]) -> T:
        """The result of `call`; raises what it raises, or else what the action raised."""
        tracer = sys.gettrace()  # a debugger or coverage, which misses this call
        collects = gc.isenabled()
        gc.disable()  # a collection may run lines of anybody's, at a moment that nobody chose
        sys.settrace(self._trace)
        try:
            result = call()
        finally:
            sys.settrace(tracer)
            if collects:
                gc.enable()
            if self._thread is not None:
                self._thread.join()
        if self._thread is None:
            self.action()
        if self._error is not None:
            raise self._error
        return result

    def _trace(self, frame: FrameType, event: str, arg: Any) -> Any:  # noqa: ARG002
        if self._thread is not None or _is_library(frame.f_code.co_filename):
            return None
        if event == "line":
            self.left -= 1
            if self.left < 0:
                self._interrupt(frame)
        return self._trace

    def _interrupt(self, frame: FrameType | None) -> None:
        assert frame is not None
        source = linecache.getline(frame.f_code.co_filename, frame.f_lineno).strip()
        self.where = f"before line {frame.f_lineno} of {frame.f_code.co_name}(): {source}"
        self._thread = threading.Thread(target=self._run)
        self._thread.start()
        self.patience.wait_for(self._thread)
        sys.settrace(None)
        while frame is not None and frame.f_trace is not None:  # and no line is looked at any more
            frame.f_trace = None
            frame = frame.f_back

    def _run(self) -> None:
        try:
            self.action()
        except BaseException as error:
            self._error = error
