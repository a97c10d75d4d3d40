"""The best idioms known for each question, in bitarray, NumPy and pyroaring.

Where several were known they are all here, and the bench takes the fastest of each tool. Positions
are numbers of bits; what a tool returns is what is natural in it, and rows(), made of that, is what
is compared.
"""

from __future__ import annotations

from importlib.metadata import PackageNotFoundError, version
from typing import TYPE_CHECKING, Any

import numpy as np

from .patterns import BASE, PAGE

try:
    import bitarray
    import bitarray.util
except ImportError:
    bitarray = None

try:
    import pyroaring
except ImportError:
    pyroaring = None

if TYPE_CHECKING:
    from numpy.typing import NDArray

    Words = NDArray[np.uint64]

ONE, SIX, LOW = np.uint64(1), np.uint64(6), np.uint64(63)
BLOCK = 4096  # words that NumPy works on at once, so that what is in between stays in cache


def versions() -> dict[str, str]:
    found = {}
    for name in ("iovabitmap", "numpy", "bitarray", "pyroaring"):
        try:
            found[name] = version(name)
        except PackageNotFoundError:
            found[name] = "not installed"
    return found


def rows(edges: Any) -> NDArray[np.uint64]:
    """Rows (iova, length) of edges: start, end, start, end, ..."""
    pairs = np.asarray(edges, np.uint64).reshape(-1, 2)
    return np.stack(
        [
            np.uint64(BASE) + pairs[:, 0] * np.uint64(PAGE),
            (pairs[:, 1] - pairs[:, 0]) * np.uint64(PAGE),
        ],
        axis=1,
    )


def bits_of(words: Words) -> NDArray[np.intp]:
    """Positions of the ones."""
    return np.flatnonzero(np.unpackbits(words.view(np.uint8), bitorder="little"))


# --- NumPy --------------------------------------------------------------------------------------


def numpy_count(words: Words) -> int:
    return int(np.bitwise_count(words).sum())


def numpy_count_blocks(words: Words) -> int:
    """uint64 sums of bytes, a block at a time."""
    count, out = 0, np.empty(BLOCK, np.uint8)
    for i in range(0, words.size, BLOCK):
        part = words[i : i + BLOCK]
        count += int(np.add.reduce(np.bitwise_count(part, out=out[: part.size]), dtype=np.uint32))
    return count


def numpy_count_and_blocks(a: Words, b: Words) -> int:
    count, both, ones = 0, np.empty(BLOCK, np.uint64), np.empty(BLOCK, np.uint8)
    for i in range(0, a.size, BLOCK):
        n = min(BLOCK, a.size - i)
        np.bitwise_and(a[i : i + n], b[i : i + n], out=both[:n])
        count += int(np.add.reduce(np.bitwise_count(both[:n], out=ones[:n]), dtype=np.uint32))
    return count


def numpy_diff(new: Words, old: Words) -> tuple[int, int, int]:
    common = numpy_count_and_blocks(new, old)
    return (numpy_count_blocks(new) - common, numpy_count_blocks(old) - common, common)


def _closed(edges: NDArray[Any], nbits: int) -> NDArray[Any]:
    """With the end of a run that lasts to the end of the bitmap."""
    return np.append(edges, edges.dtype.type(nbits)) if edges.size % 2 else edges


def numpy_ranges_unpack(words: Words) -> NDArray[Any]:
    """One byte a bit, and where neighbours differ."""
    bits = np.unpackbits(words.view(np.uint8), bitorder="little").view(bool)
    edges = np.flatnonzero(bits[1:] != bits[:-1]) + 1
    if bits[0]:
        edges = np.insert(edges, 0, 0)
    return _closed(edges, bits.size)


def numpy_ranges_words(words: Words) -> NDArray[Any]:
    """The words that hold edges, and only these unpacked."""
    edges = words << ONE
    edges[1:] |= words[:-1] >> LOW
    edges ^= words
    holding = np.flatnonzero(edges)
    bits = np.flatnonzero(np.unpackbits(edges[holding].view(np.uint8), bitorder="little"))
    return _closed((holding[bits >> 6] << 6) + (bits & 63), words.size * 64)


def numpy_ranges_blocks(words: Words) -> NDArray[Any]:
    """The same by blocks; those without a one or without a zero are not looked into."""
    size = 4 * BLOCK
    shifted, found, carry = np.empty(size, np.uint64), [], np.uint64(0)
    for i in range(0, words.size, size):
        part = words[i : i + size]
        edges = np.left_shift(part, ONE, out=shifted[: part.size])
        edges[1:] |= part[:-1] >> LOW
        edges[0] |= carry
        edges ^= part
        carry = part[-1] >> LOW
        holding = np.flatnonzero(edges)
        if holding.size:
            bits = np.flatnonzero(np.unpackbits(edges[holding].view(np.uint8), bitorder="little"))
            found.append((holding[bits >> 6] << 6) + (bits & 63) + i * 64)
    edges = np.concatenate(found) if found else np.empty(0, np.intp)
    return _closed(edges, words.size * 64)


def numpy_set_short_ranges(words: Words, starts: Words, lengths: Words) -> None:
    """For ranges of at most 64 pages, which touch at most two words."""
    index, shift = starts >> SIX, starts & LOW
    mask = np.uint64(0xFFFF_FFFF_FFFF_FFFF) >> (np.uint64(64) - lengths)
    np.bitwise_or.at(words, index, mask << shift)
    # A shift by 64 is no shift, so the part in the next word is shifted in two steps.
    rest = (mask >> ONE) >> (LOW - shift)
    over = np.flatnonzero(rest)
    np.bitwise_or.at(words, index[over] + ONE, rest[over])


def numpy_set_ranges_delta(words: Words, starts: Words, lengths: Words) -> None:
    """For any ranges: where depth of cover is above zero."""
    delta = np.zeros(words.size * 64 + 1, np.int8)
    np.add.at(delta, starts, 1)
    np.subtract.at(delta, starts + lengths, 1)
    depth = np.cumsum(delta[:-1], dtype=np.int8, out=delta[:-1])
    words |= np.packbits(depth != 0, bitorder="little").view(np.uint64)


def numpy_set_pages(words: Words, iovas: Words) -> None:
    bits = (iovas - np.uint64(BASE)) >> np.uint64(12)
    np.bitwise_or.at(words, bits >> SIX, ONE << (bits & LOW))


def numpy_histogram(words: Words, bins: int) -> NDArray[np.int64]:
    ones = np.bitwise_count(words).reshape(bins, -1)
    return ones.sum(axis=1, dtype=np.int64)


def numpy_mask(words: Words) -> NDArray[np.bool_]:
    return np.unpackbits(words.view(np.uint8), bitorder="little").view(bool)


# --- bitarray -----------------------------------------------------------------------------------


def as_bitarray(words: Words) -> Any:
    """The same memory."""
    return bitarray.bitarray(buffer=words.view(np.uint8), endian="little")


def bitarray_ranges_find(bits: Any) -> list[tuple[int, int]]:
    """The loop of bitarray's own examples: the next one, the next zero."""
    found, end, find = [], 0, bits.find
    while (start := find(1, end)) >= 0:
        end = find(0, start)
        if end < 0:
            end = len(bits)
        found.append((start, end))
    return found


def bitarray_ranges_intervals(bits: Any) -> list[tuple[int, int]]:
    return [(start, stop) for value, start, stop in bitarray.util.intervals(bits) if value]


def bitarray_ranges_edges(bits: Any) -> NDArray[np.int64]:
    """All edges by one shift and one exclusive or, then found in a loop of C."""
    edges = bits >> 1
    edges ^= bits
    found = np.fromiter(edges.search(1), np.int64, edges.count())
    return _closed(found, len(bits))


def bitarray_set_slices(bits: Any, slices: list[tuple[int, int]], value: int = 1) -> None:
    for start, stop in slices:
        bits[start:stop] = value


def bitarray_set_bits(bits: Any, indices: list[int]) -> None:
    for i in indices:
        bits[i] = 1


def bitarray_set_indices(bits: Any, indices: list[int]) -> None:
    bits[indices] = 1


BITARRAY_SET_BITS = {
    "bitarray loop: item assignment": bitarray_set_bits,
    "bitarray: list of indices": bitarray_set_indices,
}


def bitarray_diff(new: Any, old: Any) -> tuple[int, int, int]:
    common = bitarray.util.count_and(new, old)
    return (new.count() - common, old.count() - common, common)


# --- pyroaring ----------------------------------------------------------------------------------


def as_roaring(words: Words) -> Any:
    """A copy, compressed: another structure altogether, without the memory that others mark."""
    made = pyroaring.BitMap(bits_of(words).astype(np.uint32))
    made.run_optimize()
    return made


def roaring_pages(bits: Any) -> NDArray[np.uint32]:
    return np.frombuffer(bits.to_array(), np.uint32)


def roaring_words(bits: Any, nbytes: int) -> Words:
    """The bitmap that these positions make."""
    mask = np.zeros(nbytes * 8, np.uint8)
    mask[roaring_pages(bits)] = 1
    return np.packbits(mask, bitorder="little").view(np.uint64)


def roaring_ranges(bits: Any) -> NDArray[np.uint32]:
    """The end of a run that lasts to the end of the bitmap is the position behind it."""
    return roaring_pages(bits ^ bits.shift(1))


def roaring_set_ranges(bits: Any, slices: list[tuple[int, int]]) -> None:
    for start, stop in slices:
        bits.add_range(start, stop)


def roaring_diff(new: Any, old: Any) -> tuple[int, int, int]:
    common = new.intersection_cardinality(old)
    return (len(new) - common, len(old) - common, common)
