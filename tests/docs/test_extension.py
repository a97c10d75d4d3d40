"""The example of an extension in a package of its own: pip builds and installs it from a copy, it
marks exactly what NumPy says, and refuses what it must.
"""

from __future__ import annotations

import errno
import importlib.util
import os
import shutil
import subprocess
import sys
from array import array
from pathlib import Path

import numpy as np
import pytest

import iovabitmap as ib
from support.children import run_child

EXAMPLE = Path(__file__).parents[2] / "examples" / "c_extension"
BASE, PAGE, NPAGES = 2**40 + 0x800, 4096, 3000  # a base inside a page

pytestmark = pytest.mark.skipif(
    not EXAMPLE.exists(), reason="examples/ is not beside this copy of the tests"
)


@pytest.fixture(scope="module")
def installed(tmp_path_factory) -> Path:
    """The folder that the package is installed in."""
    for name in ("pip", "setuptools"):
        if importlib.util.find_spec(name) is None:
            pytest.skip(f"this environment has no {name}")
    if not shutil.which("cc"):
        pytest.skip("there is no C compiler, cc")
    folder = tmp_path_factory.mktemp("extension")
    source = shutil.copytree(EXAMPLE, folder / "source")
    path = os.pathsep.join(filter(None, sys.path))
    pip = [sys.executable, "-P", "-m", "pip", "install", "--disable-pip-version-check"]
    options = ("--no-build-isolation", "--no-deps", "--no-index")
    done = subprocess.run(
        [*pip, *options, "--target", folder / "site", source],
        env=os.environ | {"PYTHONPATH": path, "CFLAGS": "-Wall -Wextra -Werror"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    return folder / "site"


@pytest.fixture(scope="module")
def device(installed):
    (file,) = installed.glob("ring_device*.so")
    spec = importlib.util.spec_from_file_location("ring_device", file)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_it_is_imported_before_anything_of_iovabitmap(installed):
    """PyCapsule_Import imports the package alone, which loads its modules when asked."""
    done = run_child("sys.path.insert(0, sys.argv[1]); import ring_device", str(installed))
    done.assert_lived("importing the extension first")


def test_only_the_extension_is_installed(installed):
    assert [path.name for path in installed.glob("*.dist-info")] == ["ring_device-1.0.dist-info"]
    assert not (installed / "iovabitmap").exists()


@pytest.mark.parametrize("length", [1, 1500, PAGE, 3 * PAGE + 1])
def test_marks_are_what_numpy_says(device, length):
    generator = np.random.default_rng(length)
    bm = ib.IOVABitmap(BASE, NPAGES * PAGE, PAGE)
    expected = np.zeros(NPAGES, bool)
    for _ in range(3):
        offsets = generator.integers(0, NPAGES * PAGE - length, 200, dtype=np.uint64, endpoint=True)
        before = expected.sum()
        for first, last in zip(offsets // PAGE, (offsets + (length - 1)) // PAGE, strict=True):
            expected[first : last + 1] = True
        assert device.write(bm, offsets + np.uint64(BASE), length) == expected.sum() - before
        np.testing.assert_array_equal(bm.to_mask(), expected)


def test_the_addresses_are_any_buffer_of_uint64(device):
    bm = ib.IOVABitmap(BASE, NPAGES * PAGE, PAGE)
    assert device.write(bm, array("Q", [BASE, BASE + 5 * PAGE]), 1) == 2
    assert device.write(bm, array("Q"), 1) == 0
    assert bm.to_text() == "0,5"
    for wrong in (array("q", [BASE]), array("d", [1.0]), b"12345678", np.zeros(1, ">u8"), [BASE]):
        with pytest.raises(TypeError):
            device.write(bm, wrong, 1)


def test_a_length_of_more_than_64_bits_is_not_cut(device):
    bm = ib.IOVABitmap(BASE, NPAGES * PAGE, PAGE)
    for length in (2**64 + 1, -1, PAGE - 2**64):
        with pytest.raises(OverflowError):
            device.write(bm, array("Q", [BASE]), length)
    assert not bm.any()


def test_a_mark_that_does_not_fit_ends_it(device):
    bm = ib.IOVABitmap(BASE, NPAGES * PAGE, PAGE)
    with pytest.raises(OSError) as caught:
        device.write(bm, array("Q", [BASE, BASE - 1, BASE + PAGE]), 1)
    assert caught.value.errno == errno.ERANGE
    assert bm.to_text() == "0"


def test_a_freed_bitmap_and_another_object_are_refused(device):
    memory = bytearray(ib.nbytes_for(NPAGES * PAGE, PAGE))
    bm = ib.alloc(BASE, NPAGES * PAGE, PAGE, memory)
    assert device.write(bm, array("Q", [BASE]), 1) == 1
    bm.free()
    with pytest.raises(ValueError, match="freed"):
        device.write(bm, array("Q", [BASE + PAGE]), 1)
    assert memory[0] == 1
    memory.append(0)  # nobody holds it any more
    with pytest.raises(TypeError, match="an IOVABitmap is needed"):
        device.write(memory, array("Q", [BASE]), 1)


@pytest.mark.parametrize(
    "version, size, fits",
    [(1, 88, True), (1, 96, True), (1, 80, False), (2, 88, False), (0, 88, False)],
)
def test_a_table_of_another_version_is_refused(installed, version, size, fits):
    """The library's own table with another head, in place of the library's."""
    done = run_child(
        """
        import ctypes
        from iovabitmap import _core
        site, version, size, fits = sys.argv[1], *map(int, sys.argv[2:])
        name = b"iovabitmap._core._C_API"
        get, new = ctypes.pythonapi.PyCapsule_GetPointer, ctypes.pythonapi.PyCapsule_New
        get.restype, get.argtypes = ctypes.c_void_p, [ctypes.py_object, ctypes.c_char_p]
        new.restype = ctypes.py_object
        new.argtypes = [ctypes.c_void_p, ctypes.c_char_p, ctypes.c_void_p]
        table = ctypes.create_string_buffer(ctypes.string_at(get(_core._C_API, name), 88), 104)
        (ctypes.c_uint32 * 2).from_buffer(table)[:] = [version, size]
        _core._C_API = new(ctypes.addressof(table), name, None)
        sys.path.insert(0, site)
        try:
            import ring_device
        except ImportError as error:
            assert not fits
            assert f"is version {version} of {size} bytes" in str(error), error
        else:
            assert fits
        """,
        *(str(installed), str(version), str(size), str(int(fits))),
    )
    done.assert_lived("importing it with another table")
