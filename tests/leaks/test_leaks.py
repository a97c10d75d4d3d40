"""Every public operation is repeated, in success and in failure, and the process keeps nothing.

`support/leak_child.py` says what is watched. Failures are bad arguments, and pins that go wrong in
every way; those of allocations are in `faults/test_allocations.py`.
"""

from __future__ import annotations

import pytest

from support.children import run_child
from support.pins import require


def test_nothing_is_kept():
    require("mlock")
    result = run_child("from support import leak_child\nsys.exit(leak_child.main())")
    result.assert_lived("repeating every operation")
    print(result.stdout.splitlines()[-1])


@pytest.mark.parametrize(
    "leak",
    ["object()", "bytes(1000)", "leak_child.ib.IOVABitmap", "open('/dev/null', 'rb')"],
    ids=["a block", "a large block", "a reference", "a descriptor"],
)
def test_the_watch_sees_a_leak(leak):
    """In a process of its own too: what others let go of meanwhile would hide it."""
    run_child(
        f"""
        from support import leak_child

        kept = []
        assert leak_child.leaks(lambda: kept.append({leak}))
        """
    ).assert_lived("a leak on purpose")


def test_the_watch_sees_none_where_there_is_none():
    run_child(
        """
        from support import leak_child

        assert not leak_child.leaks(lambda: leak_child.ib.IOVABitmap(0, 4096).count())
        """
    ).assert_lived("no leak")
