"""Which arrays a recording finds by name: by the pages that an array has for itself."""

from __future__ import annotations

import numpy as np
import pytest

import iovabitmap as ib
from iovabitmap.sources import LayoutRow
from support.logs import needs

needs("pyarrow")
from iovabitmap.jupyter import written_arrays  # noqa: E402

PAGE = 4096
IOVA = 0x10_0000


@pytest.fixture
def memory():
    """16 pages of memory as an array that begins 8 bytes after a page does."""
    made = np.zeros(18 * PAGE, np.uint8)
    start = -made.ctypes.data % PAGE + 8
    return made[start : start + 16 * PAGE]


def found(names, memory, dirty, rows=None):
    """Name and dirty pages of each array; pages are counted from the memory's."""
    base = memory.ctypes.data - 8
    union = ib.IOVABitmap(IOVA, 1 << 30, PAGE)
    for page in dirty:
        union.set(IOVA + page * PAGE, 1)
    rows = rows or [LayoutRow(IOVA, 17 * PAGE, base, 1, "anonymous")]
    return [(each.name, each.dirty // PAGE) for each in written_arrays(names, rows, union)]


def test_only_whole_pages_count(memory):
    assert found({"a": memory}, memory, [0, 16]) == []
    assert found({"a": memory}, memory, [0, 1, 15, 16]) == [("a", 2)]
    assert found({"a": memory[: PAGE - 8]}, memory, [0, 1]) == []


def test_the_most_dirty_comes_first_and_views_have_names_too(memory):
    names = {
        "all": memory,
        "back": memory[::-1],
        "wide": memory[: 8 * PAGE].reshape(8, PAGE)[:, ::2],
        "few": memory[9 * PAGE :],
        "_hidden": memory,
        "none": memory[:0],
        "one": np.array(1.0),
        "no_array": [memory],
    }
    assert found(names, memory, [1, 2, 10]) == [("all", 3), ("back", 3), ("wide", 2), ("few", 1)]


def test_places_that_two_rows_name_count_once(memory):
    base = memory.ctypes.data - 8
    rows = [
        LayoutRow(IOVA, 10 * PAGE, base, 1, "gone"),
        LayoutRow(IOVA + 4 * PAGE, 13 * PAGE, base + 4 * PAGE, 1, "new"),
        LayoutRow(IOVA + 5 * PAGE, PAGE, base + 5 * PAGE, 1, "inside"),
    ]
    assert found({"a": memory}, memory, range(17), rows) == [("a", 15)]


def test_memory_that_is_not_in_the_layout_is_unknown(memory):
    rows = [LayoutRow(IOVA, PAGE, 0, 1, "elsewhere")]
    assert found({"a": memory}, memory, range(17), rows) == []
