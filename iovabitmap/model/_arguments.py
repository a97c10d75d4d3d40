"""What arguments may be: numbers of 64 bits, rows, memory, texts; errors that carry ranges."""

from __future__ import annotations

import operator
import os
import re
import struct
from collections.abc import Iterable
from typing import TYPE_CHECKING, Any, SupportsIndex, TypeAlias

from .._core import IOVARangeError, PinError

if TYPE_CHECKING:
    from typing_extensions import Buffer

TOP = 2**64
SPACE = b" \t\n\r"
LISTED = re.compile(rb"([0-9]+)(?:-([0-9]+))?[ \t\n\r]*(?:,[ \t\n\r]*|\Z)")

Row: TypeAlias = tuple[int, int]  # (iova, length), in bytes
Span: TypeAlias = tuple[int, int]  # addresses [start, end)
Run: TypeAlias = tuple[int, int]  # pages [first, stop)


def number(name: str, value: SupportsIndex, low: int = 0, end: int = TOP) -> int:
    """`value` as an int from low to end - 1."""
    if not hasattr(type(value), "__index__"):
        raise TypeError(f"{name} must be an int, not {type(value)}")
    found = operator.index(value)
    if not low <= found < end:
        shown = str(found) if found.bit_length() <= 128 else f"one of {found.bit_length()} bits"
        last = "2**64 - 1" if end == TOP else "2**64" if end == TOP + 1 else str(end - 1)
        raise ValueError(f"{name} must be {low} to {last}, not {shown}")
    return found


def power_of_two(name: str, value: SupportsIndex) -> int:
    found = number(name, value)
    if found.bit_count() != 1:
        raise ValueError(f"{name} must be a power of two from 1 to 2**63, not {found}")
    return found


def writable(data: Buffer, nbytes: int) -> memoryview:
    """The bytes of a caller's memory, held."""
    try:
        memory = memoryview(data)
    except (TypeError, MemoryError):
        raise
    except Exception as error:
        raise BufferError(f"data must be writable, contiguous memory: {error}") from error
    if memory.readonly or not memory.c_contiguous:
        raise BufferError("data must be writable, contiguous memory")
    if memory.nbytes < nbytes:
        raise ValueError(f"data has {memory.nbytes} bytes, the bitmap needs {nbytes}")
    if "O" in re.sub(":.*?:", "", memory.format):  # without the names of fields
        raise BufferError("data must not hold references to objects")
    return memory.cast("B") if nbytes else memory


def range_error(iova: int, length: int, base: int, end: int, where: str = "") -> IOVARangeError:
    why = f"is not inside the bitmap's {base:#x} to {end - 1:#x}"
    if iova + length > TOP:
        why = "ends beyond 2**64"
    error = IOVARangeError(f"{where}range {iova:#x} (+{length:#x}) {why}")
    error.iova, error.length = iova, length
    return error


def pin_error(code: int | None, start: int, end: int, newly: int = 0) -> PinError:
    assert code is not None  # the errno of a PinError is one
    length = end - start
    error = PinError(
        code, f"{os.strerror(code)}: the bitmap of {start:#x} (+{length:#x}) could not be pinned"
    )
    error.iova, error.length, error.newly = start, length, newly
    return error


# --- many numbers --------------------------------------------------------------------------------


def items(values: Buffer | Iterable[Any], name: str) -> Iterable[Any]:
    """What a sequence, an iterator or memory of integers holds, rows of it as tuples."""
    if _is_mask(values):
        raise TypeError(
            f"{name} must hold addresses, not bools: those of the pages of a mask are "
            "bm.iova + numpy.flatnonzero(mask) * bm.page_size"
        )
    if not isinstance(values, memoryview):
        return iter(values)  # type: ignore[arg-type]  # arrays iterate over their rows
    flat = [one for (one,) in struct.iter_unpack(values.format, values.tobytes())]
    if values.ndim == 1:
        return flat
    if values.shape is None or values.ndim != 2:
        raise ValueError(f"rows must be of shape (n, 2), not {values.shape}")
    count, width = values.shape
    return [tuple(flat[n * width : (n + 1) * width]) for n in range(count)]


def _is_mask(values: Any) -> bool:
    """Whether it is memory of bools."""
    try:
        memory = memoryview(values)
    except (TypeError, ValueError, BufferError):
        return False
    return memory.format.lstrip("@=<>!") == "?" and memory.nbytes != 0


def in_row(n: int, name: str, value: SupportsIndex) -> int:
    """`number`, of a row: what its own `__index__` raises has the row as a note."""
    found = value
    if isinstance(value, bool):
        raise TypeError(f"row {n}: {name} must be an int, not {type(value)}")
    if hasattr(type(value), "__index__"):
        try:
            found = operator.index(value)
        except BaseException as error:
            error.add_note(f"row {n}")
            raise
    try:
        return number(name, found)
    except (TypeError, ValueError) as error:
        raise type(error)(f"row {n}: {error}") from None


def rows(ranges: Buffer | Iterable[Any]) -> list[Row]:
    """Rows (iova, length); of a bad one the error begins with its number."""
    found = []
    for n, row in enumerate(items(ranges, "ranges")):
        if not hasattr(type(row), "__iter__") and not hasattr(type(row), "__getitem__"):
            raise TypeError(f"row {n}: must be (iova, length), not {type(row)}")
        try:
            pair = tuple(row)
        except BaseException as error:
            error.add_note(f"row {n}")
            raise
        if len(pair) != 2:
            raise ValueError(f"row {n}: must be (iova, length), not {len(pair)} values")
        iova, length = pair
        found.append((in_row(n, "iova", iova), in_row(n, "length", length)))
    return found


def addresses(iovas: Buffer | Iterable[Any]) -> list[int]:
    """Addresses, likewise."""
    return [in_row(n, "iova", iova) for n, iova in enumerate(items(iovas, "iovas"))]


def listed(text: str, nbits: int) -> list[Run]:
    """The runs that a text such as "0-22,64" names."""
    if not isinstance(text, str):
        raise TypeError(f"text must be a str, not {type(text)}")
    data = text.encode()
    if b"\0" in data:
        raise ValueError("text holds a null character")
    runs: list[Run] = []
    at = len(data) - len(data.lstrip(SPACE))
    while at < len(data):
        match = LISTED.match(data, at)
        digits = [d.lstrip(b"0")[:21] for d in match.groups(default=match[1])] if match else []
        first, last = (int(d or b"0") for d in digits) if match else (1, 0)
        if not match or not first <= last < TOP:
            shown = data[at : at + 40].decode(errors="replace")
            raise ValueError(f"text must be a list such as '0-22,64': '{shown}' at {at} is not")
        if last >= nbits:
            raise ValueError(f"bit {last} is not among the bitmap's {nbits}")
        runs.append((first, last + 1))
        at = match.end()
    if runs and data.rstrip(SPACE).endswith(b","):
        raise ValueError("text ends in a comma")
    return runs
