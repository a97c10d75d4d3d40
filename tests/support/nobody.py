"""Becoming the user nobody, for child processes that show what needs no privilege.

The user nobody may not be able to read the packages: the clone, the environment or Python itself
may be in a folder that only its owner can enter. So the package is loaded before, and every later
import fails everywhere, not only in such a folder.
"""

from __future__ import annotations

import contextlib
import ctypes
import os
import pkgutil
import sys
from importlib import import_module

import iovabitmap

NOBODY = 65534
PR_SET_DUMPABLE = 4
NOT_LOADED = {"__main__", "strategies"}  # runs the command; is for tests, and slow to load


class _Unreadable:
    """A finder that refuses every module."""

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:
        raise ImportError(f"{name} is imported by the user nobody, who may not read it")


def become() -> None:
    """From here on this process is nobody's, if it was root's; else it stays what it is."""
    if os.geteuid() != 0:
        return
    for found in pkgutil.iter_modules(iovabitmap.__path__):
        if found.name not in NOT_LOADED:
            with contextlib.suppress(ImportError):  # of an extra
                import_module(f"iovabitmap.{found.name}")
    sys.meta_path.insert(0, _Unreadable())
    os.setgroups([])
    os.setresgid(NOBODY, NOBODY, NOBODY)
    os.setresuid(NOBODY, NOBODY, NOBODY)
    # Who changed their user may not read their own /proc/self; a process started so may.
    assert ctypes.CDLL(None).prctl(PR_SET_DUMPABLE, 1, 0, 0, 0) == 0
