"""Puts a finished file where a folder was, so that at each instant one of them is there.

A rename cannot replace a folder by a file. Linux can exchange the two in one step; where that is
not to be had (another system, some network file systems), the folder steps aside first, and whoever
opens the log in that instant, or after a kill in it, finds it under its other name.
"""

from __future__ import annotations

import ctypes
import os
import shutil
import sys
from pathlib import Path

AT_FDCWD, RENAME_EXCHANGE = -100, 2


def aside(path: Path) -> Path:
    """The folder's other name."""
    return path.with_name(path.name + ".old")


def replace_folder(folder: Path, file: Path) -> None:
    """Renames `file` to the name of `folder`, which is removed. Both are on one file system."""
    if _exchange(folder, file):
        old = file
    else:
        old = aside(folder)
        folder.rename(old)
        file.rename(folder)
    sync_folder(folder.parent)
    shutil.rmtree(old)


def _exchange(a: Path, b: Path) -> bool:
    """Exchanges two names; False where the system cannot."""
    if sys.platform != "linux":
        return False
    try:
        renameat2 = ctypes.CDLL(None, use_errno=True).renameat2
    except (OSError, AttributeError):
        return False
    done: int = renameat2(AT_FDCWD, os.fsencode(a), AT_FDCWD, os.fsencode(b), RENAME_EXCHANGE)
    return done == 0


def sync_folder(folder: Path) -> None:
    """Returns when the names in a folder are on the disk, where the system can say so."""
    if sys.platform == "win32":
        return
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
