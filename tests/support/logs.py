"""Shared by the tests of logs: epochs of known content, and logs made of them.

What an epoch should hold is kept as a plain set of page numbers, and compared with rows worked out
from that set here, so that no answer of the engine is its own proof.
"""

from __future__ import annotations

import os
import random
import sys
from pathlib import Path

import pytest

import iovabitmap as ib

PAGE = 4096

# The sanitizer's allocator keeps what was freed for a while, and reserves terabytes.
measures_memory = pytest.mark.skipif(
    "asan" in os.environ.get("LD_PRELOAD", "") or sys.platform == "win32",
    reason="memory cannot be measured: under AddressSanitizer, or not as POSIX does",
)
Pages = set[int]


def needs(*modules: str) -> None:
    """Skips the calling test file where one of the libraries is missing."""
    for module in modules:
        pytest.importorskip(module, reason=f"{module} is not installed", exc_type=ImportError)


def rows_of(pages: Pages, geometry: tuple[int, int, int]) -> list[list[int]]:
    """The maximal runs of these pages as [iova, length], cut to the geometry's end."""
    base, total, page = geometry
    rows: list[list[int]] = []
    for number in sorted(pages):
        start = base + number * page
        size = min(page, base + total - start)
        if rows and rows[-1][0] + rows[-1][1] == start:
            rows[-1][1] += size
        else:
            rows.append([start, size])
    return rows


def bitmap_of(pages: Pages, geometry: tuple[int, int, int]) -> ib.IOVABitmap:
    bm = ib.IOVABitmap(*geometry)
    bm.set_pages([geometry[0] + number * geometry[2] for number in sorted(pages)])
    return bm


def random_epochs(rng: random.Random, geometry: tuple[int, int, int], count: int) -> list[Pages]:
    """Epochs of all densities, about one in five of them clean."""
    _, total, page = geometry
    nbits = (total - 1) // page + 1
    epochs = []
    for _ in range(count):
        density = rng.choice((0, 1 / nbits, 0.05, 0.5, 1))
        epochs.append({n for n in range(nbits) if rng.random() < density})
    return epochs


def times_of(epoch: int) -> tuple[int, int]:
    """Start and end of an epoch: every one has its own, and they touch."""
    return 10**12 + epoch * 10**8, 10**12 + (epoch + 1) * 10**8


def fill(log: ib.LogWriter, epochs: list[Pages], geometry: tuple[int, int, int]) -> None:
    for n, pages in enumerate(epochs):
        log.append(bitmap_of(pages, geometry), *times_of(n))


def make_log(
    path: Path, epochs: list[Pages], geometry: tuple[int, int, int], *, close: bool = True
) -> None:
    """A finished log, or the journal that a kill would have left."""
    log = ib.LogWriter(
        path, ib.Geometry(*geometry), source="test", host="here", command=["a", "b c"]
    )
    fill(log, epochs, geometry)
    if close:
        log.close()
    else:
        log.abort()


def assert_holds(log: ib.DirtyLog, epochs: list[Pages], geometry: tuple[int, int, int]) -> None:
    """All that can be asked of the log is what the epochs say."""
    assert len(log) == len(epochs)
    for n, (epoch, pages) in enumerate(zip(log, epochs, strict=True)):
        assert (epoch.index, epoch.t_start_ns, epoch.t_end_ns) == (n, *times_of(n))
        assert epoch.ranges().tolist() == rows_of(pages, geometry), n
        assert epoch.count() == len(pages)


def content_of(path: Path) -> list:
    """All that a log says, as plain values, to compare with."""
    with ib.DirtyLog.open(path) as log:
        about = [log.iova, log.length, log.page_size, log.granularity, log.source, log.host]
        about += [log.command, log.started, log.notes]
        return about + [
            (epoch.t_start_ns, epoch.t_end_ns, epoch.ranges().tolist()) for epoch in log
        ]
