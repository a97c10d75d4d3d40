"""`ModelBitmap`: all of it, with what concerns two bitmaps: harvests, merging, algebra."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import TYPE_CHECKING, Any, Self, SupportsIndex

from .._core import PinError
from ._arguments import Row, Run, Span, pin_error, power_of_two
from ._copies import Copies
from ._marks import joined
from ._questions import Maybe, runs_of
from ._windows import WindowedBits, load, operation, store

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

    @operation
    def read_and_clear(
        self, iova: Maybe = None, length: Maybe = None, *, into: ModelBitmap | None = None
    ) -> list[Row] | None:
        """The dirty runs, which are clean afterwards; with `into`, they are marked there."""
        span = self._asked(iova, length)
        if into is not None:
            self._move_into(span, into)
            return None
        found: list[Run] = []
        try:
            for bit, pages in self._taken(span):
                found += runs_of(pages, bit=bit)
        except BaseException as error:
            raise self._put_back(found, span, error) from error.__cause__
        return self._rows(joined(found), span)

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
            failure.harvested = self._rows(joined(found), span)  # type: ignore[attr-defined]
        return failure

    def _move_into(self, span: Span, into: ModelBitmap) -> None:
        self._check_bitmap("into", into)
        if into is self:
            raise ValueError("into must be another bitmap")
        if span[0] == span[1]:
            return
        into._inside(span[0], span[1] - span[0])
        bit, stop = self._run(span)
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
        runs = runs_of(load(self._memory, bit, upto), bit=bit)
        moved = bit
        try:
            newly = into._merge_rows(self._rows(runs, (self._iova, self.end)), self.end)
            moved = upto
        except PinError as error:
            moved = self._bit(error.iova)  # the first that is not whole there
            start = max(self._address(moved), span[0])
            raise pin_error(error.errno, start, span[1], error.newly) from error.__cause__
        finally:
            if moved > bit:
                store(self._memory, bit, "0" * (moved - bit))
        return newly

    # --- two bitmaps -----------------------------------------------------------------------------

    def _check_bitmap(self, name: str, other: object) -> None:
        if not isinstance(other, ModelBitmap):
            raise TypeError(f"{name} must be a ModelBitmap, not {type(other)}")
        other._check_not_freed()

    def _same_geometry(self, other: ModelBitmap) -> bool:
        return (self.iova, self.length, self.page_size) == (
            other.iova,
            other.length,
            other.page_size,
        )

    def _check_pair(self, other: object) -> ModelBitmap:
        self._check_bitmap("other", other)
        assert isinstance(other, ModelBitmap)
        if not self._same_geometry(other):
            raise ValueError(f"the geometries differ: {self!r} and {other!r}")
        return other

    @operation
    def _merge_rows(self, ranges: list[Row], end: int) -> int:
        """Marks the part of the rows that is inside; a failure names all from there up to `end`."""
        spans = [self._inside(iova, length, True) for iova, length in ranges]
        try:
            return self._mark_spans("1", [span for span in spans if span is not None])
        except PinError as error:
            start = max(error.iova, ranges[0][0])
            raise pin_error(error.errno, start, end, error.newly) from error.__cause__

    @operation
    def merge(self, other: ModelBitmap) -> int:
        """Mark each page that a dirty one of `other` overlaps; return how many were clean."""
        self._check_bitmap("other", other)
        whole = other.iova, other.end
        newly = 0
        try:
            for bit, pages in other._read(whole):
                found = other._rows(runs_of(pages, bit=bit), whole)
                newly += self._merge_rows(found, other.end)
        except PinError as error:
            error.newly += newly
            raise
        return newly

    @operation
    def rescale(self, page_size: SupportsIndex) -> Self:
        """A bitmap of the same range with another page size, as copy() makes one."""
        size = power_of_two("page_size", page_size)
        new = WindowedBits.__new__(
            type(self), self.iova, self.length, size, window_pages=self.window_pages
        )
        new.merge(self)
        return new

    @operation
    def _combine(self, name: str, other: ModelBitmap) -> None:
        bit, span = 0, (self.iova, self.end)
        while bit < self.nbits:
            with self._own_window(bit, self.nbits, span, write=True) as upto:
                try:
                    for at, theirs in other._read((self._address(bit), self._address(upto))):
                        mine = load(self._memory, at, at + len(theirs))
                        store(self._memory, at, combined(name, mine, theirs))
                except PinError as error:
                    raise pin_error(error.errno, error.iova, self.end) from error.__cause__
            bit = upto

    @operation
    def _count_combined(self, name: str, other: object) -> int:
        there = self._check_pair(other)
        return combined(name, self._pages(), there._pages()).count("1")

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
        self._check_not_freed()
        self._combine(name, self._check_pair(other))
        return self

    def _new(self, name: str, other: object) -> Any:
        if not isinstance(other, ModelBitmap):
            return NotImplemented
        self._check_not_freed()
        self._check_pair(other)
        return self.copy()._in_place(name, other)

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

    @operation
    def diff(self, old: ModelBitmap) -> ModelDiff:
        """What changed since `old`, a bitmap of the same geometry."""
        return ModelDiff(self, self._check_pair(old))

    @operation
    def _equals(self, other: ModelBitmap) -> bool:
        other._check_not_freed()
        return self._same_geometry(other) and self._pages() == other._pages()

    def __eq__(self, other: object) -> bool:
        return self._equals(other) if isinstance(other, ModelBitmap) else NotImplemented

    __hash__ = None  # type: ignore[assignment]  # it can change


class ModelDiff:
    """What `ModelBitmap.diff` gives: numbers of pages, and their ranges when asked for."""

    __slots__ = ("_appeared", "_common", "_disappeared", "_new", "_old")

    def __init__(self, new: ModelBitmap, old: ModelBitmap) -> None:
        self._new, self._old = new, old
        self._appeared = new.count_sub(old)
        self._disappeared = old.count_sub(new)
        self._common = new.count_and(old)

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
        return a._rows(runs_of(combined(name, a._pages(), b._pages())), (a.iova, a.end))

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
