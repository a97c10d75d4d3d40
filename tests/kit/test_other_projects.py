"""Projects that have iovabitmap installed and do not use it: hypothesis and pytest find its entry
points, and neither loads the engine nor fails with a broken one."""

from __future__ import annotations

from importlib.metadata import entry_points

import pytest

from support.children import run_child
from support.logs import needs

needs("hypothesis")
BROKEN = {"IOVABITMAP_CPU": "nonsense"}  # the engine then refuses to be loaded
installed = pytest.mark.skipif(
    not all(entry_points(group=group, name="iovabitmap") for group in ("hypothesis", "pytest11")),
    reason="iovabitmap is not installed",
)
HEAVY = {
    "iovabitmap._core",
    "iovabitmap.testing.strategies",
    "iovabitmap.model",
    "iovabitmap.sources",
}


def test_the_engine_of_these_tests_is_broken():
    done = run_child("import iovabitmap; iovabitmap.IOVABitmap", **BROKEN)
    assert done.returncode == 1 and "IOVABITMAP_CPU" in done.stderr


@installed
@pytest.mark.parametrize("engine", [{}, BROKEN], ids=["sound", "broken"])
def test_import_hypothesis_does_not_load_the_engine(engine):
    run_child(
        f"""
        import hypothesis, sys
        assert not {HEAVY} & set(sys.modules)
        assert "iovabitmap.testing.hypothesis_plugin" in sys.modules
        from hypothesis import strategies as st
        assert isinstance(st.from_type(int).example(), int)
        """,
        PYTHONWARNINGS="ignore",
        **engine,
    ).assert_lived("another project")


@installed
def test_a_broken_engine_still_says_so_to_who_asks_for_it():
    done = run_child("import hypothesis, iovabitmap; iovabitmap.IOVABitmap", **BROKEN)
    assert done.returncode == 1 and "IOVABITMAP_CPU" in done.stderr


@installed
@pytest.mark.parametrize(
    "first",
    [
        "import hypothesis, iovabitmap",
        "import iovabitmap; iovabitmap.IOVABitmap; import hypothesis",
        "import hypothesis; from iovabitmap import IOVABitmap",
        "import hypothesis; from iovabitmap._core import IOVABitmap",
        "import hypothesis; from iovabitmap import sources",
        "import hypothesis, iovabitmap.model",
    ],
)
def test_from_type_knows_a_bitmap_whoever_loads_it_first(first):
    run_child(
        f"""
        {first}
        import sys, warnings
        import iovabitmap as ib
        from hypothesis import strategies as st
        from iovabitmap import Geometry
        warnings.simplefilter("ignore")
        assert isinstance(st.from_type(ib.IOVABitmap).example(), ib.IOVABitmap)
        assert isinstance(st.from_type(Geometry).example(), Geometry)
        assert type(ib) is type(sys)  # nothing stays behind
        """
    ).assert_lived("from_type")


@installed
@pytest.mark.parametrize("engine", [{}, BROKEN], ids=["sound", "broken"])
def test_pytest_with_all_plugins_does_not_load_the_engine(tmp_path, engine):
    """A project that fails for reasons of its own sees those, and passes otherwise."""
    (tmp_path / "test_project.py").write_text(
        "import sys\n"
        "from hypothesis import given, strategies as st\n"
        "@given(st.integers())\n"
        "def test_numbers(n):\n"
        "    assert n == n\n"
        "def test_nothing_is_loaded():\n"
        "    assert 'iovabitmap.testing.pytest_plugin' in sys.modules\n"
        "    assert 'iovabitmap._core' not in sys.modules\n"
        "def test_failing():\n"
        "    assert [1] == [2]\n",
        encoding="utf-8",
    )
    done = run_child(
        "import sys, pytest; sys.exit(pytest.main(sys.argv[1:]))",
        *("-q", "-p", "no:cacheprovider", f"--rootdir={tmp_path}", str(tmp_path)),
        **engine,
    )
    assert "2 passed" in done.stdout and "1 failed" in done.stdout, done.stdout + done.stderr
    assert "assert [1] == [2]" in done.stdout and "IOVABITMAP" not in done.stdout


def test_values_that_lie_about_their_class_do_not_break_a_comparison():
    """pytest asks of every failed comparison of every project whether it is one of bitmaps."""
    from iovabitmap import IOVABitmap
    from iovabitmap.testing import pytest_plugin

    class Liar:
        @property
        def __class__(self):
            raise RuntimeError("a proxy without its object")

    assert IOVABitmap
    assert pytest_plugin.pytest_assertrepr_compare("==", Liar(), 1) is None
