"""iovabitmap diff A B: pages dirty in one log and not in the other."""

from __future__ import annotations

from pathlib import Path

import click
import numpy as np

from iovabitmap._base.geometry import Geometry, geometry_of
from iovabitmap._base.text import show_bytes
from iovabitmap._core import IOVABitmap
from iovabitmap.logs import DirtyLog

from .._output import console, json_option, print_json, warn, written
from .._types import epochs as window

DIFFERENT = 1
EMPTY = np.empty((0, 2), np.uint64)


@click.command(short_help="Pages dirty in one log and not in the other.")
@click.argument("a", type=click.Path(path_type=Path))
@click.argument("b", type=click.Path(path_type=Path))
@click.option("--epochs", type=window, default=":", help="Of both logs, as a slice: 3:7, -10:")
@click.option("--limit", type=click.IntRange(0), default=10, help="Ranges to list on each side.")
@json_option
def command(a: Path, b: Path, epochs: slice, limit: int, as_json: bool) -> int:
    """Compares which pages were ever dirty in logs A and B.

    Ends with 0 where they are the same, with 1 where they differ, as diff does. The logs need the
    same page size; where their ranges of addresses differ, both are compared.
    """
    with DirtyLog.open(a) as log_a, DirtyLog.open(b) as log_b:
        for log in (log_a, log_b):
            if log.unfinished:
                warn(f"{log.path}: {log.unfinished}")
        geometry = common_geometry(log_a, log_b)
        union_a, union_b = (union(log, epochs, geometry) for log in (log_a, log_b))
    found = union_a.diff(union_b)
    counts = {"only_a": found.appeared, "only_b": found.disappeared, "both": found.common}
    ranges = {"only_a": found.appeared_ranges, "only_b": found.disappeared_ranges}
    page_size = geometry.page_size
    if as_json:
        listed = {f"{side}_ranges": get()[:limit].tolist() for side, get in ranges.items()}
        print_json({"a": str(a), "b": str(b), "page_size": page_size, **counts, **listed})
    else:
        screen = console()
        titles = {"only_a": f"only in {a}", "only_b": f"only in {b}", "both": "in both"}
        for side, title in titles.items():
            size = show_bytes(counts[side] * page_size)
            screen.print(written(f"{counts[side]:>12,} pages {title}, {size}"))
            rows = ranges[side]() if side in ranges else EMPTY
            for iova, length in rows[:limit]:
                screen.print(f"             {iova:#x} + {length:#x}")
            if len(rows) > limit:
                screen.print(f"             and {len(rows) - limit:,} ranges more")
    return DIFFERENT if found.appeared or found.disappeared else 0


def common_geometry(a: DirtyLog, b: DirtyLog) -> Geometry:
    """That of a bitmap that both logs fit in, page by page."""
    if a.page_size != b.page_size:
        raise ValueError(f"pages of {a.page_size} bytes in {a.path}, of {b.page_size} in {b.path}")
    if (a.iova - b.iova) % a.page_size:
        raise ValueError(f"{a.path} and {b.path} do not begin their pages at the same addresses")
    iova = min(a.iova, b.iova)
    return Geometry(iova, max(a.geometry.end, b.geometry.end) - iova, a.page_size)


def union(log: DirtyLog, epochs: slice, geometry: Geometry) -> IOVABitmap:
    """What was dirty in those epochs, in the common geometry."""
    found = log[epochs].union()
    if geometry_of(found) == geometry:
        return found
    wider = IOVABitmap(*geometry)
    wider.merge(found)
    return wider
