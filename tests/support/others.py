"""Somebody else who changes the same memory all the time: without the engine, without the GIL."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator

import numpy as np


@contextlib.contextmanager
def scribbling(memory: np.ndarray, values: np.ndarray) -> Iterator[None]:
    """Writes `values`, one after the other, over all of `memory` (both of 64-bit words) until the
    block ends. Many millions of stores a second: NumPy's inner loop makes them."""
    stop = threading.Event()
    times = max(1, (1 << 23) // memory.size // values.size)
    where = np.lib.stride_tricks.as_strided(
        memory, (times, values.size, memory.size), (0, 0, memory.itemsize)
    )
    source = np.broadcast_to(values[:, None], where.shape)

    def scribble() -> None:
        while not stop.is_set():
            np.copyto(where, source)

    thread = threading.Thread(target=scribble)
    thread.start()
    try:
        yield
    finally:
        stop.set()
        thread.join()
