"""Callbacks and pin objects of several threads on one bitmap: they mark, nest, raise and free."""

from __future__ import annotations

import random
from itertools import pairwise

import pytest

import iovabitmap as ib
from support.memory import HOST_PAGE, Arena
from support.pins import RecordingPin
from support.threads import run, switching_often

NTHREADS = 4
NWINDOWS = 5
NBITS = NWINDOWS * HOST_PAGE * 8


class Mine(Exception):
    """What a callback raises."""


def shared_bitmap(pin):
    arena = Arena(NBITS // 8, 9)
    return arena, ib.alloc(0, NBITS, 1, arena.data, pin=pin, window_pages=1)


@pytest.mark.parametrize("pin", ["none", "object"])
def test_walks_of_many_threads(pin):
    """Each walk sees the whole range in order, whatever the others do to the present window."""
    pin = RecordingPin() if pin == "object" else pin
    arena, bm = shared_bitmap(pin)

    def walk(rng, depth):
        seen = []

        def visit(bm, iova, length, opaque):
            assert opaque is seen
            seen.append((iova, length))
            kind = rng.randrange(6)
            if kind == 0:
                bm.set(iova, length)
            elif kind == 1:
                bm.test_and_set(rng.randrange(NBITS - 9), 9)
            elif kind == 2:
                assert 0 <= bm.count(iova, length) <= length
            elif kind == 3 and depth < 3:
                walk(rng, depth + 1)
            elif kind == 4:
                bm.validate()
            elif rng.randrange(40) == 0:
                raise Mine

        try:
            assert bm.for_each(visit, seen, by_window=True) == 0
        except Mine:
            return
        assert seen[0][0] == 0 and sum(length for _, length in seen) == NBITS
        assert all(a + n == b for (a, n), (b, _) in pairwise(seen))

    def work(number):
        rng = random.Random(number)
        for _ in range(150):
            walk(rng, 0)

    with switching_often():
        run(*[lambda n=n: work(n) for n in range(NTHREADS)])
    bm.validate()
    bm.free()
    assert bm.stats.pins == bm.stats.unpins and bm.stats.pinned_pages == 0
    if not isinstance(pin, str):
        pin.assert_balanced()
    arena.assert_guards()


@pytest.mark.parametrize("where", ["callback", "pin"])
def test_one_of_them_frees(where):
    """From within its own operation, while the others are within theirs: all come to an end, the
    others with ValueError where they begin another, and nothing stays pinned."""
    for round_ in range(20):
        one_frees(where, 20 + round_)


def one_frees(where: str, pins: int) -> None:
    """In the pin of that number, or in a callback soon after."""

    class Freeing(RecordingPin):
        left = pins

        def deliver(self, address, npages):
            self.left -= 1
            if where == "pin" and self.left == 0:
                bm.free()
            return npages

    pin = Freeing()
    arena, bm = shared_bitmap(pin)

    def visit(bm, iova, length, number):
        bm.set(iova, length)
        if where == "callback" and number == 0 and pin.left < 0:
            bm.free()

    def work(number):
        while True:
            try:
                bm.for_each(visit, number, by_window=True)
                bm.count()
            except ValueError as error:
                assert "freed" in str(error)
                return

    with switching_often():
        run(*[lambda n=n: work(n) for n in range(NTHREADS)])
    assert bm.freed and bm.stats.pins == bm.stats.unpins
    pin.assert_balanced()
    arena.assert_guards()
