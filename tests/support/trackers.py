"""Trackers to try the state machine on: right ones, and one for each planted bug.

They are what users write: bits in a set of page numbers, answers in lists. Each broken one differs
from the right one in the few lines that its docstring is about.
"""

from __future__ import annotations

import threading

from iovabitmap.testing import DirtyTrackerMachine


class Right(DirtyTrackerMachine):
    """A set of page numbers."""

    def start(self, iova, length, page_size):
        self.iova, self.length, self.page_size = iova, length, page_size
        self.pages = set()

    def touched(self, iova, length):
        first = (iova - self.iova) // self.page_size
        last = (iova + length - 1 - self.iova) // self.page_size
        return range(first, last + 1)

    def write(self, iova, length):
        self.pages |= set(self.touched(iova, length))

    def read(self):
        return self.rows(self.pages)

    def read_and_clear(self):
        taken, self.pages = self.pages, set()
        return self.rows(taken)

    def rows(self, pages):
        return [(self.iova + n * self.page_size, self.page_size) for n in pages]


class Complete(Right):
    """With all that may be left out."""

    def read_range(self, iova, length):
        return self.rows(self.pages & set(self.touched(iova, length)))

    def merge(self, ranges):
        for iova, length in ranges:
            self.write(iova, min(length, self.iova + self.length - iova))

    def stop(self):
        del self.pages


class Locked(Right):
    """Writes wait for a harvest: a thread that would write meanwhile does so afterwards."""

    def start(self, iova, length, page_size):
        super().start(iova, length, page_size)
        self.lock = threading.Lock()

    def write(self, iova, length):
        with self.lock:
            super().write(iova, length)

    def read_and_clear(self):
        with self.lock:
            rows = self.rows(self.pages)
            self.pages.clear()
            return rows


# --- planted bugs ---------------------------------------------------------------------------------


class LosesTheLastPage(Right):
    """The last page of the range is never reported."""

    def rows(self, pages):
        return super().rows(pages - {(self.length - 1) // self.page_size})


class MarksOneTooMany(Right):
    """The end of a write counts as inclusive."""

    def touched(self, iova, length):
        return super().touched(iova, min(length + 1, self.iova + self.length - iova))


class ReturnsThePreviousEpoch(Right):
    """A harvest gives what the one before it should have."""

    def start(self, iova, length, page_size):
        super().start(iova, length, page_size)
        self.epoch = []

    def read_and_clear(self):
        answer, self.epoch = self.epoch, super().read_and_clear()
        return answer


class ForgetsAtTheEdgeOfAWindow(Right):
    """A write that crosses into a next window goes on there one page late."""

    WINDOW = 64

    def write(self, iova, length):
        pages = self.touched(iova, length)
        self.pages |= {n for n in pages if n % self.WINDOW or n == pages[0]}


class ForgetsAtTheEdgeOfABitmapPage(ForgetsAtTheEdgeOfAWindow):
    """The same, with windows of as many pages as 4096 bytes of bitmap stand for."""

    WINDOW = 8 * 4096


class DropsMarksDuringTheHarvest(Right):
    """Reads, then clears: what is marked in between is gone."""

    def read_and_clear(self):
        rows = self.rows(self.pages.copy())
        self.pages.clear()
        return rows


class RoundsAnUnalignedEndDown(Right):
    """A last page that is written in part only is not marked."""

    def touched(self, iova, length):
        end = (iova + length - self.iova) // self.page_size
        return range(super().touched(iova, length)[0], end)


class ForgetsTheMiddleOfLongWrites(Right):
    """Of the words of 64 pages that a write touches, it knows the first and the last."""

    def write(self, iova, length):
        pages = self.touched(iova, length)
        words = pages[0] // 64, pages[-1] // 64
        self.pages |= {n for n in pages if n // 64 in words}


class KnowsOneWordOnly(Right):
    """No page beyond the first 64."""

    def rows(self, pages):
        return super().rows({n for n in pages if n < 64})


class ClearsWhenItReads(Right):
    """Every look takes."""

    def read(self):
        return self.read_and_clear()


class CountsPagesFromZero(Right):
    """As if every base were a multiple of the page size."""

    def touched(self, iova, length):
        base = self.iova // self.page_size
        first, last = iova // self.page_size, (iova + length - 1) // self.page_size
        return range(first - base, last - base + 1)


class HasAddressesOf32Bits(Right):
    """Loses the upper half of every address."""

    def rows(self, pages):
        return [(iova % 2**32, length) for iova, length in super().rows(pages)]


class MergesTheFirstRowOnly(Complete):
    """The other rows of a harvest that is merged back are lost."""

    def merge(self, ranges):
        super().merge(ranges[:1])


class ReadsAPartOneTooShort(Complete):
    """The last page of a part is not looked at."""

    def read_range(self, iova, length):
        return self.rows(self.pages & set(self.touched(iova, length)[:-1]))


BROKEN = [
    LosesTheLastPage,
    MarksOneTooMany,
    ReturnsThePreviousEpoch,
    ForgetsAtTheEdgeOfAWindow,
    ForgetsAtTheEdgeOfABitmapPage,
    DropsMarksDuringTheHarvest,
    RoundsAnUnalignedEndDown,
    ForgetsTheMiddleOfLongWrites,
    KnowsOneWordOnly,
    ClearsWhenItReads,
    CountsPagesFromZero,
    HasAddressesOf32Bits,
    MergesTheFirstRowOnly,
    ReadsAPartOneTooShort,
]
