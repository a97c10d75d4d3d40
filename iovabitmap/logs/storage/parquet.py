"""A finished log: one Parquet file that others read without us.

A row group is a block of at most BLOCK_ROWS rows. The file's key-value metadata hold, as JSON under
one key, what the log is of and for each row group its first and last epoch, its rows and the CRC-32
of its content, and that of its epochs and times, which are read alone too; under another key is the
CRC-32 of that JSON. So opening reads no rows, a window of
epochs reads the groups it needs, and a flipped bit is noticed wherever it is: Parquet's own page
checksums, which are on too, leave the headers and the footer out.
"""

from __future__ import annotations

import os
import zlib
from bisect import bisect_left, bisect_right
from concurrent.futures import ThreadPoolExecutor
from itertools import pairwise
from threading import RLock
from typing import TYPE_CHECKING, Any, NamedTuple, TypeVar

import numpy as np

from ..._base.optional import need
from ..errors import LogError, blaming
from .blocks import BLOCK_ROWS, COLUMN_TYPES, Block, Column, check, regroup
from .meta import Meta, from_json
from .pages import check_pages

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from pathlib import Path

KEY, CRC_KEY = b"iovabitmap", b"iovabitmap.crc32"
TIME_COLUMNS = ["epoch", "t_start_ns", "t_end_ns"]
MAX_CHUNK = 16 << 20  # bytes; of a column in a row group
EDGE = b"PAR1"
READ_AHEAD_FROM = 8  # row groups, of a million rows: less is not worth a thread

Answer = TypeVar("Answer")


class Group(NamedTuple):
    """What the metadata say of a row group; `last` is inclusive."""

    first: int
    last: int
    rows: int
    crc: int


def write(
    path: Path, meta: Meta, blocks: Iterable[Block], progress: Callable[[int], object] | None = None
) -> None:
    """Writes a log to `path`, and returns when it is on the disk. Holds a block or two at a time;
    calls `progress` with the number of epochs begun."""
    pa, pq = need("pyarrow"), need("pyarrow.parquet")
    schema = pa.schema([pa.field(n, pa.type_for_alias(t), False) for n, t in COLUMN_TYPES.items()])
    groups: list[Group] = []
    times_crcs: list[int] = []
    with (
        path.open("wb") as file,  # not by name: pyarrow takes "s3:a" for a URL, and names for UTF-8
        pq.ParquetWriter(
            file,
            schema,
            compression="zstd",
            use_dictionary=["epoch", "t_start_ns", "t_end_ns"],
            column_encoding=dict.fromkeys(("iova", "length"), "DELTA_BINARY_PACKED"),
            write_page_checksum=True,
            store_schema=False,
        ) as writer,
    ):
        for block in regroup(blocks):
            table = pa.table(list(block), schema=schema)
            writer.write_table(table, row_group_size=BLOCK_ROWS)
            first, last = int(block.epoch[0]), int(block.epoch[-1])
            times_crcs.append(_crc(block[: len(TIME_COLUMNS)]))
            groups.append(Group(first, last, len(block.epoch), _crc(block)))
            if progress is not None:
                progress(last + 1)
        epochs = groups[-1].last + 1 if groups else 0
        text = meta.to_json(epochs=epochs, groups=groups, times_crcs=times_crcs)
        writer.add_key_value_metadata({KEY: text, CRC_KEY: b"%08x" % zlib.crc32(text)})
    with path.open("rb+") as written:
        os.fsync(written.fileno())


def _crc(columns: Iterable[Column]) -> int:
    """The checksum of some or all columns of a row group: one after the other, little-endian."""
    crc = 0
    for column in columns:
        little = np.ascontiguousarray(column, column.dtype.newbyteorder("<"))
        crc = zlib.crc32(little.data, crc)
    return crc


def _ahead(read: Callable[[int], Answer], numbers: range) -> Iterator[Answer]:
    """What `read` gives for each number; if there are many, a thread reads the next one while the
    one before is worked on. Reading spends most of its time without the interpreter's lock."""
    if len(numbers) < READ_AHEAD_FROM:
        yield from map(read, numbers)
        return
    with ThreadPoolExecutor(1, "iovabitmap-read") as thread:
        coming = thread.submit(read, numbers[0])
        for number in numbers[1:]:
            ready, coming = coming, thread.submit(read, number)
            yield ready.result()
            del ready
        yield coming.result()


class ParquetLog:
    """A finished log to read. LogError where the file is not one, or not whole."""

    unfinished = ""

    def __init__(self, path: Path) -> None:
        pa, pq = need("pyarrow"), need("pyarrow.parquet")
        self.path = path
        self._file = path.open("rb")
        self._lock = RLock()  # of the file and of what is kept: a thread reads ahead
        self._cached: tuple[int, Block] | None = None
        self._cached_rows: tuple[int, tuple[Column, Column, Column]] | None = None
        self._whole: set[int] = set()  # groups that were read and checked
        try:
            self._check_edges()
            with blaming(path, "it cannot be read as Parquet"):
                self._parquet = pq.ParquetFile(
                    pa.PythonFile(self._file, mode="r"),
                    page_checksum_verification=True,
                    pre_buffer=False,
                    thrift_string_size_limit=64 << 20,
                    thrift_container_size_limit=1 << 20,
                )
                schema, keys = self._parquet.schema_arrow, self._parquet.metadata.metadata or {}
                found = {field.name: str(field.type) for field in schema}
            if found != COLUMN_TYPES or KEY not in keys:
                raise LogError(path, "a Parquet file, and no log of this program")
            self.meta = self._read_meta(keys)
        except BaseException:
            self.close()
            raise

    def __len__(self) -> int:
        return self._groups[-1].last + 1 if self._groups else 0

    @property
    def nrows(self) -> int:
        """Rows of the file, as its metadata say."""
        return sum(group.rows for group in self._groups)

    def close(self) -> None:
        """Lets go of the file. Safe to repeat."""
        with self._lock:
            self._cached = self._cached_rows = None
            self._file.close()

    def _check_edges(self) -> None:
        """The marks at both ends, and a footer that fits: the common damage in plain words."""
        size = os.fstat(self._file.fileno()).st_size
        head, tail = self._file.read(4), b""
        if size >= 12:
            self._file.seek(size - 8)
            tail = self._file.read(8)
        if head != EDGE:
            raise LogError(self.path, "no log: not a Parquet file")
        footer = int.from_bytes(tail[:4], "little")
        if tail[4:] != EDGE or not 0 < footer <= size - 12:
            raise LogError(self.path, f"it is cut off or damaged: {size} bytes without a footer")

    def _read_meta(self, keys: dict[bytes, bytes]) -> Meta:
        """The metadata, and the index of groups, which must fit the file."""
        text = keys[KEY]
        if keys.get(CRC_KEY) != b"%08x" % zlib.crc32(text):
            raise LogError(self.path, "its metadata are damaged: their checksum is wrong")
        meta, more = from_json(text, self.path)
        with blaming(self.path, "its index makes no sense"):
            self._groups = groups = [Group(*map(int, group)) for group in more["groups"]]
            footer = self._parquet.metadata
            rows = [footer.row_group(k).num_rows for k in range(footer.num_row_groups)]
            good = (
                rows == [group.rows for group in groups]
                and all(1 <= count <= BLOCK_ROWS for count in rows)
                and all(a.last <= b.first <= a.last + 1 for a, b in pairwise(groups))
                and all(0 <= b.last - b.first < b.rows for b in groups)
                and (not groups or groups[0].first == 0)
                and more["epochs"] == len(self)
            )
            self._times_crcs = None  # as of a log of 0.9
            if "times_crcs" in more:
                self._times_crcs = [*map(int, more["times_crcs"])]
                good = good and len(self._times_crcs) == len(groups)
        if not good:
            raise LogError(self.path, "its index is not that of its rows")
        self._firsts = [group.first for group in groups]
        self._lasts = [group.last for group in groups]
        self._times = np.zeros((2, len(self)), np.int64)
        return meta

    def blocks(self, i: int, j: int) -> Iterator[Block]:
        """The rows of epochs i <= n < j."""
        if i < j:
            for k in range(bisect_left(self._lasts, i), bisect_right(self._firsts, j - 1)):
                yield self._group(k).epochs(i, j)

    def rows(self, i: int, j: int) -> Iterator[tuple[Column, Column, Column]]:
        """The same without times: epoch, iova and length. What was read before is read again in
        less time, since it is known to be whole."""
        groups = range(bisect_left(self._lasts, i), bisect_right(self._firsts, j - 1))
        for epoch, iova, length in _ahead(self._rows, groups if i < j else range(0)):
            start, stop = np.searchsorted(epoch, (i, j))
            yield epoch[start:stop], iova[start:stop], length[start:stop]

    def times(self) -> tuple[Column, Column]:
        """Start and end of each epoch, in nanoseconds. Of what was not read yet it reads these
        small columns only."""
        for k, group in enumerate(self._groups):
            with self._lock:
                if k in self._whole:
                    continue
                epoch, *both = self._time_columns(k)
                edges = epoch[0], epoch[-1]
                if edges != (group.first, group.last) or (np.diff(epoch) >> 1).any():
                    raise LogError(
                        self.path, f"row group {k} has not the epochs that the index says"
                    )
                self._note_times(epoch, *both)
        starts, ends = self._times
        return starts, ends

    def _note_times(self, epoch: Column, starts: Column, ends: Column) -> None:
        """Takes the times of the epochs of a group."""
        begins = np.append(0, np.flatnonzero(epoch[1:] != epoch[:-1]) + 1)
        self._times[:, epoch[begins]] = starts[begins], ends[begins]

    def _time_columns(self, k: int) -> list[Column]:
        """Epochs, starts and ends of a group as they were written. LogError if they are not."""
        if self._times_crcs is None:  # only all of its columns tell
            return list(self._group(k)[: len(TIME_COLUMNS)])
        columns = self._columns(k, TIME_COLUMNS)
        if _crc(columns) != self._times_crcs[k]:
            raise LogError(self.path, f"row group {k} is damaged: the checksum of times is wrong")
        return columns

    def _group(self, k: int) -> Block:
        """The rows of a group. The last one is kept: its other epochs are likely next."""
        with self._lock:
            if self._cached is None or self._cached[0] != k:
                self._cached = None
                self._cached = k, self._read(k)
            return self._cached[1]

    def _rows(self, k: int) -> tuple[Column, Column, Column]:
        """Of a group epoch, iova and length, kept like it."""
        with self._lock:
            if k not in self._whole or (self._cached is not None and self._cached[0] == k):
                block = self._group(k)
                return block.epoch, block.iova, block.length
            if self._cached_rows is None or self._cached_rows[0] != k:
                self._cached = self._cached_rows = None
                epoch, iova, length = self._columns(k, ["epoch", "iova", "length"])
                self._cached_rows = k, (epoch, iova, length)
            return self._cached_rows[1]

    def _read(self, k: int) -> Block:
        group = self._groups[k]
        self._cached_rows = None
        block = Block(*self._columns(k))
        if _crc(block) != group.crc:
            raise LogError(self.path, f"row group {k} is damaged: its checksum is wrong")
        if (block.epoch[0], block.epoch[-1]) != (group.first, group.last):
            raise LogError(self.path, f"row group {k} has not the epochs that the index says")
        check(block, self.meta, self.path)
        self._note_times(*block[:3])
        self._whole.add(k)
        return block

    def _columns(self, k: int, names: list[str] | None = None) -> list[Column]:
        """Some or all columns of a group, before its checksum was looked at. Of one that is whole
        it was, and the checksums of Parquet's pages tell what was damaged since."""
        where = f"row group {k} cannot be read"
        with blaming(self.path, where):
            if k not in self._whole:
                self._check_chunks(k)
            columns: list[Any] = self._parquet.read_row_group(k, names, use_threads=False).columns
            if any(column.null_count or len(column) != self._groups[k].rows for column in columns):
                raise LogError(self.path, f"{where}: it has not the rows that it claims")
            return [column.to_numpy() for column in columns]

    def _check_chunks(self, k: int) -> None:
        """Looks at the sizes that the columns and their pages claim, before they are believed."""
        row_group = self._parquet.metadata.row_group(k)
        for n in range(row_group.num_columns):
            chunk = row_group.column(n)
            start, size = chunk.data_page_offset, chunk.total_compressed_size
            if chunk.has_dictionary_page:
                start = min(start, chunk.dictionary_page_offset)
            if not (start >= 0 and 0 < size <= MAX_CHUNK) or chunk.file_path:
                raise LogError(self.path, f"row group {k} claims {size} bytes at {start}")
            data = os.pread(self._file.fileno(), size, start)
            if len(data) < size:
                raise LogError(self.path, f"row group {k} lies behind the end of the file")
            check_pages(data)
