"""A log of 100,000 epochs in which single pages are known, made within a second: its rows are
written as one file, without the journal that a recording would have kept."""

from __future__ import annotations

from pathlib import Path

import numpy as np

import iovabitmap as ib
from iovabitmap.logs.storage import parquet
from iovabitmap.logs.storage.blocks import Block

EPOCHS = 100_000
PAGE = 4096
BASE = 0x7F00_0000_1000
SWEEP_PAGES, SWEPT = 256_000, 256  # in each epoch the next 256 of those
LONELY = BASE + (1 << 39)  # here pages are alone, but for the first epoch
LONELY_PAGES = 4096
ALONE = [(54_321, 2000), (54_323, 2001), (54_323, 2003), (99_999, 4095)]  # epochs, pages
TENTH = 10**8  # nanoseconds of an epoch


def make(path: Path) -> Path:
    """Writes it."""
    number = np.arange(EPOCHS, dtype=np.int64)
    sweep = np.column_stack((number, number * SWEPT % SWEEP_PAGES, np.full(EPOCHS, SWEPT)))
    offset = (LONELY - BASE) // PAGE
    alone = [(epoch, offset + page, 1) for epoch, page in ALONE]
    rows = np.concatenate((sweep, [(0, offset, LONELY_PAGES)], alone))
    rows = rows[np.lexsort((rows[:, 1], rows[:, 0]))]
    epoch, first, count = rows.T
    block = Block(
        epoch,
        epoch * TENTH,
        (epoch + 1) * TENTH,
        BASE + first.astype(np.uint64) * PAGE,
        count.astype(np.uint64) * PAGE,
    )
    with ib.LogWriter(
        path.with_name("empty"), ib.Geometry(BASE, 1 << 40, PAGE), source="long"
    ) as empty:
        parquet.write(path, empty._journal.meta, [block])
    return path
