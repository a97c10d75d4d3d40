"""Making each allocation fail at its turn, in a process that `LD_PRELOAD`s `failing.c`."""

from __future__ import annotations

import ctypes
import os
import shutil
import subprocess
import sys
import sysconfig
from collections.abc import Callable
from pathlib import Path

import pytest

from iovabitmap import _core

FOREVER = 2**62


def build(folder: Path) -> Path:
    """Compiles `failing.c`; skips where that cannot be, or would stand in a sanitizer's way."""
    compiler = next(filter(shutil.which, (os.environ.get("CC", "cc"), "gcc", "clang")), None)
    if not sys.platform.startswith("linux"):
        pytest.skip("failing allocations need LD_PRELOAD and a GNU C library")
    if compiler is None:
        pytest.skip("failing allocations need a C compiler")
    if "asan" in os.environ.get("LD_PRELOAD", ""):
        pytest.skip("a sanitizer's runtime stands before the C library's allocations already")
    library = folder / "failing.so"
    source = Path(__file__).with_name("failing.c")
    command = [compiler, "-O1", "-g", "-fPIC", "-shared", "-o", library, source, "-ldl"]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"failing.c cannot be compiled here: {done.stderr[-300:]}")
    return library


class _Plan(ctypes.Structure):
    _fields_ = [
        (name, ctypes.c_int64)
        for name in ("armed", "first", "last", "count", "native", "code_start", "code_end")
    ]


class Failing:
    """Lets a call fail at one allocation, or from it on. Only where `failing.c` is preloaded."""

    def __init__(self) -> None:
        library = ctypes.CDLL(None)
        python = ctypes.pythonapi
        library.iova_failing_hook(python.PyMem_GetAllocator, python.PyMem_SetAllocator)
        self.plan = _Plan.in_dll(library, "iova_failing")
        self.plan.code_start, self.plan.code_end = _code_of(_core.__file__)

    def call(self, what: Callable[[object], object], argument: object, first: int, last: int):
        """(result, exception) of `what(argument)`, of whose allocations those from `first` to
        `last` fail; `self.plan.count` tells how many there were."""
        plan = self.plan
        plan.first, plan.last, plan.count = first, last, 0
        result = error = None
        try:
            plan.armed = 1
            result = what(argument)
        except BaseException as caught:
            error = caught
        plan.armed = 0
        if error is not None:  # no cycle: the interpreter has few MemoryErrors in store
            error.__traceback__ = None
        return result, error


def _code_of(path: str) -> tuple[int, int]:
    """From where to where a shared object's code is in this process."""
    lines = Path("/proc/self/maps").read_text(encoding="utf-8").splitlines()
    pieces = [line.split()[0].split("-") for line in lines if line.endswith(os.path.realpath(path))]
    return int(pieces[0][0], 16), int(pieces[-1][1], 16)


def has_debug_hooks() -> bool:
    return bool(sysconfig.get_config_var("Py_DEBUG"))
