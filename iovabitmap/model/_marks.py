"""Marking: one range through the present window, many through windows of their own."""

from __future__ import annotations

from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, SupportsIndex

from .._base.intervals import union
from .._core import PinError
from ._arguments import Row, Run, Span, addresses, number, pin_error, rows
from ._pins import HOST_PAGE, NotPinnedError
from ._windows import WindowedBits, load, operation, store

if TYPE_CHECKING:
    from typing_extensions import Buffer


class Marks(WindowedBits):
    """set, clear, test_and_set, reset; set_ranges, clear_ranges, set_pages."""

    __slots__ = ()

    def _span(self, iova: SupportsIndex, length: SupportsIndex, clip: bool = False) -> Span | None:
        return self._inside(number("iova", iova), number("length", length), bool(clip))

    def _mark(self, page: str, span: Span | None) -> int:
        """Gives all pages that a range touches this value; how many had another."""
        changed = 0
        if span is not None:
            bit, stop = self._run(span)
            while bit < stop:
                try:
                    upto = self._present_until(bit, stop)
                except NotPinnedError as failure:
                    start = max(span[0], self._address(bit))
                    newly = changed if page == "1" else 0
                    raise pin_error(failure.code, start, span[1], newly) from failure.__cause__
                before = load(self._memory, bit, upto)
                store(self._memory, bit, page * (upto - bit))
                changed += len(before) - before.count(page)
                bit = upto
        return changed

    @operation
    def set(
        self,
        iova: SupportsIndex,
        length: SupportsIndex,
        *,
        clip: bool = False,
        exclusive: bool = False,
    ) -> None:
        """Mark every page that [iova, iova + length) touches as dirty."""
        span = self._span(iova, length, clip)
        bool(exclusive)  # nothing is shared here
        self._mark("1", span)

    @operation
    def clear(
        self,
        iova: SupportsIndex,
        length: SupportsIndex,
        *,
        clip: bool = False,
        exclusive: bool = False,
    ) -> None:
        """Mark every page that [iova, iova + length) touches as clean."""
        span = self._span(iova, length, clip)
        bool(exclusive)  # nothing is shared here
        self._mark("0", span)

    @operation
    def test_and_set(self, iova: SupportsIndex, length: SupportsIndex) -> int:
        """Mark every page that [iova, iova + length) touches; return how many were clean before."""
        return self._mark("1", self._span(iova, length))

    def _mark_some(
        self, page: str, left: list[Run], whole: Span, one_window: bool = False
    ) -> tuple[int, list[Run]]:
        """Marks what one window holds of ascending runs: how many pages changed, and what is left
        of the runs."""
        changed = 0
        begin, end, most = left[0][0], left[-1][1], None
        if one_window:
            begin, end, most = 0, self.nbits, self.nbytes // HOST_PAGE + 2
        with self._own_window(begin, end, whole, write=True, most=most) as upto:
            for first, stop in left:
                if first < upto:
                    before = load(self._memory, first, min(stop, upto))
                    store(self._memory, first, page * len(before))
                    changed += len(before) - before.count(page)
        return changed, [(max(first, upto), stop) for first, stop in left if stop > upto]

    def _mark_spans(self, page: str, spans: Iterable[Span], one_window: bool = False) -> int:
        """Marks many ranges, in ascending order and each window once, or in one window for all of
        them; how many pages changed."""
        spans = list(spans)
        left = union(map(self._run, spans))
        whole = (self.iova, max((end for _, end in spans), default=self.end))
        changed = 0
        try:
            while left:
                more, left = self._mark_some(page, left, whole, one_window)
                changed += more
        except PinError as error:
            error.newly = changed if page == "1" else 0
            raise
        return changed

    def _mark_rows(self, page: str, ranges: list[Row], clip: bool) -> None:
        self._check_not_freed()  # the rows may come from code that frees it
        spans = (
            self._inside(iova, length, clip, f"row {n}: ")
            for n, (iova, length) in enumerate(ranges)
        )
        there = [span for span in spans if span is not None]
        self._mark_spans(page, there, one_window=self.pin == "none")

    @operation
    def set_ranges(
        self, ranges: Buffer | Iterable[Any], *, clip: bool = False, exclusive: bool = False
    ) -> None:
        """Mark every page that a row (iova, length) touches: all rows, or none."""
        bool(exclusive)
        self._mark_rows("1", rows(ranges), bool(clip))

    @operation
    def clear_ranges(
        self, ranges: Buffer | Iterable[Any], *, clip: bool = False, exclusive: bool = False
    ) -> None:
        """Mark every page that a row (iova, length) touches as clean: all rows, or none."""
        bool(exclusive)
        self._mark_rows("0", rows(ranges), bool(clip))

    @operation
    def set_pages(self, iovas: Buffer | Iterable[Any], *, exclusive: bool = False) -> None:
        """Mark the page of each address: all, or none."""
        bool(exclusive)
        self._mark_rows("1", [(iova, 1) for iova in addresses(iovas)], False)

    @operation
    def reset(self) -> None:
        """Mark all pages as clean, through a window of its own."""
        self._mark_spans("0", [(self.iova, self.end)])
