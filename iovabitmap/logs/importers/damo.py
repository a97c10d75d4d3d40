"""damo's records of DAMON: which regions were accessed in each aggregation interval.

Accessed, not written: DAMON samples accesses of any kind, a few for each region, and a region
counts whole however little of it was touched. The log's notes say so. Three forms are read:

* JSON, plain or compressed, as `damo record` and `damo convert_record_format` write it: a list of
  records, one for each target, each of snapshots with start_time, end_time and regions;
* the text of the tracepoint damon_aggregated, as `perf script` and damo print it;
* the text of `damo report raw`, which older versions have.
"""

from __future__ import annotations

import re
import zlib
from itertools import pairwise
from typing import TYPE_CHECKING, Any

from ..._base.text import show_bytes
from ..errors import LogError
from ._common import MAX_TEXT, Found, Imported, Options, extent, integer, parse_json, rows_array
from ._common import read as read_file

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

# start and end in ns, and the rows of regions that were accessed
Snapshot = tuple[int, int, list[tuple[int, int]]]
Targets = dict[int, list[Snapshot]]

UNITS = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
PERF = re.compile(
    r"(?P<s>\d{1,18})\.(?P<us>\d{1,9}): damon:damon_aggregated: target_id=(?P<target>\d{1,20}) "
    r"nr_regions=(?P<count>\d{1,9}) (?P<start>\d{1,20})-(?P<end>\d{1,20}): (?P<accesses>\d{1,20})\b"
)
RAW_REGION = re.compile(
    r"(?P<start>[0-9a-f]{1,17})-(?P<end>[0-9a-f]{1,17})\(.*\):\s*(?P<accesses>\d{1,20})$"
)
RAW_FIELD = re.compile(r"(?P<name>[a-z_]+):\s*(?P<value>.*)$")


def load(paths: list[Path], options: Options) -> Imported:
    """An epoch for each snapshot of one target; the files follow one another."""
    snapshots = [(path, s) for path in paths for s in _of_target(path, _read(path), options)]
    if not snapshots:
        raise LogError(paths[0], "a record without snapshots")
    rows = [(path, rows_array(path, rows)) for path, (_, _, rows) in snapshots]
    iova, length = extent(rows, options)
    epochs = [
        Found(path, table, start, end)
        for (path, (start, end, _)), (_, table) in zip(snapshots, rows, strict=True)
    ]
    notes = {"meaning": "regions that DAMON saw accessed, read or written, whole"}
    return Imported("DAMON (damo)", iova, length, epochs, timed=True, notes=notes)


def _of_target(path: Path, targets: Targets, options: Options) -> list[Snapshot]:
    if options.target is not None:
        if options.target not in targets:
            raise LogError(path, f"no target {options.target}; it has {sorted(targets)}")
        return targets[options.target]
    if len(targets) > 1:
        raise LogError(path, f"several targets, of which one must be chosen: {sorted(targets)}")
    return next(iter(targets.values()), [])


def _read(path: Path) -> Targets:
    data = read_file(path)
    if data[:1] == b"\x78":  # zlib's
        data = _decompress(path, data)
    if data.lstrip()[:1] == b"[":
        return _of_json(path, parse_json(path, data))
    try:
        text = data.decode()
    except UnicodeDecodeError:
        raise LogError(path, "neither JSON nor text: no record of damo") from None
    if "damon_aggregated" in text:
        return _of_perf(path, text)
    if "monitoring_start" in text:
        return _of_raw(path, text)
    raise LogError(path, "no record of damo: neither JSON, perf script nor raw report")


def _decompress(path: Path, data: bytes) -> bytes:
    unpack = zlib.decompressobj()
    try:
        text = unpack.decompress(data, MAX_TEXT)
    except zlib.error as error:
        raise LogError(path, f"it cannot be decompressed: {error}") from error
    if unpack.unconsumed_tail:
        raise LogError(path, f"more than {show_bytes(MAX_TEXT)} once decompressed")
    if not unpack.eof:
        raise LogError(path, "it is cut off: the compressed text does not end")
    return text


def _of_json(path: Path, document: Any) -> Targets:
    targets: Targets = {}
    for record in document:
        if not isinstance(record, dict) or not isinstance(record.get("snapshots"), list):
            raise LogError(path, "a record without snapshots")
        target = integer(path, record.get("target_id"), "a target_id")
        found = targets.setdefault(target, [])
        for snapshot in record["snapshots"]:
            if not isinstance(snapshot, dict) or not isinstance(snapshot.get("regions"), list):
                raise LogError(path, "a snapshot without regions")
            times = [
                integer(path, snapshot.get(name), f"{name} of a snapshot")
                for name in ("start_time", "end_time")
            ]
            found.append((times[0], times[1], list(_json_rows(path, snapshot["regions"]))))
    return targets


def _json_rows(path: Path, regions: list[Any]) -> Iterator[tuple[int, int]]:
    for region in regions:
        accesses = region.get("nr_accesses") if isinstance(region, dict) else None
        if isinstance(accesses, dict):
            accesses = accesses.get("samples")
        if integer(path, accesses, "nr_accesses of a region"):
            start = integer(path, region.get("start"), "a region's start")
            yield _row(path, start, integer(path, region.get("end"), "a region's end"))


def _of_perf(path: Path, text: str) -> Targets:
    """Each snapshot of a target is nr_regions lines; its time is when the interval ended."""
    ends: dict[int, list[tuple[int, list[tuple[int, int]]]]] = {}
    missing: dict[int, int] = {}  # lines of the target's snapshot that are yet to come
    for line in text.splitlines():
        found = PERF.search(line)
        if found is None:
            if line.strip():
                raise LogError(path, f"a line that is no damon_aggregated: {line[:120]!r}")
            continue
        target, count = int(found["target"]), int(found["count"])
        snapshots = ends.setdefault(target, [])
        if not missing.get(target):
            missing[target] = count
            micros = found["us"].ljust(9, "0")[:9]
            snapshots.append((int(found["s"]) * 10**9 + int(micros), []))
        missing[target] -= 1
        if int(found["accesses"]):
            snapshots[-1][1].append(_row(path, int(found["start"]), int(found["end"])))
    if any(missing.values()):
        raise LogError(path, "the last snapshot is cut off: it has fewer regions than it says")
    return {target: _with_starts(snapshots) for target, snapshots in ends.items()}


def _with_starts(ends: list[tuple[int, list[tuple[int, int]]]]) -> list[Snapshot]:
    """Each interval begins where the one before ended; the first is taken to be as long as the
    second."""
    first = max(2 * ends[0][0] - ends[1][0], 0) if len(ends) > 1 else ends[0][0]
    times = [first, *(end for end, _ in ends)]
    return [(a, b, rows) for (a, b), (_, rows) in zip(pairwise(times), ends, strict=True)]


def _of_raw(path: Path, text: str) -> Targets:
    targets: Targets = {}
    times = {"monitoring_start": 0, "monitoring_end": 0}
    current: list[tuple[int, int]] = []
    missing = 0
    for line in (line.strip() for line in text.splitlines()):
        region, field = RAW_REGION.match(line), RAW_FIELD.match(line)
        if region is not None and missing:
            missing -= 1
            if int(region["accesses"]):
                current.append(_row(path, int(region["start"], 16), int(region["end"], 16)))
        elif missing:
            raise LogError(path, f"{missing} regions are missing before {line[:120]!r}")
        elif field is None:
            if line:
                raise LogError(path, f"a line that no raw report has: {line[:120]!r}")
        elif field["name"] in times:
            times[field["name"]] = _time(path, field["value"])
        elif field["name"] == "target_id":
            current = []
            target = integer(path, field["value"], "a target_id")
            snapshot = (times["monitoring_start"], times["monitoring_end"], current)
            targets.setdefault(target, []).append(snapshot)
        elif field["name"] == "nr_regions":
            missing = integer(path, field["value"], "nr_regions")
    if missing:
        raise LogError(path, f"it is cut off: {missing} regions are missing at the end")
    return targets


def _time(path: Path, text: str) -> int:
    """Nanoseconds of a time like '8 m 59.809 s'."""
    words = text.split()
    try:
        pairs = zip(words[::2], words[1::2], strict=True)
        return sum(round(float(number) * UNITS[unit]) for number, unit in pairs)
    except (ValueError, KeyError, OverflowError):
        raise LogError(path, f"{text[:120]!r} is no time") from None


def _row(path: Path, start: int, end: int) -> tuple[int, int]:
    if not 0 <= start < end <= 2**64:
        raise LogError(path, f"a region from {start:#x} to {end:#x}")
    return start, end - start
