"""Asking: everything that only reads the bitmap, and `view`."""

from __future__ import annotations

import re
import struct
import sys
from collections.abc import Iterator
from itertools import islice
from typing import Any, Self, SupportsIndex, TypeAlias

from ._arguments import TOP, Row, Run, Span, number, range_error
from ._marks import Marks
from ._windows import load, operation, running

Maybe: TypeAlias = SupportsIndex | None

MOST_ROWS = sys.maxsize // 16  # of two 64-bit numbers each


def runs_of(pages: str, wanted: str = "1", bit: int = 0) -> Iterator[Run]:
    """[first, stop) of each longest run of dirty, or clean, pages in a text from `bit` on."""
    for match in re.finditer(f"{wanted}+", pages):
        yield bit + match.start(), bit + match.end()


class Questions(Marks):
    """Marks, and what can be asked about them."""

    __slots__ = ()

    def _asked(self, iova: Maybe, length: Maybe) -> Span:
        """The addresses that a question is about; an empty range where they are none."""
        start = self.iova
        if iova is not None:  # the end is no address where it is 2**64, but a place to ask from
            start = number("iova", iova, end=max(TOP, self.end + 1))
        if length is not None:
            return self._inside(start, number("length", length)) or (start, start)
        if start > self.end:
            raise range_error(start, 0, self.iova, self.end)
        return self._inside(start, self.end - start) or (start, start)

    def _read(self, span: Span) -> Iterator[tuple[int, str]]:
        """The pages that a range touches, window by window: the first one's bit, and their text."""
        if span[0] < span[1]:
            bit, stop = self._run(span)
            while bit < stop:
                with self._own_window(bit, stop, span, write=False) as upto:
                    pages = load(self._memory, bit, upto)
                yield bit, pages
                bit = upto

    def _pages(self, span: Span | None = None) -> str:
        """The text of all pages that a range touches, by default of all."""
        return "".join(pages for _, pages in self._read(span or (self.iova, self.end)))

    def _found(self, span: Span, dirty: bool = True) -> list[Row]:
        """The rows of a range: its dirty, or clean, runs."""
        runs = runs_of(self._pages(span), "1" if dirty else "0", self._bit(span[0]))
        return self._rows(runs, span)

    def _first_found(self, span: Span, dirty: bool, most: int) -> list[Row]:
        """So many of the first rows: the range is read to where one more begins, or to its end."""
        text, runs = "", list[Run]()
        for _, pages in self._read(span):
            text += pages
            found = runs_of(text, "1" if dirty else "0", self._bit(span[0]))
            runs = list(islice(found, most + 1))
            if len(runs) > most:
                break
        return self._rows(runs[:most], span)

    @operation
    def test(self, iova: SupportsIndex) -> bool:
        """True where the page of address `iova` is dirty."""
        start = number("iova", iova)
        return self._pages(self._inside(start, 1)) == "1"

    @operation
    def count(self, iova: Maybe = None, length: Maybe = None) -> int:
        """Number of dirty pages that [iova, iova + length) touches, by default of all."""
        return self._pages(self._asked(iova, length)).count("1")

    def _first(self, span: Span, wanted: str) -> int | None:
        """The first address of the first such page; nothing is read behind its window."""
        for bit, pages in self._read(span):
            if wanted in pages:
                return self._address(bit + pages.index(wanted))
        return None

    @operation
    def any(self, iova: Maybe = None, length: Maybe = None) -> bool:
        """True where a page that the range touches is dirty."""
        return self._first(self._asked(iova, length), "1") is not None

    @operation
    def all(self, iova: Maybe = None, length: Maybe = None) -> bool:
        """True where all pages that the range touches are dirty; also where it touches none."""
        return self._first(self._asked(iova, length), "0") is None

    def _find(self, start: SupportsIndex, wanted: str) -> int | None:
        first = number("start", start, end=max(TOP, self.end + 1))
        return self._first(self._asked(first, None), wanted)

    @operation
    def find_dirty(self, start: SupportsIndex) -> int | None:
        """First address of the first dirty page from the page of `start` on, or None."""
        return self._find(start, "1")

    @operation
    def find_clean(self, start: SupportsIndex) -> int | None:
        """First address of the first clean page from the page of `start` on, or None."""
        return self._find(start, "0")

    @operation
    def count_ranges(self, iova: Maybe = None, length: Maybe = None) -> int:
        """Number of rows that ranges() has."""
        return len(self._found(self._asked(iova, length)))

    @operation
    def ranges(
        self, iova: Maybe = None, length: Maybe = None, *, dirty: bool = True, out: Any = None
    ) -> Any:
        """The runs of dirty pages: a list of rows (iova, length), ascending and maximal.

        `out` is memory of shape (m, 2), uint64, to fill; its filled part is returned then.
        """
        if out is None:
            return self._found(self._asked(iova, length), dirty)
        memory = memoryview(out)
        shape = memory.shape if memory.c_contiguous and memory.itemsize == 8 else None
        if memory.format not in ("Q", "L") or not shape or shape[1:] != (2,):
            raise ValueError("out must be contiguous, of shape (m, 2) and native uint64")
        if memory.readonly:
            raise BufferError("out must be writable")
        found = self._found(self._asked(iova, length), dirty)
        if len(found) > shape[0]:
            raise ValueError(f"out has {shape[0]} rows, {len(found)} are needed")
        if found:
            for n, row in enumerate(found):
                struct.pack_into("=QQ", memory.cast("B"), 16 * n, *row)
        return out[: len(found)]

    @operation
    def iter_ranges(
        self,
        iova: Maybe = None,
        length: Maybe = None,
        *,
        dirty: bool = True,
        batch: SupportsIndex = 65536,
    ) -> Iterator[list[Row]]:
        """Iterate over the rows of ranges() in lists of at most `batch`; no run is split."""
        most = number("batch", batch)
        if not 1 <= most <= MOST_ROWS:
            raise ValueError(f"batch must be 1 to {MOST_ROWS} rows, not {most}")
        return RangeIterator(self, self._asked(iova, length), bool(dirty), most)

    @operation
    def pages(self, iova: Maybe = None, length: Maybe = None) -> list[int]:
        """First address of each dirty page that the range touches, ascending."""
        span = self._asked(iova, length)
        first = self._bit(span[0])
        pages = enumerate(self._pages(span), first)
        return [self._address(bit) for bit, page in pages if page == "1"]

    @operation
    def to_mask(self) -> list[bool]:
        """A bool for each page, True where it is dirty."""
        return [page == "1" for page in self._pages()]

    @operation
    def histogram(self, bins: SupportsIndex) -> list[int]:
        """Dirty pages in each part: bits i * nbits // bins to (i + 1) * nbits // bins."""
        nbins = number("bins", bins, low=1, end=sys.maxsize // 8)
        found = [0] * nbins
        pages, nbits = self._pages(), self.nbits
        for i in range(nbins):
            found[i] = pages.count("1", i * nbits // nbins, (i + 1) * nbits // nbins)
        return found

    @operation
    def view(self, dtype: str = "u1") -> memoryview:
        """The bitmap's memory itself, as bytes ('u1') or 64-bit words ('u8')."""
        if not isinstance(dtype, str):
            raise TypeError(f"dtype must be a str, not {type(dtype)}")
        if dtype not in ("u1", "u8"):
            raise ValueError(f"dtype must be 'u1' or 'u8', not {dtype!r}")
        memory = self._memory[: self.nbytes]
        if dtype == "u1":
            return memory
        if self.nbytes % 8 or self._place(0) % 8:
            raise ValueError("a view as 'u8' needs a size and an address that are multiples of 8")
        return memory.cast("Q")


class RangeIterator:
    """What iter_ranges gives. After an error it is where it was before."""

    __slots__ = ("_batch", "_bitmap", "_busy", "_dirty", "_span")

    def __init__(self, bitmap: Questions, span: Span, dirty: bool, batch: int) -> None:
        self._bitmap, self._dirty, self._batch = bitmap, dirty, batch
        self._span = span  # what is not yet looked at
        self._busy = False

    def __iter__(self) -> Self:
        return self

    def __next__(self) -> list[Row]:
        if self._busy:
            raise ValueError(
                "the iterator is in use: another thread's next(), or one that a pin object was "
                "called from, has not returned"
            )
        self._busy = True
        try:
            found = self._next()
        finally:
            self._busy = False
        if not found:
            raise StopIteration
        return found

    def _next(self) -> list[Row]:
        start, end = self._span
        if start == end:
            return []
        with running(self._bitmap):
            found = self._bitmap._first_found(self._span, self._dirty, self._batch)
        self._span = (sum(found[-1]) if len(found) == self._batch else end), end
        return found
