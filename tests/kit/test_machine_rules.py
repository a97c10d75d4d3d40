"""DirtyTrackerMachine as an interface: what it calls, what it takes, what it says."""

from __future__ import annotations

import sys
import threading

import numpy as np
import pytest
from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import run_state_machine_as_test

import iovabitmap as ib
from iovabitmap import Geometry
from iovabitmap.testing import DirtyTrackerMachine
from iovabitmap.testing._interruption import Interruption, Patience
from iovabitmap.testing.strategies import geometries
from support import trackers
from support.children import run_child


def run(machine, examples=10, **options):
    usual = machine.TestCase.settings
    run_state_machine_as_test(
        machine,
        settings=settings(usual, max_examples=examples, database=None, derandomize=True, **options),
    )


def fails(machine, match, error=AssertionError, phases=(Phase.generate,)):
    """The failure, as it was found: not made smaller."""
    with pytest.raises(error, match=match) as caught:
        run(machine, examples=100, phases=phases)
    return caught.value


# --- what it calls --------------------------------------------------------------------------------


def test_start_gets_geometries_of_every_sort():
    seen = []

    class Records(trackers.Right):
        def start(self, iova, length, page_size):
            seen.append(Geometry(iova, length, page_size))
            super().start(iova, length, page_size)

    run(Records, 400)  # few have as many pages as are asked for here
    assert any(g.npages > 64 for g in seen) and any(g.npages > 8 * 4096 for g in seen)
    assert any(g.iova % g.page_size for g in seen) and any(g.length % g.page_size for g in seen)
    assert any(g.end == 2**64 for g in seen) and any(g.iova == 0 for g in seen)
    for power in (2**31, 2**32, 2**63):
        assert any(abs(g.iova - power) <= g.length + 2 * g.page_size for g in seen)
    assert {4096} < {g.page_size for g in seen}


def test_geometries_can_be_narrowed():
    seen = set()

    class Narrow(trackers.Right):
        geometries = st.just((0x1000, 0x4000, 4096)) | geometries(page_sizes=2048, max_pages=3)

        def start(self, iova, length, page_size):
            seen.add(page_size)
            super().start(iova, length, page_size)

    run(Narrow)
    assert seen == {2048, 4096}


def test_writes_are_inside_and_not_empty():
    class Checks(trackers.Complete):
        def write(self, iova, length):
            assert type(iova) is int and type(length) is int
            assert length >= 1 and self.iova <= iova and iova + length <= self.iova + self.length
            super().write(iova, length)

        def read_range(self, iova, length):
            assert length >= 1 and self.iova <= iova and iova + length <= self.iova + self.length
            return super().read_range(iova, length)

        def merge(self, ranges):
            assert ranges and all(type(number) is int for row in ranges for number in row)
            super().merge(ranges)

    run(Checks)


def test_stop_comes_after_every_start():
    balance = []

    class Counts(trackers.Right):
        def start(self, iova, length, page_size):
            balance.append(1)
            super().start(iova, length, page_size)

        def stop(self):
            balance.append(-1)

    run(Counts)
    assert balance == [1, -1] * (len(balance) // 2)
    balance.clear()

    class CountsAndFails(Counts, trackers.LosesTheLastPage):
        pass

    fails(CountsAndFails, "wrong pages")
    assert balance == [1, -1] * (len(balance) // 2)


def test_nothing_is_stopped_that_did_not_start():
    class FailsToStart(trackers.Right):
        def start(self, iova, length, page_size):
            raise OSError("no device")

        def stop(self):
            pytest.fail("stopped")

    fails(FailsToStart, "no device", OSError)


@pytest.mark.parametrize("left_out", ["read", "read_and_clear"])
def test_methods_that_are_left_out(left_out):
    methods = {
        name: vars(trackers.Right)[name]
        for name in ("start", "touched", "write", "read", "read_and_clear", "rows")
        if name != left_out
    }
    run(type("Some", (DirtyTrackerMachine,), methods))


def test_methods_that_are_needed():
    with pytest.raises(TypeError, match="must define start, write, read or read_and_clear"):
        DirtyTrackerMachine()

    class NoWrite(DirtyTrackerMachine):
        def start(self, iova, length, page_size):
            pass

        def read(self):
            return []

    fails(NoWrite, "NoWrite must define write\\n", TypeError)


# --- answers --------------------------------------------------------------------------------------


def answers(convert):
    class Answers(trackers.Complete):
        geometries = geometries(max_pages=300)

        def rows(self, pages):
            return convert(self, sorted(super().rows(pages)))

    return Answers


def as_bitmap(machine, rows):
    bm = ib.IOVABitmap(machine.iova, machine.length, machine.page_size)
    bm.set_ranges(rows, clip=True)
    return bm


def cut(machine, rows):
    """As a bitmap gives them: cut to the range."""
    end = machine.iova + machine.length
    return [(iova, min(length, end - iova)) for iova, length in rows]


@pytest.mark.parametrize(
    "convert",
    [
        as_bitmap,
        lambda machine, rows: as_bitmap(machine, cut(machine, rows)).ranges(),
        lambda machine, rows: cut(machine, rows),
        lambda machine, rows: rows[::-1] + rows[:3],
        lambda machine, rows: (list(row) for row in rows),
        lambda machine, rows: np.array(cut(machine, rows), np.uint64).reshape(-1, 2),
        lambda machine, rows: [*rows, (machine.iova, 0)],
        lambda machine, rows: [(iova + length - 1, 1) for iova, length in cut(machine, rows)],
    ],
    ids=["bitmap", "array", "cut", "any order", "generator", "own array", "empty row", "bytes"],
)
def test_answers_of_every_kind(convert):
    run(answers(convert))


@pytest.mark.parametrize(
    "answer, error, match",
    [
        (None, TypeError, "the answer must be a bitmap, an .* not None"),
        ([1, 2], TypeError, "must be a bitmap"),
        ([(1, 2, 3)], ValueError, "too many values"),
        ([(-1, 2)], ValueError, "row 0 of the answer is negative"),
        (np.zeros(3, np.uint64), TypeError, r"must be of shape \(n, 2\), not \(3,\)"),
        ([(0.5, 1)], TypeError, "must be a bitmap"),
    ],
)
def test_answers_that_are_none(answer, error, match):
    fails(answers(lambda machine, rows: answer), match, error)


def test_rows_outside_of_the_range_are_too_many():
    error = fails(
        answers(lambda machine, rows: [*rows, (machine.iova + machine.length + 4096, 1)]),
        "too many",
    )
    assert "lies outside of the range" in str(error)


# --- messages -------------------------------------------------------------------------------------


def test_a_message_names_the_step_the_pages_and_who_wrote_them():
    phases = tuple(phase for phase in Phase if phase is not Phase.explain)  # it takes a minute
    error = fails(trackers.LosesTheLastPage, "wrong pages", phases=phases)
    assert str(error).splitlines()[1:] == [
        "  missing: 1 page: 0, from iova 0x0",
        "    page 0 was last written in step 2, write(0x0, 0x1000)",
        "  too many: none",
    ]


def test_a_message_is_bounded():
    class Nothing(trackers.Right):
        geometries = st.just((0, 2**16 * 2, 1))

        def write(self, iova, length):
            pass

        def start(self, iova, length, page_size):
            super().start(iova, length, page_size)
            self.pages = set(range(0, 2**17, 2))

    error = fails(Nothing, "wrong pages")
    assert len(str(error)) < 1000 and "65536 pages: 0,2,4,6,8,10,12,14,..." in str(error)


# --- failures -------------------------------------------------------------------------------------


class FailsNowAndThen(trackers.Complete):
    """Every twentieth call fails, a write after half of it."""

    failures = (OSError,)
    calls = 0

    def fail(self):
        self.calls += 1
        if self.calls % 20 == 0:
            raise OSError("not now")

    def write(self, iova, length):
        super().write(iova, (length + 1) // 2)
        self.fail()
        super().write(iova, length)

    def read(self):
        self.fail()
        return super().read()

    def read_and_clear(self):
        self.fail()
        return super().read_and_clear()


class LosesWhenItFails(FailsNowAndThen):
    """A harvest that fails has taken what it does not give."""

    def read_and_clear(self):
        rows = trackers.Complete.read_and_clear(self)
        self.fail()
        return rows


def test_a_failure_that_loses_nothing():
    run(FailsNowAndThen)


def test_a_failure_that_loses_pages():
    error = fails(LosesWhenItFails, "wrong pages")
    assert "missing" in str(error)


def test_a_failure_that_nobody_announced():
    class Unannounced(FailsNowAndThen):
        failures = ()

    fails(Unannounced, "not now", OSError)


# --- a second thread ------------------------------------------------------------------------------


def test_without_a_second_thread_a_plain_tracker_passes():
    class Plain(trackers.DropsMarksDuringTheHarvest):
        concurrent = False

    run(Plain)


def test_a_failure_with_a_second_thread_says_how_to_do_without():
    error = fails(trackers.DropsMarksDuringTheHarvest, "during read_and_clear")
    assert any("`concurrent = False`" in note for note in error.__notes__)
    assert "during read_and_clear(), before line " in str(error)


def lines(log):
    log.append("a")
    log.append("b")
    return log.copy()


@pytest.mark.parametrize("moment, expected", [(1, "!ab"), (2, "a!b"), (3, "ab!"), (99, "ab!")])
def test_an_interruption_comes_before_the_line_that_was_chosen(moment, expected):
    """Line 0 is that of the lambda."""
    log = []
    ids = []

    def action():
        ids.append(threading.get_ident())
        log.append("!")

    tracer = sys.gettrace()
    interruption = Interruption(action, moment, Patience())
    assert interruption.during(lambda: lines(log)) is not None
    assert "".join(log) == expected
    assert sys.gettrace() is tracer
    in_time = moment < 4
    assert (ids[0] != threading.get_ident()) is in_time
    assert interruption.where.startswith("before line " if in_time else "right after it")


@pytest.mark.parametrize("moment", [0, 99])
def test_what_the_other_thread_raises_is_raised(moment):
    def action():
        raise KeyError("other")

    with pytest.raises(KeyError, match="other"):
        Interruption(action, moment, Patience()).during(lambda: lines([]))


def test_the_call_itself_may_raise():
    done = []

    def call():
        raise KeyError("call")

    tracer = sys.gettrace()
    with pytest.raises(KeyError, match="call"):
        Interruption(lambda: done.append(1), 0, Patience()).during(call)
    assert done == [1] and sys.gettrace() is tracer


def test_only_the_first_wait_for_a_lock_is_long():
    patience = Patience()
    patience.seconds = 0.001  # of the first
    lock = threading.Lock()

    def call():
        with lock:
            return lines([])

    for _ in range(2):
        taken = []

        def action(taken=taken):
            with lock:
                taken.append(1)

        assert Interruption(action, 2, patience).during(call) == ["a", "b"]
        assert taken == [1] and patience.seconds == 0.01


# --- without hypothesis ---------------------------------------------------------------------------


def test_hypothesis_is_needed_by_the_machine_only():
    run_child(
        """
        import sys
        sys.modules["hypothesis"] = None
        from iovabitmap.testing import assert_ranges, verify_dirty_log
        import iovabitmap.testing
        try:
            iovabitmap.testing.DirtyTrackerMachine
        except ImportError as error:
            assert "pip install 'iovabitmap[hypothesis]'" in str(error), error
        else:
            sys.exit("imported")
        try:
            iovabitmap.testing.nothing
        except AttributeError as error:
            assert "nothing" in str(error)
        """
    ).assert_lived("importing the kit without hypothesis")
