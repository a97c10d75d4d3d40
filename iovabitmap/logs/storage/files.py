"""Which file a log is in: finished, or the journal that a recording has or a kill left."""

from __future__ import annotations

import errno
import os
import stat
from pathlib import Path

from ..errors import LogError
from .journal import MAGIC, Journal
from .names import journal_of
from .parquet import ParquetLog


def find(path: Path) -> tuple[Path, bool]:
    """The file that holds the log at `path`, and whether it is a journal.

    Raises
    ------
    FileNotFoundError
        There is neither a file nor a journal.
    LogError
        There is something else, as a folder.
    """
    journal = journal_of(path)
    for _ in range(2):  # between the two questions, closing may make one of the other
        for name in (path, journal):
            mode = _mode(name)
            if stat.S_ISREG(mode):
                return name, name == journal or _is_journal(name)
            if mode:  # a FIFO would be waited for
                raise LogError(name, "not a log: it is not a file")
    raise FileNotFoundError(errno.ENOENT, os.strerror(errno.ENOENT), os.fspath(path))


def _mode(path: Path) -> int:
    """What there is, as stat(2) says; 0 if there is nothing. One question, so that the answer is of
    one instant."""
    try:
        return path.stat().st_mode
    except (FileNotFoundError, NotADirectoryError):
        return 0


def _is_journal(path: Path) -> bool:
    """Of a file of any name: one that was moved."""
    with path.open("rb") as file:
        return file.read(len(MAGIC)) == MAGIC


def open_log(path: Path, salvage: bool) -> Journal | ParquetLog:
    """The log at `path`, to be read. The errors are those of `find` and LogError for damage."""
    try:
        return _open(path, salvage)
    except FileNotFoundError:  # closed just now: the journal became the file
        return _open(path, salvage)


def _open(path: Path, salvage: bool) -> Journal | ParquetLog:
    found, is_journal = find(path)
    return Journal.open(found, salvage=salvage) if is_journal else ParquetLog(found)
