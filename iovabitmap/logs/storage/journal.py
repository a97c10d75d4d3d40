"""A log while it is written: a file that only grows, the journal.

Each epoch is appended with plain writes, which the kernel keeps when the process is killed, so what
was appended is readable at once, and a kill can cut the file short but not damage it. Nothing is
kept in memory but where each epoch begins and when it was.

    journal = MAGIC, frame...
    frame   = kind, payload bytes, payload crc32, rows, epoch, t_start_ns, t_end_ns,
              crc32 of those; payload

All little-endian. META frames hold the metadata as JSON, the last one counts. An epoch is any
number of PART frames and one ROWS frame: at most BLOCK_ROWS rows each, as the gap before each row
and the length of each row (two arrays of uint64), compressed with zstd; the checksum is that of
the content.
"""

from __future__ import annotations

import os
import struct
import zlib
from array import array
from typing import TYPE_CHECKING, NamedTuple

import numpy as np

from ..._base.optional import need
from ...timeline.rows import Addresses
from ..errors import LogError, blaming
from .blocks import BLOCK_ROWS, Block, Column, check, of_epoch
from .meta import MAX_JSON, Meta, from_json

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

MAGIC = b"IOVALOG1"
META, PART, ROWS = b"META", b"PART", b"ROWS"
HEADER = struct.Struct("<4sIIIQqq")
HEADER_BYTES = HEADER.size + 4
MAX_PAYLOAD = 16 * BLOCK_ROWS + (1 << 16)  # what does not compress grows by less


class Frame(NamedTuple):
    """The header of a frame, and where its payload is in the file."""

    kind: bytes
    nbytes: int
    crc: int
    rows: int
    epoch: int
    t_start_ns: int
    t_end_ns: int
    at: int


class Journal:
    """The journal of a log, to append to and to read, both at any time.

    Use `create` or `open`. Errors of the system propagate as OSError; what is wrong with the file
    is a LogError.
    """

    def __init__(self, path: Path, fd: int) -> None:
        self.path = path
        self.unfinished = ""
        self._codec = need("pyarrow").Codec("zstd", compression_level=1)
        self._fd = fd
        self._end = 0  # of what is whole
        self._index = array("q")  # of each epoch: where its first frame is, its start, its end
        self.meta: Meta
        self.last_start_ns: int | None = None

    @classmethod
    def create(cls, path: Path, meta: Meta) -> Journal:
        """Makes the file, which must not be there: a journal without epochs."""
        text = meta.to_json()
        need("pyarrow")
        flags = os.O_RDWR | os.O_CREAT | os.O_EXCL | os.O_CLOEXEC
        journal = cls(path, os.open(path, flags, 0o666))
        try:
            journal.lock()
            journal._end = os.pwrite(journal._fd, MAGIC, 0)
            journal._append([(META, text, 0, 0, 0, 0)])
        except BaseException:
            journal.close()
            path.unlink(missing_ok=True)
            raise
        journal.meta = meta
        return journal

    @classmethod
    def open(cls, path: Path, *, salvage: bool = False) -> Journal:
        """A journal to read. `salvage`: up to the first damage, instead of a LogError."""
        journal = cls(path, os.open(path, os.O_RDONLY | os.O_CLOEXEC | os.O_NONBLOCK))
        try:
            journal._scan(salvage)
        except BaseException:
            journal.close()
            raise
        return journal

    def lock(self) -> bool:
        """Takes the journal for this open file until it is closed; False where another has it."""
        try:
            import fcntl
        except ImportError:  # no such locks: nobody can tell
            return True
        try:
            fcntl.flock(self._fd, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return False
        return True

    def error(self, problem: str) -> LogError:
        """Of this file."""
        return LogError(self.path, problem)

    def close(self) -> None:
        """Lets go of the file. Safe to repeat."""
        fd, self._fd = self._fd, -1
        if fd >= 0:
            os.close(fd)

    def __len__(self) -> int:
        return len(self._index) // 3

    def times(self) -> tuple[Column, Column]:
        """Start and end of each epoch, in nanoseconds."""
        starts, ends = np.array(self._index, np.int64).reshape(-1, 3)[:, 1:].T
        return starts, ends

    # --- writing ------------------------------------------------------------------------------

    def append(self, batches: Iterable[Addresses], t_start_ns: int, t_end_ns: int) -> None:
        """An epoch of the rows in `batches`, arrays of shape (n, 2), ascending. All of it or, after
        an exception, nothing."""
        start, epoch = self._end, len(self)
        self._append(self._frames(batches, epoch, t_start_ns, t_end_ns))
        self._index.extend((start, t_start_ns, t_end_ns))
        self.last_start_ns = t_start_ns

    def note(self, meta: Meta) -> None:
        """Other metadata from now on."""
        self._append([(META, meta.to_json(), 0, 0, 0, 0)])
        self.meta = meta

    def _frames(
        self, batches: Iterable[Addresses], epoch: int, t_start_ns: int, t_end_ns: int
    ) -> Iterator[tuple[bytes, bytes, int, int, int, int]]:
        """The frames of an epoch: every batch in pieces, the last piece as ROWS."""
        waiting: Addresses | None = None
        for batch in batches:
            for start in range(0, len(batch), BLOCK_ROWS):
                if waiting is not None:
                    yield (PART, *_encode(waiting), epoch, t_start_ns, t_end_ns)
                waiting = batch[start : start + BLOCK_ROWS]
        if waiting is None:  # clean
            waiting = np.array([[self.meta.iova, 0]], np.uint64)
        yield (ROWS, *_encode(waiting), epoch, t_start_ns, t_end_ns)

    def _append(self, frames: Iterable[tuple[bytes, bytes, int, int, int, int]]) -> None:
        """Writes frames (kind, content, rows, epoch, times): all, or after an exception none."""
        start = end = self._end
        try:
            for kind, content, rows, epoch, t_start_ns, t_end_ns in frames:
                payload = content if kind == META else self._codec.compress(content, asbytes=True)
                head = (kind, len(payload), zlib.crc32(content), rows, epoch, t_start_ns, t_end_ns)
                header = HEADER.pack(*head)
                data = header + zlib.crc32(header).to_bytes(4, "little") + payload
                view = memoryview(data)
                while view:
                    written = os.pwrite(self._fd, view, end)
                    view, end = view[written:], end + written
        except BaseException:
            os.ftruncate(self._fd, start)
            raise
        self._end = end

    # --- reading ------------------------------------------------------------------------------

    def blocks(self, i: int, j: int) -> Iterator[Block]:
        """The rows of epochs i <= n < j, a block for each frame."""
        at = self._index[3 * i] if i < j else self._end
        epoch = i
        while at < self._end and epoch < j:
            frame = self._frame(at)
            if frame.kind != META:
                yield self._block(frame)
                epoch += frame.kind == ROWS
            at = frame.at + frame.nbytes

    def rows(self, i: int, j: int) -> Iterator[tuple[Column, Column, Column]]:
        """The same without times: epoch, iova and length."""
        return ((block.epoch, block.iova, block.length) for block in self.blocks(i, j))

    def _block(self, frame: Frame) -> Block:
        """What a frame of rows holds. LogError where that is damaged or cannot be true."""
        payload = os.pread(self._fd, frame.nbytes, frame.at)
        with blaming(self.path, f"epoch {frame.epoch} cannot be read"):
            content = self._codec.decompress(
                payload, decompressed_size=16 * frame.rows, asbytes=True
            )
        if zlib.crc32(content) != frame.crc:
            raise self.error(f"epoch {frame.epoch} is damaged: its checksum is wrong")
        gaps, length = np.frombuffer(content, "<u8").reshape(2, frame.rows)
        iova = np.cumsum(gaps + length, dtype=np.uint64) - length
        block = of_epoch(frame.epoch, frame.t_start_ns, frame.t_end_ns, iova, length)
        return check(block, self.meta, self.path)

    def _frame(self, at: int) -> Frame:
        """The frame at an offset, whose header is whole. LogError where it is damaged."""
        data = os.pread(self._fd, HEADER_BYTES, at)
        header, crc = data[: HEADER.size], data[HEADER.size :]
        if zlib.crc32(header) != int.from_bytes(crc, "little") or len(crc) != 4:
            raise self.error(f"the journal is damaged at byte {at}")
        frame = Frame._make((*HEADER.unpack(header), at + HEADER_BYTES))
        most = MAX_JSON if frame.kind == META else MAX_PAYLOAD
        if frame.kind not in (META, PART, ROWS) or frame.nbytes > most or frame.rows > BLOCK_ROWS:
            raise self.error(f"the journal has a frame that none writes, at byte {at}")
        return frame

    def _scan(self, salvage: bool) -> None:
        """Finds where each epoch begins, the metadata, and whether the end is cut off."""
        size = os.fstat(self._fd).st_size
        if os.pread(self._fd, len(MAGIC), 0) != MAGIC:
            raise self.error("its journal is none of this program's, or cut off")
        at = self._end = len(MAGIC)
        start = None  # of the epoch that PART frames have begun
        meta = None
        while at + HEADER_BYTES <= size:
            try:
                frame = self._frame(at)
                if frame.at + frame.nbytes > size:
                    break
                if frame.kind == META:
                    meta = self._metadata(frame)
                elif meta is None or frame.epoch != len(self):
                    raise self.error(f"the journal is out of order at byte {at}")
                elif salvage:
                    self.meta = meta
                    self._block(frame)
            except LogError:
                if salvage and meta is not None:
                    break
                raise
            next_at = frame.at + frame.nbytes
            if frame.kind != META and start is None:
                start = at
            if frame.kind == ROWS and start is not None:
                self._index.extend((start, frame.t_start_ns, frame.t_end_ns))
                self.last_start_ns = frame.t_start_ns
                start = None
            at = next_at
            if start is None:
                self._end = at
        if meta is None:
            raise self.error("its journal ends before it says what it is of")
        self.meta = meta
        left = size - self._end
        self.unfinished = "the recording was not closed" + (
            f"; the last {left} bytes are no whole epoch and left out" if left else ""
        )

    def _metadata(self, frame: Frame) -> Meta:
        text = os.pread(self._fd, frame.nbytes, frame.at)
        if zlib.crc32(text) != frame.crc:
            raise self.error("its metadata are damaged: their checksum is wrong")
        return from_json(text, self.path)[0]


def _encode(rows: Addresses) -> tuple[bytes, int]:
    """Content of a frame and its number of rows: gaps, then lengths."""
    iova, length = rows.T
    gaps = iova.copy()
    gaps[1:] -= iova[:-1] + length[:-1]
    return np.concatenate((gaps, length)).astype("<u8", copy=False).tobytes(), len(rows)
