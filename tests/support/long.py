"""What takes long runs only when it is asked for: `make faults-long`, `make suite-long`."""

from __future__ import annotations

import os

import pytest

LONG = os.environ.get("IOVABITMAP_TESTS") == "long"
only_long = pytest.mark.skipif(not LONG, reason="takes long: make proof runs it")


def seeds(count: int) -> range:
    """So many seeds, always the same; from IOVABITMAP_SEED on, if it is set, ten times as many."""
    first = os.environ.get("IOVABITMAP_SEED")
    return range(count) if first is None else range(int(first), int(first) + 10 * count)
