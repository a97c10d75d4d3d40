"""The caller's memory: what can hold a bitmap, what is refused, and how it is held."""

from __future__ import annotations

import array
import ctypes
import gc
import mmap
import sys
import weakref
from multiprocessing import shared_memory

import numpy as np
import pytest

from support.memory import address_of
from support.under_test import engine_only, ib

NBYTES = 24  # of each buffer here; the bitmap covers all of it


def over(data):
    return ib.alloc(0x1000, NBYTES * 8 * 4096, 4096, data)


def check(data, read=None):
    """Marks through the engine, and reads the caller's bytes; then the other way around."""
    read = read or (lambda: bytes(memoryview(data).cast("B")))
    bm = over(data)
    bm.set(0x1000 + 9 * 4096, 4096)
    bm.set(bm.end - 1, 1)
    assert read() == b"\x00\x02" + b"\x00" * (NBYTES - 3) + b"\x80"
    view = bm.view()
    view[:] = 0
    view[3] = 1
    assert read()[:4] == b"\x00\x00\x00\x01" and bm.count() == 1
    del view
    bm.free()
    assert read()[:4] == b"\x00\x00\x00\x01", "free leaves the caller's memory as it is"


# --- kinds of memory ---------------------------------------------------------------------------


def test_bytearray():
    check(bytearray(NBYTES))


def test_memoryview_and_its_casts():
    check(memoryview(bytearray(NBYTES)))
    for code in ("B", "b", "c", "H", "i", "Q", "d", "?"):
        check(memoryview(bytearray(NBYTES)).cast(code))
    check(memoryview(bytearray(NBYTES)).cast("B", (2, 3, 4)))
    data = bytearray(NBYTES + 7)
    check(memoryview(data)[7:], lambda: bytes(data[7:]))


@pytest.mark.parametrize("code", ["B", "h", "I", "Q", "d"])
def test_array(code):
    check(array.array(code, bytes(NBYTES)))


def test_ctypes():
    check((ctypes.c_ubyte * NBYTES)())
    check((ctypes.c_uint64 * (NBYTES // 8))())

    class Record(ctypes.Structure):
        _fields_ = (("a", ctypes.c_uint64), ("b", ctypes.c_uint32 * 4))

    check(Record())
    raw = ctypes.create_string_buffer(NBYTES)
    check(raw, lambda: raw.raw)


def test_mmap():
    with mmap.mmap(-1, NBYTES) as memory:
        check(memory, lambda: memory[:NBYTES])


def test_a_file_mapping(tmp_path):
    path = tmp_path / "bitmap"
    path.write_bytes(bytes(NBYTES))
    with path.open("r+b") as file, mmap.mmap(file.fileno(), NBYTES) as memory:
        check(memory, lambda: memory[:NBYTES])
    assert path.read_bytes()[3] == 1


def test_shared_memory():
    memory = shared_memory.SharedMemory(create=True, size=NBYTES)
    try:
        check(memory.buf[:NBYTES], lambda: bytes(memory.buf[:NBYTES]))
        other = shared_memory.SharedMemory(memory.name)
        try:
            bm = over(memory.buf)
            twin = over(other.buf)
            bm.set(0x1000, 4096)
            assert twin.test(0x1000) and twin == bm
            bm.free()
            twin.free()
        finally:
            other.close()
    finally:
        gc.collect()
        memory.close()
        memory.unlink()


@pytest.mark.parametrize("dtype", ["u1", "i1", "u2", ">u4", "f8", "?", "S3"])
def test_numpy(dtype):
    data = np.zeros(NBYTES // np.dtype(dtype).itemsize, dtype)
    check(data, lambda: data.tobytes())


@engine_only.buffers
def test_numpy_types_that_buffers_have_no_format_for():
    data = np.zeros(NBYTES // 8, "M8[s]")
    check(data, lambda: data.tobytes())


@engine_only.buffers
def test_numpy_in_c_and_fortran_order():
    """The order of bytes in memory counts, not the one of indices."""
    plain = np.zeros((2, 3, 4), np.uint8)
    check(plain, lambda: plain.tobytes())
    fortran = np.zeros((2, 3, 4), np.uint8, order="F")
    check(fortran, lambda: fortran.tobytes(order="A"))
    both = np.zeros((1, NBYTES), np.uint8)
    check(both[:, :], lambda: both.tobytes())
    scalar = np.zeros((), f"V{NBYTES}")
    check(scalar, lambda: scalar.tobytes())
    raw = np.zeros(NBYTES + 5, np.uint8)
    check(raw[5:], lambda: raw[5:].tobytes())


@pytest.mark.parametrize("field", ["a", "O", "Offset", "Order"])
def test_records(field):
    """Whatever the fields are called: the memory is plain."""
    data = np.zeros(2, [("b", "u4"), (field, "u8")])
    check(data, lambda: data.tobytes())

    class Record(ctypes.Structure):
        _fields_ = (("b", ctypes.c_uint64 * 2), (field, ctypes.c_uint64))

    check(Record())


def test_references_to_objects_are_no_memory_for_bits():
    with pytest.raises((BufferError, TypeError)):
        over(np.array([None] * NBYTES))
    with pytest.raises((BufferError, TypeError)):
        over(np.zeros(NBYTES, [("a", "u8"), ("b", "O")]))


@pytest.mark.skipif(sys.version_info < (3, 12), reason="__buffer__ came with Python 3.12")
def test_a_class_with_the_buffer_protocol():
    class Exporter:
        def __init__(self):
            self.data, self.released = bytearray(NBYTES), 0

        def __buffer__(self, flags):
            return memoryview(self.data)

        def __release_buffer__(self, view):
            self.released += 1
            view.release()

    exporter = Exporter()
    bm = over(exporter)
    bm.set(0x1000, 1)
    assert exporter.data[0] == 1
    bm.free()
    assert exporter.released == 1


def test_more_memory_than_needed_is_left_alone():
    data = bytearray(b"\xa5" * 100)
    bm = ib.alloc(0, 64, 1, data)
    bm.set(0, 64)
    bm.clear(0, 64)
    assert data == bytes(8) + b"\xa5" * 92 and bm.view().size == 8


@engine_only.buffers
def test_memory_does_not_end_beyond_the_last_address():
    bits = 8 * ctypes.sizeof(ctypes.c_void_p)
    data = (ctypes.c_char * 8).from_address(2**bits - 8)
    where = rf"data of 0x8 bytes at {2**bits - 8:#x} does not end below 2\*\*{bits}"
    with pytest.raises(ValueError, match=where):
        ib.alloc(0, 8 * 4096, 4096, data)


@pytest.mark.skipif(sys.version_info < (3, 12), reason="__buffer__ came with Python 3.12")
def test_whatever_the_exporter_raises_is_the_cause_of_a_buffer_error():
    class Exporter:
        def __buffer__(self, flags):
            raise LookupError("mine")

    with pytest.raises(BufferError) as caught:
        over(Exporter())
    assert isinstance(caught.value.__cause__, LookupError)


# --- what is refused ---------------------------------------------------------------------------

needs_no_cause = (bytes(NBYTES), memoryview(bytes(NBYTES)), memoryview(bytearray(48))[::2])


@pytest.mark.parametrize("data", needs_no_cause, ids=["bytes", "read-only view", "strided view"])
def test_read_only_and_strided(data):
    with pytest.raises(BufferError):
        over(data)
    with pytest.raises(BufferError):
        ib.IOVABitmap(0, 64, 1, data)


@engine_only.buffers
def test_read_only_and_strided_numpy_keep_the_cause():
    read_only = np.zeros(NBYTES, np.uint8)
    read_only.flags.writeable = False
    strided = np.zeros(NBYTES * 2, np.uint8)[::2]
    backwards = np.zeros(NBYTES, np.uint8)[::-1]
    columns = np.zeros((NBYTES, 2), np.uint8)[:, :1]
    transposed = np.zeros((2, 3, 4), np.uint8).transpose(1, 0, 2)
    for data in (read_only, strided, backwards, columns, transposed):
        with pytest.raises(BufferError) as caught:
            over(data)
        assert isinstance(caught.value.__cause__, ValueError), data.flags


def test_a_read_only_mapping():
    with mmap.mmap(-1, NBYTES, access=mmap.ACCESS_READ) as memory, pytest.raises(BufferError):
        over(memory)


@pytest.mark.parametrize("data", [None, 5, "text", [1, 2], object(), 1.0, {}])
def test_no_buffer_at_all(data):
    with pytest.raises(TypeError):
        over(data)
    if data is not None:
        with pytest.raises(TypeError):
            ib.IOVABitmap(0, 64, 1, data)


def test_memory_that_is_closed_already():
    memory = mmap.mmap(-1, NBYTES)
    memory.close()
    with pytest.raises((BufferError, ValueError)):
        over(memory)
    view = memoryview(bytearray(NBYTES))
    view.release()
    with pytest.raises((BufferError, ValueError)):
        over(view)


def test_a_refused_alloc_holds_nothing():
    """Every way to fail after the buffer was taken gives it back."""
    data = bytearray(NBYTES)
    for arguments, named in (
        ((0, 2**40, 1, data), {}),
        ((0, 0, 1, data), {}),
        ((0, 64, 3, data), {}),
        ((2**64 - 1, 2, 1, data), {}),
        ((0, 64, 1, data), {"pin": "nonsense"}),
        ((0, 64, 1, data), {"window_pages": 0}),
    ):
        for make in (ib.alloc, ib.IOVABitmap):
            with pytest.raises(ValueError):
                make(*arguments, **named)
    before = sys.getrefcount(data)
    with pytest.raises(TypeError):
        ib.alloc(0, 64, 1, data, pin=5)
    assert sys.getrefcount(data) == before
    data.append(0)


# --- held --------------------------------------------------------------------------------------


def test_a_bytearray_cannot_be_resized_while_held():
    data = bytearray(NBYTES)
    bm = over(data)
    for resize in (lambda: data.append(0), data.clear, lambda: data.extend(b"12"), data.pop):
        with pytest.raises(BufferError):
            resize()
    bm.set(0x1000, 1)
    assert data[0] == 1 and len(data) == NBYTES
    bm.free()
    data.append(0)


def test_an_array_cannot_be_resized_while_held():
    data = array.array("Q", bytes(NBYTES))
    bm = over(data)
    with pytest.raises(BufferError):
        data.append(0)
    bm.free()
    data.append(0)


def test_a_mapping_cannot_be_closed_while_held():
    memory = mmap.mmap(-1, NBYTES)
    bm = over(memory)
    with pytest.raises(BufferError):
        memory.close()
    with pytest.raises((BufferError, OSError, SystemError)):
        memory.resize(NBYTES * 4096)
    bm.set(0x1000, 1)
    assert memory[0] == 1
    bm.free()
    memory.close()


@engine_only.buffers
def test_a_memoryview_cannot_be_released_while_held():
    view = memoryview(bytearray(NBYTES))
    bm = over(view)
    with pytest.raises(BufferError):
        view.release()
    bm.free()
    view.release()


def test_leaving_a_with_block_gives_it_back():
    data = bytearray(NBYTES)
    with over(data), pytest.raises(BufferError):
        data.append(0)
    data.append(0)


def test_the_collector_gives_it_back():
    data = bytearray(NBYTES)
    bm = over(data)
    del bm
    gc.collect()
    data.append(0)


def test_the_bitmap_keeps_the_memory_alive():
    data = np.zeros(NBYTES, np.uint8)
    bm = over(data)
    address = address_of(data)
    gone = weakref.ref(data)
    del data
    gc.collect()
    assert gone() is not None and address_of(bm.view()) == address
    bm.set(0x1000, 4096)
    assert bm.count() == 1
    bm.free()
    del bm
    gc.collect()
    assert gone() is None


def test_two_bitmaps_over_the_same_memory():
    data = bytearray(NBYTES)
    one, two = over(data), over(data)
    one.set(0x1000, 4096)
    assert two.test(0x1000) and one == two
    two.clear(0x1000, 4096)
    assert one.count() == 0
    one.free()
    with pytest.raises(BufferError):
        data.append(0)
    two.set(0x1000, 4096)
    two.free()
    data.append(0)
