"""Bitmaps to ask about: sizes, densities, runs, and the memory they lie in."""

from __future__ import annotations

import mmap
from dataclasses import dataclass
from functools import cache, partial
from typing import TYPE_CHECKING

import numpy as np

if TYPE_CHECKING:
    from collections.abc import Callable

    from numpy.typing import NDArray

PAGE = 4096
PGSHIFT = 12
BASE = 1 << 32  # iova of bit 0

KIB, MIB = 1 << 10, 1 << 20
SMALL, MIDDLE, LARGE = 256 * KIB, 16 * MIB, 384 * MIB
DENSITIES = (0.0, 0.0001, 0.001, 0.01, 0.05, 0.5, 1.0)
RUNS = (16, 64)
SEED = 20_240


@dataclass(frozen=True)
class Pattern:
    """Which pages are dirty: a share of them, single ones at random or in runs of `run` pages."""

    density: float
    run: int = 1

    def __str__(self) -> str:
        if self.density in {0.0, 1.0}:
            return "all" if self.density else "0 %"
        what = "random" if self.run == 1 else f"runs of {self.run}"
        return f"{self.density * 100:g} % {what}"


RANDOM = [Pattern(density) for density in DENSITIES]
ALL_PATTERNS = RANDOM + [
    Pattern(density, run) for run in RUNS for density in DENSITIES if 0 < density < 1
]


def size_name(nbytes: int) -> str:
    return f"{nbytes // MIB} MiB" if nbytes >= MIB else f"{nbytes // KIB} KiB"


def length_of(nbytes: int) -> int:
    """Bytes of IOVA that a bitmap of `nbytes` stands for."""
    return nbytes * 8 * PAGE


def untouched(nbytes: int) -> NDArray[np.uint64]:
    """Private memory that begins at a page, in huge pages where the system gives them."""
    memory = mmap.mmap(-1, nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    if hasattr(mmap, "MADV_HUGEPAGE"):
        memory.madvise(mmap.MADV_HUGEPAGE)
    return np.frombuffer(memory, np.uint64)


def area(nbytes: int) -> NDArray[np.uint64]:
    """The same, zeroed, so that it is there."""
    array = untouched(nbytes)
    array[:] = 0
    return array


@cache
def _block(pattern: Pattern, nbytes: int) -> NDArray[np.uint64]:
    nbits = nbytes * 8
    rng = np.random.default_rng([SEED, round(pattern.density * 1e6), pattern.run])
    if pattern.density == 0.5 and pattern.run == 1:
        return rng.integers(0, 1 << 64, nbytes // 8, np.uint64)
    mask = np.zeros(nbits, bool)
    if pattern.density == 1:
        mask[:] = True
    elif pattern.run == 1 and pattern.density > 0:
        mask[rng.integers(0, nbits, round(nbits * pattern.density))] = True
    elif pattern.density > 0:
        gap = pattern.run * (1 - pattern.density) / pattern.density
        gaps = rng.geometric(1 / max(gap, 1), int(nbits / (gap + pattern.run)) + 1)
        starts = np.cumsum(gaps + pattern.run) - pattern.run
        starts = starts[starts < nbits - pattern.run]
        for i in range(pattern.run):
            mask[starts + i] = True
    return np.packbits(mask, bitorder="little").view(np.uint64)


def words(pattern: Pattern, nbytes: int) -> NDArray[np.uint64]:
    """The bitmap of a pattern. Beyond MIDDLE, one block of that size is repeated."""
    array = area(nbytes)
    fill(array, pattern)
    return array


def fill(array: NDArray[np.uint64], pattern: Pattern) -> None:
    """Writes a pattern, or the beginning of it, over a whole bitmap."""
    block = _block(pattern, min(MIDDLE, array.nbytes))
    for start in range(0, array.size, block.size):
        array[start : start + block.size] = block[: array.size - start]


def random_ranges(nbytes: int, n: int, longest: int = 64) -> NDArray[np.uint64]:
    """n rows (iova, length) of 1 to `longest` pages, anywhere in a bitmap of `nbytes`."""
    rng = np.random.default_rng([SEED, nbytes, n])
    lengths = rng.integers(1, longest, n, np.uint64, endpoint=True)
    starts = rng.integers(0, nbytes * 8 - longest, n, np.uint64, endpoint=True)
    return np.ascontiguousarray(
        np.stack([np.uint64(BASE) + starts * np.uint64(PAGE), lengths * np.uint64(PAGE)], axis=1)
    )


def slices_of(ranges: NDArray[np.uint64]) -> list[tuple[int, int]]:
    """Rows as bits from, to."""
    starts = (ranges[:, 0] - np.uint64(BASE)) // np.uint64(PAGE)
    stops = starts + ranges[:, 1] // np.uint64(PAGE)
    return list(zip(starts.tolist(), stops.tolist(), strict=True))


def content_of(array: NDArray[np.uint64]) -> Callable[[object], NDArray[np.uint64]]:
    """An answer: what an operation left in the bitmap."""
    return lambda _: array.copy()


def clearing(array: NDArray[np.uint64]) -> Callable[[], None]:
    return partial(array.fill, 0)
