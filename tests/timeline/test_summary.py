"""The summary of a log against one made page by page."""

from __future__ import annotations

import random

import numpy as np
import pytest

import iovabitmap as ib
from support.logs import PAGE, make_log, needs, random_epochs, rows_of, times_of

needs("pyarrow")
from iovabitmap.timeline import Axis  # noqa: E402

GEOMETRY = (0x1000, 997 * PAGE - 5, PAGE)
FAR = (0x5600_0000_0000, 0x2A00_0000_0000, PAGE)  # heap, mappings and stack of a process


@pytest.mark.parametrize("close", [True, False], ids=["finished", "killed"])
def test_numbers_of_each_epoch(tmp_path, close):
    epochs = random_epochs(random.Random(1), GEOMETRY, 70)
    make_log(tmp_path / "log", epochs, GEOMETRY, close=close)
    done = []
    with ib.DirtyLog.open(tmp_path / "log") as log:
        found = log.summary(rows=10, columns=7, progress=done.append)
    assert found.counts.tolist() == [len(pages) for pages in epochs]
    assert found.times[0].tolist() == [times_of(n)[0] for n in range(70)]
    assert found.times[1].tolist() == [times_of(n)[1] for n in range(70)]
    assert found.union_count == len(set().union(*epochs))
    assert found.columns.tolist() == [n * 10 for n in range(8)]
    assert done[-1] == 70


def test_the_map_byte_by_byte(tmp_path):
    """Without long gaps a row of the map is a part of the addresses from the first dirty page to
    the last, and each cell the mean of its epochs."""
    rng = random.Random(2)
    epochs = [{n for n in range(997) if rng.random() < 0.3} for _ in range(24)] + [set(), {5}]
    make_log(tmp_path / "log", epochs, GEOMETRY)
    with ib.DirtyLog.open(tmp_path / "log") as log:
        found = log.summary(rows=12, columns=13)
    union = set().union(*epochs)
    low, size = min(union) * PAGE, rows_of(union, GEOMETRY)[-1]
    total = size[0] + size[1] - GEOMETRY[0] - low
    assert found.density.shape == (12, 13)
    for row in range(12):
        start, end = low + row * total // 12, low + (row + 1) * total // 12
        assert found.addresses[row] == GEOMETRY[0] + start
        for column in range(13):
            dirty = sum(
                max(0, min(end, iova + length) - max(start, iova))
                for pages in epochs[2 * column : 2 * column + 2]
                for iova, length in ((a - GEOMETRY[0], b) for a, b in rows_of(pages, GEOMETRY))
            )
            expected = dirty / (end - start) / 2
            assert found.density[row, column] == pytest.approx(expected, abs=1e-12)


def test_gaps_of_terabytes_are_cut(tmp_path):
    """Heap, mappings and stack each have rows of their own, and no row is of two of them."""
    heap = np.array([[FAR[0], 64 * PAGE]], np.uint64)
    middle = np.array([[0x7F00_0000_0000, 32 * PAGE]], np.uint64)
    stack = np.array([[FAR[0] + FAR[1] - 4 * PAGE, 4 * PAGE]], np.uint64)
    with ib.LogWriter(tmp_path / "log", ib.Geometry(*FAR)) as log:
        for n, rows in enumerate((heap, middle, stack)):
            log.append_ranges(rows, *times_of(n))
    with ib.DirtyLog.open(tmp_path / "log") as log:
        found = log.summary(rows=10, columns=3)
    parts = [
        sum(low <= address < high for address in found.addresses)
        for low, high in (
            (FAR[0], 0x5700 << 32),
            (0x7F00 << 32, 0x7F01 << 32),
            (stack[0, 0], 2**64),
        )
    ]
    assert parts == [6, 3, 1]
    expected = np.zeros((10, 3))
    expected[:6, 0] = expected[6:9, 1] = expected[9:, 2] = 1
    assert found.density.tolist() == expected.tolist()


@pytest.mark.parametrize("count", [1, 7, 5000])
def test_many_gaps(count):
    """However many long gaps there are: positions ascend, nothing overlaps, and all is covered."""
    starts = np.cumsum(np.random.default_rng(count).integers(2, 2**40, count)).astype(np.uint64)
    rows = np.column_stack((starts * np.uint64(PAGE), np.full(count, PAGE, np.uint64)))
    axis = Axis(rows)
    positions = axis.position(rows[:, 0])
    assert (np.diff(positions.astype(np.int64)) >= PAGE).all()
    assert axis.size <= count * PAGE * (1 + 1 / 16 * count)
    for bins in (1, 3, 40):
        edges = axis.edges(bins)
        assert edges[0] == 0 and edges[-1] == axis.size and (np.diff(edges.astype(float)) > 0).all()
        assert axis.cover(rows, edges).sum() == count * PAGE
        part = rows[:: max(count // 3, 1)]
        assert axis.cover(part, edges).sum() == len(part) * PAGE


def test_logs_with_nothing_in_them(tmp_path):
    make_log(tmp_path / "none", [], GEOMETRY)
    make_log(tmp_path / "clean", [set(), set()], GEOMETRY)
    with ib.DirtyLog.open(tmp_path / "none") as log:
        found = log.summary()
        assert found.union_count == 0 and len(found.counts) == 0 and found.addresses == []
    with ib.DirtyLog.open(tmp_path / "clean") as log:
        found = log.summary()
        assert found.counts.tolist() == [0, 0] and found.addresses == []


def test_memory_up_to_the_last_address(tmp_path):
    geometry = (2**64 - 64 * PAGE, 64 * PAGE, PAGE)
    make_log(tmp_path / "log", [{0, 63}, {63}, set(range(64))], geometry)
    with ib.DirtyLog.open(tmp_path / "log") as log:
        found = log.summary(rows=4, columns=3)
    assert found.density[:, 2].tolist() == [1, 1, 1, 1]
    assert found.density[:, 1].tolist() == [0, 0, 0, 1 / 16]
