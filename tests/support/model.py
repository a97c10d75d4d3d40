"""The oracle: what a bitmap must hold, and which windows it must take, in plain Python.

One NumPy bool for each page and Python's unbounded ints for all addresses: no shifts that could
overflow, no bytes, no words. It was written from the rules of the engine and shares no code with
it. Windows are simulated call by call, with a pin object of the model's own that is told to deliver
short or to fail exactly as the engine's is.
"""

from __future__ import annotations

import errno
from typing import NamedTuple

import numpy as np

from .memory import HOST_PAGE

TOP = 2**64
DEFAULT_WINDOW_PAGES = HOST_PAGE // np.dtype(np.uintp).itemsize


class OutOfRange(Exception):
    """The engine must raise IOVARangeError with this iova and length, and name the row."""

    def __init__(self, iova: int, length: int, row: int | None = None) -> None:
        super().__init__(hex(iova), hex(length), row)
        self.iova, self.length, self.row = iova, length, row


class PinFailed(Exception):
    """The engine must raise PinError with these attributes."""

    def __init__(self, code: int, iova: int, length: int, newly: int) -> None:
        super().__init__(errno.errorcode.get(code, code), hex(iova), hex(length), newly)
        self.errno, self.iova, self.length, self.newly = code, iova, length, newly


class Held(NamedTuple):
    """A window that is pinned: bytes [first, end) of the bitmap."""

    first: int
    end: int
    address: int
    npages: int


class FullPin:
    """What the built-in backends do on good memory: everything asked for is delivered."""

    def pin(self, address: int, npages: int) -> int:
        return npages

    def unpin(self, address: int, npages: int) -> None:
        pass


def ceil_div(a: int, b: int) -> int:
    return -(-a // b)


def runs(bits) -> list[tuple[int, int]]:
    """[first, stop) of each maximal run of true bits."""
    padded = np.concatenate(([False], bits, [False]))
    edges = np.flatnonzero(padded[1:] != padded[:-1]).tolist()
    return list(zip(edges[::2], edges[1::2], strict=True))


class Model:
    def __init__(
        self, iova, length, page_size, *, address=0, window_pages=None, pin=None, bits=None
    ) -> None:
        assert length > 0 and iova + length <= TOP and page_size & (page_size - 1) == 0
        self.iova, self.length, self.page_size = iova, length, page_size
        self.end = iova + length
        self.nbits = ceil_div(length, page_size)
        self.nbytes = ceil_div(self.nbits, 8)
        self.address = address
        self.window_pages = window_pages or DEFAULT_WINDOW_PAGES
        self.pin = pin or FullPin()
        self.bits = np.zeros(self.nbits, bool) if bits is None else np.array(bits, bool)
        self.present: Held | None = None
        self.pins = self.unpins = self.pinned = self.peak = self.moves = 0

    # --- addresses ------------------------------------------------------------------------------

    def bit(self, iova: int) -> int:
        return (iova - self.iova) // self.page_size

    def resolve(self, iova, length, clip=False) -> tuple[int, int] | None:
        """[start, end) that an operation works on; None where there is nothing to do."""
        if iova is None:
            iova = self.iova
        if length is None:
            if iova > self.end:
                raise OutOfRange(iova, 0)
            length = self.end - iova
        if length == 0:
            return None
        if iova + length > TOP:
            raise OutOfRange(iova, length)
        if iova >= self.iova and iova + length <= self.end:
            return iova, iova + length
        if not clip:
            raise OutOfRange(iova, length)
        start, end = max(iova, self.iova), min(iova + length, self.end)
        return (start, end) if start < end else None

    def page_span(self, start: int, end: int) -> tuple[int, int]:
        """First bit and one past the last bit of the pages that [start, end) touches."""
        return self.bit(start), self.bit(end - 1) + 1

    # --- windows --------------------------------------------------------------------------------

    def plan(self, byte: int, end: int) -> tuple[int, int]:
        """(address of the first host page, host pages) of a window at `byte` that needs no more
        than the bytes before `end`."""
        pgoff = (self.address + byte) % HOST_PAGE
        npages = min(ceil_div(pgoff + end - byte, HOST_PAGE), self.window_pages)
        return self.address + byte - pgoff, npages

    def window_tuple(self, first: int, end: int, npages: int) -> tuple:
        """(iova, length, base_index, pgoff, npages) of a window over bytes [first, end)."""
        start = self.iova + first * 8 * self.page_size
        stop = min(self.iova + end * 8 * self.page_size, self.end)
        return start, stop - start, first, (self.address + first) % HOST_PAGE, npages

    def windows(self) -> list[tuple]:
        found, byte = [], 0
        while byte < self.nbytes:
            page, npages = self.plan(byte, self.nbytes)
            end = min(self.nbytes, page + npages * HOST_PAGE - self.address)
            found.append(self.window_tuple(byte, end, npages))
            byte = end
        return found

    @property
    def window(self) -> tuple | None:
        held = self.present
        return None if held is None else self.window_tuple(held.first, held.end, held.npages)

    @property
    def stats(self) -> tuple:
        return self.pins, self.unpins, self.pinned, self.peak, self.moves

    def take(self, byte: int, limit: int) -> Held:
        page, npages = self.plan(byte, limit)
        delivered = self.pin.pin(page, npages)
        self.pins += 1
        self.pinned += delivered
        self.peak = max(self.peak, self.pinned)
        return Held(byte, min(limit, page + delivered * HOST_PAGE - self.address), page, delivered)

    def give_back(self, held: Held | None) -> None:
        if held is not None:
            self.pin.unpin(held.address, held.npages)
            self.unpins += 1
            self.pinned -= held.npages

    def release(self) -> None:
        held, self.present = self.present, None
        self.give_back(held)

    def move(self, byte: int) -> Held:
        self.release()
        self.present = self.take(byte, self.nbytes)
        self.moves += 1
        return self.present

    def failed(self, error: OSError, bit: int, start: int, end: int, newly: int) -> PinFailed:
        first = max(start, self.iova + bit * self.page_size)
        return PinFailed(error.errno, first, end - first, newly)

    # --- operations that mark one range ---------------------------------------------------------

    def mark(self, value: bool, iova, length, clip=False) -> int:
        """set and clear; returns how many pages changed."""
        span = self.resolve(iova, length, clip)
        if span is None:
            return 0
        bit, stop = self.page_span(*span)
        changed = 0
        while bit < stop:
            held = self.present
            if held is None or not held.first <= bit // 8 < held.end:
                try:
                    held = self.move(bit // 8)
                except OSError as error:
                    raise self.failed(error, bit, *span, changed) from error
            upto = min(stop, held.end * 8)
            changed += int(np.count_nonzero(self.bits[bit:upto] != value))
            self.bits[bit:upto] = value
            bit = upto
        return changed

    # --- operations with a window of their own --------------------------------------------------

    def pieces(self, start: int, end: int):
        """The pieces (bit, stop) of a range that such an operation sees, window by window."""
        bit, stop = self.page_span(start, end)
        while bit < stop:
            try:
                held = self.take(bit // 8, ceil_div(stop, 8))
            except OSError as error:
                raise self.failed(error, bit, start, end, 0) from error
            upto = min(stop, held.end * 8)
            yield bit, upto
            self.give_back(held)
            bit = upto

    def count(self, iova=None, length=None) -> int:
        span = self.resolve(iova, length)
        if span is None:
            return 0
        return sum(int(np.count_nonzero(self.bits[a:b])) for a, b in self.pieces(*span))

    def test(self, iova: int) -> bool:
        start, end = self.resolve(iova, 1)
        return sum(int(self.bits[a:b].sum()) for a, b in self.pieces(start, end)) > 0

    def reset(self) -> None:
        for a, b in self.pieces(self.iova, self.end):
            self.bits[a:b] = False

    # --- questions, without windows: a caller may read the bits in any number of passes ----------

    def touched(self, iova=None, length=None) -> np.ndarray:
        """The bits of the pages that a range touches."""
        span = self.resolve(iova, length)
        return self.bits[:0] if span is None else self.bits[slice(*self.page_span(*span))]

    def any(self, iova=None, length=None) -> bool:
        return bool(self.touched(iova, length).any())

    def all(self, iova=None, length=None) -> bool:
        return bool(self.touched(iova, length).all())

    def rows(self, iova=None, length=None, dirty=True) -> list[tuple[int, int]]:
        span = self.resolve(iova, length)
        if span is None:
            return []
        start, end = span
        bit, stop = self.page_span(start, end)
        found = []
        for first, last in runs(self.bits[bit:stop] == dirty):
            low = max(start, self.iova + (bit + first) * self.page_size)
            high = min(end, self.iova + (bit + last) * self.page_size)
            found.append((low, high - low))
        return found

    def count_ranges(self, iova=None, length=None) -> int:
        return len(self.rows(iova, length))

    def pages(self, iova=None, length=None) -> list[int]:
        span = self.resolve(iova, length)
        if span is None:
            return []
        first, stop = self.page_span(*span)
        found = (np.flatnonzero(self.bits[first:stop]) + first).tolist()
        return [self.iova + bit * self.page_size for bit in found]

    def find(self, start: int, dirty: bool) -> int | None:
        bits = self.touched(start) == dirty
        if not bits.any():
            return None
        return self.iova + (self.bit(start) + int(bits.argmax())) * self.page_size

    def histogram(self, bins: int) -> list[int]:
        edges = [i * self.nbits // bins for i in range(bins + 1)]
        before = np.concatenate(([0], np.cumsum(self.bits)))
        return np.diff(before[edges]).tolist()

    def text(self) -> str:
        return ",".join(
            f"{first}-{stop - 1}" if stop - first > 1 else str(first)
            for first, stop in runs(self.bits)
        )

    # --- many at once ---------------------------------------------------------------------------

    def mark_rows(self, value: bool, rows, clip=False) -> None:
        """set_ranges and clear_ranges, without windows: all rows or, where one is bad, none."""
        spans = []
        for number, (iova, length) in enumerate(rows):
            try:
                spans.append(self.resolve(iova, length, clip))
            except OutOfRange as error:
                raise OutOfRange(iova, length, number) from error
        for span in filter(None, spans):
            self.bits[slice(*self.page_span(*span))] = value

    def mark_pages(self, iovas) -> None:
        self.mark_rows(True, [(iova, 1) for iova in iovas])

    def harvest(self, iova=None, length=None) -> list[tuple[int, int]]:
        """read_and_clear, without windows."""
        found = self.rows(iova, length)
        self.touched(iova, length)[:] = False
        return found

    def merge(self, rows) -> int:
        """Marks what `rows` of any other bitmap overlap; how many pages were clean before."""
        before = int(self.bits.sum())
        self.mark_rows(True, rows, clip=True)
        return int(self.bits.sum()) - before

    def walk(self) -> list[tuple[int, int]]:
        """(iova, length) of each call that for_each(by_window=True) makes."""
        calls, byte = [], 0
        while byte < self.nbytes:
            try:
                held = self.move(byte)
            except OSError as error:
                raise self.failed(error, byte * 8, self.iova, self.end, 0) from error
            calls.append(self.window[:2])
            byte = held.end
        return calls

    # --- memory ---------------------------------------------------------------------------------

    def memory(self, before: np.ndarray) -> np.ndarray:
        """The bytes of the bitmap, given what they held: bits that stand for no page stay."""
        bits = np.unpackbits(before, bitorder="little")
        bits[: self.nbits] = self.bits
        return np.packbits(bits, bitorder="little")
