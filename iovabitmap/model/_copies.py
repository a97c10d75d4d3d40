"""Walks with a callback, copies, texts and `repr`; making a bitmap from these."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any, Self, SupportsIndex, TypeVar

from .._base import bitmap_html
from .._core import PinError
from ._arguments import Row, listed, number, pin_error, power_of_two
from ._pins import NotPinnedError
from ._questions import Questions, runs_of
from ._windows import WindowedBits, operation, store

SHOWN_BYTES, SHOWN_RANGES = 64 << 10, 16

B = TypeVar("B", bound="Copies")


class Copies(Questions):
    """for_each, copy and pickle, to_text, from_text, repr."""

    __slots__ = ()

    @operation
    def for_each(
        self,
        fn: Callable[[Self, int, int, Any], int | None],
        opaque: object = None,
        *,
        by_window: bool = False,
    ) -> int:
        """Call fn(bitmap, iova, length, opaque) with the whole range, or for each window."""
        if not callable(fn):
            raise TypeError(f"fn must be callable, not {type(fn)}")
        for iova, length in self._walk() if by_window else [(self.iova, self.length)]:
            result = fn(self, iova, length, opaque)
            if result is not None and not isinstance(result, int):
                raise TypeError(f"the callback must return None or an int, not {type(result)}")
            if result is not None and result != 0:
                return result
        return 0

    def _walk(self) -> Iterator[Row]:
        byte = 0
        while byte < self.nbytes:
            self._check_not_freed()
            try:
                held = self._move(byte)
            except NotPinnedError as failure:
                start = self._address(8 * byte)
                raise pin_error(failure.code, start, self.end) from failure.__cause__
            window = self._shown(held)
            yield window.iova, window.length
            byte = held.end

    @operation
    def __reduce__(self) -> tuple[Any, ...]:
        content = bytearray(self.nbytes)
        store(memoryview(content), 0, self._pages())
        arguments = (self.iova, self.length, self.page_size, self.window_pages)
        state = getattr(self, "__dict__", None) or None
        return restore, (type(self), *arguments, bytes(content)), state

    def copy(self) -> Self:
        """The same geometry, content and window_pages, in memory of its own, unpinned."""
        make, arguments = self.__reduce__()[:2]
        return make(*arguments)  # type: ignore[no-any-return]

    @operation
    def to_text(self) -> str:
        """The dirty bits, counted from the base, as the kernel lists bits: '0-22,64-97'."""
        runs = runs_of(self._pages())
        return ",".join(f"{a}-{b - 1}" if b - a > 1 else f"{a}" for a, b in runs)

    @classmethod
    def from_text(
        cls,
        text: str,
        iova: SupportsIndex,
        length: SupportsIndex,
        page_size: SupportsIndex = 4096,
    ) -> Self:
        """A bitmap with memory of its own, dirty where `text` says: '0-22,64-97'."""
        bm = WindowedBits.__new__(cls, iova, length, page_size)
        for first, stop in listed(text, bm.nbits):
            store(bm._memory, first, "1" * (stop - first))
        return bm

    def __repr__(self) -> str:
        name, numbers = type(self).__name__, f"{self.iova:#x}, {self.length:#x}"
        if not self.freed and isinstance(self.pin, str) and self.nbytes <= SHOWN_BYTES:
            try:
                text = self.to_text()
            except PinError:
                text = "," * SHOWN_RANGES
            if text.count(",") < SHOWN_RANGES:
                return f'{name}.from_text("{text}", {numbers}, {self.page_size})'
        bytes_ = f"{self.nbytes} byte" + "s" * (self.nbytes != 1)
        return (
            f"<{name} {self.iova:#x}-{self.end:#x} page size {self.page_size}, {bytes_}"
            f"{', freed' * self.freed}>"
        )

    __array_ufunc__ = None

    def _repr_html_(self) -> str:
        return bitmap_html.shown(self)

    def __array__(self, dtype: object = None, copy: object = None) -> Any:
        raise TypeError(
            f"a {type(self).__name__} is not converted to an array implicitly: use view() for its "
            "memory, to_mask() for one bool a page"
        )


def restore(
    cls: type[B],
    iova: int,
    length: int,
    page_size: int,
    window_pages: int,
    content: bytes,
) -> B:
    """What a pickle calls: a bitmap with this content in memory of its own."""
    content = bytes(memoryview(content))
    needed = nbytes_for(length, page_size)
    if len(content) != needed:
        raise ValueError(f"the content has {len(content)} bytes, the bitmap needs {needed}")
    return WindowedBits.__new__(
        cls, iova, length, page_size, bytearray(content), window_pages=window_pages
    )


def nbytes_for(length: SupportsIndex, page_size: SupportsIndex) -> int:
    """Bytes of bitmap for `length` bytes of IOVA; 0 for length 0."""
    pages = -(-number("length", length) // power_of_two("page_size", page_size))
    return -(-pages // 8)
