"""The pin backends: how host pages are made present, and given back.

"populate" and "mlock" do what their names say, by the same system calls as the engine's, one page
after the other: so what is delivered is what comes before the first page that cannot be had.
"""

from __future__ import annotations

import ctypes
import errno
import functools
import mmap
import operator
import sys
from collections import Counter
from typing import Any, ClassVar, Protocol

HOST_PAGE = mmap.PAGESIZE
MADV_POPULATE_READ, MADV_POPULATE_WRITE = 22, 23


class NotPinnedError(Exception):
    """No page could be had: why, as an errno. What a pin object raised is the cause."""

    def __init__(self, code: int) -> None:
        super().__init__(code)
        self.code = code


class Backend(Protocol):
    def pin(self, address: int, npages: int, write: bool) -> int:
        """How many pages from the first on are present now, 1 to npages, or NotPinnedError."""

    def touch(self, address: int, npages: int, write: bool) -> int:
        """The same for pages that were pinned earlier; there is nothing to give back."""

    def unpin(self, address: int, npages: int) -> None:
        """Gives back what one pin delivered."""


class NoPin:
    """Bookkeeping only."""

    def pin(self, address: int, npages: int, write: bool) -> int:  # noqa: ARG002
        return npages

    touch = pin

    def unpin(self, address: int, npages: int) -> None:
        pass


@functools.cache
def _libc() -> ctypes.CDLL:
    libc = ctypes.CDLL(None, use_errno=True)
    for name in ("madvise", "mlock", "munlock"):
        getattr(libc, name).argtypes = [ctypes.c_void_p, ctypes.c_size_t]
    libc.madvise.argtypes = [ctypes.c_void_p, ctypes.c_size_t, ctypes.c_int]
    return libc


def _last_error() -> NotPinnedError:
    return NotPinnedError(ctypes.get_errno())


class Populate:
    """MADV_POPULATE_WRITE, or _READ for what is only read: again before each access, because a
    file may have been truncated since."""

    def __init__(self) -> None:
        here = sys.platform == "linux"
        if not here or _libc().madvise(0, 0, MADV_POPULATE_READ) != 0:
            raise NotImplementedError("pin='populate' needs Linux 5.14 or later")

    def pin(self, address: int, npages: int, write: bool) -> int:
        advice = MADV_POPULATE_WRITE if write else MADV_POPULATE_READ
        for n in range(npages):
            if _libc().madvise(address + n * HOST_PAGE, HOST_PAGE, advice) != 0:
                if n == 0:
                    raise _last_error()
                return n
        return npages

    touch = pin

    def unpin(self, address: int, npages: int) -> None:
        pass


class Lock:
    """mlock. The system does not count locks of a page, so this does: for all model bitmaps."""

    locks: ClassVar[Counter[int]] = Counter()

    def __init__(self) -> None:
        if sys.platform == "win32":
            raise NotImplementedError("pin='mlock' needs a system with mlock")

    def pin(self, address: int, npages: int, write: bool) -> int:  # noqa: ARG002
        for n in range(npages):
            page = address + n * HOST_PAGE
            if self.locks[page] == 0 and _libc().mlock(page, HOST_PAGE) != 0:
                error = _last_error()
                _libc().munlock(page, HOST_PAGE)  # it may be marked as locked all the same
                if n == 0:
                    raise error
                return n
            self.locks[page] += 1
        return npages

    def touch(self, address: int, npages: int, write: bool) -> int:  # noqa: ARG002
        return npages

    def unpin(self, address: int, npages: int) -> None:
        for page in range(address, address + npages * HOST_PAGE, HOST_PAGE):
            self.locks[page] -= 1
            if self.locks[page] == 0:
                del self.locks[page]
                _libc().munlock(page, HOST_PAGE)


class Unraisable:
    """Raises an exception where nobody can catch it: it goes to `sys.unraisablehook`."""

    def __init__(self, error: BaseException) -> None:
        self.error = error

    def __del__(self) -> None:
        raise self.error


def errno_of(error: OSError) -> int:
    """The errno of an exception; EIO where it has none."""
    code = getattr(error, "errno", None)
    return int(code) if isinstance(code, int) and 0 < code < 2**31 else errno.EIO


class ObjectPin:
    """An object of the caller's, with the methods pin and unpin."""

    def __init__(self, pin: Any) -> None:
        if not callable(getattr(pin, "pin", None)) or not callable(getattr(pin, "unpin", None)):
            raise TypeError(
                f"pin must be a str or an object with the methods pin and unpin, not {type(pin)}"
            )
        self.object = pin

    def pin(self, address: int, npages: int, write: bool) -> int:  # noqa: ARG002
        try:
            result = self.object.pin(address, npages)
            delivered = operator.index(result)
        except OSError as error:
            raise NotPinnedError(errno_of(error)) from error
        if not 1 <= delivered <= npages:
            raise NotPinnedError(errno.EFAULT)
        return delivered

    def touch(self, address: int, npages: int, write: bool) -> int:  # noqa: ARG002
        return npages

    def unpin(self, address: int, npages: int) -> None:
        try:
            self.object.unpin(address, npages)
        except BaseException as error:
            Unraisable(error)


BACKENDS: dict[str, type[NoPin] | type[Populate] | type[Lock]] = {
    "none": NoPin,
    "populate": Populate,
    "mlock": Lock,
}


def backend(pin: Any) -> Backend:
    """The backend of that name, or one that calls this object."""
    if not isinstance(pin, str):
        return ObjectPin(pin)
    if pin not in BACKENDS:
        names = ", ".join(map(repr, BACKENDS))
        raise ValueError(f"pin must be {names} or an object with pin and unpin, not {pin!r}")
    return BACKENDS[pin]()
