"""Every allocation of every public operation fails at its turn: alone, and with all after it.

Allocations are those that the extension asks the system for, and those that the interpreter and
NumPy make on its behalf; opening a file counts as one. See `support/sweep_child.py` for what must
hold then. In a child process, since an engine at fault may crash.
"""

from __future__ import annotations

import pytest

from support import failing
from support.children import run_child
from support.long import only_long
from support.pins import require

RUN = """
from support.sweep_child import run
sys.exit(run(*sys.argv[1:]))
"""


@pytest.fixture(scope="module")
def preload(tmp_path_factory) -> str:
    return str(failing.build(tmp_path_factory.mktemp("failing")))


@pytest.mark.parametrize(
    "kind",
    [
        "none",
        "object",
        pytest.param("populate", marks=only_long),
        pytest.param("mlock", marks=only_long),
        pytest.param("large", marks=only_long),
    ],
)
def test_every_allocation_fails_once(preload, kind):
    require(kind if kind in ("populate", "mlock") else "none")
    result = run_child(RUN, kind, LD_PRELOAD=preload)
    result.assert_lived("failing allocations")
    summary = result.stdout.strip().splitlines()[-1]
    print(summary)
    points, _, failures = (int(word) for word in summary.split() if word.isdigit())
    assert points > 90 and failures > points, summary


def test_the_sweep_sees_what_is_lost(preload):
    """A harvest whose rows are dropped, as if the engine had done it."""
    result = run_child(
        """
        from support import sweep_child
        from support.operations import Operation

        def lossy(world):
            world.bm.clear(world.bm.iova, world.bm.length)
            world.bm.pages()
        sweep_child.ALL[:] = [Operation("lossy", "", lossy, harvests=True)]
        sys.exit(sweep_child.run("none"))
        """,
        LD_PRELOAD=preload,
    )
    assert result.returncode == 1 and "pages are lost" in result.stderr
