"""The pytest plugin, as a user meets it: a run of pytest of its own over a file of tests.

What the explanations say is in test_ranges.py too; here it is what pytest shows of them.
"""

from __future__ import annotations

import re
import subprocess
import sys

import pytest

import iovabitmap as ib
from iovabitmap.sources import WriteTracker
from iovabitmap.testing.pytest_plugin import pytest_assertrepr_compare
from support.children import run_child
from support.memory import HOST_PAGE

HEAD = """
import ctypes
from types import SimpleNamespace

import numpy as np
import iovabitmap as ib
from iovabitmap.model import ModelBitmap
from iovabitmap.sources import WriteTracker
from iovabitmap.testing import assert_ranges

def bitmap(text, iova=0x10000, length=0x200000, page_size=4096, **options):
    data = bytearray(ib.nbytes_for(length, page_size))
    bm = ib.alloc(iova, length, page_size, data, **options)
    for part in filter(None, text.split(",")):
        first, _, last = part.partition("-")
        n = int(last or first) - int(first) + 1
        bm.set(iova + int(first) * page_size, n * page_size)
    return bm
"""

# What users write, by name; each fails, but for what skips.
TESTS = """
def test_ranges():
    assert bitmap("0-2,300") == bitmap("0-1,64-97,301-302")

def test_a_later_window():
    a, b = (bitmap("", 0, 2**20, 1, window_pages=1) for _ in range(2))
    b.set(40000 * 8 + 3, 1)
    assert a == b

def test_other_iova():
    assert bitmap("0-2") == bitmap("0-2", iova=0x11000)

def test_other_length():
    assert bitmap("0-2") == bitmap("0-2", length=0x300000)

def test_other_page_size():
    assert bitmap("0-2") == bitmap("0-2", page_size=8192)

def test_large():
    a, b = (bitmap("", 0, 2**30, 1) for _ in range(2))
    a.set(0, 2**30)
    b.set_pages(np.arange(0, 2**20, 2, dtype=np.uint64))
    assert a == b

def test_a_model():
    model = ModelBitmap(0x10000, 0x200000)
    model.set(0x10000, 0x3000)
    assert bitmap("0-1,9") == model

def test_a_list():
    assert bitmap("1") == [(0x11000, 4096)]

def test_freed():
    a, b = bitmap("1"), bitmap("2")
    a.free()
    assert (a, 1) == (b, 1)

def test_numbers():
    assert 1 == 2

def test_texts():
    assert "a" == "b"

def test_assert_ranges_of_a_bitmap():
    assert_ranges(bitmap("1-3,256"), "1-2,64")

def test_assert_ranges_of_rows():
    assert_ranges(bitmap("1-3,256").ranges(), "1-2,64", iova=0x10000)

def test_assert_ranges_of_arrays():
    assert_ranges(bitmap("1-3,256").ranges(), bitmap("1-2,64").ranges())

def test_before_an_odd_buffer(iova_buffer):
    buffer = iova_buffer(100)
    address = ctypes.addressof(ctypes.c_char.from_buffer(buffer))
    ctypes.memset(address - 3, 0xA5, 2)

def test_no_tracker(monkeypatch, request):
    class No:
        reason = "this kernel is too old"
        def __bool__(self):
            return False

    monkeypatch.setattr(WriteTracker, "probe", staticmethod(No))
    request.getfixturevalue("write_tracker")
"""


@pytest.fixture(scope="module")
def output(tmp_path_factory) -> str:
    """What pytest prints of all of them, with the plugins that are installed."""
    folder = tmp_path_factory.mktemp("user")
    path = folder / "test_user.py"
    path.write_text(HEAD + TESTS, encoding="utf-8")
    done = run_child(
        "import sys, pytest; sys.exit(pytest.main(sys.argv[1:]))",
        *("-q", "-rs", "-p", "no:cacheprovider"),
        *(f"--rootdir={folder}", f"--confcutdir={folder}", str(path)),
        COLUMNS="400",
    )
    assert done.returncode == pytest.ExitCode.TESTS_FAILED, done.stdout + done.stderr
    return done.stdout


@pytest.fixture
def shown(output):
    """The lines of an error that pytest shows of one of them."""

    def of(name: str) -> list[str]:
        sections = re.split(r"^_+ (?:ERROR at \w+ of )?(\w+) _+$", output, flags=re.MULTILINE)
        section = dict(zip(sections[1::2], sections[2::2], strict=True))[f"test_{name}"]
        return re.findall(r"^E +(.*)$", section, re.MULTILINE)

    return of


# --- assert a == b --------------------------------------------------------------------------------


def test_bitmaps_are_explained_in_ranges(shown):
    lines = shown("ranges")
    assert lines[0].startswith("assert bitmaps of 0x10000 + 0x200000")
    assert "missing: 36 pages: 64-97,301-302, from iova 0x50000" in lines
    assert "too many: 2 pages: 2,300, from iova 0x12000" in lines
    place = "bit 2 of byte 0, in window 0 (bytes 0 to 63)"
    assert f"first difference: page 2 (iova 0x12000), {place}" in lines


def test_the_first_difference_names_a_later_window(shown):
    place = [line for line in shown("a_later_window") if line.startswith("first difference: ")]
    assert re.fullmatch(
        r"first difference: page 320003 \(iova 0x4e203\), bit 3 of byte 40000, "
        r"in window (9|10) \(bytes \d+ to \d+\)",
        place[0],
    )
    first, last = map(int, re.search(r"bytes (\d+) to (\d+)", place[0]).groups())
    assert first <= 40000 <= last < first + HOST_PAGE


@pytest.mark.parametrize(
    "other, line",
    [
        ("iova", "iova: 0x10000, expected 0x11000"),
        ("length", "length: 0x200000, expected 0x300000"),
        ("page_size", "page size: 0x1000, expected 0x2000"),
    ],
)
def test_bitmaps_of_different_geometries(shown, other, line):
    lines = shown(f"other_{other}")
    assert "bitmaps of different geometries" in lines[0]
    assert line in lines
    assert "found: 3 of 512 pages dirty: 0-2" in lines
    assert any(each.startswith("expected: 3 of ") for each in lines)


def test_an_explanation_is_bounded_however_large_the_bitmaps(shown):
    """2**30 pages on one side, every second of 2**20 on the other."""
    lines = shown("large")
    assert f"too many: {2**30 - 2**19} pages: 1,3,5,7,9,11,13,15,..., from iova 0x1" in lines
    assert "missing: none" in lines
    assert len(lines) < 12 and sum(map(len, lines)) < 1500


def test_a_bitmap_and_a_model(shown):
    lines = shown("a_model")
    assert "missing: 1 page: 2, from iova 0x12000" in lines
    assert "too many: 1 page: 9, from iova 0x19000" in lines


def test_what_is_no_bitmap_says_how_to_compare(shown):
    lines = shown("a_list")
    assert "a bitmap never equals a list" in lines[0]
    assert "compare with ranges by iovabitmap.testing.assert_ranges(bitmap, expected)" in lines


def test_a_freed_bitmap_is_still_shown(shown):
    assert len(shown("freed")) >= 1


@pytest.mark.parametrize("name", ["numbers", "texts"])
def test_other_comparisons_are_left_to_pytest(shown, name):
    lines = shown(name)
    assert lines and not any("bitmap" in line for line in lines)


def test_a_comparison_that_cannot_be_explained_is_still_a_comparison():
    bm = ib.IOVABitmap(0, 4096)
    bm.free()
    lines = pytest_assertrepr_compare("==", bm, ib.IOVABitmap(0, 4096))
    assert lines[0] == "two bitmaps are not equal" and "no explanation: " in lines[1]
    assert pytest_assertrepr_compare("!=", bm, bm) is None


# --- assert_ranges --------------------------------------------------------------------------------


@pytest.mark.parametrize("of", ["a_bitmap", "rows"])
def test_assert_ranges_explains_itself(shown, of):
    lines = shown(f"assert_ranges_of_{of}")
    assert lines[0] == "AssertionError: ranges are not as expected"
    assert "missing: 1 page: 64, from iova 0x50000" in lines
    assert "too many: 2 pages: 3,256, from iova 0x13000" in lines


def test_assert_ranges_of_arrays_explains_itself_in_addresses(shown):
    lines = shown("assert_ranges_of_arrays")
    assert "missing: 4096 bytes: 0x50000 + 0x1000" in lines
    assert "too many: 8192 bytes: 0x13000 + 0x1000, 0x110000 + 0x1000" in lines


def test_a_failure_points_at_the_line_of_the_user(output):
    assert "_explain.py" not in output


# --- fixtures -------------------------------------------------------------------------------------


def test_iova_buffer_gives_guarded_memory(iova_buffer):
    for nbytes in (1, 4095, 4096, 12288):
        buffer = iova_buffer(nbytes)
        assert len(buffer) == nbytes and not buffer.readonly and bytes(buffer) == bytes(nbytes)


@pytest.mark.parametrize("offset, dies", [(4095, False), (4096, True), (-1, True)])
def test_a_touch_beyond_an_iova_buffer_kills(offset, dies):
    done = run_child(
        f"""
        import ctypes
        from iovabitmap.testing._guarded import WatchedBuffer
        watched = WatchedBuffer(4096)
        address = ctypes.addressof(ctypes.c_char.from_buffer(watched.data))
        ctypes.memset(address + {offset}, 1, 1)
        """
    )
    assert (done.returncode < 0) is dies, done.stderr


def test_a_touch_before_an_odd_iova_buffer_fails_the_test(shown):
    lines = shown("before_an_odd_buffer")
    assert any("2 bytes before a buffer of 100 bytes were written" in line for line in lines)
    assert any("at offsets -3 to -2" in line for line in lines)


@pytest.mark.skipif(not WriteTracker.probe(), reason=WriteTracker.probe().reason or "works")
def test_write_tracker_sees_writes_and_is_stopped(write_tracker):
    buffer, tracker = write_tracker(5 * 4096)
    buffer[2 * 4096 + 7] = 1
    with ib.IOVABitmap(tracker.iova, tracker.length) as bm:
        assert tracker.collect(bm) == 1
        assert bm.to_text() == "2"
        assert tracker.collect(bm) == 0


def test_write_tracker_skips_with_its_reason(output):
    assert "cannot track writes: this kernel is too old" in output


# --- what it costs --------------------------------------------------------------------------------


def test_a_run_that_does_not_use_it_loads_nothing_for_it(tmp_path):
    """Neither NumPy nor hypothesis, nor the extension module."""
    (tmp_path / "test_none.py").write_text(
        "import sys\n"
        "def test_nothing():\n"
        "    assert 'iovabitmap.testing.pytest_plugin' in sys.modules\n"
        "    heavy = ('numpy', 'hypothesis', 'iovabitmap._core',\n"
        "             'iovabitmap.testing._explain', 'iovabitmap.testing._fixtures',\n"
        "             'iovabitmap.sources', 'iovabitmap.model', 'ctypes')\n"
        "    assert not [name for name in heavy if name in sys.modules]\n"
        "    assert [1] != [2]\n",
        encoding="utf-8",
    )
    # Only this plugin: others, such as hypothesis's own, may load what they like.
    done = subprocess.run(
        [
            *(sys.executable, "-P", "-m", "pytest", "-q", "-p", "no:cacheprovider"),
            *("-p", "iovabitmap.testing.pytest_plugin", f"--rootdir={tmp_path}", str(tmp_path)),
        ],
        env={"PYTEST_DISABLE_PLUGIN_AUTOLOAD": "1", "PYTHONPATH": ":".join(filter(None, sys.path))},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("first", ["hypothesis", "iovabitmap"])
def test_hypothesis_loads_no_engine_and_knows_its_types(first):
    """In every project of the environment: not even one that cannot be loaded."""
    run_child(
        f"""
        import {first}
        import hypothesis.strategies as st
        assert "iovabitmap._core" not in sys.modules
        import iovabitmap as ib
        from hypothesis import find
        assert type(find(st.from_type(ib.Geometry), lambda found: True)) is ib.Geometry
        assert type(find(st.from_type(ib.IOVABitmap), lambda found: True)) is ib.IOVABitmap
        """
    ).assert_lived("drawing by type")


def test_hypothesis_can_be_imported_whatever_the_engine_is_told():
    run_child("import hypothesis", IOVABITMAP_CPU="nonsense").assert_lived("hypothesis")
