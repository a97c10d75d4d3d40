"""A log as a guest of a large host would leave it: hot pages, sweeps, and random writes.

Epochs of 100 ms of a guest of 64 GiB, by default 36,000 of them (one hour) with 2,500 rows each, 90
million in all. Rows are written straight into the file, without the journal of a recording.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import numpy as np

import iovabitmap as ib
from iovabitmap.logs.storage import parquet
from iovabitmap.logs.storage.blocks import Block

BASE, PAGE = 0x1_0000_0000, 4096
GUEST_BYTES = 64 << 30
EPOCH_NS = 10**8
TOGETHER = 64  # epochs made at once

HOT, SWEPT, RANDOM = 0.5, 0.1, 0.4  # parts of the rows
HOT_PART = 1 / 64  # of memory
SWEEP_PAGES = 16  # of a row of a sweep, which leaves a page out behind each


def make(path: Path, *, epochs: int = 36_000, rows: int = 2_500, seed: int = 1) -> Path:
    """Writes a log of so many epochs with about so many rows each."""
    meta = _meta(path)
    parquet.write(path, meta, _blocks(epochs, rows, np.random.default_rng(seed)))
    return path


def _meta(path: Path) -> object:
    empty = path.with_name(path.name + ".empty")
    notes = {"memory": {"resident_bytes": GUEST_BYTES}}
    geometry = ib.Geometry(BASE, GUEST_BYTES, PAGE)
    ib.LogWriter(empty, geometry, source="made for benchmarks", notes=notes).close()
    with ib.DirtyLog.open(empty) as log:
        meta = log._meta
    empty.unlink()
    return meta


def _blocks(epochs: int, rows: int, rng: np.random.Generator) -> Iterator[Block]:
    npages = GUEST_BYTES // PAGE
    hot = np.sort(rng.choice(npages, int(npages * HOT_PART), replace=False))
    for start in range(0, epochs, TOGETHER):
        numbers = np.arange(start, min(start + TOGETHER, epochs))
        made = [_epoch(int(number), rows, hot, npages, rng) for number in numbers]
        epoch = np.repeat(numbers, [len(first) for first, _ in made])
        first, pages = (np.concatenate(column) for column in zip(*made, strict=True))
        page = np.uint64(PAGE)
        yield Block(
            epoch,
            epoch * EPOCH_NS,
            (epoch + 1) * EPOCH_NS,
            np.uint64(BASE) + first.astype(np.uint64) * page,
            pages.astype(np.uint64) * page,
        )


def _epoch(
    number: int, rows: int, hot: np.ndarray, npages: int, rng: np.random.Generator
) -> tuple[np.ndarray, np.ndarray]:
    """The first pages and lengths in pages of the rows of an epoch, ascending and apart."""
    # Of the hot pages the first are the hottest.
    ranks = (len(hot) * rng.random(int(rows * HOT)) ** 3).astype(np.int64)
    swept = int(rows * SWEPT)
    sweep = (number * swept + np.arange(swept)) * (SWEEP_PAGES + 1) % (npages - SWEEP_PAGES)
    anywhere = rng.integers(npages - 8, size=int(rows * RANDOM))
    first = np.concatenate((hot[ranks], sweep, anywhere))
    pages = np.concatenate(
        (
            np.ones(len(ranks), np.int64),
            np.full(swept, SWEEP_PAGES),
            rng.geometric(0.5, len(anywhere)).clip(1, 8),
        )
    )
    order = np.argsort(first, kind="stable")
    first, pages = first[order], pages[order]
    reached = np.maximum.accumulate(first + pages)
    apart = np.append(True, first[1:] > reached[:-1])
    begins = np.flatnonzero(apart)
    ends = reached[np.append(begins[1:], len(first)) - 1]
    return first[begins], ends - first[begins]
