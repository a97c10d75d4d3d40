"""A tracker with a bug, and the failure that hypothesis makes of it: the smallest one there is.

    pytest -s examples/test_finds_a_bug.py

The tracker is right whenever writes end at the end of a page, as they mostly do in tests that are
written by hand.
"""

import re

import pytest
from hypothesis import seed

from iovabitmap.testing import DirtyTrackerMachine


@seed(2)  # the same examples in each run, so that the text below is true
class RoundsDown(DirtyTrackerMachine):
    """Pages in a set; a last page that is written in part only is forgotten."""

    def start(self, iova, length, page_size):  # noqa: ARG002 - all pages fit in a set
        self.iova, self.page_size = iova, page_size
        self.pages = set()

    def write(self, iova, length):
        first = (iova - self.iova) // self.page_size
        end = (iova + length - self.iova) // self.page_size  # the bug: it must be rounded up
        self.pages |= set(range(first, end))

    def read(self):
        return [(self.iova + page * self.page_size, self.page_size) for page in self.pages]


def test_the_bug_is_found():
    """In a test of yours `TestRoundsDown = RoundsDown.TestCase` is all, and it fails like this:

    step 3, read(): wrong pages, of 0x0 + 0x1000, page size 0x1000, 1 page
      missing: 1 page: 0, from iova 0x0
        page 0 was last written in step 2, write(0x0, 0xfff)
      too many: none
    Failing test case: <state machine>
    state = RoundsDown()
    state.start_tracker(geometry=Geometry(iova=0x0, length=0x1000, page_size=4096))
    state.write_range(written=(0x0, 0xfff))
    state.check_read()
    state.teardown()
    """
    with pytest.raises(AssertionError) as caught:
        RoundsDown.TestCase().runTest()
    shown = "\n".join([str(caught.value), *caught.value.__notes__])
    print(shown)
    assert "wrong pages" in shown and "missing: 1 page" in shown and "too many: none" in shown
    # One write, one look, no more.
    steps = ["start_tracker", "write_range", "check_read", "teardown"]
    assert re.findall(r"^state\.(\w+)", shown, re.MULTILINE) == steps
