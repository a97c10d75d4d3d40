"""Test the dirty log of a device model in C: toy_device.c, compiled here and loaded by ctypes.

    pytest examples/test_device_in_c.py

Put your own driver's library and the names of its functions in the place of these. It needs a C
compiler, pytest and hypothesis.
"""

import ctypes
import shutil
import subprocess
import tempfile
from pathlib import Path

import pytest

import iovabitmap as ib
from iovabitmap.testing import DirtyTrackerMachine

SOURCE = Path(__file__).with_name("toy_device.c")

if not shutil.which("cc"):
    pytest.skip("there is no C compiler, cc", allow_module_level=True)


def load() -> ctypes.CDLL:
    """The device model as a library, with what its functions take and return."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "toy_device.so"
        command = ["cc", "-O2", "-Wall", "-Werror", "-shared", "-fPIC", "-o", path, SOURCE]
        subprocess.run(command, check=True)
        library = ctypes.CDLL(str(path))  # stays loaded when the file is gone
    library.device_start.restype = ctypes.c_void_p
    library.device_start.argtypes = [ctypes.c_uint64, ctypes.c_uint64, ctypes.c_uint]
    library.device_write.argtypes = [ctypes.c_void_p, ctypes.c_uint64, ctypes.c_uint64]
    library.device_read_log.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
    library.device_take_log.argtypes = [ctypes.c_void_p, ctypes.c_void_p]
    library.device_stop.argtypes = [ctypes.c_void_p]
    return library


library = load()


class Device(DirtyTrackerMachine):
    """The device model behind the methods that the machine calls."""

    def start(self, iova, length, page_size):
        self.range = iova, length, page_size
        self.device = library.device_start(iova, length, page_size.bit_length() - 1)
        assert self.device, "no memory"

    def write(self, iova, length):
        library.device_write(self.device, iova, length)

    def read(self):
        return self.log_by(library.device_read_log)

    def read_and_clear(self):
        return self.log_by(library.device_take_log)

    def stop(self):
        library.device_stop(self.device)

    def log_by(self, function) -> ib.IOVABitmap:
        """The log as a bitmap: its words are the bitmap's memory, nothing is converted."""
        iova, length, page_size = self.range
        nwords = -(-ib.nbytes_for(length, page_size) // 8)
        words = (ctypes.c_uint64 * nwords)()
        function(self.device, words)
        return ib.alloc(iova, length, page_size, memoryview(words).cast("B"))


TestDevice = Device.TestCase
