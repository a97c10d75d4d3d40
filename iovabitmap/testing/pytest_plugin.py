"""pytest's part of iovabitmap: comparisons that explain themselves, and two fixtures.

pytest imports this at its start in every environment that has iovabitmap, and with it two packages
that are lists of names. Nothing else is loaded before a test uses it, not even the extension
module, and not to find out whether two objects are bitmaps.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING

import pytest

from iovabitmap import testing

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from iovabitmap.sources import WriteTracker


def _is_bitmap(value: object) -> bool:
    """Without importing what nobody has imported: such an object cannot be there."""
    kinds = (("iovabitmap._core", "IOVABitmap"), ("iovabitmap.model", "ModelBitmap"))
    return any(
        module in sys.modules and issubclass(type(value), getattr(sys.modules[module], name))
        for module, name in kinds  # by its true type: what a proxy says of itself may raise
    )


def pytest_assertrepr_compare(op: str, left: object, right: object) -> list[str] | None:
    """Explains `assert a == b` of bitmaps; b is the one that is expected."""
    if op != "==" or not (_is_bitmap(left) or _is_bitmap(right)):
        return None
    return testing._explain.compared(left, right)


@pytest.fixture
def iova_buffer() -> Iterator[Callable[[int], memoryview]]:
    """Makes memory whose neighbourhood is guarded: `buffer = iova_buffer(nbytes)`.

    The buffer, a zeroed memoryview, ends right before an inaccessible page: a touch behind it
    kills the process with a signal. Where nbytes is a multiple of the host's page size it also
    begins right after one. Else the rest of its first page holds a pattern, and the test fails at
    its end where that has changed. `buffer` stays mapped as long as something holds it.
    """
    yield from testing._fixtures.watched_buffers()


@pytest.fixture
def write_tracker() -> Iterator[Callable[[int], tuple[memoryview, WriteTracker]]]:
    """Makes memory and what sees writes to it: `buffer, tracker = write_tracker(nbytes)`.

    The buffer, a zeroed memoryview, begins at a page, right after an inaccessible one. The tracker
    is an `iovabitmap.sources.WriteTracker` from iova 0 on; it is started, and stopped after the
    test. Skips, with the reason, where this machine cannot track writes.
    """
    yield from testing._fixtures.tracked_buffers()
