"""Geometry, memory, windows and life of a model bitmap: all but the operations.

Bytes of the bitmap are numbered from 0, bits as pages are; a host page is one of the machine's
memory. Only `load` and `store` touch the bitmap's bytes, and only inside a window.
"""

from __future__ import annotations

import ctypes
import functools
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any, Concatenate, NamedTuple, ParamSpec, Self, TypeVar

from .._core import Stats, Window
from ._arguments import (
    TOP,
    Row,
    Run,
    Span,
    number,
    pin_error,
    power_of_two,
    range_error,
    writable,
)
from ._pins import HOST_PAGE, Backend, NotPinnedError, backend

if TYPE_CHECKING:
    from types import TracebackType
    from typing import Literal, SupportsIndex

    from typing_extensions import Buffer

DEFAULT_WINDOW_PAGES = HOST_PAGE // ctypes.sizeof(ctypes.c_void_p)

P = ParamSpec("P")
R = TypeVar("R")
B = TypeVar("B", bound="WindowedBits")


class Held(NamedTuple):
    """A window that is pinned: bytes [first, end) of the bitmap, in these host pages."""

    first: int
    end: int
    address: int
    npages: int


@contextmanager
def running(*bitmaps: WindowedBits) -> Iterator[None]:
    """An operation on these: refused where one is freed; one that is freed inside lives on until
    the end."""
    for bitmap in bitmaps:
        bitmap._check_not_freed()
    for bitmap in bitmaps:
        bitmap._running += 1
    try:
        yield
    finally:
        for bitmap in reversed(bitmaps):
            bitmap._running -= 1
            if bitmap._freed:
                bitmap._let_go()


def operation(method: Callable[Concatenate[B, P], R]) -> Callable[Concatenate[B, P], R]:
    """An operation on the bitmap whose method it is."""

    @functools.wraps(method)
    def run(self: B, /, *args: P.args, **kwargs: P.kwargs) -> R:
        with running(self):
            return method(self, *args, **kwargs)

    return run


def load(memory: memoryview, bit: int, stop: int) -> str:
    """Pages [bit, stop) as a text, "1" where a page is dirty: bit n is bit n % 8 of byte n // 8."""
    first, end = bit // 8, (stop + 7) // 8
    value = int.from_bytes(memory[first:end], "little")
    text = f"{value:0{8 * (end - first)}b}"[::-1]
    return text[bit - 8 * first : stop - 8 * first]


def store(memory: memoryview, bit: int, pages: str) -> None:
    """The opposite; all other bits stay as they are."""
    stop = bit + len(pages)
    first, end = bit // 8, (stop + 7) // 8
    text = load(memory, 8 * first, bit) + pages + load(memory, stop, 8 * end)
    memory[first:end] = int(text[::-1], 2).to_bytes(end - first, "little")


class WindowedBits:
    """The base of `ModelBitmap`."""

    __slots__ = (
        "__weakref__",
        "_backend",
        "_freed",
        "_iova",
        "_length",
        "_memory",
        "_moves",
        "_page_size",
        "_peak",
        "_pin",
        "_pinned",
        "_pins",
        "_present",
        "_running",
        "_unpins",
        "_window_pages",
    )

    _iova: int
    _length: int
    _page_size: int
    _memory: memoryview
    _window_pages: int
    _pin: Any
    _backend: Backend
    _present: Held | None  # the present window
    _pins: int
    _unpins: int
    _pinned: int  # host pages now
    _peak: int
    _moves: int
    _running: int  # operations, of which one may be called inside another
    _freed: bool

    def __new__(
        cls,
        iova: SupportsIndex,
        length: SupportsIndex,
        page_size: SupportsIndex = 4096,
        data: Buffer | None = None,
        *,
        window_pages: SupportsIndex | None = None,
        pin: Any = "none",
    ) -> Self:
        self = object.__new__(cls)
        self._iova = number("iova", iova)
        self._length = number("length", length, low=1)
        self._page_size = power_of_two("page_size", page_size)
        if self.end > TOP:
            raise ValueError(f"range {self.iova:#x} (+{self.length:#x}) ends beyond 2**64")
        self._window_pages = DEFAULT_WINDOW_PAGES
        if window_pages is not None:
            self._window_pages = number("window_pages", window_pages, low=1)
        self._pin = pin
        self._backend = backend(pin)
        self._memory = writable(bytearray(self.nbytes) if data is None else data, self.nbytes)
        self._present = None
        self._pins = self._unpins = self._pinned = self._peak = self._moves = 0
        self._running = 0
        self._freed = False
        return self

    # --- geometry --------------------------------------------------------------------------------

    @property
    def iova(self) -> int:
        """First address of the range."""
        return self._iova

    @property
    def length(self) -> int:
        """Bytes of IOVA in the range."""
        return self._length

    @property
    def end(self) -> int:
        """First address behind the range; may be 2**64."""
        return self._iova + self._length

    @property
    def page_size(self) -> int:
        """Bytes of IOVA that one bit stands for, a power of two."""
        return self._page_size

    @property
    def pgshift(self) -> int:
        """log2(page_size)."""
        return self._page_size.bit_length() - 1

    @property
    def nbits(self) -> int:
        """Pages in the range; the last may be a part of one."""
        return -(-self._length // self._page_size)

    @property
    def nbytes(self) -> int:
        """Bytes of bitmap that are used: (nbits + 7) // 8."""
        return -(-self.nbits // 8)

    def _bit(self, iova: int) -> int:
        return (iova - self._iova) // self._page_size

    def _address(self, bit: int) -> int:
        """Where the page of a bit begins; of the bit behind the last, where the range ends."""
        return min(self._iova + bit * self._page_size, self.end)

    def _run(self, span: Span) -> Run:
        """The pages that a range touches."""
        return self._bit(span[0]), self._bit(span[1] - 1) + 1

    def _rows(self, runs: Iterable[Run], span: Span) -> list[Row]:
        """The addresses of runs of pages, cut to a range."""
        base, size, (start, end) = self._iova, self._page_size, span
        cut = ((max(base + a * size, start), min(base + b * size, end)) for a, b in runs)
        return [(low, high - low) for low, high in cut]

    def _inside(self, iova: int, length: int, clip: bool = False, where: str = "") -> Span | None:
        """The addresses [start, end) of a range to work on; None where there are none."""
        if length == 0:
            return None
        error = range_error(iova, length, self._iova, self.end, where)
        if iova + length > TOP:
            raise error
        if self._iova <= iova and iova + length <= self.end:
            return iova, iova + length
        if not clip:
            raise error
        start, end = max(iova, self._iova), min(iova + length, self.end)
        return (start, end) if start < end else None

    # --- windows ---------------------------------------------------------------------------------

    def _place(self, byte: int) -> int:
        """The address in memory of a byte of the bitmap."""
        return ctypes.addressof(ctypes.c_char.from_buffer(self._memory)) + byte

    def _plan(self, byte: int, end: int, most: int | None = None) -> tuple[int, int]:
        """A window from `byte` on that needs no more than the bytes before `end`, of at most
        window_pages or `most` host pages: the address of the first, and how many to ask for."""
        pgoff = self._place(byte) % HOST_PAGE
        wanted = -(-(pgoff + end - byte) // HOST_PAGE)
        return self._place(byte) - pgoff, min(wanted, most or self._window_pages)

    def _held(self, byte: int, end: int, address: int, npages: int) -> Held:
        """The window that so many host pages make."""
        covered = address + npages * HOST_PAGE - self._place(byte)
        return Held(byte, min(end, byte + covered), address, npages)

    def _take(self, byte: int, end: int, write: bool, most: int | None = None) -> Held:
        address, npages = self._plan(byte, end, most)
        delivered = self._backend.pin(address, npages, write)
        self._pins += 1
        self._pinned += delivered
        self._peak = max(self._peak, self._pinned)
        return self._held(byte, end, address, delivered)

    def _give_back(self, held: Held | None) -> None:
        if held is not None:
            self._unpins += 1
            self._pinned -= held.npages
            self._backend.unpin(held.address, held.npages)

    def _release(self) -> None:
        held, self._present = self._present, None
        self._give_back(held)

    def _move(self, byte: int) -> Held:
        """Takes the present window anew: it begins at `byte`."""
        self._release()
        held = self._take(byte, self.nbytes, write=True)
        self._release()  # a pin object may have marked, and so taken another one
        self._present = held
        self._moves += 1
        return held

    def _present_until(self, bit: int, stop: int) -> int:
        """Moves the present window if `bit` is not inside of it; how far from there on pages may be
        touched, at most to `stop`."""
        held = self._present
        if held is None or not held.first <= bit // 8 < held.end:
            held = self._move(bit // 8)
        stop = min(stop, 8 * held.end)
        first = self._place(bit // 8) // HOST_PAGE
        npages = self._place((stop - 1) // 8) // HOST_PAGE - first + 1
        there = self._backend.touch(first * HOST_PAGE, npages, write=True)
        return min(stop, 8 * ((first + there) * HOST_PAGE - self._place(0)))

    @contextmanager
    def _own_window(
        self, bit: int, stop: int, span: Span, write: bool, most: int | None = None
    ) -> Iterator[int]:
        """A window of an operation's own, no longer than it needs: how far it goes. `span` is what
        the operation is about, of which a failure names the rest."""
        try:
            held = self._take(bit // 8, -(-stop // 8), write, most)
        except NotPinnedError as failure:
            start = max(span[0], self._address(bit))
            raise pin_error(failure.code, start, span[1]) from failure.__cause__
        try:
            yield min(stop, 8 * held.end)
        finally:
            self._give_back(held)

    def _shown(self, held: Held) -> Window:
        start, stop = self._address(8 * held.first), self._address(8 * held.end)
        pgoff = self._place(held.first) % HOST_PAGE
        return Window(start, stop - start, held.first, pgoff, held.npages)

    @operation
    def _get_window(self) -> Window | None:
        return None if self._present is None else self._shown(self._present)

    @property
    def window(self) -> Window | None:
        """The present Window, which set, clear and test_and_set move; None where none is pinned."""
        return self._get_window()

    @operation
    def windows(self) -> Iterator[Window]:
        """Iterate over the Windows of an ascending walk when every pin delivers in full.

        Arithmetic only: nothing is pinned.
        """

        def walk() -> Iterator[Window]:
            byte = 0
            while byte < self.nbytes:
                self._check_not_freed()
                held = self._held(byte, self.nbytes, *self._plan(byte, self.nbytes))
                yield self._shown(held)
                byte = held.end

        return walk()

    @property
    def window_pages(self) -> int:
        """The most host pages of bitmap that a window holds."""
        return self._window_pages

    @property
    def pin(self) -> Any:
        """The pin backend: 'none', 'populate', 'mlock' or an object."""
        return self._pin

    @property
    def stats(self) -> Stats:
        """Stats: what was pinned so far. Readable after free()."""
        return Stats(self._pins, self._unpins, self._pinned, self._peak, self._moves)

    # --- life ------------------------------------------------------------------------------------

    @property
    def freed(self) -> bool:
        """True once free() was called."""
        return self._freed

    def _check_not_freed(self) -> None:
        if self._freed:
            raise ValueError(f"operation on a freed {type(self).__name__}")

    def _let_go(self) -> None:
        if self._running == 0:
            self._release()
            self._memory = memoryview(b"")  # a view of it may live on

    def free(self) -> None:
        """Give the pinned window back and let go of the memory.

        Inside a callback this happens when the running operation ends. Afterwards the geometry,
        pin, window_pages, stats, freed and repr can be read; all else raises ValueError. Safe to
        repeat.
        """
        self._freed = True
        self._let_go()

    def __del__(self) -> None:
        if hasattr(self, "_freed"):  # else it was refused
            self.free()

    @operation
    def validate(self) -> None:
        """Check the present window and, while nothing else is running, the balance of pins.

        Raises AssertionError with the name of what is broken.
        """
        held = self._present
        if held is not None:
            address, most = self._plan(held.first, self.nbytes)
            if not (1 <= held.npages <= most and held.address == address):
                raise AssertionError("window: its host pages are those of its first byte")
            if held != self._held(held.first, self.nbytes, address, held.npages):
                raise AssertionError("window: its bytes are those of its host pages")
        now = 0 if held is None else held.npages
        if self._running == 1 and (self._pinned != now or self._peak < now):
            raise AssertionError("stats: the pages pinned now are those of the window")
        if self._running == 1 and self._pins - self._unpins != (held is not None):
            raise AssertionError("stats: pins and unpins balance")

    @operation
    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc_value: BaseException | None,
        traceback: TracebackType | None,
        /,
    ) -> Literal[False]:
        self.free()
        return False
