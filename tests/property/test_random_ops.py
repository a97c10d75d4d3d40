"""Random testing of the engine against the model: any geometry, any offset, any backend, any fault.

Two ways. A seeded loop covers much ground quickly; hypothesis draws smaller bitmaps and shrinks
what it finds to something that can be read. Both compare everything after each operation
(`support.driver`): bits, guards, windows, statistics, calls of the pin object, exceptions.
"""

from __future__ import annotations

import errno
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

import iovabitmap as ib
from support import scripts
from support.driver import Pair
from support.expected import TOP, Expected
from support.long import seeds
from support.memory import HOST_PAGE
from support.pins import require

MAX_BYTES = 5 * HOST_PAGE
SEEDS = seeds(48)


def require_unless_fault(backend: str) -> None:
    if backend != "fault":
        require(backend)


# --- the seeded loop ---------------------------------------------------------------------------


@pytest.mark.parametrize("backend", scripts.BACKENDS)
@pytest.mark.parametrize("seed", SEEDS)
def test_any_operations(backend, seed):
    require_unless_fault(backend)
    rng = random.Random(f"{backend} {seed}")
    for _ in range(6):
        pair = Pair(
            *scripts.geometry(rng, MAX_BYTES),
            pgoff=rng.choice((0, 1, 8, HOST_PAGE - 1, rng.randrange(HOST_PAGE))),
            window_pages=rng.choice((1, 2, 3, 4, 512, None)),
            pin=backend,
            seed=rng.randrange(1 << 32),
        )
        for _ in range(25):
            scripts.step(rng, pair)
        pair.finish()


@pytest.mark.parametrize("backend", scripts.BACKENDS)
@pytest.mark.parametrize("order", ["forward", "backward", "random"])
@pytest.mark.parametrize("window_pages", [1, 2, 3, 4, 512])
def test_orders(backend, order, window_pages):
    require_unless_fault(backend)
    rng = random.Random(f"{backend} {order} {window_pages}")
    for _ in range(4):
        pair = Pair(
            *scripts.geometry(rng, MAX_BYTES),
            pgoff=rng.randrange(HOST_PAGE),
            window_pages=window_pages,
            pin=backend,
            seed=rng.randrange(1 << 32),
        )
        scripts.ordered(rng, pair, order, 40)
        pair.ask("ranges")
        pair.complete("count")
        pair.finish()


@pytest.mark.parametrize("shift", range(64))
def test_every_page_size(shift):
    rng = random.Random(shift)
    page_size = 1 << shift
    nbits = min(3 * HOST_PAGE * 8 + 5, TOP >> shift)
    length = min(nbits * page_size - rng.randrange(page_size), TOP - 1)
    for iova in {0, TOP - length, rng.randint(0, TOP - length)}:
        pair = Pair(iova, length, page_size, pgoff=4081 % HOST_PAGE, window_pages=2, pin="fault")
        for _ in range(20):
            scripts.step(rng, pair)
        pair.finish()


@pytest.mark.parametrize("backend", ["none", "populate", "fault"])
def test_default_windows(backend):
    """Bitmaps longer than a window of the default size."""
    require_unless_fault(backend)
    rng = random.Random(f"default {backend}")
    nbytes = 512 * HOST_PAGE + 5000
    iova = 0x1234567
    pair = Pair(iova, nbytes * 8 * 4096 - 1, 4096, pgoff=4081 % HOST_PAGE, pin=backend)
    pair.load([3, -errno.EFAULT])
    pair.complete("set", iova, pair.model.length)
    pair.complete("clear", iova + 4096 * 77, 4096 * (nbytes * 8 - 100))
    edge = iova + 8 * 4096 * (512 * HOST_PAGE - 4081 % HOST_PAGE)
    for _ in range(6):
        pair.complete("set", edge - rng.randrange(20 * 4096), 20 * 4096)
        pair.load(scripts.outcomes(rng))
        pair.complete("test_and_set", *scripts.inside(rng, pair))
    pair.complete("count")
    pair.ask("ranges")
    pair.windows()
    pair.walk()
    pair.finish()


# --- what a failed call leaves behind ----------------------------------------------------------


@pytest.mark.parametrize("seed", seeds(20))
def test_the_rest_of_a_failed_call_completes_it(seed):
    """`PinError.iova/.length` is exactly what is left: doing just that is enough, and the pages
    counted on the way add up."""
    rng = random.Random(f"rest {seed}")
    pair = Pair(
        *scripts.geometry(rng, MAX_BYTES),
        pgoff=rng.randrange(HOST_PAGE),
        window_pages=rng.choice((1, 2, 4)),
        pin="fault",
        seed=seed,
    )
    bm = pair.bm
    whole = Expected(bm.iova, bm.length, bm.page_size, bits=pair.bits)
    for _ in range(15):
        span = scripts.inside(rng, pair)
        newly = whole.mark([span])
        pair.load(scripts.outcomes(rng))
        left, found = span, 0
        while left is not None:
            try:
                found += bm.test_and_set(*left)
                left = None
            except ib.PinError as error:
                assert span[0] <= error.iova and error.iova + error.length == sum(span)
                left, found = (error.iova, error.length), found + error.newly
        assert found == newly
        pair.load()
        assert bm.to_mask().tolist() == whole.bits.tolist()
        pair.arena.assert_guards()


@pytest.mark.parametrize("seed", seeds(20))
def test_bad_host_pages(seed):
    """Pages of the bitmap that can never be had: every operation stops exactly there."""
    rng = random.Random(f"bad {seed}")
    pair = Pair(
        *scripts.geometry(rng, MAX_BYTES),
        pgoff=rng.randrange(HOST_PAGE),
        window_pages=rng.choice((1, 2, 4, 512)),
        pin="fault",
        seed=seed,
    )
    for _ in range(30):
        pair.load(bad_pages={rng.randrange(6) for _ in range(2)})
        span = scripts.anywhere(rng, pair)
        pair.call(rng.choice(("test_and_set", "count")), *span)
    pair.load()
    pair.finish()


# --- hypothesis --------------------------------------------------------------------------------


@st.composite
def pairs(draw):
    shift = draw(st.integers(0, 63))
    page_size = 1 << shift
    nbits = draw(st.integers(1, min(TOP >> shift, 2 * HOST_PAGE * 8 + 100)))
    part = draw(st.integers(1, page_size))
    length = min((nbits - 1) * page_size + part, TOP - 1)
    iova = draw(st.one_of(st.just(TOP - length), st.integers(0, TOP - length)))
    pgoff = draw(st.one_of(st.just(0), st.integers(0, HOST_PAGE - 1)))
    window_pages = draw(st.sampled_from((1, 2, 3, 4, 512)))
    pin = draw(st.sampled_from(("none", "fault")))
    return Pair(iova, length, page_size, pgoff=pgoff, window_pages=window_pages, pin=pin)


@st.composite
def spans(draw, model):
    """A range given by its two ends, each in or around the bitmap."""
    around = min(model.page_size * 20, TOP)
    low, high = max(0, model.iova - around), min(TOP, model.end + around)
    first = draw(st.integers(low, high))
    length = draw(st.one_of(st.integers(0, high - low), st.integers(0, around)))
    return min(first, TOP - 1), min(length, TOP - 1)


FAULTS = st.lists(
    st.one_of(st.none(), st.integers(1, 3), st.sampled_from((-errno.EFAULT, -errno.ENOMEM))),
    max_size=5,
)
NAMES = ("set", "clear", "test_and_set", "test", "count", "ranges")
NAMES += ("walk", "to_mask", "reset", "copy")


@given(st.data())
def test_any_script(data):
    pair = data.draw(pairs())
    for _ in range(data.draw(st.integers(1, 8))):
        name = data.draw(st.sampled_from(NAMES))
        pair.load(data.draw(FAULTS))
        if name in ("set", "clear"):
            clip = data.draw(st.booleans())
            pair.complete(name, *data.draw(spans(pair.model)), clip=clip)
        elif name in ("test_and_set", "count"):
            pair.complete(name, *data.draw(spans(pair.model)))
        elif name == "ranges":
            pair.ask(name, *data.draw(spans(pair.model)))
        elif name == "test":
            pair.complete(name, data.draw(spans(pair.model))[0])
        elif name == "to_mask":
            pair.ask(name)
        elif name == "reset":
            pair.complete(name)
        else:
            getattr(pair, name)()
    pair.finish()
