"""The epochs of a log's file, as a Timeline reads them."""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..timeline import Rows
from .errors import LogError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from ..timeline.rows import Times
    from .storage.blocks import Block
    from .storage.journal import Journal
    from .storage.parquet import ParquetLog


class Epochs:
    """A Store of the epochs of a file, until it is closed."""

    def __init__(self, path: Path, file: Journal | ParquetLog) -> None:
        self.path, self.file = path, file
        self.closed = False
        self._times: Times | None = None

    def __len__(self) -> int:
        return len(self.file)

    def check_open(self) -> None:
        """ValueError for a log that was closed."""
        if self.closed:
            raise ValueError(f"{self.path}: the log is closed")

    def blocks(self, i: int, j: int) -> Iterator[Block]:
        """The rows of epochs i <= n < j as they are in the file, also those that say: clean."""
        self.check_open()
        return self.file.blocks(i, j)

    def rows(self, i: int, j: int) -> Iterator[Rows]:
        self.check_open()
        for columns in self.file.rows(i, j):
            dirty = columns[2] != 0
            yield Rows(*columns) if dirty.all() else Rows(*(column[dirty] for column in columns))

    def times(self) -> Times:
        self.check_open()
        if self._times is None or len(self._times[0]) != len(self):
            self._times = self.file.times()
        return self._times

    def error(self, problem: str) -> LogError:
        return LogError(self.path, problem)

    def close(self) -> None:
        """Releases the file; idempotent."""
        self.closed = True
        self.file.close()
