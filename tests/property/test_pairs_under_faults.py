"""Two bitmaps at random whose memory cannot all be had: the engine against the model.

Some host pages of either bitmap can never be pinned. Whatever is done with the two then, both
implementations answer the same, or fail with the same attributes, and leave the same bytes behind.
"""

from __future__ import annotations

import operator
import random
from functools import partial

import numpy as np
import pytest

import iovabitmap as ib
from iovabitmap.model import ModelBitmap
from support.driver import outcome, plain
from support.expected import TOP
from support.long import seeds
from support.memory import HOST_PAGE, Arena
from support.pins import FaultyPin

CASES = 25  # for each seed
MOST_BITS = 3 * HOST_PAGE * 8
MOST_BATCHES = 12  # a failing one is asked for again
DENSITIES = (0, 0.0003, 0.03, 0.5, 1)


def visited(bm) -> list[tuple[int, int]]:
    calls: list = []
    bm.for_each(lambda bm, iova, length, calls: calls.append((iova, length)), calls, by_window=True)
    return calls


def batches(bm, part, batch) -> list:
    """What a few calls of next() give, or raise."""
    found = bm.iter_ranges(*part, batch=batch)
    return [outcome(lambda: next(found, None))[0] for _ in range(MOST_BATCHES)]


def changed(operation, a, b) -> None:
    assert operation(a, b) is a


def made(operation, a, b) -> str:
    return operation(a, b).to_text()


# Of any two bitmaps, of which the second covers the first; the part is of the first.
ANY_TWO = {
    "into": lambda a, b, part: a.read_and_clear(*part, into=b),
    "into, all": lambda a, b, part: a.read_and_clear(into=b),
    "merge": lambda a, b, part: b.merge(a),
    "merge of more": lambda a, b, part: a.merge(b),
    "rescale": lambda a, b, part: made(type(a).rescale, a, b.page_size),
}
SAME = {
    "==": lambda a, b, part: a == b,
    "diff": lambda a, b, part: repr(a.diff(b)).removeprefix("Model"),
    "appeared": lambda a, b, part: plain(a.diff(b).appeared_ranges()),
    "disappeared": lambda a, b, part: plain(a.diff(b).disappeared_ranges()),
    "count_and": lambda a, b, part: a.count_and(b),
    "count_xor": lambda a, b, part: a.count_xor(b),
}
for each in (operator.and_, operator.or_, operator.xor, operator.sub):
    SAME[each.__name__] = lambda a, b, part, each=each: made(each, a, b)
for each in (operator.iand, operator.ior, operator.ixor, operator.isub):
    SAME[each.__name__] = lambda a, b, part, each=each: changed(each, a, b)
ONE = {
    "set": lambda a, b, part: a.set(*part),
    "clear": lambda a, b, part: a.clear(*part),
    "test_and_set": lambda a, b, part: a.test_and_set(*part),
    "reset": lambda a, b, part: a.reset(),
    "read_and_clear": lambda a, b, part: a.read_and_clear(*part),
    "any": lambda a, b, part: a.any(*part),
    "all": lambda a, b, part: a.all(*part),
    "count": lambda a, b, part: a.count(*part),
    "count_ranges": lambda a, b, part: a.count_ranges(*part),
    "ranges": lambda a, b, part: a.ranges(*part),
    "iter_ranges": lambda a, b, part: batches(a, part, 1 + part[1] % 5),
    "find_clean": lambda a, b, part: a.find_clean(part[0]),
    "pages": lambda a, b, part: a.pages(*part),
    "copy": lambda a, b, part: a.copy().to_text(),
    "for_each": lambda a, b, part: visited(a),
}
OPERATIONS = ANY_TWO | SAME | ONE


def geometries(rng: random.Random, name: str) -> list[tuple[int, int, int]]:
    """(iova, length, page_size) of the two."""
    shift = rng.choice((0, 0, 1, 4, 12))
    nbits = rng.choice((rng.randint(1, 300), rng.randint(1, MOST_BITS), rng.randint(1, MOST_BITS)))
    length = nbits * (1 << shift) - rng.randrange(1 << shift)
    shift_there = max(shift + rng.randint(-5, 5), 0)
    below, above = (rng.choice((0, rng.randint(0, 1000 << shift_there))) for _ in range(2))
    if name in SAME or below + length + above > MOST_BITS << shift_there:
        below, above, shift_there = 0, 0, shift
    total = below + length + above
    base = rng.choice((0, 12345, TOP - total))
    return [(base + below, length, 1 << shift), (base, total, 1 << shift_there)]


class Side:
    """One of the two, of the engine and of the model: over the same bytes, with the same faults."""

    def __init__(self, rng: random.Random, geometry: tuple[int, int, int]) -> None:
        nbytes = ib.nbytes_for(*geometry[1:])
        pgoff = rng.choice((0, 1, HOST_PAGE - 6, rng.randrange(HOST_PAGE)))
        seed = rng.randrange(1 << 32)
        self.arenas = [Arena(nbytes, pgoff, seed=seed) for _ in range(2)]
        bits = np.random.default_rng(seed).random(8 * nbytes) < rng.choice(DENSITIES)
        npages = (pgoff + nbytes - 1) // HOST_PAGE + 1
        bad = [rng.randrange(npages) for _ in range(rng.choice((0, 1, 1, 2)))]
        window_pages = rng.choice((1, 1, 2, None))
        self.bitmaps = []
        for arena, kind in zip(self.arenas, (ib.IOVABitmap, ModelBitmap), strict=True):
            arena.data[:] = np.packbits(bits, bitorder="little")
            pin = FaultyPin(bad=[arena.address - pgoff + page * HOST_PAGE for page in bad])
            self.bitmaps.append(kind(*geometry, arena.data, window_pages=window_pages, pin=pin))

    def check(self) -> None:
        engine, model = self.arenas
        assert np.array_equal(engine.data, model.data)
        for arena, bm in zip(self.arenas, self.bitmaps, strict=True):
            arena.assert_guards()
            bm.validate()
        assert self.bitmaps[0].window == self.bitmaps[1].window
        for bm in self.bitmaps:
            bm.free()
            bm.pin.assert_balanced()


@pytest.mark.parametrize("seed", seeds(24))
def test_faults_in_both(seed):
    rng = random.Random(f"pairs under faults {seed}")
    for _ in range(CASES):
        name = rng.choice(list(rng.choice((ANY_TWO, ANY_TWO, SAME, ONE))))
        here, there = geometries(rng, name)
        first = here[0] + rng.randrange(here[1])
        part = first, rng.randint(1, here[0] + here[1] - first)
        a, b = Side(rng, here), Side(rng, there)
        said = []
        for pair in zip(a.bitmaps, b.bitmaps, strict=True):
            result, error = outcome(partial(OPERATIONS[name], *pair, part))
            said.append((result, plain(getattr(error, "harvested", None))))
        assert said[0] == said[1], (name, here, there, part)
        a.check()
        b.check()
