"""The one union of intervals, of ints and of arrays, against Python's sets."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from iovabitmap._base import intervals
from iovabitmap._base.interval_arrays import union, union_by_group

pairs = st.lists(
    st.tuples(st.integers(0, 3), st.integers(0, 40), st.integers(1, 9)).map(
        lambda drawn: (drawn[0], drawn[1], drawn[1] + drawn[2])
    ),
    max_size=8,
)


def numbers(found) -> set[int]:
    return {n for start, end in found for n in range(start, end)}


@given(pairs, pairs)
def test_of_ints(a, b):
    a, b = ([row[1:] for row in rows] for rows in (a, b))
    found, others = intervals.union(a), intervals.union(b)
    assert numbers(found) == numbers(a)
    assert all(left[1] < right[0] for left, right in pairwise(found))
    assert numbers(intervals.minus(found, others)) == numbers(a) - numbers(b)
    assert intervals.size(found) == len(numbers(a))


@given(pairs, st.sampled_from([np.int64, np.uint64]), st.sampled_from([0, 2**63 - 64]))
def test_of_arrays(rows, kind, base):
    first = np.array([base + row[1] for row in rows], kind)
    last = np.array([base + row[2] - 1 for row in rows], kind)
    starts, ends = union(first, last)
    expected = intervals.union((base + row[1], base + row[2]) for row in rows)
    assert starts.dtype == ends.dtype == kind
    assert [(a, b + 1) for a, b in zip(starts.tolist(), ends.tolist(), strict=True)] == expected


def test_of_arrays_that_end_with_the_last_number():
    last = 2**64 - 1
    starts, ends = union(
        np.array([last, 0, last - 1, 2], np.uint64), np.array([last, 1, last - 1, 3], np.uint64)
    )
    assert (starts.tolist(), ends.tolist()) == ([0, last - 1], [3, last])


@given(pairs)
def test_by_group(rows):
    columns = [np.array(column, np.int64) for column in zip(*rows, strict=True)] or [
        np.empty(0, np.int64)
    ] * 3
    group, first, last = union_by_group(columns[0], columns[1], columns[2] - 1)
    found = list(zip(group.tolist(), first.tolist(), (last + 1).tolist(), strict=True))
    assert found == [
        (n, *each) for n in range(4) for each in intervals.union(r[1:] for r in rows if r[0] == n)
    ]
