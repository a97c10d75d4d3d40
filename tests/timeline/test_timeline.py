"""Timeline against sets of pages: views of views, in blocks that are cut anywhere."""

from __future__ import annotations

import numpy as np
import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

import iovabitmap as ib
from iovabitmap.timeline import Memory, Region, Rows

TOP = 2**64
PAGES = 70


class Pieces:
    """A Store of another one's rows, in blocks of `size` rows: epochs are cut anywhere."""

    def __init__(self, store, size: int) -> None:
        self._store, self._size = store, size

    def __len__(self) -> int:
        return len(self._store)

    def rows(self, i, j):
        for block in self._store.rows(i, j):
            for at in range(0, len(block.epoch), self._size):
                yield block.part(at, at + self._size)

    def times(self):
        return self._store.times()

    def error(self, problem):
        return self._store.error(problem)


def bitmap(geometry: ib.Geometry, pages) -> ib.IOVABitmap:
    bm = ib.IOVABitmap(*geometry)
    bm.set_pages([geometry.iova + page * geometry.page_size for page in pages])
    return bm


def pages_of(rows, geometry: ib.Geometry) -> set[int]:
    """The numbers of the pages that rows (iova, length) touch, which must be whole ones."""
    found = set()
    for iova, length in np.asarray(rows).tolist():
        first, end = iova - geometry.iova, iova + length - geometry.iova
        assert length > 0 and first % geometry.page_size == 0
        assert end % geometry.page_size == 0 or iova + length == geometry.end
        pages = range(first // geometry.page_size, -(-end // geometry.page_size))
        assert found.isdisjoint(pages)
        found |= set(pages)
    return found


geometries = st.builds(
    lambda page, npages, base, cut: ib.Geometry(
        *((TOP - npages * page + cut, npages * page - cut) if base is None
          else (base, npages * page - cut)),
        page,
    ),
    st.sampled_from([1, 4096, 2**21]),
    st.integers(1, PAGES),
    st.sampled_from([None, 0, 4096, 4097, 2**32 - 4096, 2**63]),
    st.sampled_from([0, 0, 1]),
).filter(lambda geometry: geometry.length > 0)  # fmt: skip


@st.composite
def timelines(draw):
    """A Timeline, the dirty pages of each epoch, and its times."""
    geometry = draw(geometries)
    numbers = st.sets(st.integers(0, geometry.npages - 1))
    epochs = draw(st.lists(numbers, min_size=1, max_size=6))
    starts = sorted(
        draw(st.lists(st.integers(-50, 50), min_size=len(epochs), max_size=len(epochs)))
    )
    times = [(start, start + draw(st.integers(0, 30))) for start in starts]
    bitmaps = [bitmap(geometry, pages) for pages in epochs]
    tl = ib.Timeline.of([(bm, *when) for bm, when in zip(bitmaps, times, strict=True)])
    tl._store = Pieces(tl._store, draw(st.integers(1, 9)))
    return tl, epochs, times


def check(tl: ib.Timeline, epochs: list[set[int]], times) -> None:
    """All that a Timeline says, against the pages of its epochs."""
    geometry = tl.geometry
    assert len(tl) == len(epochs)
    assert [pages_of(epoch.ranges(), geometry) for epoch in tl] == epochs
    assert [epoch.count() for epoch in tl] == [len(pages) for pages in epochs]
    assert [(epoch.t_start_ns, epoch.t_end_ns) for epoch in tl] == list(times)
    assert [epoch.index for epoch in tl] == list(range(len(tl)))
    assert [(n, pages_of(rows.ranges(), geometry)) for n, rows in tl.each()] == list(
        enumerate(epochs)
    )
    everything = set().union(*epochs)
    ranges = tl.union_ranges()
    assert pages_of(ranges, geometry) == everything
    assert all(a + n < b for (a, n), (b, _) in zip(*[iter(ranges.tolist())] * 2, strict=False))
    with tl.union() as union:
        assert union.ranges().tolist() == ranges.tolist()
    for epoch, pages in zip(tl, epochs, strict=True):
        with epoch.bitmap() as bm:
            assert bm.count() == len(pages)
            assert bm.ranges().tolist() == epoch.ranges().tolist()


@given(timelines())
def test_what_it_says(drawn):
    check(*drawn)


@given(timelines(), st.data())
def test_slices_of_slices(drawn, data):
    tl, epochs, times = drawn
    for _ in range(2):
        part = slice(*data.draw(st.tuples(*[st.none() | st.integers(-8, 8)] * 2)))
        tl, epochs, times = tl[part], epochs[part], times[part]
        check(tl, epochs, times)


@given(timelines(), st.data())
def test_between(drawn, data):
    tl, epochs, times = drawn
    t0 = data.draw(st.integers(-60, 90))
    t1 = data.draw(st.integers(t0, 100))
    part = tl.between(t0, t1)
    inside = [n for n, (start, end) in enumerate(times) if end > t0 and start < t1]
    wanted = range(inside[0], inside[-1] + 1) if inside else range(0)
    check(part, [epochs[n] for n in wanted], [times[n] for n in wanted])


@given(timelines(), st.data())
def test_within(drawn, data):
    tl, epochs, times = drawn
    for _ in range(2):
        geometry = tl.geometry
        start = data.draw(st.integers(0, geometry.length - 1))
        size = data.draw(st.integers(1, geometry.length - start))
        tl = tl.within(geometry.iova + start, size)
        first, end = start // geometry.page_size, -(-(start + size) // geometry.page_size)
        assert tl.geometry.iova == geometry.iova + first * geometry.page_size
        assert tl.geometry.npages == end - first
        epochs = [{page - first for page in pages if first <= page < end} for pages in epochs]
        check(tl, epochs, times)


@given(timelines(), st.data())
def test_select(drawn, data):
    """Memory of a name is what its rows of the layout touch, which may share pages."""
    tl, epochs, times = drawn
    geometry = tl.geometry
    pieces = st.tuples(st.integers(0, geometry.length - 1), st.integers(1, 5 * geometry.page_size))
    areas = data.draw(st.lists(pieces, min_size=1, max_size=4))
    layout = [
        Region(geometry.iova + at, min(size, geometry.length - at), 0, 7, "[heap]")
        for at, size in areas
    ] + [Region(geometry.iova, 1, 0, 8, "other")]
    touched = {
        page
        for row in layout[:-1]
        for page in range(
            (row.iova - geometry.iova) // geometry.page_size,
            -(-(row.iova - geometry.iova + row.length) // geometry.page_size),
        )
    }
    tl = ib.Timeline(tl._store, geometry, layout=layout)
    part = tl.select(name="[heap]")
    assert {row.name for row in part.layout} == {"[heap]"}
    check(part, [pages & touched for pages in epochs], times)
    check(tl.select(pid=7)[1:], [pages & touched for pages in epochs[1:]], times[1:])
    check(tl.select(pid=8), [pages & {0} for pages in epochs], times)


def test_select_names_what_there_is():
    tl = ib.Timeline.of(ib.IOVABitmap(0, 4096))
    with pytest.raises(ValueError, match="no layout"):
        tl.select(name="[heap]")
    tl = ib.Timeline.of(ib.IOVABitmap(0, 4096), layout=[Region(0, 4096, 0, 7, "[stack]")])
    with pytest.raises(ValueError, match=r"'\[stack\]'"):
        tl.select(name="[heap]")
    with pytest.raises(ValueError, match="a name or a pid"):
        tl.select()


# --- data out ------------------------------------------------------------------------------------


@given(timelines())
def test_rows_out(drawn):
    tl, _, times = drawn
    table = pa.table(tl)
    assert table.equals(tl.to_arrow())
    wanted = [
        [epoch, *times[epoch], iova, length]
        for epoch, rows in tl.each()
        for iova, length in rows.ranges().tolist() or [[tl.iova, 0]]
    ]
    assert [list(row.values()) for row in table.to_pylist()] == wanted
    frame = tl.to_pandas()
    assert list(frame.columns) == table.column_names
    assert frame.to_numpy(object).tolist() == wanted
    assert [str(kind) for kind in frame.dtypes] == ["int64"] * 3 + ["uint64"] * 2


@given(timelines())
def test_epochs(drawn):
    tl, epochs, times = drawn
    frame = tl.epochs()
    before = [set(), *epochs]
    assert frame["count"].tolist() == [len(pages) for pages in epochs]
    assert frame["again"].tolist() == [len(a & b) for a, b in zip(before, epochs, strict=False)]
    assert frame["newly"].tolist() == [len(b - a) for a, b in zip(before, epochs, strict=False)]
    assert frame["gone"].tolist() == [len(a - b) for a, b in zip(before, epochs, strict=False)]
    assert list(zip(frame.t_start_ns, frame.t_end_ns, strict=True)) == times
    seconds = [(end - start) / 1e9 for start, end in times]
    assert frame.seconds.tolist() == seconds
    assert frame.nbytes.tolist() == [len(pages) * tl.page_size for pages in epochs]
    for rate, nbytes, second in zip(frame.bytes_per_s, frame.nbytes, seconds, strict=True):
        assert rate == nbytes / second if second else np.isnan(rate)


@given(timelines(), st.integers(1, 20))
def test_xarray(drawn, bins):
    """All dirty bytes are in some bin."""
    pytest.importorskip("xarray")
    tl, _, times = drawn
    found = tl.to_xarray(bins=bins)
    assert found.dims == ("epoch", "iova") and len(found) == len(tl)
    assert found.t_start_ns.values.tolist() == [start for start, _ in times]
    if tl.axis.size:
        sizes = np.diff(tl.axis.edges(bins)).astype(float)
        dirty = [float(rows.length.sum()) for _, rows in tl.each()]
        assert np.allclose((found.values * sizes).sum(axis=1), dirty)
        assert (found.values <= 1).all()
    else:
        assert found.shape[1] == 0


@given(timelines(), st.integers(1, 9), st.integers(1, 9))
def test_summary(drawn, rows, columns):
    tl, epochs, times = drawn
    done = []
    found = tl.summary(rows=rows, columns=columns, progress=done.append)
    assert done == list(range(1, len(tl) + 1))
    assert found.counts.tolist() == [len(pages) for pages in epochs]
    assert found.union_count == len(set().union(*epochs))
    assert list(zip(*found.times, strict=True)) == times
    assert found.density.shape == (len(found.addresses), min(columns, len(tl)))
    assert (found.density >= 0).all() and (found.density <= 1).all()


def test_a_summary_of_no_size_is_refused():
    tl = ib.Timeline.of(ib.IOVABitmap(0, 4096))
    for size in ({"rows": 0}, {"columns": 0}, {"columns": -1}):
        with pytest.raises(ValueError, match="rows and columns must be 1 or more, not"):
            tl.summary(**size)


def test_unknown_times():
    bm = bitmap(ib.Geometry(0, 1 << 16, 4096), [1, 2])
    tl = ib.Timeline.of([bm, bm])
    assert not tl.has_times
    assert (tl[0].t_start_ns, tl[0].t_end_ns, tl[0].seconds) == (None, None, None)
    assert repr(tl[1]) == "<Epoch 1>"
    for ask in (tl.times, lambda: tl.seconds, lambda: tl.between(0, 1)):
        with pytest.raises(ValueError, match="times of these epochs are unknown"):
            ask()
    frame = tl.epochs()
    assert frame[["t_start_ns", "seconds", "bytes_per_s"]].isna().all(axis=None)
    assert frame["count"].tolist() == [2, 2] and frame.again.tolist() == [0, 2]
    assert tl.to_pandas().t_end_ns.isna().all()
    assert pa.table(tl)["t_start_ns"].null_count == 2
    assert tl.summary().times is None


# --- making --------------------------------------------------------------------------------------


def test_of_bitmaps_copies_what_is_dirty():
    bm = bitmap(ib.Geometry(0, 1 << 16, 4096), [1])
    tl = ib.Timeline.of([(bm, 0, 1)])
    bm.set(0, 1 << 16)
    assert tl[0].count() == 1
    assert ib.Timeline.of(tl) is tl
    assert ib.Timeline.of(bm)[0].count() == 16


def test_of_refuses():
    bm, other = ib.IOVABitmap(0, 1 << 16), ib.IOVABitmap(0, 1 << 17)
    for source, message in [
        ([], "no epoch"),
        ([bm, other], "epoch 1 has the Geometry.*the first one Geometry"),
        ([(bm, 5, 3)], "ends at 3 ns, before its start at 5 ns"),
        ([(bm, 5, 6), (bm, 4, 9)], "epoch 1 starts at 4 ns, before the last one's start at 5"),
        ([(bm, 5, 6), bm], "epoch 1 has no times"),
        ([bm, (bm, 5, 6)], "epoch 1 has times"),
        ([(bm, 5)], "not 2 items"),
    ]:
        with pytest.raises(ValueError, match=message):
            ib.Timeline.of(source)
    for source in ["run.parquet", (bm, 0, 1), [()], [7], [[7, 0, 1]]]:
        with pytest.raises(TypeError, match="must be a bitmap, or"):
            ib.Timeline.of(source)
    assert ib.Timeline.of([[bm, 0, 1]]).seconds == 1e-9
    for when in [(0.0, 1), (0, 0.5), (0, "1")]:
        with pytest.raises(TypeError, match="must be a whole number of nanoseconds, not"):
            ib.Timeline.of([(bm, *when)])


def test_indices():
    tl = ib.Timeline.of([ib.IOVABitmap(0, 4096)] * 3)
    assert tl[-1].index == 2 and tl[np.int64(1)].index == 1
    for index in (3, -4):
        with pytest.raises(IndexError, match=f"epoch {index} of a Timeline of 3"):
            tl[index]
    with pytest.raises(ValueError, match="the step must be 1, not 2"):
        tl[::2]
    with pytest.raises(TypeError):
        tl["1"]
    assert len(tl[5:]) == 0 and len(tl[2:1]) == 0
    assert tl[2:1].union().count() == 0


def test_between_and_within_refuse():
    tl = ib.Timeline.of([(ib.IOVABitmap(4096, 8192), 0, 1)])
    with pytest.raises(TypeError, match=r"t1_ns must be a whole number of nanoseconds, not 0\.5"):
        tl.between(0, 0.5)
    with pytest.raises(ValueError, match="from 3 to 2 ns is backwards"):
        tl.between(3, 2)
    for iova, length in [(0, 4097), (4096, 0), (12288, 1), (4096, 8193)]:
        with pytest.raises(ib.IOVARangeError, match="0x1000-0x3000"):
            tl.within(iova, length)


def test_memory_is_kept_by_epochs_and_unknown_of_a_part():
    memory = Memory(1 << 20, 1 << 19, 0)
    tl = ib.Timeline.of([(ib.IOVABitmap(0, 1 << 16), 0, 1)] * 2, memory=memory)
    assert tl[1:].memory == memory and tl.within(0, 4096).memory is None


def test_a_range_as_large_as_can_be():
    """What is asked costs by what is dirty, not by the addresses."""
    geometry = ib.Geometry(0, 2**63, 4096)
    iova = np.array([4096, 2**63 - 4096], np.uint64)

    class Store:
        def __len__(self):
            return 1

        def rows(self, i, j):
            yield Rows(np.zeros(2, np.int64), iova, np.full(2, 4096, np.uint64))

        def times(self):
            return np.array([0]), np.array([10**9])

        def error(self, problem):
            return MemoryError(problem)

    tl = ib.Timeline(Store(), geometry)
    assert tl[0].count() == 2 and tl.epochs()["bytes_per_s"].tolist() == [8192]
    assert tl.union_ranges()[:, 0].tolist() == iova.tolist()
    assert tl.summary().union_count == 2
    with pytest.raises(MemoryError, match="takes a bitmap of 281474976710656 bytes"):
        tl.union()
