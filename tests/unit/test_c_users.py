"""For C users: the headers, the capsule, and a library of C that marks a bitmap of Python's."""

from __future__ import annotations

import ctypes
import errno
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

import iovabitmap as ib
from iovabitmap import _core

# Exercises the table as another library does, which has only the header.
SOURCE = r"""
#include "iovabitmap_api.h"
int fits(const struct iovabitmap_api *api) { return iovabitmap_api_fits(api); }
int hold(const struct iovabitmap_api *api, void *object, struct iovabitmap_held *held)
{ return api->acquire(object, held); }
void let_go(const struct iovabitmap_api *api, struct iovabitmap_held *held)
{ api->release(held); }
int set(const struct iovabitmap_api *api, struct iovabitmap_held *held, uint64_t iova,
        uint64_t length, unsigned flags, struct iova_bitmap_report *report)
{ return api->set(held->bitmap, iova, length, flags, report); }
int clear(const struct iovabitmap_api *api, struct iovabitmap_held *held, uint64_t iova,
          uint64_t length) { return api->clear(held->bitmap, iova, length, 0, NULL); }
int test(const struct iovabitmap_api *api, struct iovabitmap_held *held, uint64_t iova)
{ return api->test(held->bitmap, iova); }
uint64_t count(const struct iovabitmap_api *api, struct iovabitmap_held *held)
{
    const struct iova_bitmap_geometry *geometry = api->geometry(held->bitmap);
    struct iova_bitmap_report report;
    int rc = api->count(held->bitmap, geometry->iova, geometry->length, 0, &report);
    return rc < 0 ? UINT64_MAX : report.pages;
}
int set_ranges(const struct iovabitmap_api *api, struct iovabitmap_held *held,
               const struct iova_bitmap_range *rows, uint64_t n, unsigned flags, uint64_t *bad_row,
               struct iova_bitmap_report *report)
{ return api->set_ranges(held->bitmap, rows, n, flags, bad_row, report); }
int read_and_clear(const struct iovabitmap_api *api, struct iovabitmap_held *held, uint64_t iova,
                   uint64_t length, struct iova_bitmap_ranges *ranges,
                   struct iova_bitmap_report *report)
{ return api->read_and_clear(held->bitmap, iova, length, 0, ranges, report); }
void rows_free(const struct iovabitmap_api *api, void *rows) { api->rows_free(rows); }
"""
BASE, PAGE, COUNT_FLAG = 0x10000, 4096, 2


class Held(ctypes.Structure):
    _fields_ = [("bitmap", ctypes.c_void_p), ("memory", ctypes.c_void_p)]


class Report(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("pages", "iova", "length")]


class Range(ctypes.Structure):
    _fields_ = [(name, ctypes.c_uint64) for name in ("iova", "length")]


class Ranges(ctypes.Structure):
    _fields_ = [
        ("rows", ctypes.POINTER(Range)),
        ("capacity", ctypes.c_uint64),
        ("count", ctypes.c_uint64),
    ]

    def found(self) -> list[tuple[int, int]]:
        return [(row.iova, row.length) for row in self.rows[: self.count]]


class Library:
    """The compiled SOURCE over the capsule's table. What touches objects keeps the GIL."""

    def __init__(self, path: Path) -> None:
        pointer = ctypes.pythonapi.PyCapsule_GetPointer
        pointer.restype, pointer.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
        self.api = ctypes.c_void_p(pointer(_core._C_API, b"iovabitmap._core._C_API"))
        self.free, self.attached = ctypes.CDLL(str(path)), ctypes.PyDLL(str(path))
        self.free.count.restype = ctypes.c_uint64

    def hold(self, bm: object) -> Held:
        held = Held()
        self.attached.hold(self.api, ctypes.py_object(bm), ctypes.byref(held))
        return held

    def let_go(self, held: Held) -> None:
        self.attached.let_go(self.api, ctypes.byref(held))

    def set(self, held: Held, iova: int, length: int, flags: int = 0) -> tuple[int, int]:
        report = Report()
        range_ = (ctypes.c_uint64(iova), ctypes.c_uint64(length))
        status = self.free.set(self.api, ctypes.byref(held), *range_, flags, ctypes.byref(report))
        return status, report.pages

    def clear(self, held: Held, iova: int, length: int) -> int:
        range_ = (ctypes.c_uint64(iova), ctypes.c_uint64(length))
        return self.free.clear(self.api, ctypes.byref(held), *range_)

    def test(self, held: Held, iova: int) -> int:
        return self.free.test(self.api, ctypes.byref(held), ctypes.c_uint64(iova))

    def set_ranges(self, held: Held, rows: list[tuple[int, int]], flags: int = 0):
        """The status, the row that is bad, and how many pages were clean."""
        array, bad, report = (Range * len(rows))(*rows), ctypes.c_uint64(999), Report()
        count, pointers = ctypes.c_uint64(len(rows)), (ctypes.byref(bad), ctypes.byref(report))
        held_ = ctypes.byref(held)
        status = self.free.set_ranges(self.api, held_, array, count, flags, *pointers)
        return status, bad.value, report.pages

    def read_and_clear(self, held: Held, iova: int, length: int, ranges: Ranges):
        """The status, and the part that is left."""
        report, range_ = Report(), (ctypes.c_uint64(iova), ctypes.c_uint64(length))
        pointers = (ctypes.byref(ranges), ctypes.byref(report))
        status = self.free.read_and_clear(self.api, ctypes.byref(held), *range_, *pointers)
        return status, report.iova, report.length

    def count(self, held: Held) -> int:
        return self.free.count(self.api, ctypes.byref(held))


@pytest.fixture(scope="module")
def library(tmp_path_factory):
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler: cc")
    folder = tmp_path_factory.mktemp("c_users")
    source, built = folder / "user.c", folder / "user.so"
    source.write_text(SOURCE)
    flags = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    command = [compiler, *flags, f"-I{ib.get_include()}", source, "-o", built]
    subprocess.run(command, check=True)
    return Library(built)


@pytest.mark.parametrize("pin", ["none", "populate"])
def test_marks_of_c_are_marks_of_the_bitmap(library, pin):
    assert library.free.fits(library.api) == 1
    bm = ib.alloc(BASE, 64 * PAGE, PAGE, bytearray(8), pin=pin)
    held = library.hold(bm)
    assert library.set(held, BASE + PAGE + 0x800, PAGE) == (0, 0)
    assert bm.to_text() == "1-2"
    assert library.set(held, BASE, 4 * PAGE, COUNT_FLAG) == (0, 2)
    assert library.clear(held, BASE + PAGE, 1) == 0
    assert [library.test(held, BASE + i * PAGE) for i in range(5)] == [1, 0, 1, 1, 0]
    bm.set(BASE + 63 * PAGE, 1)
    assert library.count(held) == bm.count() == 4
    library.let_go(held)
    assert (held.bitmap, held.memory) == (None, None)
    library.let_go(held)


def test_many_ranges_in_one_call(library):
    bm = ib.IOVABitmap(BASE, 64 * PAGE, PAGE)
    held = library.hold(bm)
    rows = [(BASE + 9 * PAGE, 2 * PAGE), (BASE, 1), (BASE + 10 * PAGE + 5, PAGE)]
    assert library.set_ranges(held, rows, COUNT_FLAG) == (0, 999, 4)
    assert bm.to_text() == "0,9-11"
    assert library.set_ranges(held, [(BASE, PAGE), (BASE - 1, 1)])[:2] == (-errno.ERANGE, 1)
    assert library.set_ranges(held, []) == (0, 999, 0)
    assert bm.to_text() == "0,9-11"
    library.let_go(held)


def test_a_harvest_into_rows_that_are_too_few_goes_on_where_it_says(library):
    bm = ib.IOVABitmap(BASE, 64 * PAGE, PAGE)
    for page in (1, 2, 5, 8, 63):
        bm.set(BASE + page * PAGE, 1)
    held, rows = library.hold(bm), (Range * 3)()
    ranges = Ranges(rows, 2, 77)
    left = (BASE + 8 * PAGE, 56 * PAGE)
    assert library.read_and_clear(held, BASE, 64 * PAGE, ranges) == (-errno.ENOSPC, *left)
    assert ranges.found() == [(BASE + PAGE, 2 * PAGE), (BASE + 5 * PAGE, PAGE)]
    assert bm.to_text() == "8,63"
    assert library.read_and_clear(held, *left, ranges) == (0, 0, 0)
    assert ranges.found() == [(BASE + 8 * PAGE, PAGE), (BASE + 63 * PAGE, PAGE)]
    assert not bm.any()
    assert (rows[2].iova, rows[2].length) == (0, 0)
    library.let_go(held)


def test_a_harvest_into_rows_of_the_library(library):
    bm = ib.IOVABitmap(BASE, 64 * PAGE, PAGE)
    bm.set(BASE + 7 * PAGE, 3 * PAGE)
    held, ranges = library.hold(bm), Ranges()
    assert library.read_and_clear(held, BASE, 64 * PAGE, ranges) == (0, 0, 0)
    assert ranges.found() == [(BASE + 7 * PAGE, 3 * PAGE)]
    library.free.rows_free(library.api, ranges.rows)
    library.free.rows_free(library.api, None)
    assert not bm.any()
    library.let_go(held)


def test_errors_are_the_engines_and_nothing_is_marked(library):
    bm = ib.IOVABitmap(BASE, 64 * PAGE, PAGE)
    held = library.hold(bm)
    assert library.set(held, BASE - 1, 2)[0] == -errno.ERANGE
    assert library.set(held, 2**64 - 1, 2)[0] == -errno.EOVERFLOW
    assert library.test(held, 0) == -errno.ERANGE
    assert not bm.any()
    library.let_go(held)


def test_memory_stays_while_it_is_held_and_no_longer(library):
    memory = bytearray(8)
    bm = ib.alloc(BASE, 64 * PAGE, PAGE, memory)
    held = library.hold(bm)
    bm.free()
    assert library.set(held, BASE + 8 * PAGE, 1) == (0, 0)
    assert memory[1] == 1
    with pytest.raises(BufferError):
        memory.append(0)
    library.let_go(held)
    memory.append(0)


def test_what_cannot_be_held(library):
    class Pin:
        def pin(self, address, npages):
            return npages

        def unpin(self, address, npages):
            pass

    for nothing in (None, 5, _core._WriteTracker):
        with pytest.raises(TypeError, match="an IOVABitmap is needed, not "):
            library.hold(nothing)
    with pytest.raises(ValueError, match="pin object"):
        library.hold(ib.IOVABitmap(BASE, PAGE, PAGE, pin=Pin()))
    bm = ib.IOVABitmap(BASE, PAGE, PAGE)
    bm.free()
    with pytest.raises(ValueError, match="freed"):
        library.hold(bm)


EXAMPLE = Path(__file__).parents[2] / "examples" / "c_library"


@pytest.mark.skipif(not EXAMPLE.exists(), reason="examples/ is not beside this copy of the tests")
def test_the_example_of_a_device_model(tmp_path):
    compiler = shutil.which("cc")
    if compiler is None:
        pytest.skip("no C compiler: cc")
    built = tmp_path / "device.so"
    flags = ["-std=c11", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC"]
    command = [compiler, *flags, f"-I{ib.get_include()}", EXAMPLE / "device.c", "-o", built]
    subprocess.run(command, check=True)
    ran = subprocess.run(
        [sys.executable, EXAMPLE / "device.py", built],
        env={**os.environ, "PYTHONPATH": os.pathsep.join(path for path in sys.path if path)},
        check=True,
        capture_output=True,
        text=True,
    )
    assert ran.stdout == "0 0,2,4,6\n0 16384 False\n"
