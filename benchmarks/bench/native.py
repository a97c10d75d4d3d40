"""The C files of this folder, built when the bench runs: loops, limits, and the empty type."""

from __future__ import annotations

import ctypes
import importlib.machinery
import importlib.util
import os
import shlex
import shutil
import subprocess
import sysconfig
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from .timing import Candidate

if TYPE_CHECKING:
    from collections.abc import Callable

HERE = Path(__file__).resolve().parents[1]
LEVELS = ("-O2", "-O3")


@dataclass
class Native:
    """What was built; empty where there is no compiler, and `reason` says so."""

    loops: dict[str, ctypes.CDLL] = field(default_factory=dict)
    limits: ctypes.CDLL | None = None
    atomic: ctypes.CDLL | None = None
    decode: ctypes.CDLL | None = None
    empty: Any = None
    compiler: str = ""
    reason: str = ""

    def c(self, how: str, function: str, *args: Any, **more: Any) -> list[Candidate]:
        """A function of plain.c, as compiled at each level."""
        return [
            self.candidate(f"C: {how} {level}", getattr(library, function), *args, **more)
            for level, library in self.loops.items()
        ]

    def limit(self, tool: str, function: str, *args: Any, widths: bool = True) -> list[Candidate]:
        """A function of limits.c, at each width that this CPU has."""
        if self.limits is None:
            return []
        widest = self.limits.limit_width()
        names = [f"{function}_{width}" for width in (64, 256, 512) if width <= widest]
        return [
            self.candidate(f"{tool}: {name}", getattr(self.limits, name), *args)
            for name in (names if widths else [function])
        ]

    def candidate(self, name: str, function: Any, *args: Any, **more: Any) -> Candidate:
        """One of what was built, less the cost of its call by ctypes."""
        assert self.limits is not None
        empty = call(self.limits.empty, 1, 2, 3)
        return Candidate(name, call(function, *args), empty=empty, **more)


def call(function: Any, *args: Any) -> Callable[[], Any]:
    """A call with its arguments converted beforehand: arrays to pointers, all else to 64 bits."""
    made = [
        ctypes.c_void_p(arg.ctypes.data) if isinstance(arg, np.ndarray) else ctypes.c_uint64(arg)
        for arg in args
    ]
    function.restype = ctypes.c_uint64
    bound = partial(function, *made)
    bound.arrays = args  # type: ignore[attr-defined]  # which live as long as the call does
    return bound


def _compiler() -> list[str]:
    for command in (os.environ.get("CC"), sysconfig.get_config_var("CC"), "cc", "gcc", "clang"):
        if command and shutil.which(shlex.split(command)[0]):
            return shlex.split(command)[:1]
    return []


def build(folder: Path) -> Native:
    """Compiles all into `folder`, which must stay as long as this process needs them."""
    compiler = _compiler()
    if not compiler:
        return Native(reason="no C compiler")

    def compiled(source: str, *options: str) -> Path:
        out = folder / f"{Path(source).stem}{options[0]}.so"
        command = [*compiler, "-std=gnu11", "-shared", "-fPIC", *options]
        subprocess.run([*command, str(HERE / source), "-o", str(out)], check=True)
        return out

    made = Native(compiler=_version(compiler))
    for level in LEVELS:
        made.loops[level] = ctypes.CDLL(str(compiled("plain.c", level)))
    made.limits = ctypes.CDLL(str(compiled("limits.c", "-O3")))
    made.atomic = ctypes.CDLL(str(compiled("atomic.c", "-O3")))
    made.decode = ctypes.CDLL(str(compiled("decode.c", "-O3")))
    try:
        include = f"-I{sysconfig.get_path('include')}"
        made.empty = _load("empty", compiled("empty.c", "-O3", include)).Empty()
    except subprocess.CalledProcessError:
        made.reason = "Python.h is missing"
    return made


def _version(compiler: list[str]) -> str:
    done = subprocess.run([*compiler, "--version"], capture_output=True, text=True, check=False)
    return done.stdout.partition("\n")[0]


def _load(name: str, binary: Path) -> Any:
    loader = importlib.machinery.ExtensionFileLoader(name, str(binary))
    spec = importlib.util.spec_from_loader(name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module
