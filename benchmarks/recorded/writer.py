"""A program that writes to random pages of its memory for some time.

    python writer.py MIB SECONDS RATE

RATE is in pages a second, 0 for as fast as it can. Says how many it wrote to, counted each time.
"""

from __future__ import annotations

import mmap
import sys
import time

import numpy as np

TURN = 256


def main() -> None:
    nbytes, seconds, rate = int(sys.argv[1]) << 20, float(sys.argv[2]), float(sys.argv[3])
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS
    pages = np.frombuffer(mmap.mmap(-1, nbytes, flags=flags), np.uint64)
    pages = pages.reshape(-1, mmap.PAGESIZE // 8)
    pages[:, 0] = 1
    generator = np.random.default_rng(1)
    written = 0
    start = time.monotonic()
    while (now := time.monotonic() - start) < seconds:
        if rate and written > rate * now:
            time.sleep(TURN / rate)
            continue
        pages[generator.integers(0, len(pages), TURN), 0] += 1
        written += TURN
    print(written, flush=True)


if __name__ == "__main__":
    main()
