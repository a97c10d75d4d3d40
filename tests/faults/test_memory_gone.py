"""Memory that is gone, may not be touched, or cannot be locked: every operation lives, and says so.

`unit/test_backends.py` and `unit/test_mlock.py` look at what exactly is recorded then.
"""

from __future__ import annotations

import pytest

from support.children import run_child
from support.memory import Region, locked_kib, needs_linux
from support.pins import require

pytestmark = needs_linux


@pytest.mark.parametrize("kind", ["Truncated", "Unmapped", "Protected", "ReadOnly"])
def test_populate(kind):
    require("populate")
    result = run_child(
        "from support import gone_child\nsys.exit(gone_child.populate(*sys.argv[1:]))", kind
    )
    result.assert_lived(kind)
    print(result.stdout.splitlines()[-1])


def test_no_locks_left():
    require("mlock")
    probe, before = Region(1), locked_kib()
    if not probe.lock() or locked_kib() == before:
        pytest.skip("mlock does nothing here: a sanitizer's runtime replaces it")
    result = run_child("from support import gone_child\nsys.exit(gone_child.no_locks_left())")
    result.assert_lived("the limit of locked memory")
    print(result.stdout.splitlines()[-1])
