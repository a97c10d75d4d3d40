"""DirtyTrackerMachine: random writes, reads and harvests on somebody's tracker, beside an oracle.

The oracle is one sorted list of runs of page numbers: what was written since the last harvest. It
knows nothing of bits, words or windows, which is where trackers go wrong.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, ClassVar, TypeVar

from hypothesis import Phase, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, precondition, rule

from .._base.geometry import Geometry
from .._base.intervals import minus, union
from ._interruption import Interruption, Patience
from ._ranges import Pages, Row, Run, rows_of
from .strategies import geometries, iova_ranges

T = TypeVar("T")

A_FEW = 300  # pages: some words of bitmap
MANY = 2**15 + 1  # pages: one more than 4096 bytes of bitmap stand for
AROUND = 20  # pages on either side of an edge
TRIES = 100  # of a write that fails, before its failure is shown


def _has(*names: str) -> Callable[[DirtyTrackerMachine], bool]:
    """A precondition: the tracker has these methods."""
    return lambda machine: all(machine.has(name) for name in names)


def _drawn_for(strategy: Callable[[Any], st.SearchStrategy[T]]) -> st.SearchStrategy[T]:
    """A strategy that depends on the machine."""
    return st.runner().flatmap(strategy)


class _Range(tuple[int, int]):
    """(iova, length), which a failure shows as addresses are read."""

    __slots__ = ()

    def __repr__(self) -> str:
        return f"({self[0]:#x}, {self[1]:#x})"


# One number, of which the last half stands for many pages: so a failure shrinks from many to few.
_numbers_of_pages = (
    st.integers(1, 2 * A_FEW) | st.integers(1, 2 * A_FEW) | st.integers(1, 9) | st.integers(60, 70)
).map(lambda number: number if number <= A_FEW else number - A_FEW - 1 + MANY)


@st.composite
def _few_or_many(draw: st.DrawFn) -> Geometry:
    npages = draw(_numbers_of_pages)
    return draw(geometries(min_pages=npages, max_pages=npages))


def _neighbourhoods(geometry: Geometry) -> list[Geometry]:
    """Where to write: anywhere, but of many pages seldom, which would soon all be dirty.

    There it is more often a few pages at either end, or around a page whose number is a power of
    two, where words and windows end. These have the same places in the list however many pages
    there are: so a write stays where it is when a failure shrinks to fewer.
    """
    iova, _, size = geometry
    edges = [0, *(1 << k for k in range(6, 64) if 1 << k < geometry.npages), geometry.npages]
    starts = [iova + max(edge - AROUND, 0) * size for edge in edges]
    ends = [min(iova + (edge + AROUND) * size, geometry.end) for edge in edges]
    near = [Geometry(start, end - start, size) for start, end in zip(starts, ends, strict=True)]
    more = [geometry] * len(near) if geometry.npages <= A_FEW else [near[-1], near[-2]]
    return [geometry, *near, *more]


@st.composite
def _range(draw: st.DrawFn, neighbourhoods: list[Geometry]) -> _Range:
    return _Range(draw(iova_ranges(draw(st.sampled_from(neighbourhoods)))))


_ranges = _drawn_for(lambda machine: machine._machine_ranges)
_moments = st.integers(0, 3) | st.integers(0, 15) | st.integers(0, 1000)
_rows_to_merge = _drawn_for(
    lambda machine: (
        st.just(machine.harvested)
        | st.lists(st.sampled_from(machine.harvested), min_size=1, max_size=8)
    )
)


class DirtyTrackerMachine(RuleBasedStateMachine):
    """A state machine of hypothesis that finds what a dirty tracker does wrong.

    Subclass it, give it a tracker by the methods below, and let pytest or unittest run its
    `TestCase`. Writes are marked, read, harvested and merged back in random order, and each answer
    is compared with what was written. A failure is shown as the shortest sequence of steps that
    still fails, as far as hypothesis finds it; its message names the step, the pages that are
    missing and those too many. Names that begin with `_machine` are the machine's own.

    A tracker needs ``start(iova, length, page_size)`` and ``write(iova, length)``, and at least one
    of ``read()`` and ``read_and_clear()``. ``read_range(iova, length)``, ``merge(ranges)`` and
    ``stop()`` may be left out, and what they are needed for is then not tested.

    An answer is an `IOVABitmap`, an (n, 2) array or a list of (iova, length), in any order; rows
    stand for the pages that they touch. Pages are counted from `iova`, which need not be a multiple
    of `page_size`; the last one may be a part of a page, and a row may cover all of it.

    Attributes
    ----------
    geometries : hypothesis strategy of (iova, length, page_size)
        What `start` gets. By default pages of every size, near 0, 2**31, 2**32, 2**63 and 2**64,
        unaligned too; up to 300 of them, or 32769 and some more: more than 4096 bytes of bitmap
        stand for. Narrow it to what the tracker is made for, for example
        `geometries = strategies.geometries(page_sizes=4096, aligned=True)`.
    concurrent : bool
        True: one of the steps calls `write` from a second thread while `read_and_clear` is between
        two of its lines. A page that is written during a harvest must be in it or in the next one.
        Set it to False where the tracker is for one thread, or its writes cannot overlap a harvest.
    failures : tuple of exceptions
        By which the tracker may say that a call failed. Then nothing may be lost: a write or a
        merge is called again until it succeeds, what a read or harvest failed to give stays dirty.
    geometry : Geometry
        That of this example, for rules of your own: `@rule` methods in a subclass join in.

    Raises
    ------
    TypeError
        Where a method that a tracker needs is not there.

    Examples
    --------
    >>> import iovabitmap as ib
    >>> from iovabitmap.testing import DirtyTrackerMachine
    >>> class Engine(DirtyTrackerMachine):
    ...     def start(self, iova, length, page_size):
    ...         self.bm = ib.IOVABitmap(iova, length, page_size)
    ...     def write(self, iova, length):
    ...         self.bm.set(iova, length)
    ...     def read(self):
    ...         return self.bm
    ...     def read_and_clear(self):
    ...         return self.bm.read_and_clear()
    >>> TestEngine = Engine.TestCase
    """

    geometries: ClassVar[st.SearchStrategy[Any]] = _few_or_many()
    concurrent: ClassVar[bool] = True
    failures: ClassVar[tuple[type[Exception], ...]] = ()

    geometry: Geometry

    _machine_patience: ClassVar[Patience]

    # --- what a subclass gives -------------------------------------------------------------------

    def start(self, iova: int, length: int, page_size: int) -> None:
        """Make a tracker of this range, all clean. Each example begins with this."""
        raise NotImplementedError

    def write(self, iova: int, length: int) -> None:
        """These bytes are written now. They lie inside the range; length is 1 or more."""
        raise NotImplementedError

    def read(self) -> Any:
        """The pages dirty so far, which stay dirty."""
        raise NotImplementedError

    def read_and_clear(self) -> Any:
        """The pages dirty so far, which are clean from here on."""
        raise NotImplementedError

    def read_range(self, iova: int, length: int) -> Any:
        """The dirty ones of the pages that these bytes touch; all stay dirty."""
        raise NotImplementedError

    def merge(self, ranges: list[Row]) -> None:
        """A harvest could not be sent: these rows of it are dirty again."""
        raise NotImplementedError

    def stop(self) -> None:
        """Give the tracker back. Each example that started one ends with this."""

    # --- steps -----------------------------------------------------------------------------------

    def __init__(self) -> None:
        super().__init__()
        needed = [name for name in ("start", "write") if not self.has(name)]
        if not (self.has("read") or self.has("read_and_clear")):
            needed.append("read or read_and_clear")
        if needed:
            raise TypeError(f"{type(self).__name__} must define {', '.join(needed)}")
        self.harvested: list[Row] = []  # the last harvest
        self._machine_started = False
        self._machine_dirty: list[Run] = []
        self._machine_step = ""
        self._machine_steps = 0
        self._machine_writes: list[tuple[str, list[Run]]] = []

    def __init_subclass__(cls) -> None:
        """One failure at a time, the smallest; which of our lines it ran is no help to anybody."""
        super().__init_subclass__()
        usual = cls.TestCase.settings
        phases = [phase for phase in usual.phases if phase is not Phase.explain]
        cls.TestCase.settings = settings(usual, phases=phases, report_multiple_bugs=False)
        cls._machine_patience = Patience()

    @classmethod
    def has(cls, name: str) -> bool:
        """Whether the subclass defines this method."""
        return getattr(cls, name) is not getattr(DirtyTrackerMachine, name)

    @initialize(geometry=_drawn_for(lambda machine: machine.geometries))
    def start_tracker(self, geometry: tuple[int, int, int]) -> None:
        self.geometry = Geometry(*geometry)
        self._machine_pages = Pages(*geometry)
        self._machine_ranges = _range(_neighbourhoods(self._machine_pages))
        self._machine_lists = st.lists(self._machine_ranges, min_size=2, max_size=5)
        self._machine_begin(f"start({geometry[0]:#x}, {geometry[1]:#x}, {geometry[2]:#x})")
        self.start(*geometry)
        self._machine_started = True

    @rule(written=_ranges)
    def write_range(self, written: Row) -> None:
        self._machine_begin(_call("write", written))
        self._machine_until_done(partial(self.write, *written))
        self._machine_mark([written])

    @rule(written=_drawn_for(lambda machine: machine._machine_lists))
    def write_ranges(self, written: list[Row]) -> None:
        self._machine_begin(f"{len(written)} writes, the last one {_call('write', written[-1])}")
        for row in written:
            self._machine_until_done(partial(self.write, *row))
        self._machine_mark(written)

    @precondition(_has("read"))
    @rule()
    def check_read(self) -> None:
        self._machine_begin("read()")
        self._machine_check(self._machine_answer(self.read), self._machine_dirty)

    @precondition(_has("read_range"))
    @rule(asked=_ranges)
    def check_read_range(self, asked: Row) -> None:
        self._machine_begin(_call("read_range", asked))
        part = self._machine_pages.touched([asked])
        expected = list(minus(part, minus(part, self._machine_dirty)))
        self._machine_check(self._machine_answer(partial(self.read_range, *asked)), expected)

    @precondition(_has("read_and_clear"))
    @rule()
    def check_harvest(self) -> None:
        self._machine_begin("read_and_clear()")
        found = self._machine_answer(self.read_and_clear)
        if found is not None:
            self._machine_check(found, self._machine_dirty)
            self._machine_harvest()

    # After a harvest that was right: what goes wrong without a second thread is shown without one.
    @precondition(lambda machine: machine.concurrent and machine.harvested)
    @rule(written=_ranges, moment=_moments)
    def check_harvest_during_write(self, written: Row, moment: int) -> None:
        """What is written during a harvest is in it, or in the next one, or in both."""
        write = _call("write", written)
        self._machine_begin(f"{write} during read_and_clear()")
        dirty = self._machine_dirty
        during = Interruption(
            partial(self._machine_until_done, partial(self.write, *written)),
            moment,
            self._machine_patience,
        )
        try:
            answer = during.during(partial(self._machine_until_done, self.read_and_clear))
            found = self._machine_pages.touched(rows_of(answer))
            self._machine_step += f", {during.where}"
            self._machine_mark([written])
            self._machine_check(found, dirty, allowed=self._machine_dirty)
            late = self._machine_pages.touched([written])
            self._machine_step += ", and the read_and_clear() after it"
            again = self._machine_pages.touched(
                rows_of(self._machine_until_done(self.read_and_clear))
            )
            self._machine_check(again, list(minus(late, found)), allowed=late)
        except Exception as error:
            error.add_note(
                f"{write} came from a second thread during read_and_clear(). Where that cannot "
                "happen to this tracker, set `concurrent = False` in its class."
            )
            raise
        self._machine_harvest()

    @precondition(lambda machine: machine.harvested and machine.has("merge"))
    @rule(rows=_rows_to_merge)
    def merge_back(self, rows: list[Row]) -> None:
        self._machine_begin(f"merge() of {len(rows)} row{'s' * (len(rows) != 1)}")
        self._machine_until_done(partial(self.merge, list(rows)))
        self._machine_mark(rows)

    def teardown(self) -> None:
        if self._machine_started:
            self._machine_started = False
            self.stop()

    # --- the oracle ------------------------------------------------------------------------------

    def _machine_begin(self, step: str) -> None:
        self._machine_steps += 1
        self._machine_step = f"step {self._machine_steps}, {step}"

    def _machine_mark(self, rows: list[Row]) -> None:
        runs = self._machine_pages.touched(rows)
        self._machine_writes.append((self._machine_step, runs))
        self._machine_dirty = union(self._machine_dirty + runs)

    def _machine_harvest(self) -> None:
        self.harvested = self._machine_pages.rows(self._machine_dirty)
        self._machine_dirty = []

    def _machine_until_done(self, call: Callable[[], T]) -> T:
        for _ in range(TRIES - 1):
            try:
                return call()
            except self.failures:
                continue
        return call()

    def _machine_answer(self, call: Callable[[], Any]) -> list[Run] | None:
        """The pages of an answer, None where the tracker failed to give one."""
        try:
            return self._machine_pages.touched(rows_of(call()))
        except self.failures:
            return None

    def _machine_check(
        self, found: list[Run] | None, expected: list[Run], allowed: list[Run] | None = None
    ) -> None:
        """All expected pages, and no others but those allowed."""
        if found is None:
            return
        missing = list(minus(expected, found))
        extra = list(minus(found, expected if allowed is None else allowed))
        if not missing and not extra:
            return
        lines = [f"{self._machine_step}: wrong pages, of {self._machine_pages}"]
        for what, runs in (("missing", missing), ("too many", extra)):
            lines.append(self._machine_pages.describe(what, runs))
            if runs:
                lines.append("  " + self._machine_last_write(runs[0][0]))
        raise AssertionError("\n  ".join(lines))

    def _machine_last_write(self, page: int) -> str:
        if not 0 <= page < self._machine_pages.npages:
            return f"page {page} lies outside of the range"
        for step, runs in reversed(self._machine_writes):
            if any(first <= page < end for first, end in runs):
                return f"page {page} was last written in {step}"
        return f"page {page} was never written"


def _call(name: str, row: Row) -> str:
    return f"{name}({row[0]:#x}, {row[1]:#x})"
