"""What the strategies' values shrink to: aligned, small, from page 0, one range."""

from __future__ import annotations

import pytest
from hypothesis import find, settings

import iovabitmap as ib
from iovabitmap import Geometry
from iovabitmap.testing.strategies import (
    bitmaps,
    buffers,
    dirty_patterns,
    epochs,
    fault_plans,
    geometries,
    iova_ranges,
    operations,
    page_sizes,
    range_lists,
)

PAGE = 4096
GUEST = Geometry(0x1000, 2**20, PAGE)
ODD = Geometry(0x801, 2**20 - 5, PAGE)


def smallest(strategy, condition=lambda value: True):
    """The simplest value that hypothesis finds, as the default examples find it."""
    return find(
        strategy,
        condition,
        settings=settings(max_examples=500, derandomize=True, database=None),
    )


CASES = [
    (page_sizes(), None, PAGE),
    (page_sizes(min_page_size=2**20), None, 2**20),
    (page_sizes(max_page_size=64), None, 64),
    (geometries(), None, Geometry(0, PAGE, PAGE)),
    (geometries(min_pages=3), None, Geometry(0, 3 * PAGE, PAGE)),
    (geometries(), lambda g: g.npages > 64, Geometry(0, 65 * PAGE, PAGE)),
    (iova_ranges(GUEST), None, (0x1000, PAGE)),
    (iova_ranges(ODD), None, (0x801, PAGE)),
    (iova_ranges(GUEST), lambda row: row[1] > 5 * PAGE, (0x1000, 6 * PAGE)),
    (range_lists(GUEST), None, []),
    (range_lists(GUEST, min_size=1), None, [(0x1000, PAGE)]),
    (range_lists(GUEST), lambda rows: len(rows) == 2, [(0x1000, PAGE)] * 2),
    (iova_ranges(GUEST, outside=True), None, (0x1000, PAGE)),
    (operations(GUEST), None, ("set", 0x1000, PAGE)),
    (operations(GUEST, outside=True), None, ("set", 0x1000, PAGE)),
    (operations(GUEST), lambda op: op[0] == "test", ("test", 0x1000)),
    (operations(GUEST), lambda op: op[0] == "reset", ("reset",)),
]


@pytest.mark.parametrize("strategy, condition, expected", CASES)
def test_values_shrink_to_the_simplest(strategy, condition, expected):
    assert smallest(strategy, condition or (lambda value: True)) == expected


@pytest.mark.parametrize(
    "condition, expected",
    [
        (lambda rows: True, []),
        (len, [[0x1000, PAGE]]),
        (lambda rows: len(rows) == 2, [[0x1000, PAGE], [0x3000, PAGE]]),
        (lambda rows: len(rows) == 3, [[0x1000, PAGE], [0x3000, PAGE], [0x5000, PAGE]]),
        (lambda rows: rows[:, 1].sum() == GUEST.length, [[0x1000, GUEST.length]]),
    ],
    ids=["nothing", "one page", "two pages", "three pages", "all"],
)
def test_patterns_shrink_to_few_pages_from_page_0(condition, expected):
    assert smallest(dirty_patterns(GUEST), condition).tolist() == expected


def test_epochs_shrink_to_few():
    assert smallest(epochs(GUEST)) == []
    found = smallest(epochs(GUEST), lambda sets: len(sets) == 3)
    assert [rows.tolist() for rows in found] == [[[0x1000, PAGE]]] * 3


def test_bitmaps_shrink_to_clean_and_small():
    assert repr(smallest(bitmaps())) == repr(ib.IOVABitmap(0, PAGE, PAGE))
    assert smallest(bitmaps(GUEST), lambda bm: bm.any()).to_text() == "0"
    assert smallest(bitmaps(), lambda bm: bm.count() == 2).to_text() == "0-1"


def test_buffers_shrink_to_a_byte_of_a_bytearray():
    found = smallest(buffers())
    assert len(found) == 1 and type(found.obj) is bytearray
    assert len(smallest(buffers(), lambda buffer: len(buffer) > 10)) == 11


def test_fault_plans_shrink_to_no_fault():
    assert smallest(fault_plans()).outcomes == []
    assert smallest(fault_plans(), lambda plan: any(plan.outcomes)).outcomes == [1]
    assert smallest(fault_plans(), lambda plan: -5 in plan.outcomes).outcomes == [-5]
