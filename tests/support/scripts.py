"""Random geometries, ranges and operations for a seeded `random.Random`.

Everything is drawn so that the interesting places come often: page sizes at both ends, ranges that
end at 2**64, bits around the byte where a window ends, ranges that stick out of the bitmap, wrap,
or are empty.
"""

from __future__ import annotations

import errno
import random

from .driver import Pair
from .expected import TOP
from .memory import HOST_PAGE

BACKENDS = ("none", "populate", "mlock", "fault")


def geometry(rng: random.Random, max_bytes: int) -> tuple[int, int, int]:
    """(iova, length, page_size), with a bitmap of at most `max_bytes` bytes."""
    shift = rng.choice((0, 1, 2, 11, 12, 12, 12, 21, 30, 31, 32, 40, 60, 61, 62, 63))
    if rng.random() < 0.3:
        shift = rng.randint(0, 63)
    page_size = 1 << shift
    most = min(max_bytes * 8, TOP >> shift)
    nbits = rng.randint(1, rng.choice((min(70, most), most, most)))
    length = min((nbits - 1) * page_size + rng.randint(1, page_size), TOP - 1)
    highest = TOP - length
    iova = rng.choice((0, highest, rng.randint(0, highest), rng.randint(0, highest)))
    if rng.random() < 0.3:
        iova -= iova % page_size
    return iova, length, page_size


def interesting_bit(rng: random.Random, pair: Pair) -> int:
    """A bit of the bitmap: anywhere, at its edges, or where a window may end."""
    model = pair.model
    kind = rng.randrange(4)
    if kind == 0:
        bit = rng.choice((0, model.nbits - 1))
    elif kind == 1:
        boundary = HOST_PAGE * rng.randint(0, 8) - pair.pgoff
        bit = boundary * 8 + rng.randint(-20, 20)
    else:
        bit = rng.randrange(model.nbits)
    return min(max(bit, 0), model.nbits - 1)


def inside(rng: random.Random, pair: Pair) -> tuple[int, int]:
    """A range inside the bitmap's, mostly not aligned to pages."""
    model = pair.model
    low, high = sorted((interesting_bit(rng, pair), interesting_bit(rng, pair)))
    if rng.random() < 0.5:
        high = min(low + rng.randint(0, 70), model.nbits - 1)
    start = model.iova + low * model.page_size
    stop = model.iova + (high + 1) * model.page_size
    if rng.random() < 0.7:
        start += rng.randrange(model.page_size)
        stop -= rng.randrange(model.page_size)
    stop = min(stop, model.end)
    start = min(start, stop - 1)
    return start, stop - start


def anywhere(rng: random.Random, pair: Pair) -> tuple[int, int]:
    """A range that is inside, sticks out, lies outside, wraps, or is empty."""
    model = pair.model
    kind = rng.randrange(10)
    if kind < 6:
        return inside(rng, pair)
    around = 2 * model.length
    if kind == 6:
        return rng.randrange(TOP), 0
    if kind == 7:
        return rng.randrange(TOP), rng.randrange(TOP)
    if kind == 8:
        start = max(0, model.iova - rng.randint(0, around))
        length = rng.randint(0, around)
    else:
        start = model.end - rng.randint(0, 2) * rng.randint(0, model.page_size)
        start = min(max(start, 0), TOP - 1)
        length = rng.randint(1, around)
    return start, min(length, TOP - 1)


def whole_pages(rng: random.Random, pair: Pair) -> tuple[int, int]:
    """A range inside the bitmap's, from the start of a page to the end of one."""
    model, (start, length) = pair.model, inside(rng, pair)
    first, last = ((iova - model.iova) // model.page_size for iova in (start, start + length - 1))
    start = model.iova + first * model.page_size
    return start, min(model.iova + (last + 1) * model.page_size, model.end) - start


def outcomes(rng: random.Random) -> list:
    """What the next pins do: in full, short, or failing with some errno."""
    errnos = (errno.EFAULT, errno.ENOMEM, errno.EINVAL, errno.EACCES)
    return [
        rng.choice((None, None, 1, 2, 3, -rng.choice(errnos))) for _ in range(rng.randint(0, 6))
    ]


def step(rng: random.Random, pair: Pair) -> None:
    """One operation, any of them."""
    if rng.random() < 0.5:
        pair.load(outcomes(rng))
    else:
        pair.load()
    kind = rng.randrange(104)
    clip = rng.random() < 0.5
    if kind < 30:
        pair.complete("set", *anywhere(rng, pair), clip=clip)
    elif kind < 50:
        pair.complete("clear", *anywhere(rng, pair), clip=clip)
    elif kind < 65:
        pair.complete("test_and_set", *anywhere(rng, pair))
    elif kind < 72:
        pair.complete("test", anywhere(rng, pair)[0])
    elif kind < 80:
        pair.complete("count", *rng.choice((anywhere(rng, pair), (None, None))))
    elif kind < 88:
        pair.ask("ranges", *rng.choice((anywhere(rng, pair), (None, None))))
    elif kind < 91:
        pair.walk()
    elif kind < 94:
        pair.ask("to_mask")
    elif kind < 96:
        pair.copy()
    elif kind < 97:
        pair.windows()
    elif kind < 98:
        pair.complete("reset")
    else:
        name = rng.choice(("set_ranges", "clear_ranges"))
        rows = [whole_pages(rng, pair) for _ in range(rng.choice((0, 1, 3, 40)))]
        ascending = pair.bm.pin != "none"  # else in any order, with as many windows as that takes
        pair.complete(name, rows, passes_known=ascending)


def ordered(rng: random.Random, pair: Pair, order: str, times: int) -> None:
    """Marks `times` ranges in ascending, descending or random order."""
    spans = [inside(rng, pair) for _ in range(times)]
    if order != "random":
        spans.sort(reverse=order == "backward")
    for span in spans:
        pair.load(outcomes(rng) if rng.random() < 0.2 else ())
        pair.complete("set", *span, clip=rng.random() < 0.5)
