"""Firecracker's diff snapshots: sparse files as large as the guest's memory.

What is data in the file was dirty since the snapshot before, also where it is all zeros; what is a
hole was clean. The file holds the guest's memory regions one after the other: with more than 3 GiB
on x86-64 there are two, and the second begins at 4 GiB of guest-physical addresses; `regions` says
so. File systems keep blocks, often of 4 KiB: what they allocated beside a page is data too.
"""

from __future__ import annotations

import errno
import os
from typing import TYPE_CHECKING

from ..errors import LogError
from ._common import Found, Imported, Options, rows_array

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

Extents = list[tuple[int, int]]


def load(paths: list[Path], options: Options) -> Imported:
    """One epoch for each file."""
    size = paths[0].stat().st_size
    if size == 0:
        raise LogError(paths[0], "an empty file is no guest's memory")
    regions = options.regions or ((options.iova or 0, size),)
    low = min(start for start, _ in regions)
    high = max(start + length for start, length in regions)
    iova = low if options.iova is None else options.iova
    length = high - iova if options.length is None else options.length

    def epochs() -> Iterator[Found]:
        for n, path in enumerate(paths):
            rows = rows_array(path, place(path, data_extents(path), regions))
            yield Found(path, rows, *options.times(n))

    return Imported("Firecracker diff snapshot", iova, length, epochs())


def data_extents(path: Path) -> Extents:
    """(offset, length) of what is no hole, ascending."""
    if not hasattr(os, "SEEK_DATA"):
        raise LogError(path, "this system does not tell where a file has holes")
    found: Extents = []
    with path.open("rb") as file:
        at = 0
        while True:
            try:
                start = os.lseek(file.fileno(), at, os.SEEK_DATA)
            except OSError as error:
                if error.errno == errno.ENXIO:  # nothing but a hole from here on
                    return found
                raise
            at = os.lseek(file.fileno(), start, os.SEEK_HOLE)
            found.append((start, at - start))


def place(path: Path, extents: Extents, regions: tuple[tuple[int, int], ...]) -> Extents:
    """Where these parts of the file belong among the addresses."""
    total = sum(length for _, length in regions)
    size = path.stat().st_size
    if size != total:
        raise LogError(path, f"{size} bytes, and its memory regions have {total}")
    placed = []
    offset = 0  # of the region in the file
    for iova, length in regions:
        for start, n in extents:
            first, last = max(start, offset), min(start + n, offset + length)
            if first < last:
                placed.append((iova + first - offset, last - first))
        offset += length
    return placed
