"""What a bitmap must hold, worked out by NumPy: one bool for a page, unbounded ints for addresses.

Arithmetic only, which shares no code with the engine nor with the model: no bytes, no words, no
windows. Those are compared between the two (`support.driver`).
"""

from __future__ import annotations

import numpy as np

TOP = 2**64


def runs(bits) -> list[tuple[int, int]]:
    """[first, stop) of each maximal run of true bits."""
    padded = np.concatenate(([False], bits, [False]))
    edges = np.flatnonzero(padded[1:] != padded[:-1]).tolist()
    return list(zip(edges[::2], edges[1::2], strict=True))


class Expected:
    """The pages of a range, clean where `bits` are not given."""

    def __init__(self, iova, length, page_size, *, bits=None) -> None:
        assert length > 0 and iova + length <= TOP and page_size & (page_size - 1) == 0
        self.iova, self.length, self.page_size = iova, length, page_size
        self.end = iova + length
        self.nbits = -(-length // page_size)
        self.nbytes = -(-self.nbits // 8)
        self.bits = np.zeros(self.nbits, bool) if bits is None else np.array(bits, bool)

    def touched(self, start: int, end: int) -> tuple[int, int]:
        """First page and one past the last page that [start, end) touches."""
        first, last = ((iova - self.iova) // self.page_size for iova in (start, end - 1))
        return first, last + 1

    def part(self, iova=None, length=None) -> tuple[int, int]:
        """[start, end) of a range that is all inside, with what is left out filled in."""
        start = self.iova if iova is None else iova
        return start, self.end if length is None else start + length

    def rows(self, iova=None, length=None, dirty=True) -> list[tuple[int, int]]:
        start, end = self.part(iova, length)
        if start == end:
            return []
        first, stop = self.touched(start, end)
        found = []
        for a, b in runs(self.bits[first:stop] == dirty):
            low = max(start, self.iova + (first + a) * self.page_size)
            high = min(end, self.iova + (first + b) * self.page_size)
            found.append((low, high - low))
        return found

    def count(self, iova=None, length=None) -> int:
        start, end = self.part(iova, length)
        return 0 if start == end else int(self.bits[slice(*self.touched(start, end))].sum())

    def text(self) -> str:
        return ",".join(
            f"{first}-{stop - 1}" if stop - first > 1 else str(first)
            for first, stop in runs(self.bits)
        )

    def mark(self, rows) -> int:
        """Makes dirty what rows touch, as far as it is inside; how many pages were clean."""
        before = int(self.bits.sum())
        for iova, length in rows:
            start, end = max(iova, self.iova), min(iova + length, self.end)
            if start < end:
                self.bits[slice(*self.touched(start, end))] = True
        return int(self.bits.sum()) - before

    def memory(self, before: np.ndarray) -> np.ndarray:
        """The bytes of the bitmap, given what they held: bits that stand for no page stay."""
        bits = np.unpackbits(before, bitorder="little")
        bits[: self.nbits] = self.bits
        return np.packbits(bits, bitorder="little")
