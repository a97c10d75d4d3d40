"""Timeline: a row of epochs over one range of addresses, whatever they are kept in."""

from __future__ import annotations

import operator
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import TYPE_CHECKING, Any, TypeAlias, overload

import numpy as np

from .._base import html
from .._base.geometry import Geometry
from .._base.times import nanoseconds
from .._core import IOVABitmap, IOVARangeError
from . import export, notebook, rows
from .axis import Axis
from .bitmaps import Bitmaps
from .by_memory import by_memory
from .epoch import Epoch
from .regions import Dirtied, Memory, Region, mapped
from .rows import Addresses, Ints, Rows, Store
from .summary import Summary, summarize
from .union import Union

if TYPE_CHECKING:
    import pandas
    import pyarrow
    import xarray

Timed: TypeAlias = "tuple[IOVABitmap, int, int]"
Source: TypeAlias = "Timeline | IOVABitmap | Iterable[IOVABitmap | Timed]"  # of Timeline.of


class Timeline:
    """Epochs over one range of addresses, in the order of time: which pages were dirty in each.

    A log is one (`DirtyLog`); `Timeline.of` makes one of bitmaps. ``tl[3]`` is an `Epoch`.
    ``tl[2:5]``, `between`, `within` and `select` are Timelines too: views, which copy nothing.
    Nothing is read before it is asked for, and never more than a block of rows at once, unless the
    answer is larger.

    Attributes
    ----------
    geometry : Geometry
        Base, length and page size of each epoch's bitmap, in bytes.
    Examples
    --------
    >>> import iovabitmap as ib
    >>> bm = ib.IOVABitmap.from_text("0-2,5", 0x1000, 0x10000, 4096)
    >>> tl = ib.Timeline.of([(bm, 0, 100), (bm, 100, 200)])
    >>> len(tl), tl[1].count(), tl[1:].union().count()
    (2, 4, 4)
    """

    def __init__(
        self,
        store: Store,
        geometry: Geometry,
        *,
        memory: Memory | None = None,
        layout: Sequence[Region] = (),
    ) -> None:
        self._store = store
        self._memory, self._layout = memory, layout
        self._first: int = 0
        self._stop: int | None = None  # all, also what is yet to come
        self._areas: Rows | None = None
        self.geometry = Geometry(*geometry)

    @classmethod
    def of(cls, source: Source, **about: Any) -> Timeline:
        """A Timeline of what can be one.

        Parameters
        ----------
        source : Timeline, IOVABitmap, or iterable
            A Timeline is returned as it is, or a view of it with other `memory` or `layout`.
            Else a bitmap, bitmaps, or rows ``(bitmap, t_start_ns,
            t_end_ns)`` with times in nanoseconds: what is dirty in them is read once, at once.
            Without times, the epochs' times are unknown.
        memory, layout : optional
            As the attributes.

        Raises
        ------
        ValueError
            For bitmaps of different geometries, for times that go back, and for no bitmap at all,
            whose geometry is unknown.
        TypeError
            For times that are no integers: they are nanoseconds.
        """
        if isinstance(source, Timeline):
            return source._telling(**about) if about else source
        store = Bitmaps([source] if isinstance(source, IOVABitmap) else source)
        return Timeline(store, store.geometry, **about)

    def _telling(self, **about: Any) -> Timeline:
        unknown = about.keys() - {"memory", "layout"}
        if unknown:
            raise TypeError(f"a Timeline has memory and layout, not {', '.join(sorted(unknown))}")
        return self._view(**{f"_{name}": value for name, value in about.items()})

    def _view(self, **changed: Any) -> Timeline:
        view = Timeline(self._store, self.geometry, memory=self.memory, layout=self.layout)
        view._first, view._stop, view._areas = self._first, self._stop, self._areas
        for name, value in changed.items():
            setattr(view, name, value)
        return view

    @property
    def title(self) -> str:
        """What it is of, in a few words, for the title of a picture."""
        return "Timeline"

    # --- epochs -------------------------------------------------------------------------------

    def __len__(self) -> int:
        stop = len(self._store) if self._stop is None else self._stop
        return stop - self._first

    @overload
    def __getitem__(self, index: int) -> Epoch: ...
    @overload
    def __getitem__(self, index: slice) -> Timeline: ...
    def __getitem__(self, index: int | slice) -> Epoch | Timeline:
        if isinstance(index, slice):
            i, j, step = index.indices(len(self))
            if step != 1:
                raise ValueError(f"a Timeline is a row of epochs: the step must be 1, not {step}")
            return self._view(_first=self._first + i, _stop=self._first + max(i, j))
        n = operator.index(index)
        if not -len(self) <= n < len(self):
            raise IndexError(f"epoch {n} of a Timeline of {len(self)}")
        return Epoch(self, n % len(self))

    def __iter__(self) -> Iterator[Epoch]:
        # Not a collections.abc.Sequence: Polars makes objects of those, and does not ask for Arrow.
        return (Epoch(self, n) for n in range(len(self)))

    def between(self, t0_ns: int, t1_ns: int) -> Timeline:
        """The epochs that lie in the time from `t0_ns` to `t1_ns`, in part or whole, as a Timeline.

        Raises
        ------
        ValueError
            If times are unknown, or `t1_ns` is before `t0_ns`.
        TypeError
            For what are no integers: times are nanoseconds.
        """
        t0, t1 = nanoseconds("t0_ns", t0_ns), nanoseconds("t1_ns", t1_ns)
        if t1 < t0:
            raise ValueError(f"from {t0} to {t1} ns is backwards")
        starts, ends = self.times()
        inside = np.flatnonzero((ends > t0) & (starts < t1))
        i, j = (int(inside[0]), int(inside[-1]) + 1) if len(inside) else (0, 0)
        return self[i:j]

    def times(self) -> tuple[Ints, Ints]:
        """Starts and ends of the epochs in nanoseconds: two arrays of int64.

        ValueError if they are unknown.
        """
        found = self._times
        if found is None:
            raise ValueError("the times of these epochs are unknown")
        return found

    @property
    def has_times(self) -> bool:
        """Whether it is known when the epochs were."""
        return self._times is not None

    @property
    def _times(self) -> tuple[Ints, Ints] | None:
        times = self._store.times()
        if times is None:
            return None
        part = slice(self._first, self._first + len(self))
        return times[0][part], times[1][part]

    @property
    def seconds(self) -> float:
        """From the start of the first epoch to the end that is last; 0 of no epoch.

        ValueError if times are unknown.
        """
        starts, ends = self.times()
        return (int(ends.max()) - int(starts[0])) / 1e9 if len(starts) else 0.0

    # --- addresses and memory -----------------------------------------------------------------

    @property
    def iova(self) -> int:
        """First address of the range."""
        return self.geometry.iova

    @property
    def length(self) -> int:
        """Bytes of the range."""
        return self.geometry.length

    @property
    def page_size(self) -> int:
        """Bytes of a page."""
        return self.geometry.page_size

    @property
    def memory(self) -> Memory | None:
        """How much memory there was; None if that is unknown. It is not the length of the range:
        that is address space. Of a part, it is what the layout maps there."""
        return self._memory

    @property
    def layout(self) -> Sequence[Region]:
        """What the addresses are; empty if that is unknown."""
        return self._layout

    def within(self, iova: int, length: int) -> Timeline:
        """What lies in a part of the addresses, as a Timeline of that part.

        The part is widened to whole pages, which are counted from the base of this one. Its memory
        is as much as the layout maps in it.

        Raises
        ------
        IOVARangeError
            For a part that is empty or does not lie inside.
        """
        start, size = operator.index(iova), operator.index(length)
        base, end, page_size = self.iova, self.geometry.end, self.page_size
        if size < 1 or start < base or start + size > end:
            raise IOVARangeError(f"{size} bytes from {start:#x} are not in {base:#x}-{end:#x}")
        part = Geometry(*self._pages(start, size), page_size)
        layout = [row for row in self.layout if row.iova < part.end and _end(row) > part.iova]
        return self._of_areas(
            [part[:2]], geometry=part, _layout=[_cut(row, part) for row in layout]
        )

    def select(self, *, name: str | None = None, pid: int | None = None) -> Timeline:
        """What lies in memory of this name, or of this process, as the layout has it.

        Raises
        ------
        ValueError
            If the layout has no such memory, or is unknown.
        """
        if name is None and pid is None:
            raise ValueError("select needs a name or a pid")
        layout = [row for row in self.layout if name in (None, row.name) and pid in (None, row.pid)]
        if not layout:
            names = sorted({row.name for row in self.layout})
            known = f"it has {', '.join(map(repr, names))}" if names else "there is no layout"
            raise ValueError(f"no memory with name={name!r}, pid={pid!r}: {known}")
        return self._of_areas([row[:2] for row in layout], _layout=layout)

    def _pages(self, iova: int, length: int) -> tuple[int, int]:
        """A part of the range, widened to whole pages: base and length."""
        base, total, page = self.geometry
        first = (iova - base) // page * page
        return base + first, min(-(-(iova + length - base) // page) * page, total) - first

    def _of_areas(self, areas: Iterable[tuple[int, int]], **about: Any) -> Timeline:
        wanted = np.array([self._pages(*area) for area in areas if area[1]], np.uint64)
        found = rows.joined(rows.of(wanted.reshape(-1, 2)))
        if self._areas is not None:
            found = rows.cut(found, self._areas)
        return self._view(_areas=found, _memory=mapped(about["_layout"]), **about)

    # --- what was dirty -----------------------------------------------------------------------

    def blocks(self) -> Iterator[Rows]:
        """The dirty rows, in blocks of a bounded size; epochs count from 0."""
        return self._blocks(0, len(self))

    def _blocks(self, i: int, j: int) -> Iterator[Rows]:
        for found in self._store.rows(self._first + i, self._first + j):
            block = found if self._areas is None else rows.cut(found, self._areas)
            if len(block.epoch):
                yield block._replace(epoch=block.epoch - self._first) if self._first else block

    def each(self) -> Iterator[tuple[int, Rows]]:
        """Each epoch's number and rows, clean ones too, reading each block once."""
        return rows.by_epoch(self.blocks(), 0, len(self))

    def union_ranges(self) -> Addresses:
        """The ranges that were dirty in any epoch: rows (iova, length), ascending, shape (n, 2).

        Takes time and memory by the number of rows, however large the range of addresses.
        """
        found = Union(self.geometry)
        for block in self.blocks():
            found.add(block)
        return found.ranges()

    def union(self) -> IOVABitmap:
        """A bitmap of the pages that were dirty in any epoch.

        Raises
        ------
        MemoryError
            If there is not enough memory for a bitmap of this geometry: `union_ranges` needs it
            for what is dirty only. Of a log, LogError: its geometry may be forged.
        """
        return self._union(0, len(self))

    def _union(self, i: int, j: int) -> IOVABitmap:
        bm = self._new_bitmap()
        for block in self._blocks(i, j):
            bm.set_ranges(block.ranges())
        return bm

    def _new_bitmap(self) -> IOVABitmap:
        try:
            return IOVABitmap(*self.geometry)
        except MemoryError:
            size = self.geometry.nbytes
            problem = f"its geometry takes a bitmap of {size} bytes, more than there are"
            raise self._store.error(problem) from None

    # --- in short -----------------------------------------------------------------------------

    @property
    def axis(self) -> Axis:
        """Addresses that were ever dirty, close together: see `Axis`. Reads all rows."""
        return Axis(self.union_ranges())

    def summary(
        self,
        *,
        rows: int = 16,
        columns: int = 60,
        progress: Callable[[int], object] | None = None,
    ) -> Summary:
        """Totals, dirty pages over time, and a map of about `rows` by at most `columns`.

        `progress` is called with the number of epochs done. ValueError for less than a row or a
        column.
        """
        if rows < 1 or columns < 1:
            raise ValueError(f"rows and columns must be 1 or more, not {rows} and {columns}")
        return summarize(self, rows, columns, progress)

    def by_memory(self, ever: Addresses | None = None) -> list[Dirtied]:
        """The memory that the layout names and that was ever dirty: pid, name, nbytes and count
        of pages, in descending order of that. Empty without a layout.

        With `ever`, the ranges that were ever dirty as a summary has them, nothing is read.
        """
        return by_memory(self, ever)

    # --- data out -----------------------------------------------------------------------------

    def epochs(self) -> pandas.DataFrame:
        """A data frame with a line for each epoch. Needs pandas.

        Columns: `t_start_ns`, `t_end_ns` and `seconds` (missing if unknown), `count` of dirty
        pages, `nbytes` that they have, `bytes_per_s` (missing for an epoch of no time), `newly`
        (pages that were not dirty in the epoch before), `again` (dirty in both), `gone` (dirty in
        the epoch before and not in this one). count = newly + again.
        """
        return export.epochs(self)

    def to_pandas(self) -> pandas.DataFrame:
        """All dirty rows as a data frame with the columns of a log's file: epoch, t_start_ns,
        t_end_ns, iova and length. A clean epoch is a row of length 0 at the base, so that none is
        missing. Needs pandas."""
        return export.to_pandas(self)

    def to_arrow(self) -> pyarrow.Table:
        """All dirty rows as an Arrow table with the columns of `to_pandas`. Needs pyarrow."""
        return export.reader(self).read_all()

    def __arrow_c_stream__(self, requested_schema: object | None = None) -> object:
        """The same a block at a time, for whoever reads Arrow: pyarrow, polars, DuckDB. Needs
        pyarrow."""
        return export.reader(self).__arrow_c_stream__(requested_schema)

    def to_xarray(self, *, bins: int = 512) -> xarray.DataArray:
        """How much of memory was dirty, 0 to 1, by epoch and by address. Needs xarray.

        The addresses are those that were ever dirty, close together, in about so many bins; the
        coordinate `iova` has the first address of each.
        """
        return export.to_xarray(self, bins)

    @html.never_raising
    def _repr_html_(self) -> str:
        return html.piece(self, notebook.facts(self), *self._pictures())

    def _pictures(self) -> list[str]:
        return notebook.pictures(self)

    def __repr__(self) -> str:
        end = self.iova + self.length
        return f"<{type(self).__name__} {self.iova:#x}-{end:#x}, {len(self)} epochs>"


def _end(row: Region) -> int:
    return row.iova + row.length


def _cut(row: Region, part: Geometry) -> Region:
    start, stop = max(row.iova, part.iova), min(_end(row), part.end)
    return row._replace(iova=start, length=stop - start, address=row.address + start - row.iova)
