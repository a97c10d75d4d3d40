"""Types of the extension module. Each name's documentation is its docstring."""

from collections.abc import Callable, Iterator
from types import TracebackType
from typing import (
    Any,
    ClassVar,
    Literal,
    NamedTuple,
    Protocol,
    Self,
    SupportsIndex,
    TypeAlias,
    final,
    type_check_only,
)

import numpy as np
import numpy.typing as npt
from typing_extensions import Buffer, disjoint_base

@type_check_only
class _PinObject(Protocol):
    def pin(self, address: int, npages: int, /) -> SupportsIndex: ...
    def unpin(self, address: int, npages: int, /) -> object: ...

_Pin: TypeAlias = Literal["none", "populate", "mlock"] | _PinObject

class PinError(OSError):
    iova: int
    length: int
    newly: int

class IOVARangeError(ValueError):
    iova: int
    length: int

class Window(NamedTuple):
    iova: int
    length: int
    base_index: int
    pgoff: int
    npages: int

class Stats(NamedTuple):
    pins: int
    unpins: int
    pinned_pages: int
    peak_pinned_pages: int
    moves: int

@disjoint_base
class IOVABitmap:
    __hash__: ClassVar[None]  # type: ignore[assignment]
    __array_ufunc__: ClassVar[None]
    def __new__(
        cls,
        iova: SupportsIndex,
        length: SupportsIndex,
        page_size: SupportsIndex = 4096,
        data: Buffer | None = None,
        *,
        window_pages: SupportsIndex | None = None,
        pin: _Pin = "none",
    ) -> Self: ...
    @property
    def iova(self) -> int: ...
    @property
    def length(self) -> int: ...
    @property
    def end(self) -> int: ...
    @property
    def page_size(self) -> int: ...
    @property
    def pgshift(self) -> int: ...
    @property
    def nbits(self) -> int: ...
    @property
    def nbytes(self) -> int: ...
    @property
    def window_pages(self) -> int: ...
    @property
    def pin(self) -> Any: ...
    @property
    def freed(self) -> bool: ...
    @property
    def window(self) -> Window | None: ...
    @property
    def stats(self) -> Stats: ...
    def set(self, iova: SupportsIndex, length: SupportsIndex, *, clip: bool = False) -> None: ...
    def clear(self, iova: SupportsIndex, length: SupportsIndex, *, clip: bool = False) -> None: ...
    def test(self, iova: SupportsIndex) -> bool: ...
    def test_and_set(self, iova: SupportsIndex, length: SupportsIndex) -> int: ...
    def count(
        self, iova: SupportsIndex | None = None, length: SupportsIndex | None = None
    ) -> int: ...
    def ranges(
        self, iova: SupportsIndex | None = None, length: SupportsIndex | None = None
    ) -> npt.NDArray[np.uint64]: ...
    def for_each(
        self,
        fn: Callable[[Self, int, int, Any], int | None],
        opaque: object = None,
        *,
        by_window: bool = False,
    ) -> int: ...
    def windows(self) -> Iterator[Window]: ...
    def reset(self) -> None: ...
    def copy(self) -> Self: ...
    def free(self) -> None: ...
    def view(self, dtype: npt.DTypeLike = "u1") -> npt.NDArray[Any]: ...
    def to_mask(self) -> npt.NDArray[np.bool_]: ...
    def __enter__(self) -> Self: ...
    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> Literal[False]: ...
    def __copy__(self) -> Self: ...
    def __deepcopy__(self, memo: dict[int, Any], /) -> Self: ...
    def __reduce__(self) -> tuple[Any, ...]: ...
    def __array__(self, dtype: object = None, copy: object = None) -> Any: ...

def alloc(
    iova: SupportsIndex,
    length: SupportsIndex,
    page_size: SupportsIndex,
    data: Buffer,
    *,
    window_pages: SupportsIndex | None = None,
    pin: _Pin = "none",
) -> IOVABitmap: ...
def nbytes_for(length: SupportsIndex, page_size: SupportsIndex) -> int: ...
def _restore(
    type: type[IOVABitmap],
    iova: int,
    length: int,
    page_size: int,
    window_pages: int,
    content: Buffer,
    /,
) -> IOVABitmap: ...

@disjoint_base
class _WriteTracker:
    def __new__(cls, buffer: Buffer, iova: SupportsIndex, granularity: SupportsIndex) -> Self: ...
    @property
    def iova(self) -> int: ...
    @property
    def length(self) -> int: ...
    @property
    def granularity(self) -> int: ...
    @property
    def address(self) -> int: ...
    @property
    def started(self) -> bool: ...
    def start(self) -> None: ...
    def stop(self) -> None: ...
    def collect(self, bm: IOVABitmap, /) -> int: ...
    @classmethod
    def _locate(cls, buffer: Buffer, /) -> tuple[int, int]: ...

@final
class _Memory:
    def __buffer__(self, flags: int, /) -> memoryview: ...
