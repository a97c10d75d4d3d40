"""CRIU's pagemap images: which pages an incremental dump holds.

pagemap-ID.img is two magic numbers and then messages of Protocol Buffers, each behind its length in
32 bits. The first is a head; each other is a run of pages: field 1 the address, 2 the number of
pages, 3 whether they are in the parent's image, 4 flags, of which 1 means the same. What is not in
the parent changed since it was made. Pages have 4 KiB. The few kinds of fields that Protocol
Buffers have are read by hand: a library would need the schema compiled in.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..errors import LogError
from ._common import Imported, Options, Rows, of_tables, read, rows_array

if TYPE_CHECKING:
    from pathlib import Path

COMMON_MAGIC, PAGEMAP_MAGIC = 0x54564319, 0x56084025
PAGE = 4096
IN_PARENT = 1  # of the flags
MAX_MESSAGE = 4096


def load(paths: list[Path], options: Options) -> Imported:
    """One epoch for each image: the dumps of one process, in their order."""
    tables = [(path, _read(path)) for path in paths]
    found = of_tables("CRIU pagemap", tables, options)
    found.granularity = PAGE
    return found


def _read(path: Path) -> Rows:
    data = read(path)
    magic = [int.from_bytes(data[at : at + 4], "little") for at in (0, 4)]
    if magic[0] == PAGEMAP_MAGIC:  # of images of version 1
        at = 4
    elif magic == [COMMON_MAGIC, PAGEMAP_MAGIC]:
        at = 8
    else:
        raise LogError(path, f"no pagemap image: it begins with {magic[0]:#x}, {magic[1]:#x}")
    rows, head = [], True
    while at < len(data):
        size = int.from_bytes(data[at : at + 4], "little")
        at += 4
        if size > MAX_MESSAGE or at + size > len(data):
            raise LogError(path, f"an entry of {size} bytes at {at}: cut off or damaged")
        fields = _fields(path, data, at, at + size)
        at += size
        if head:
            head = False
        elif 1 not in fields or 2 not in fields:
            raise LogError(path, f"an entry without address or number of pages before byte {at}")
        elif not (fields.get(3) or fields.get(4, 0) & IN_PARENT):
            rows.append((fields[1], fields[2] * PAGE))
    if head:
        raise LogError(path, "a pagemap image that ends before its head")
    return rows_array(path, rows)


def _fields(path: Path, data: bytes, at: int, end: int) -> dict[int, int]:
    """The integer fields of a message, by number; the last of each counts."""
    found: dict[int, int] = {}
    while at < end:
        key, at = _varint(path, data, at, end)
        number, kind = key >> 3, key & 7
        if kind == 0:
            found[number], at = _varint(path, data, at, end)
            continue
        if kind not in (1, 2, 5):
            raise LogError(path, f"a field of the unknown kind {kind} at byte {at}")
        if kind == 2:
            size, at = _varint(path, data, at, end)
        else:
            size = 8 if kind == 1 else 4
        at += size
        if at > end:
            raise LogError(path, f"a field that reaches behind its entry at byte {end}")
    return found


def _varint(path: Path, data: bytes, at: int, end: int) -> tuple[int, int]:
    value = shift = 0
    while at < end and shift < 70:
        byte = data[at]
        at += 1
        value |= (byte & 127) << shift
        shift += 7
        if byte < 128:
            return value & (2**64 - 1), at
    raise LogError(path, f"a number that does not end at byte {at}")
