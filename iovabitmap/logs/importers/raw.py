"""Raw bitmaps as KVM_GET_DIRTY_LOG, VFIO and iommufd fill them, and as `Epoch.to_raw` writes them.

Bit n is bit n % 64 of the little-endian 64-bit word n // 64, and stands for the page at
iova + n * page_size. A file has no header: how much it covers is its size, or the length given. It
is as long as the bits need, in bytes or in whole words; bits behind the last page are 0.
"""

from __future__ import annotations

from typing import TYPE_CHECKING

from ..._core import alloc, nbytes_for
from ..errors import LogError, blaming
from ._common import Found, Imported, Options, Rows

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path


def load(paths: list[Path], options: Options) -> Imported:
    """One epoch for each file."""
    iova = options.iova or 0
    size = paths[0].stat().st_size
    if size == 0:
        raise LogError(paths[0], "an empty file is no bitmap")
    length = options.length
    if length is None:
        length = min(size * 8 * options.page_size, 2**64 - iova)

    def epochs() -> Iterator[Found]:
        for n, path in enumerate(paths):
            rows = _read(path, iova, length, options.page_size)
            yield Found(path, rows, *options.times(n))

    return Imported("raw bitmap", iova, length, epochs())


def _read(path: Path, iova: int, length: int, page_size: int) -> Rows:
    needed = nbytes_for(length, page_size)
    words = -(-needed // 8) * 8
    size = path.stat().st_size
    if size not in (needed, words):
        problem = f"{size} bytes; a bitmap of {length} bytes of addresses has {needed}"
        raise LogError(path, f"{problem}, or {words} in whole words")
    with path.open("rb") as file:
        data = bytearray(file.read(words + 1))
    with blaming(path, "it cannot be read as a bitmap"):
        bm = alloc(iova, length, page_size, data)
    if any(data[needed:]) or data[needed - 1] >> ((bm.nbits - 1) % 8 + 1):
        raise LogError(path, f"bits are set behind the last of its {bm.nbits} pages")
    rows: Rows = bm.ranges()
    return rows
