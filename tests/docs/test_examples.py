"""The examples that are tests: they pass, and the one about a bug shows its smallest failure."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from support.children import Result, run_child

EXAMPLES = Path(__file__).parents[2] / "examples"

pytestmark = pytest.mark.skipif(
    not EXAMPLES.exists(), reason="examples/ is not beside this copy of the tests"
)


def run(path: Path, tmp_path) -> Result:
    """In a run of pytest of its own, as by a user; but with a seed, and no database is written."""
    return run_child(
        "import sys, pytest; sys.exit(pytest.main(sys.argv[1:]))",
        *("-q", "-s", "-p", "no:cacheprovider", "--hypothesis-seed=1"),
        *(f"--rootdir={tmp_path}", f"--confcutdir={path.parent}", str(path)),
        HYPOTHESIS_STORAGE_DIRECTORY=str(tmp_path),
    )


@pytest.mark.skipif(not shutil.which("cc"), reason="there is no C compiler, cc")
def test_the_device_model_in_c_passes(tmp_path):
    done = run(EXAMPLES / "test_device_in_c.py", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "1 passed" in done.stdout


@pytest.mark.skipif(not shutil.which("cc"), reason="there is no C compiler, cc")
@pytest.mark.parametrize(
    "right, wrong",
    [
        ("= atomic_exchange(&dev->log[i], 0)", "= atomic_load(&dev->log[i])"),
        (
            "i < dev->nwords; i++)\n\t\twords[i] = atomic_load",
            "i < 1; i++)\n\t\twords[i] = atomic_load",
        ),
    ],
    ids=["does not clear", "one word only"],
)
def test_a_bug_in_c_is_found(tmp_path, right, wrong):
    source = (EXAMPLES / "toy_device.c").read_text(encoding="utf-8")
    assert source.count(right) == 1
    (tmp_path / "toy_device.c").write_text(source.replace(right, wrong), encoding="utf-8")
    test = Path(shutil.copy(EXAMPLES / "test_device_in_c.py", tmp_path))
    done = run(test, tmp_path)
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout + done.stderr
    assert "wrong pages" in done.stdout and "state.start_tracker(" in done.stdout


def test_the_failure_that_is_shown_is_the_smallest(tmp_path):
    done = run(EXAMPLES / "test_finds_a_bug.py", tmp_path)
    assert done.returncode == 0, done.stdout + done.stderr
    lines = done.stdout.splitlines()
    start = lines.index("state = RoundsDown()")
    assert lines[start + 1].startswith("state.start_tracker(geometry=Geometry(iova=0x")
    # One write that ends inside of the only page.
    assert lines[start + 2].startswith("state.write_range(written=(0x")
    assert lines[start + 3 : start + 5] == ["state.check_read()", "state.teardown()"]
    text = "\n".join(lines[:start])
    assert "step 3, read(): wrong pages" in text
    assert "missing: 1 page: 0, from iova 0x" in text and "too many: none" in text
