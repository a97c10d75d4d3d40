"""A Timeline at the limits of its numbers: the largest pages and times, and regions of no bytes."""

from __future__ import annotations

import pytest

import iovabitmap as ib
from iovabitmap.timeline import Memory, Region


@pytest.mark.parametrize("page_size, pages", [(2**63, 1), (2**62, 4)])
def test_bytes_of_the_largest_pages(page_size, pages):
    bm = ib.IOVABitmap(5, min(2**64 - 5, page_size * pages), page_size)
    bm.set(bm.iova, bm.length)
    frame = ib.Timeline.of([(bm, 0, 10**9)]).epochs()
    nbytes = bm.count() * page_size
    assert frame["nbytes"].tolist() == [nbytes] and frame["bytes_per_s"].tolist() == [nbytes]


def test_times_that_no_log_holds_are_refused():
    bm = ib.IOVABitmap(0, 4096)
    for when in [(0, 2**63), (2**70, 2**71), (-(2**63) - 1, 0)]:
        with pytest.raises(ValueError, match=r"epoch 0 .* times must be from -9223372036854775808"):
            ib.Timeline.of([(bm, *when)])


def test_memory_given_with_a_timeline_is_not_ignored():
    tl = ib.Timeline.of(ib.IOVABitmap(0, 4096))
    assert ib.Timeline.of(tl) is tl
    assert ib.Timeline.of(tl, memory=Memory(7)).memory == Memory(7)
    with pytest.raises(TypeError, match="memry"):
        ib.Timeline.of(tl, memry=Memory(7))


def test_a_region_of_no_bytes_has_no_pages():
    bm = ib.IOVABitmap.from_text("0-2", 0, 0x10000, 4096)
    tl = ib.Timeline.of(bm, layout=[Region(0, 0, 0, 7, "none")])
    assert tl.by_memory() == [] and tl.select(name="none")[0].count() == 0
