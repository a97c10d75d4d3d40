"""Whole arrays in one call, while other threads change the array or mark the same words."""

from __future__ import annotations

import sys
import threading

import numpy as np
import pytest

import iovabitmap as ib
from support.children import run_child
from support.expected import TOP
from support.memory import Arena
from support.pins import RecordingPin


def test_an_array_that_changes_meanwhile():
    """Rows of a native array are not copied: another thread may turn good ones into bad ones. The
    engine must then raise, or mark what is inside, and nothing else."""
    arena = Arena(1024, 5)
    rows = np.full((100_000, 2), 8, np.uint64)
    stop = threading.Event()

    def scribble():
        while not stop.is_set():
            rows[::7] = (TOP - 1, TOP - 1)
            rows[1::7] = (8191, 3000)
            rows[:] = 8

    def mark(pin):
        bm = ib.alloc(0, 8192, 1, arena.data, pin=pin)
        for _ in range(40):
            for call in (bm.set_ranges, bm.clear_ranges):
                try:
                    call(rows)
                except ib.IOVARangeError as error:
                    assert str(error).startswith("row ")

    threads = [threading.Thread(target=scribble)]
    threads += [threading.Thread(target=mark, args=(pin,)) for pin in ("none", RecordingPin())]
    interval = sys.getswitchinterval()
    sys.setswitchinterval(1e-4)
    try:
        for thread in threads:
            thread.start()
        for thread in threads[1:]:
            thread.join()
    finally:
        stop.set()
        threads[0].join()
        sys.setswitchinterval(interval)
    arena.assert_guards()


@pytest.mark.parametrize("call", ["set_ranges", "set_pages"])
def test_many_threads_lose_no_mark(call):
    """Each thread has pages of its own, in the same words as the others'."""
    nbits, nthreads = 1 << 16, 4
    bm = ib.IOVABitmap(0, nbits, 1)
    pages = np.random.default_rng(1).permutation(nbits).astype(np.uint64)

    def work(number):
        mine = pages[number::nthreads]
        if call == "set_pages":
            bm.set_pages(mine)
        else:
            bm.set_ranges(np.column_stack((mine, np.ones_like(mine))))

    for _ in range(10):
        bm.reset()
        threads = [threading.Thread(target=work, args=(n,)) for n in range(nthreads)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        assert bm.all()


def test_rows_that_move_between_windows_meanwhile():
    """Rows are brought together by window in several looks at the array, which may differ. In a
    child: where the looks are trusted to agree, memory behind a list is written."""
    run_child(
        """
        import threading

        import numpy as np

        import iovabitmap as ib

        npages = 64
        nbits = npages * 4096 * 8
        bm = ib.IOVABitmap(0, nbits, 1, window_pages=1)
        rows = np.ones((50_000, 2), np.uint64)
        rows[:, 0] = 0
        pages = np.zeros(50_000, np.uint64)
        stop = threading.Event()

        def move():
            while not stop.is_set():
                for iova in (0, nbits - 1):
                    rows[:, 0] = iova
                    pages[:] = iova

        mover = threading.Thread(target=move)
        mover.start()
        try:
            for _ in range(300):
                bm.set_ranges(rows)
                bm.clear_ranges(rows)
                bm.set_pages(pages)
        finally:
            stop.set()
            mover.join()
        assert set(bm.pages().tolist()) <= {0, nbits - 1}
        """
    ).assert_lived("rows that move")
