"""The strategies: their options, and that what they draw is what the options allow.

What values shrink to is in test_shrinking.py.
"""

from __future__ import annotations

import ctypes
import errno
import inspect

import numpy as np
import pytest
from hypothesis import Phase, assume, given, settings
from hypothesis import strategies as st
from hypothesis.errors import InvalidArgument

import iovabitmap as ib
from iovabitmap import Geometry
from iovabitmap.model import ModelBitmap
from iovabitmap.testing import strategies
from iovabitmap.testing.strategies import FaultPlan
from iovabitmap.testing.strategies._memory import kinds
from support.children import run_child
from support.memory import HOST_PAGE

TOP = 2**64
SMALL = Geometry(0x1000, 0x10000, 4096)
WIDE = Geometry(0x800, 100_000 * 4096 + 5, 4096)  # words, windows, an end inside a page

# The usual limits of speed and size: nothing is suppressed.
STRICT = settings(
    max_examples=1000,
    deadline=None,
    database=None,
    suppress_health_check=[],
    phases=[Phase.generate],
)


def drawn(strategy, examples=100):
    """So many values, drawn as a test would get them."""
    values = []

    @settings(STRICT, max_examples=examples, derandomize=True)
    @given(strategy)
    def draw(value):
        values.append(value)

    draw()
    return values


# --- options --------------------------------------------------------------------------------------

WITHOUT_GEOMETRY = {"buffers", "fault_plans", "geometries", "page_sizes"}
STRATEGIES = {
    name: getattr(strategies, name)
    for name in strategies.__all__
    if name[0].islower() and name != "apply_operation"
}
BAD = {
    "page_sizes": [
        {"min_page_size": 0},
        {"max_page_size": 2**64},
        {"min_page_size": 8192, "max_page_size": 4096},
        {"min_page_size": 5, "max_page_size": 7},
        {"min_page_size": 1.0},
        {"max_page_size": "4096"},
        {"min_page_size": True},
    ],
    "geometries": [
        {"min_pages": 0},
        {"min_pages": 8, "max_pages": 7},
        {"max_pages": 2**64},
        {"page_sizes": 3},
        {"page_sizes": st.just(3)},
        {"page_sizes": 2**63, "min_pages": 4},
        {"page_sizes": 1, "aligned": False},
        {"aligned": "yes"},
    ],
    "buffers": [
        {"nbytes": -1},
        {"nbytes": st.just(-1)},
        {"nbytes": "1"},
        {"min_offset": HOST_PAGE},
        {"min_offset": 3, "max_offset": 2},
    ],
    "bitmaps": [{"patterns": 3}, {"patterns": lambda geometry: 3}],
    "iova_ranges": [],
    "range_lists": [{"min_size": -1}, {"min_size": 3, "max_size": 2}],
    "dirty_patterns": [{"kinds": ["unknown"]}, {"kinds": "full"}, {"kinds": []}],
    "operations": [],
    "epochs": [{"min_size": -1}, {"min_size": 3, "max_size": 2}],
    "fault_plans": [{"min_size": -1}, {"min_size": 2, "max_size": 1}],
}
BAD_GEOMETRIES = [
    (0, 0, 4096),
    (0, 4096, 3),
    (-1, 4096, 4096),
    (2**64 - 4096, 4097, 4096),
    (0, 4096),
    7,
    st.just("nowhere"),
]


def with_geometry(name):
    return {} if name in WITHOUT_GEOMETRY else {"geometry": SMALL}


def cases():
    for name, several in BAD.items():
        yield from ((name, options | with_geometry(name)) for options in several)
        if name not in WITHOUT_GEOMETRY:
            yield from ((name, {"geometry": geometry}) for geometry in BAD_GEOMETRIES)


def test_every_strategy_is_here():
    assert set(BAD) == set(STRATEGIES)


@pytest.mark.parametrize("name, options", list(cases()))
def test_a_bad_option_is_an_error_when_a_value_is_drawn(name, options):
    strategy = STRATEGIES[name](**options)  # no error yet
    with pytest.raises(InvalidArgument):
        drawn(strategy, 1)


@pytest.mark.parametrize("name", list(STRATEGIES))
def test_options_are_keywords_and_bounds_come_in_pairs(name):
    parameters = inspect.signature(STRATEGIES[name]).parameters
    leading = [p.name for p in parameters.values() if p.kind is p.POSITIONAL_OR_KEYWORD]
    assert leading in ([], ["geometry"], ["nbytes"])
    assert all(p.kind is p.KEYWORD_ONLY for p in parameters.values() if p.name not in leading)
    for option in parameters:
        if option.startswith(("min_", "max_")):
            other = {"min_": "max_", "max_": "min_"}[option[:4]] + option[4:]
            assert other in parameters


@pytest.mark.parametrize("name", list(STRATEGIES))
def test_a_strategy_shows_itself_as_the_call_that_made_it(name):
    shown = repr(STRATEGIES[name](**with_geometry(name)))
    assert shown.startswith(f"{name}(")
    names = {**vars(strategies), "Geometry": Geometry}
    assert repr(eval(shown, names)) == shown


@pytest.mark.parametrize("name", sorted(set(STRATEGIES) - WITHOUT_GEOMETRY))
@pytest.mark.parametrize(
    "geometry",
    [SMALL, tuple(SMALL), ib.IOVABitmap(*SMALL), ModelBitmap(*SMALL), st.just(SMALL)],
    ids=["Geometry", "tuple", "bitmap", "model", "strategy"],
)
def test_a_geometry_may_come_in_every_form(name, geometry):
    assert len(drawn(STRATEGIES[name](geometry), 5)) >= 1


# --- geometries -----------------------------------------------------------------------------------


def test_page_sizes_are_all_powers_of_two_between_the_bounds():
    assert set(drawn(strategies.page_sizes(), 1000)) == {1 << n for n in range(64)}
    found = drawn(strategies.page_sizes(min_page_size=3, max_page_size=70), 200)
    assert set(found) == {4, 8, 16, 32, 64}


bounds = st.tuples(st.integers(1, 200), st.integers(0, 200)).map(lambda n: (n[0], n[0] + n[1]))


@settings(max_examples=60)
@given(st.data(), bounds, st.sampled_from([None, True, False]), st.integers(0, 63))
def test_geometries_are_within_their_options(data, pages, aligned, shift):
    size = 1 << shift
    assume(not (aligned is False and size == 1) and pages[0] * size < TOP)
    found = data.draw(
        strategies.geometries(
            min_pages=pages[0], max_pages=pages[1], page_sizes=size, aligned=aligned
        )
    )
    assert type(found) is Geometry and found.page_size == size
    assert pages[0] <= found.npages <= pages[1]
    assert found.iova >= 0 and found.length >= 1 and found.end <= TOP
    if aligned is not None:
        assert (found.iova % size == 0 and found.length % size == 0) is aligned


@pytest.mark.parametrize("landmark", [0, 2**31, 2**32, 2**63, TOP])
def test_geometries_lie_near_every_landmark(landmark):
    found = drawn(strategies.geometries(page_sizes=4096, max_pages=64), 500)
    ends = [g for g in found if g.end == landmark]
    starts = [g for g in found if g.iova == landmark]
    across = [g for g in found if g.iova < landmark < g.end]
    assert (ends or landmark == 0) and (starts or landmark == TOP)
    assert across or landmark in (0, TOP)


def test_page_sizes_of_geometries_may_be_a_strategy():
    sizes = st.sampled_from([2048, 2**62])
    found = drawn(strategies.geometries(min_pages=8, page_sizes=sizes), 50)
    assert {g.page_size for g in found} == {2048}  # 8 pages of 2**62 fit nowhere


# --- memory ---------------------------------------------------------------------------------------


@settings(max_examples=60)
@given(st.data(), st.integers(0, 3 * HOST_PAGE), st.integers(0, HOST_PAGE - 1))
def test_buffers_have_exact_sizes_and_the_offsets_asked_for(data, nbytes, offset):
    found = data.draw(strategies.buffers(nbytes, min_offset=offset, max_offset=offset + 0))
    view = memoryview(found)
    assert view.nbytes == nbytes and not view.readonly and view.contiguous
    assert bytes(view) == bytes(nbytes)
    if nbytes:
        address = ctypes.addressof(ctypes.c_char.from_buffer(view))
        assert address % HOST_PAGE == offset
        view[-1] = 0xA5
        assert view[-1] == 0xA5


def test_buffers_are_of_every_kind_and_at_odd_offsets():
    found = drawn(strategies.buffers(st.integers(1, 100)), 300)
    owners = {type(memoryview(buffer).obj).__name__ for buffer in found}
    assert owners == {"bytearray", "ndarray", "mmap"}
    assert {"bytearray", "numpy", "mmap"} <= set(kinds())
    offsets = {ctypes.addressof(ctypes.c_char.from_buffer(b)) % HOST_PAGE for b in found}
    assert 0 in offsets and any(offset % 2 for offset in offsets)
    assert {len(buffer) for buffer in found} <= set(range(1, 101))


@pytest.mark.parametrize("kind", list(kinds()))
def test_every_kind_holds_a_bitmap(kind):
    memory = kinds()[kind](2 * HOST_PAGE)
    with ib.alloc(*SMALL, memoryview(memory)[5:7]) as bm:
        bm.set(0x1000, 1)
    assert memory[5] == 1


def test_a_thousand_bitmaps_without_a_health_check_failure():
    found = drawn(strategies.bitmaps(), 1000)
    assert len(found) == 1000
    for bm in found:
        assert type(bm) is ib.IOVABitmap and 0 <= bm.count() <= bm.nbits
        bm.validate()


def test_bitmaps_of_a_type():
    """Through hypothesis's entry point: nothing is registered here."""
    found = drawn(st.from_type(ib.IOVABitmap), 20)
    assert {type(bm) for bm in found} == {ib.IOVABitmap}
    assert {type(g) for g in drawn(st.from_type(Geometry), 20)} == {Geometry}

    @settings(STRICT, max_examples=5)
    @given(bm=...)
    def takes(bm: ib.IOVABitmap):
        assert bm.nbits

    takes()


@settings(max_examples=60)
@given(st.data(), strategies.geometries(max_pages=2000))
def test_bitmaps_have_the_geometry_and_the_pattern_asked_for(data, geometry):
    bm = data.draw(strategies.bitmaps(geometry))
    assert (bm.iova, bm.length, bm.page_size) == geometry
    full = data.draw(
        strategies.bitmaps(geometry, patterns=st.just([(geometry.iova, geometry.length)]))
    )
    assert full.all()
    rows = strategies.bitmaps(
        geometry, patterns=lambda where: strategies.range_lists(where, min_size=1)
    )
    assert data.draw(rows).any()


# --- ranges and patterns --------------------------------------------------------------------------


@settings(max_examples=60)
@given(st.data(), strategies.geometries())
def test_ranges_are_inside_and_not_empty(data, geometry):
    for iova, length in [
        data.draw(strategies.iova_ranges(geometry)),
        *data.draw(strategies.range_lists(geometry, min_size=1, max_size=3)),
    ]:
        assert length >= 1 and geometry.iova <= iova and iova + length <= geometry.end


def touched(row, geometry=WIDE):
    return (
        (row[0] - geometry.iova) // geometry.page_size,
        (row[0] + row[1] - 1 - geometry.iova) // geometry.page_size,
    )


def test_ranges_touch_edges_cross_windows_and_overlap():
    rows = drawn(strategies.iova_ranges(WIDE), 800)
    pages = [touched(row) for row in rows]
    assert WIDE.iova in {iova for iova, _ in rows}
    assert WIDE.end in {iova + length for iova, length in rows}
    assert tuple(WIDE[:2]) in rows
    for unit in (64, 8 * HOST_PAGE):
        assert any(first // unit != last // unit for first, last in pages)
        assert any(first % unit == 0 < first for first, _ in pages)
        assert any(last % unit == unit - 1 for _, last in pages)
    assert any(iova % 4096 != WIDE.iova % 4096 for iova, _ in rows)  # inside of pages
    several = drawn(strategies.range_lists(SMALL), 200)
    assert any(sum(n for _, n in rows) > SMALL.length for rows in several)
    assert any(len(set(rows)) < len(rows) for rows in several)
    assert any(rows != sorted(rows) for rows in several)


def test_ranges_outside_are_of_every_sort():
    rows = drawn(strategies.iova_ranges(SMALL, outside=True), 400)
    start, end = SMALL.iova, SMALL.end
    assert any(n == 0 for _, n in rows)
    assert any(i >= end and n for i, n in rows) and any(i + n <= start and n for i, n in rows)
    assert any(i < start < i + n < end for i, n in rows)
    assert any(start < i < end < i + n for i, n in rows)
    assert any(i < start and i + n > end for i, n in rows)
    assert any(i + n > TOP for i, n in rows)
    assert any(i >= start and i + n <= end and n for i, n in rows)
    assert all(0 <= number < TOP for row in rows for number in row)


@pytest.mark.parametrize("name", ["range_lists", "epochs", "fault_plans"])
def test_sizes_are_between_their_bounds(name):
    found = drawn(STRATEGIES[name](**with_geometry(name), min_size=2, max_size=5), 200)
    sizes = {len(getattr(value, "outcomes", value)) for value in found}
    assert sizes == {2, 3, 4, 5}


def assert_rows_of(rows, geometry):
    """As `IOVABitmap.ranges` gives them."""
    assert rows.dtype == np.uint64 and rows.ndim == 2 and rows.shape[1] == 2
    with ib.IOVABitmap(*geometry) as bm:
        bm.set_ranges(rows)
        np.testing.assert_array_equal(bm.ranges(), rows)


@settings(max_examples=60)
@given(st.data(), strategies.geometries(max_pages=5000))
def test_patterns_are_rows_as_ranges_gives_them(data, geometry):
    assert_rows_of(data.draw(strategies.dirty_patterns(geometry)), geometry)
    for rows in data.draw(strategies.epochs(geometry, max_size=3)):
        assert_rows_of(rows, geometry)


def share(rows):
    return float(rows[:, 1].sum()) / WIDE.length


KINDS = {
    "empty": lambda rows: len(rows) == 0,
    "full": lambda rows: rows.tolist() == [list(WIDE[:2])],
    "sparse": lambda rows: 1 <= len(rows) <= 16 and share(rows) < 0.001,
    "dense": lambda rows: share(rows) > 0.999 and len(rows) <= 17,
    "runs": lambda rows: 1 <= len(rows) <= 16,
    "strided": lambda rows: len(rows) >= 1,
    "hot-cold": lambda rows: len(rows) >= 1,
}


@pytest.mark.parametrize("kind", list(KINDS))
def test_patterns_of_one_kind(kind):
    found = drawn(strategies.dirty_patterns(WIDE, kinds=[kind]), 100)
    assert all(map(KINDS[kind], found))
    if kind == "strided":
        for rows in found:  # one stride from the first to the last, but that may be cut
            assert len(np.unique(np.diff(rows[:, 0]))) <= 1
            assert len(np.unique(rows[:-1, 1])) <= 1
        assert any(len(rows) > 100 for rows in found)
    if kind == "runs":
        assert any((rows[:, 1] > 64 * 4096).any() for rows in found)
    if kind == "hot-cold":  # one place with nearly all, and others far away
        assert any(len(rows) > 2 and rows[:, 1].max() > rows[:, 1].sum() / 2 for rows in found)


def test_all_kinds_of_patterns_are_drawn():
    found = drawn(strategies.dirty_patterns(WIDE), 150)
    for kind in ("empty", "full", "sparse", "dense"):
        assert any(map(KINDS[kind], found)), kind


def test_epochs_have_a_working_set_that_moves():
    found = drawn(strategies.epochs(WIDE, min_size=4), 100)
    starts = [[int(rows[0, 0]) for rows in sets if len(rows)] for sets in found]
    assert any(len(set(some)) == 1 and len(some) >= 4 for some in starts)  # stays
    assert any(len(set(some)) >= 4 for some in starts)  # moves
    assert any(len(rows) == 0 for sets in found for rows in sets)


# --- operations and faults ------------------------------------------------------------------------


@settings(max_examples=60)
@given(st.data(), strategies.geometries(max_pages=500), st.booleans())
def test_operations_run_on_bitmap_and_model_alike(data, geometry, outside):
    bitmaps = ib.IOVABitmap(*geometry), ModelBitmap(*geometry)
    for operation in data.draw(
        st.lists(strategies.operations(geometry, outside=outside), max_size=8)
    ):
        answers = []
        for bm in bitmaps:
            try:
                answers.append(strategies.apply_operation(bm, operation))
            except ib.IOVARangeError as error:
                assert outside
                answers.append(str(error))
        engine, model = answers
        assert engine == model


def test_every_operation_is_drawn():
    found = {operation[0] for operation in drawn(strategies.operations(SMALL), 300)}
    assert {"set", "clear", "read_and_clear", "set_ranges", "reset", "count"} <= found
    assert all(hasattr(ib.IOVABitmap, name) for name in found)


def test_a_fault_plan_does_what_it_says():
    plan = FaultPlan([None, 3, 0, -errno.ENOMEM])
    assert [plan.pin(0, 8), plan.pin(0x1000, 8), plan.pin(0x2000, 8)] == [8, 3, 0]
    with pytest.raises(OSError, match="planned") as caught:
        plan.pin(0x3000, 8)
    assert caught.value.errno == errno.ENOMEM
    assert plan.pin(0x4000, 2) == 2 and plan.calls == 5
    assert plan.pinned_pages == 8 + 3 + 2
    plan.unpin(0, 8)
    assert plan.pinned_pages == 5
    with pytest.raises(AssertionError, match="was not pinned"):
        plan.unpin(0, 8)


def test_fault_plans_are_equal_by_their_outcomes():
    plan = FaultPlan([None, 3])
    assert plan == FaultPlan((None, 3)) and plan != FaultPlan([3, None]) and plan != [None, 3]
    plan.pin(0, 8)
    assert plan == FaultPlan([None, 3])
    with pytest.raises(TypeError, match="unhashable"):
        hash(plan)


@settings(max_examples=50)
@given(strategies.fault_plans(), st.data())
def test_fault_plans_are_pin_objects(plan, data):
    geometry = Geometry(0, 3 * 8 * HOST_PAGE * 4096, 4096)
    memory = data.draw(strategies.buffers(geometry.nbytes))
    with ib.alloc(*geometry, memory, window_pages=1, pin=plan) as bm:
        for row in data.draw(strategies.range_lists(geometry, max_size=3)):
            try:
                bm.set(*row)
            except ib.PinError as error:
                assert error.errno in {-o for o in plan.outcomes if o} | {errno.EFAULT}
    assert plan.pinned_pages == 0


def test_fault_plans_fail_in_every_way():
    outcomes = {
        outcome for plan in drawn(strategies.fault_plans(), 300) for outcome in plan.outcomes
    }
    assert {None, 0, 1, 4, -errno.EFAULT, -errno.ENOMEM, -errno.EAGAIN, -errno.EIO} <= outcomes


# --- what is shown --------------------------------------------------------------------------------


@settings(max_examples=60)
@given(strategies.geometries(), st.data())
def test_what_is_drawn_can_be_pasted_back(geometry, data):
    assert eval(repr(geometry), {"Geometry": Geometry}) == geometry
    for strategy in (strategies.iova_ranges, strategies.range_lists, strategies.operations):
        value = data.draw(strategy(geometry))
        assert eval(repr(value)) == value
    plan = data.draw(strategies.fault_plans())
    assert eval(repr(plan), {"FaultPlan": FaultPlan}) == plan


@settings(max_examples=60)
@given(strategies.bitmaps(strategies.geometries(max_pages=2000)))
def test_a_small_bitmap_can_be_pasted_back(bm):
    assume(bm.count_ranges() <= 16)
    again = eval(repr(bm), {"IOVABitmap": ib.IOVABitmap})
    assert again == bm and (again.iova, again.length) == (bm.iova, bm.length)


def test_hypothesis_is_asked_for_by_name_where_it_is_missing():
    run_child(
        """
        sys.modules["hypothesis"] = None
        try:
            from iovabitmap.testing.strategies import bitmaps
        except ImportError as error:
            assert "pip install 'iovabitmap[hypothesis]'" in str(error), error
        else:
            sys.exit("imported")
        """
    ).assert_lived("strategies without hypothesis")
