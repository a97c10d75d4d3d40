"""`ModelBitmap`: all of it, with what concerns two bitmaps: harvests, merging, algebra."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Generator, Iterator
from contextlib import closing, contextmanager
from typing import TYPE_CHECKING, Any, Self, SupportsIndex

from .._base.intervals import union
from .._core import PinError
from ._arguments import Row, Run, Span, pin_error, power_of_two
from ._copies import Copies
from ._questions import Maybe, runs_of
from ._windows import WindowedBits, load, operation, running, store

if TYPE_CHECKING:
    from typing_extensions import Buffer

# What an operator makes of a page here and the same page there.
OPERATORS: dict[str, Callable[[str, str], bool]] = {
    "and": lambda a, b: a == "1" and b == "1",
    "or": lambda a, b: a == "1" or b == "1",
    "xor": lambda a, b: a != b,
    "sub": lambda a, b: a == "1" and b == "0",
}


def combined(name: str, a: str, b: str) -> str:
    """The pages of two texts, combined by an operator."""
    table = {(x, y): "01"[OPERATORS[name](x, y)] for x in "01" for y in "01"}
    return "".join(map(table.__getitem__, zip(a, b, strict=True)))


def checked(name: str, other: object) -> ModelBitmap:
    """An argument that must be a bitmap."""
    if not isinstance(other, ModelBitmap):
        raise TypeError(f"{name} must be a ModelBitmap, not {type(other)}")
    return other


def first_held(rows: list[Row], address: int) -> int:
    """The first address from this one on that lies in a row."""
    return next(max(iova, address) for iova, length in rows if iova + length > address)


class ModelBitmap(Copies):
    """A dirty-page bitmap of the range [iova, iova + length), one bit for each page.

    Parameters, methods and errors are those of `IOVABitmap`, whose documentation holds for both;
    see `iovabitmap.model` for what is different.

    >>> with ModelBitmap(0x1000, 0x10000, 4096, bytearray(2)) as bm:
    ...     bm.test_and_set(0x1800, 0x1000)
    2
    """

    __slots__ = ()

    # --- the harvest -----------------------------------------------------------------------------

    def read_and_clear(
        self,
        iova: Maybe = None,
        length: Maybe = None,
        *,
        into: ModelBitmap | None = None,
        exclusive: bool = False,
    ) -> list[Row] | None:
        """The dirty runs, which are clean afterwards; with `into`, they are marked there."""
        bool(exclusive)  # nothing is shared here
        if into is None:
            return self._harvest(iova, length)
        with running(self, checked("into", into)):
            self._move_into(self._asked(iova, length), into)
        return None

    @operation
    def _harvest(self, iova: Maybe, length: Maybe) -> list[Row]:
        span = self._asked(iova, length)
        found: list[Run] = []
        try:
            for bit, pages in self._taken(span):
                found += runs_of(pages, bit=bit)
        except BaseException as error:
            raise self._put_back(found, span, error) from error.__cause__
        return self._rows(union(found), span)

    def _taken(self, span: Span) -> Iterator[tuple[int, str]]:
        """As _read, and all that it gives is clean then."""
        if span[0] < span[1]:
            bit, stop = self._run(span)
            while bit < stop:
                with self._own_window(bit, stop, span, write=True) as upto:
                    pages = load(self._memory, bit, upto)
                    store(self._memory, bit, "0" * len(pages))
                yield bit, pages
                bit = upto

    def _put_back(self, found: list[Run], span: Span, error: BaseException) -> BaseException:
        """Marks again what was taken before an error; that error, with the rows if this fails."""
        failure = error
        if isinstance(error, PinError):
            failure = pin_error(error.errno, *span)
        try:
            self._mark_spans("1", [(self._address(a), self._address(b)) for a, b in found])
        except BaseException:
            failure.harvested = self._rows(union(found), span)  # type: ignore[attr-defined]
        return failure

    def _move_into(self, span: Span, into: ModelBitmap) -> None:
        if into is self:
            raise ValueError("into must be another bitmap")
        into._inside(self.iova, self.length)  # all of it, whatever the range is
        bit, stop = self._run(span) if span[0] < span[1] else (0, 0)
        newly = 0
        try:
            while bit < stop:
                with self._own_window(bit, stop, span, write=True) as upto:
                    newly += self._move_window(bit, upto, span, into)
                bit = upto
        except PinError as error:
            error.newly += newly
            raise

    def _move_window(self, bit: int, upto: int, span: Span, into: ModelBitmap) -> int:
        """Marks pages there, whole though the range may touch them in part: they are clean then."""
        runs = list(runs_of(load(self._memory, bit, upto), bit=bit))
        rows = self._rows(runs, (self._iova, self.end))
        store(self._memory, bit, "0" * (upto - bit))  # first: what is marked from now on stays
        left = union(into._run((iova, iova + length)) for iova, length in rows)
        newly, moved = 0, bit  # pages before that are whole there
        try:
            while left:
                moved = self._bit(first_held(rows, into._address(left[0][0])))
                more, left = into._mark_some("1", left, (into.iova, into.end))
                newly += more
            moved = upto
        except PinError as error:
            start = max(self._address(moved), span[0])
            raise pin_error(error.errno, start, span[1], newly) from error.__cause__
        finally:
            for first, stop in runs:
                if stop > moved:
                    store(self._memory, max(first, moved), "1" * (stop - max(first, moved)))
        return newly

    # --- two bitmaps -----------------------------------------------------------------------------

    def merge(self, other: ModelBitmap, *, exclusive: bool = False) -> int:
        """Mark each page that a dirty one of `other` overlaps; return how many were clean."""
        bool(exclusive)
        with running(self, checked("other", other)):
            return 0 if other is self else self._merge(other)

    def _merge(self, other: ModelBitmap) -> int:
        span = other._inside(self.iova, self.length, clip=True)
        if span is None:
            return 0
        newly = 0
        try:
            for bit, pages in other._read(span):
                rows = other._rows(runs_of(pages, bit=bit), span)
                newly += self._merge_rows(rows, span[1])
        except PinError as error:
            error.newly += newly
            raise
        return newly

    def _merge_rows(self, rows: list[Row], end: int) -> int:
        """Marks rows that are inside; a failure names all from the first that is left to `end`."""
        try:
            return self._mark_spans("1", [(iova, iova + length) for iova, length in rows])
        except PinError as error:
            start = first_held(rows, error.iova)
            raise pin_error(error.errno, start, end, error.newly) from error.__cause__

    @operation
    def rescale(self, page_size: SupportsIndex) -> Self:
        """A bitmap of the same range with another page size, as copy() makes one."""
        size = power_of_two("page_size", page_size)
        new = WindowedBits.__new__(
            type(self), self.iova, self.length, size, window_pages=self.window_pages
        )
        new._merge(self)
        return new

    # --- two of the same geometry ----------------------------------------------------------------

    def _same_geometry(self, other: ModelBitmap) -> bool:
        return (self.iova, self.length, self.page_size) == (
            other.iova,
            other.length,
            other.page_size,
        )

    @contextmanager
    def _running_with(self, name: str, other: object) -> Iterator[ModelBitmap]:
        """An operation on this one and another of the same geometry, which is given back."""
        there = checked(name, other)
        with running(self, there):
            if not self._same_geometry(there):
                raise ValueError(f"the geometries differ: {self!r} and {there!r}")
            yield there

    def _pieces(
        self, other: ModelBitmap, write: bool = False
    ) -> Generator[tuple[int, str, str], None, None]:
        """A walk over both, piece by piece where windows of the two overlap: the first bit, the
        pages here and the pages there."""
        bit, span = 0, (self.iova, self.end)
        while bit < self.nbits:
            with self._own_window(bit, self.nbits, span, write) as stop:
                while bit < stop:
                    with other._own_window(bit, stop, span, write=False) as upto:
                        yield bit, load(self._memory, bit, upto), load(other._memory, bit, upto)
                    bit = upto

    def _combine(self, name: str, other: ModelBitmap) -> None:
        for bit, mine, theirs in self._pieces(other, write=True):
            store(self._memory, bit, combined(name, mine, theirs))

    def _combined(self, name: str, other: ModelBitmap) -> str:
        return "".join(combined(name, mine, theirs) for _, mine, theirs in self._pieces(other))

    def _count_combined(self, name: str, other: object) -> int:
        with self._running_with("other", other) as there:
            return self._combined(name, there).count("1")

    def count_and(self, other: ModelBitmap) -> int:
        """Number of pages dirty in both."""
        return self._count_combined("and", other)

    def count_or(self, other: ModelBitmap) -> int:
        """Number of pages dirty in either."""
        return self._count_combined("or", other)

    def count_xor(self, other: ModelBitmap) -> int:
        """Number of pages dirty in one of the two only."""
        return self._count_combined("xor", other)

    def count_sub(self, other: ModelBitmap) -> int:
        """Number of pages dirty here and clean in `other`."""
        return self._count_combined("sub", other)

    def _in_place(self, name: str, other: object) -> Any:
        if not isinstance(other, ModelBitmap):
            return NotImplemented
        with self._running_with("other", other):
            self._combine(name, other)
        return self

    def _new(self, name: str, other: object) -> Any:
        if not isinstance(other, ModelBitmap):
            return NotImplemented
        with self._running_with("other", other):
            made = self.copy()
            made._combine(name, other)
        return made

    def __and__(self, other: ModelBitmap, /) -> Self:
        return self._new("and", other)  # type: ignore[no-any-return]

    def __or__(self, other: ModelBitmap, /) -> Self:
        return self._new("or", other)  # type: ignore[no-any-return]

    def __xor__(self, other: ModelBitmap, /) -> Self:
        return self._new("xor", other)  # type: ignore[no-any-return]

    def __sub__(self, other: ModelBitmap, /) -> Self:
        return self._new("sub", other)  # type: ignore[no-any-return]

    def __iand__(self, other: ModelBitmap, /) -> Self:
        return self._in_place("and", other)  # type: ignore[no-any-return]

    def __ior__(self, other: ModelBitmap, /) -> Self:
        return self._in_place("or", other)  # type: ignore[no-any-return]

    def __ixor__(self, other: ModelBitmap, /) -> Self:
        return self._in_place("xor", other)  # type: ignore[no-any-return]

    def __isub__(self, other: ModelBitmap, /) -> Self:
        return self._in_place("sub", other)  # type: ignore[no-any-return]

    def diff(self, old: ModelBitmap) -> ModelDiff:
        """What changed since `old`, a bitmap of the same geometry."""
        return ModelDiff(self, old)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ModelBitmap):
            return NotImplemented
        with running(self, other):
            if not self._same_geometry(other):
                return False
            with closing(self._pieces(other)) as pieces:  # to the first that differs
                return all(mine == theirs for _, mine, theirs in pieces)

    __hash__ = None  # type: ignore[assignment]  # it can change


class ModelDiff:
    """What `ModelBitmap.diff` gives: numbers of pages, and their ranges when asked for."""

    __slots__ = ("_appeared", "_common", "_disappeared", "_new", "_old")

    def __init__(self, new: ModelBitmap, old: ModelBitmap) -> None:
        self._new, self._old = new, old
        pages: Counter[tuple[str, str]] = Counter()
        with new._running_with("old", old):
            for _, now, before in new._pieces(old):
                pages.update(zip(now, before, strict=True))
        self._appeared = pages["1", "0"]
        self._disappeared = pages["0", "1"]
        self._common = pages["1", "1"]

    def _value(self) -> tuple[int, ...]:
        counts = self._appeared, self._disappeared, self._common
        return *counts, id(self._new), id(self._old)

    def __eq__(self, other: object) -> bool:
        if not isinstance(other, ModelDiff):
            return NotImplemented
        return self._value() == other._value()

    def __hash__(self) -> int:
        return hash(self._value())

    @property
    def appeared(self) -> int:
        """Pages that are dirty in the new bitmap only."""
        return self._appeared

    @property
    def disappeared(self) -> int:
        """Pages that are dirty in the old bitmap only."""
        return self._disappeared

    @property
    def common(self) -> int:
        """Pages that are dirty in both."""
        return self._common

    def _ranges(self, name: str, a: ModelBitmap, b: ModelBitmap) -> list[Row]:
        with a._running_with("old", b):
            pages = a._combined(name, b)
        return a._rows(runs_of(pages), (a.iova, a.end))

    def appeared_ranges(self) -> list[Row]:
        """Rows (iova, length) of the runs that are dirty in the new bitmap only, as of now."""
        return self._ranges("sub", self._new, self._old)

    def disappeared_ranges(self) -> list[Row]:
        """Rows (iova, length) of the runs that are dirty in the old bitmap only, as of now."""
        return self._ranges("sub", self._old, self._new)

    def common_ranges(self) -> list[Row]:
        """Rows (iova, length) of the runs that are dirty in both, as of now."""
        return self._ranges("and", self._new, self._old)

    def __repr__(self) -> str:
        return (
            f"ModelDiff(appeared={self.appeared}, disappeared={self.disappeared}, "
            f"common={self.common})"
        )


def alloc(
    iova: SupportsIndex,
    length: SupportsIndex,
    page_size: SupportsIndex,
    data: Buffer,
    *,
    window_pages: SupportsIndex | None = None,
    pin: Any = "none",
) -> ModelBitmap:
    """A ModelBitmap over the caller's memory: `iovabitmap.alloc` in pure Python."""
    if data is None:
        raise TypeError("data must be a buffer, not None")
    return ModelBitmap(iova, length, page_size, data, window_pages=window_pages, pin=pin)
