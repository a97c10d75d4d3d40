"""What importers share: what they are asked, what they answer, and reading files with bounds."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np
import numpy.typing as npt

from ..._base.text import show_bytes
from ..errors import LogError, blaming

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from pathlib import Path

MAX_TEXT = 256 << 20  # bytes of JSON or of a table in one file: what is parsed is held in memory

Rows = npt.NDArray[np.uint64]


class Options(NamedTuple):
    """The parameters of `import_log`."""

    iova: int | None = None
    length: int | None = None
    page_size: int = 4096
    interval_ns: int = 0
    regions: tuple[tuple[int, int], ...] = ()
    target: int | None = None

    def times(self, epoch: int) -> tuple[int, int]:
        """When an epoch was, for formats that do not say."""
        return epoch * self.interval_ns, (epoch + 1) * self.interval_ns


class Found(NamedTuple):
    """An epoch: the file that says so, the dirty ranges, shape (n, 2), and its times."""

    path: Path
    rows: Rows
    t_start_ns: int
    t_end_ns: int


@dataclass
class Imported:
    """What an importer found. `epochs` may read the files while it is iterated."""

    source: str
    iova: int
    length: int
    epochs: Iterable[Found]
    timed: bool = False  # the times are the format's own
    granularity: int | None = None
    notes: dict[str, Any] = field(default_factory=dict)


def of_tables(source: str, tables: Sequence[tuple[Path, Rows]], options: Options) -> Imported:
    """One epoch for each file's table of ranges. What the options do not say of the range of
    addresses is what the tables cover."""
    iova, length = extent(tables, options)
    epochs = [Found(path, rows, *options.times(n)) for n, (path, rows) in enumerate(tables)]
    return Imported(source, iova, length, epochs)


def extent(tables: Sequence[tuple[Path, Rows]], options: Options) -> tuple[int, int]:
    """(iova, length) of a log of these ranges: the options', else from the page of the lowest
    address to the end of the page of the highest. LogError where a range wraps, or none is there.
    """
    low, high = 2**64, 0
    for path, rows in tables:
        start, size = rows[rows[:, 1] != 0].T
        last = start + (size - np.uint64(1))
        if (last < start).any():
            raise LogError(path, f"a range at {start[last < start][0]:#x} reaches beyond 2**64")
        if len(start):
            low, high = min(low, int(start.min())), max(high, int(last.max()) + 1)
    page = options.page_size
    if options.iova is None and low == 2**64:
        raise LogError(tables[0][0], "no range at all: its addresses must be given (iova, length)")
    iova = low - low % page if options.iova is None else options.iova
    end = min(-(-max(high, iova + 1) // page) * page, 2**64)
    return iova, end - iova if options.length is None else options.length


def rows_array(path: Path, rows: Iterable[Sequence[int]]) -> Rows:
    """Rows as an array. LogError for numbers that are none of 64 bits."""
    listed = list(rows)
    if not listed:
        return np.empty((0, 2), np.uint64)
    with blaming(path, "it has ranges that are none"):
        return np.array(listed, np.uint64).reshape(len(listed), 2)


def read(path: Path, max_bytes: int = MAX_TEXT) -> bytes:
    """All of a file that is parsed as a whole. LogError where that is too much."""
    with path.open("rb") as file:
        data = file.read(max_bytes + 1)
    if len(data) > max_bytes:
        raise LogError(path, f"more than {show_bytes(max_bytes)} of text or tables")
    return data


def parse_json(path: Path, text: bytes) -> Any:
    """JSON, or LogError."""
    with blaming(path, "it is no JSON"):
        try:
            return json.loads(text)
        except RecursionError:
            raise LogError(path, "it is no JSON that anyone writes: nested too deeply") from None


def integer(path: Path, value: object, what: str) -> int:
    """An int of 64 bits, as JSON has it: a number, or its text in base 10 or 0x..., with or without
    commas. LogError."""
    if isinstance(value, str) and len(value) < 40:
        try:
            value = int(value.replace(",", ""), 0)
        except ValueError:
            value = None
    if isinstance(value, bool) or not isinstance(value, int) or not 0 <= value < 2**64:
        raise LogError(path, f"{what} is no number of 64 bits")
    return value
