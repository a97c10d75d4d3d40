"""The page headers of a Parquet file, looked at before a library decodes the pages.

A header says how large its page is once decompressed, and decoders believe it: 100 bytes of a
hostile file can ask for 2 GiB. The pages of a log are small, so a header that says otherwise is
refused here. The headers are Thrift structs in its compact protocol: of each, field 2 is the size
once decompressed, 3 the size as stored, and 5, 7 or 8 is a struct whose field 1 counts the values.
"""

from __future__ import annotations

from typing import Any

from .blocks import BLOCK_ROWS

MAX_PAGE = 4 << 20  # bytes; a block has at most 1 MiB in a column
MAX_NESTING = 8  # page headers have 3

_FIXED = {1: 0, 2: 0, 3: 1, 7: 8}  # booleans (in the type), byte, double: bytes of their value
_VARINT = {4, 5, 6}
_BINARY, _LIST, _SET, _STRUCT = 8, 9, 10, 12


class BadPageError(ValueError):
    """A header that is cut off, makes no sense, or asks for too much."""


def check_pages(chunk: bytes) -> None:
    """Checks each page of a column chunk, whose bytes these are. BadPageError."""
    at = 0
    while at < len(chunk):
        try:
            header, at = _struct(chunk, at)
        except IndexError:
            raise BadPageError("a page header is cut off") from None
        decompressed, stored = (header.get(n, -1) for n in (2, 3))
        if isinstance(decompressed, dict) or isinstance(stored, dict):
            raise BadPageError("a page header has no sizes")
        counts = [header[n] for n in (5, 7, 8) if isinstance(header.get(n), dict)]
        values = counts[0].get(1, -1) if counts else -1
        if isinstance(values, dict):
            raise BadPageError("a page header does not count its values")
        if not 0 <= decompressed <= MAX_PAGE:
            raise BadPageError(f"a page claims {decompressed} bytes; none has more than {MAX_PAGE}")
        if not 0 <= stored <= len(chunk) - at:
            raise BadPageError(f"a page claims {stored} bytes, and there are {len(chunk) - at}")
        if not 0 <= values <= BLOCK_ROWS:
            raise BadPageError(f"a page claims {values} values; none has more than {BLOCK_ROWS}")
        at += stored


def _struct(data: bytes, at: int, nesting: int = 0) -> tuple[dict[int, Any], int]:
    """The integers and structs of a struct by field number, and where it ends."""
    if nesting > MAX_NESTING:
        raise BadPageError("a page header is nested too deeply")
    found: dict[int, Any] = {}
    field = 0
    while data[at] != 0:
        delta, kind = data[at] >> 4, data[at] & 15
        at += 1
        if delta:
            field += delta
        else:
            field, at = _integer(data, at)
        if kind in _VARINT:
            found[field], at = _integer(data, at)
        elif kind == _STRUCT:
            found[field], at = _struct(data, at, nesting + 1)
        else:
            at = _skip(data, at, kind, nesting)
    return found, at + 1


def _skip(data: bytes, at: int, kind: int, nesting: int) -> int:
    """Where a value of this kind ends."""
    if kind in _FIXED:
        return at + _FIXED[kind]
    if kind in _VARINT:
        return _integer(data, at)[1]
    if kind == _BINARY:
        size, at = _varint(data, at)
        return at + size
    if kind in (_LIST, _SET):
        count, element = data[at] >> 4, data[at] & 15
        at += 1
        if count == 15:
            count, at = _varint(data, at)
        if count > len(data):
            raise BadPageError("a page header has a list longer than the file")
        for _ in range(count):
            at = _skip(data, at + (element in (1, 2)), element, nesting)
        return at
    if kind == _STRUCT:
        return _struct(data, at, nesting + 1)[1]
    raise BadPageError(f"a page header has a field of the unknown type {kind}")


def _varint(data: bytes, at: int) -> tuple[int, int]:
    value = shift = 0
    while True:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value, at
        if shift > 63:
            raise BadPageError("a page header has a number of more than 64 bits")


def _integer(data: bytes, at: int) -> tuple[int, int]:
    """A signed number, zigzag as Thrift stores it."""
    value, at = _varint(data, at)
    return (value >> 1) ^ -(value & 1), at
