"""The names that a log has: PATH when it is finished, PATH.journal beside it while it is written;
and how a whole file appears under a name."""

from __future__ import annotations

import os
import sys
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

SUFFIX = ".journal"


def journal_of(path: Path) -> Path:
    """Where the log that is to be at `path` is written."""
    return path.with_name(path.name + SUFFIX)


def finished_of(journal: Path) -> Path:
    """Where the log of a journal is to be: in its own place if it has another name."""
    name = journal.name
    return journal.with_name(name.removesuffix(SUFFIX)) if len(name) > len(SUFFIX) else journal


def check_free(path: Path) -> None:
    """FileExistsError if there is a log at `path`, finished or not, or anything else."""
    for name in (path, journal_of(path)):
        if os.path.lexists(name):
            raise FileExistsError(f"{name} exists")


def put_whole(path: Path, write: Callable[[Path], None]) -> None:
    """Has a file written under another name, and puts it at `path` in one rename: whole or not at
    all. What was there is replaced. Returns when the name is on the disk."""
    part = path.with_name(path.name + ".closing")
    try:
        write(part)
        part.replace(path)
    except BaseException:
        part.unlink(missing_ok=True)
        raise
    _sync_folder(path.absolute().parent)


def _sync_folder(folder: Path) -> None:
    """Returns when the names in a folder are on the disk, where the system can say so."""
    if sys.platform == "win32":
        return
    fd = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(fd)
    finally:
        os.close(fd)
