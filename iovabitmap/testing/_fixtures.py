"""What pytest's fixtures do: pytest_plugin.py has their names, and loads this when a test asks."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from ..sources import WriteTracker
from ._guarded import UNSUPPORTED, GuardedMemory, WatchedBuffer

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def watched_buffers() -> Iterator[Callable[[int], memoryview]]:
    """The fixture `iova_buffer`."""
    if UNSUPPORTED:
        pytest.skip(UNSUPPORTED)
    made: list[WatchedBuffer] = []

    def make(nbytes: int) -> memoryview:
        made.append(WatchedBuffer(nbytes))
        return made[-1].data

    yield make
    for buffer in made:
        buffer.check()


def tracked_buffers() -> Iterator[Callable[[int], tuple[memoryview, WriteTracker]]]:
    """The fixture `write_tracker`."""
    probe = WriteTracker.probe()
    if not probe:
        pytest.skip(f"cannot track writes: {probe.reason}")
    started: list[WriteTracker] = []

    def make(nbytes: int) -> tuple[memoryview, WriteTracker]:
        buffer = memoryview(GuardedMemory.holding(nbytes).at_start(nbytes)).cast("B")
        tracker = WriteTracker(buffer)
        tracker.start()
        started.append(tracker)
        return buffer, tracker

    yield make
    for tracker in started:
        tracker.stop()
