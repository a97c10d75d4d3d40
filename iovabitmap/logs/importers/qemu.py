"""QEMU's JSON.

`qemu-img map --output=json` of an NBD export with `x-dirty-bitmap=` says which parts of a disk or
of memory are dirty: the entries of its list with `"data": false` are, those with `true` are clean.
The replies of query-dirty-rate and query-migrate hold rates and no pages: no log can be made of
them, and `rates` reads them.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, NamedTuple

from ..errors import LogError
from ._common import Imported, Options, Rows, integer, of_tables, parse_json, read, rows_array

if TYPE_CHECKING:
    from pathlib import Path


class Rate(NamedTuple):
    """What a reply says. A rate means nothing without its interval."""

    mib_per_s: int
    seconds: float
    mode: str


def load(paths: list[Path], options: Options) -> Imported:
    """One epoch for each file, over the whole length that the map covers."""
    base = options.iova or 0
    tables, length = [], 0
    for path in paths:
        rows, covered = _read_map(path, base)
        tables.append((path, rows))
        length = max(length, covered)
    whole = options._replace(
        iova=base, length=max(length, 1) if options.length is None else options.length
    )
    return of_tables("QEMU dirty bitmap", tables, whole)


def _read_map(path: Path, base: int) -> tuple[Rows, int]:
    """The dirty ranges, and where the map ends."""
    document = parse_json(path, read(path))
    if not isinstance(document, list):
        raise LogError(path, _what_else(path, document))
    dirty, end = [], 0
    for entry in document:
        if not isinstance(entry, dict) or not isinstance(entry.get("data"), bool):
            raise LogError(path, "an entry that none of qemu-img map is: no start, length, data")
        start = integer(path, entry.get("start"), "a start")
        length = integer(path, entry.get("length"), "a length")
        end = max(end, start + length)
        if not entry["data"]:
            dirty.append((base + start, length))
    return rows_array(path, dirty), end


def rates(path: Path) -> list[Rate]:
    """The measured rates in a file of one reply of query-dirty-rate, or of one each line."""
    found = []
    for line in read(path).splitlines():
        if line.strip():
            reply = parse_json(path, line)
            rate = _rate(path, reply)
            if rate is not None:
                found.append(rate)
    return found


def _rate(path: Path, reply: Any) -> Rate | None:
    """The rate in a reply, with or without its envelope; None where there is none."""
    if isinstance(reply, dict) and isinstance(reply.get("return"), dict):
        reply = reply["return"]
    if not isinstance(reply, dict) or "dirty-rate" not in reply:
        return None
    unit = 1000 if reply.get("calc-time-unit") == "millisecond" else 1
    seconds = integer(path, reply.get("calc-time"), "calc-time") / unit
    mode = str(reply.get("mode", "page-sampling"))
    return Rate(integer(path, reply["dirty-rate"], "dirty-rate"), seconds, mode)


def _what_else(path: Path, document: Any) -> str:
    """Why a document is no map."""
    rate = _rate(path, document)
    if rate is None:
        return "no list, as qemu-img map --output=json prints"
    return (
        f"a dirty rate, {rate.mib_per_s} MiB/s in {rate.seconds:g} s by {rate.mode}, "
        "and no pages: there is nothing to put in a log"
    )
