"""Cloud Hypervisor's memory range tables: which ranges of guest memory are to be copied.

Binary, as they travel in a migration: pairs of 64-bit little-endian numbers, guest-physical address
and length. JSON, as the state of a snapshot has them: {"data": [{"gpa": ..., "length": ...}, ...]},
the list alone, or either as a member `memory_ranges` at any depth.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

import numpy as np

from ..errors import LogError
from ._common import Imported, Options, Rows, integer, of_tables, parse_json, read, rows_array

if TYPE_CHECKING:
    from pathlib import Path

MEMBER = "memory_ranges"


def load(paths: list[Path], options: Options) -> Imported:
    """One epoch for each file."""
    tables = [(path, _read(path)) for path in paths]
    return of_tables("Cloud Hypervisor memory range table", tables, options)


def _read(path: Path) -> Rows:
    data = read(path)
    if data.lstrip()[:1] in (b"{", b"["):
        document = parse_json(path, data)
        table = _find(document)
        if table is None:
            raise LogError(path, f"JSON without a table of ranges (gpa, length) or {MEMBER!r}")
        return rows_array(path, (_row(path, entry) for entry in table))
    if len(data) % 16:
        raise LogError(path, f"{len(data)} bytes: no whole number of ranges of 16 bytes")
    return np.frombuffer(data, "<u8").reshape(-1, 2).astype(np.uint64)


def _find(document: Any) -> list[Any] | None:
    """The first table in a document."""
    waiting = [document]
    while waiting:
        value = waiting.pop()
        if isinstance(value, dict):
            inner = value.get(MEMBER)
            table = inner.get("data") if isinstance(inner, dict) else inner
            if isinstance(table, list):
                return table
            waiting.extend(value.values())
        elif isinstance(value, list):
            if value and all(isinstance(entry, dict) and "gpa" in entry for entry in value):
                return value
            waiting.extend(value)
    if isinstance(document, dict):
        document = document.get("data")
    return document if document == [] else None


def _row(path: Path, entry: Any) -> tuple[int, int]:
    if not isinstance(entry, dict):
        raise LogError(path, "a range that is no object with gpa and length")
    return integer(path, entry.get("gpa"), "a gpa"), integer(path, entry.get("length"), "a length")
