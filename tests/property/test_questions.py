"""Questions and batch operations of the engine at random against the model: odd bases, offsets and
lengths, all backends. Kept short: the whole file runs once for each variant of the inner loops.
"""

from __future__ import annotations

import random
from functools import partial

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import iovabitmap as ib
from support import scripts
from support.driver import Pair, plain
from support.expected import TOP, Expected
from support.long import seeds
from support.memory import HOST_PAGE
from support.pins import require

MAX_BYTES = 3 * HOST_PAGE
QUESTIONS = ("any", "all", "count_ranges", "ranges", "pages")
DENSITIES = (0, 1 / 3000, 1 / 100, 0.05, 0.5, 0.95, 1 - 1 / 500, 1)


def fill(generator: np.random.Generator, pair: Pair) -> None:
    """New content, of one density or with stretches of several: whole words and blocks of nothing,
    of everything and of noise."""
    bits, at = np.zeros(pair.model.nbits, bool), 0
    longest = generator.choice((70, 600, 40_000, bits.size))
    while at < bits.size:
        stop = at + int(generator.integers(1, longest + 1))
        piece = bits[at:stop]
        piece[:] = generator.random(piece.size) < generator.choice(DENSITIES)
        at = stop
    pair.fill(bits)


def make_pair(rng: random.Random, backend: str, max_bytes: int = MAX_BYTES) -> Pair:
    return Pair(
        *scripts.geometry(rng, max_bytes),
        pgoff=rng.choice((0, 1, 8, HOST_PAGE - 1, rng.randrange(HOST_PAGE))),
        window_pages=rng.choice((1, 2, 3, 512, None)),
        pin=backend,
        seed=rng.randrange(1 << 32),
    )


def part(rng: random.Random, pair: Pair) -> tuple:
    """Mostly a part that is inside; sometimes all, sometimes what sticks out."""
    kind = rng.randrange(8)
    if kind == 0:
        return None, None
    return scripts.anywhere(rng, pair) if kind == 1 else scripts.inside(rng, pair)


def rows_for(rng: random.Random, pair: Pair) -> list[tuple[int, int]]:
    place = scripts.anywhere if rng.random() < 0.2 else scripts.inside
    rows = [place(rng, pair) for _ in range(rng.choice((0, 1, 3, 40)))]
    order = rng.randrange(3)
    return sorted(rows, reverse=order == 1) if order else rows


def step(rng: random.Random, pair: Pair) -> None:
    model = pair.model
    kind = rng.randrange(12)
    if kind < 5:
        pair.ask(rng.choice(QUESTIONS), *part(rng, pair))
    elif kind == 5:
        pair.ask("ranges", *part(rng, pair), dirty=False)
    elif kind == 6:
        dirty, batch = rng.random() < 0.5, rng.choice((1, 2, 7, 512, 65536))
        pair.iter_ranges(*part(rng, pair), dirty=dirty, batch=batch)
    elif kind == 7:
        start = rng.choice((model.end, scripts.inside(rng, pair)[0]))
        if start < TOP:
            pair.ask(rng.choice(("find_dirty", "find_clean")), start)
    elif kind == 8:
        bins = rng.choice((1, 2, 3, 64, model.nbits, model.nbits + 1, rng.randint(1, 5000)))
        pair.ask("histogram", min(bins, 20_000))
        pair.ask("to_text")
    elif kind == 9:
        name = "set_ranges" if rng.random() < 0.6 else "clear_ranges"
        pair.ask(name, rows_for(rng, pair), clip=rng.random() < 0.5)
    elif kind == 10:
        pair.ask("set_pages", [scripts.inside(rng, pair)[0] for _ in range(rng.randrange(50))])
    else:
        pair.ask("read_and_clear", *part(rng, pair))


@pytest.mark.parametrize("backend", scripts.BACKENDS)
@pytest.mark.parametrize("seed", seeds(12))
def test_any_questions(backend, seed):
    if backend != "fault":
        require(backend)
    rng = random.Random(f"questions {backend} {seed}")
    for _ in range(3):
        pair = make_pair(rng, backend)
        for _ in range(4):
            fill(np.random.default_rng(rng.randrange(1 << 32)), pair)
            for _ in range(10):
                step(rng, pair)
        pair.finish()


@pytest.mark.parametrize("seed", seeds(24))
def test_two_bitmaps_of_one_geometry(seed):
    """Operators, counts without a result, and differences; also at unlike offsets in memory."""
    rng = random.Random(f"two {seed}")
    generator = np.random.default_rng(seed)
    geometry = scripts.geometry(rng, MAX_BYTES)
    a, b = (
        Pair(*geometry, pgoff=rng.randrange(HOST_PAGE), window_pages=n, pin=pin, seed=seed + n)
        for n, pin in ((rng.choice((1, 2, 512)), "none"), (rng.choice((1, 3)), "fault"))
    )
    for _ in range(5):
        fill(generator, a)
        fill(generator, b)
        x, y = a.bits, b.bits
        for name, bits in (("and", x & y), ("or", x | y), ("xor", x ^ y), ("sub", x & ~y)):
            made = getattr(a.bm, f"__{name}__")(b.bm)
            assert np.array_equal(made.to_mask(), bits)
            assert getattr(a.bm, f"count_{name}")(b.bm) == int(bits.sum()) == made.count()
        diff = a.bm.diff(b.bm)
        wanted = {"appeared": x & ~y, "disappeared": y & ~x, "common": x & y}
        for name, bits in wanted.items():
            assert getattr(diff, name) == int(bits.sum())
            rows = Expected(*geometry, bits=bits).rows()
            assert plain(getattr(diff, f"{name}_ranges")()) == rows
        for one in (a, b):
            one.compare(passes_known=False)
        into, other = rng.choice(((a, b), (b, a)))
        name = rng.choice(("and", "or", "xor", "sub"))
        assert getattr(into.bm, f"__i{name}__")(other.bm) is into.bm
        assert getattr(into.model, f"__i{name}__")(other.model) is into.model
        for one in (a, b):
            one.compare(passes_known=False)


@pytest.mark.parametrize("seed", seeds(24))
def test_merging_any_geometries(seed):
    rng = random.Random(f"merge {seed}")
    generator = np.random.default_rng(seed)
    for _ in range(4):
        a = make_pair(rng, "fault", 600)
        fill(generator, a)
        shift = min(max(a.bm.pgshift + rng.randint(-3, 5), 0), 63)
        low = max(0, a.model.iova + rng.randint(-a.model.length, a.model.length))
        low = min(low, TOP - 1)
        length = min(rng.randint(1, 2 * a.model.length), TOP - low, 4000 << shift, TOP - 1)
        b = Pair(low, length, 1 << shift, pgoff=rng.randrange(HOST_PAGE), window_pages=1)
        fill(generator, b)
        b.both(partial(b.bm.merge, a.bm), partial(b.model.merge, a.model), passes_known=False)
        a.compare(passes_known=False)
        if ib.nbytes_for(a.model.length, 1 << shift) < 1 << 17:
            scaled = a.bm.rescale(1 << shift).ranges()
            assert plain(scaled) == a.model.rescale(1 << shift).ranges()


# --- hypothesis ----------------------------------------------------------------------------------


@st.composite
def bitmaps(draw):
    page_size = 1 << draw(st.integers(0, 63))
    nbits = draw(st.integers(1, min(TOP // page_size, 3000)))
    length = min((nbits - 1) * page_size + draw(st.integers(1, page_size)), TOP - 1)
    iova = draw(st.one_of(st.just(TOP - length), st.integers(0, TOP - length)))
    pair = Pair(iova, length, page_size, pgoff=draw(st.integers(0, HOST_PAGE - 1)), pin="fault")
    bits = np.zeros(nbits, bool)
    for _ in range(draw(st.integers(0, 6))):
        first = draw(st.integers(0, nbits - 1))
        bits[first : first + draw(st.integers(1, 200))] = draw(st.booleans())
    pair.fill(bits)
    return pair


@given(st.data())
@settings(max_examples=60)
def test_every_question(data):
    pair = data.draw(bitmaps())
    model = pair.model
    first = data.draw(st.integers(model.iova, model.end - 1))
    length = data.draw(st.integers(0, model.end - first))
    for name in QUESTIONS:
        pair.ask(name, first, length)
    pair.ask("ranges", first, length, dirty=False)
    pair.iter_ranges(first, length, batch=data.draw(st.integers(1, 5)))
    pair.ask("find_dirty", first)
    pair.ask("find_clean", first)
    pair.ask("histogram", data.draw(st.integers(1, 4000)))
    pair.ask("to_text")
    text = pair.bm.to_text()
    assert ib.IOVABitmap.from_text(text, model.iova, model.length, model.page_size) == pair.bm
    pair.ask("read_and_clear", first, length)
    pair.finish()
