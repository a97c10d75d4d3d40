"""Every variant of the inner loops that this CPU has passes the random tests, in a process of its
own: the choice is made once, by the environment variable IOVABITMAP_CPU.
"""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from iovabitmap import _core
from support.children import run_child
from support.long import only_long

CHOSEN, AVAILABLE = _core._kernels()
SUITE = Path(__file__).parents[1]


def test_the_portable_one_is_there():
    assert AVAILABLE[0] == "portable"
    assert os.environ.get("IOVABITMAP_CPU", AVAILABLE[-1]) == CHOSEN


# Those in between too, at length: core/test_kernels.c compares all of them anyway.
@pytest.mark.parametrize(
    "name", [AVAILABLE[0], *(pytest.param(name, marks=only_long) for name in AVAILABLE[1:])]
)
def test_questions(name):
    if name == CHOSEN:
        pytest.skip("it is the one that runs all other tests")
    source = f"""
        import pytest, sys
        status = pytest.main(["-q", "-x", "-p", "no:cacheprovider", *sys.argv[1:]])
        from iovabitmap import _core  # not before pytest, which has a plugin in the same package
        assert _core._kernels()[0] == {name!r}
        sys.exit(status)
    """
    done = run_child(source, str(SUITE / "property" / "test_questions.py"), IOVABITMAP_CPU=name)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]


@pytest.mark.parametrize("name", ["avx9000", "AVX2", "portable ", "\u00e9"])
def test_an_unknown_name_is_an_error(name):
    done = run_child("import iovabitmap._core", IOVABITMAP_CPU=name)
    assert done.returncode == 1
    assert "ImportError" in done.stderr and "IOVABITMAP_CPU" in done.stderr
