"""A bitmap as an Arrow array: the same bits without a copy, and who holds the memory how long."""

from __future__ import annotations

import gc
import mmap
import random
import threading
import weakref

import numpy as np
import pytest

import iovabitmap as ib
from support.logs import needs

needs("pyarrow")
import pyarrow as pa  # noqa: E402
import pyarrow.compute as pc  # noqa: E402


@pytest.mark.parametrize("offset", range(9))
@pytest.mark.parametrize("nbits", [1, 7, 8, 9, 63, 64, 65, 10007])
def test_every_bit_at_every_alignment(offset, nbits):
    content = random.Random(nbits * 9 + offset).randbytes(offset + nbits // 8 + 9)
    memory = bytearray(content)
    bm = ib.alloc(0x1000, nbits * 4096 - 5, 4096, memoryview(memory)[offset:])
    expected = [bool(content[offset + n // 8] >> n % 8 & 1) for n in range(nbits)]
    array = pa.array(bm)
    array.validate(full=True)
    assert array.type == pa.bool_() and array.null_count == 0
    assert array.to_pylist() == expected
    assert (pc.sum(array).as_py() or 0) == sum(expected) == array.true_count
    part = array.slice(nbits // 3, nbits // 2)
    assert part.to_pylist() == expected[nbits // 3 :][: nbits // 2]
    assert bytes(memory) == content


def test_it_is_the_memory_itself():
    memory = mmap.mmap(-1, 4096)
    bm = ib.alloc(0, 4096 * 4096, 4096, memory)
    array = pa.array(bm)
    assert array.buffers()[0] is None
    assert array.buffers()[1].address == np.frombuffer(memory, np.uint8).ctypes.data
    assert not array[5].as_py()
    bm.set(5 * 4096, 1)
    assert array[5].as_py() and array.true_count == 1


def test_the_memory_is_held_as_long_as_an_array_is():
    memory = bytearray(8)
    bm = ib.alloc(0, 64 * 4096, 4096, memory)
    bm.set(3 * 4096, 4096)
    array = pa.array(bm)
    bm.free()
    with pytest.raises(BufferError):
        memory.append(0)
    assert [n for n in range(64) if array[n].as_py()] == [3]
    del array
    gc.collect()
    memory.append(0)


def test_the_bitmap_itself_is_not_held():
    bm = ib.IOVABitmap(0, 64 * 4096)
    seen = weakref.ref(bm)
    array = pa.array(bm)
    del bm
    gc.collect()
    assert seen() is None and array.true_count == 0


def test_capsules_that_nobody_takes():
    memory = bytearray(8)
    bm = ib.alloc(0, 64 * 4096, 4096, memory)
    pair = bm.__arrow_c_array__()
    assert [type(capsule).__name__ for capsule in pair] == ["PyCapsule"] * 2
    bm.free()
    with pytest.raises(BufferError):
        memory.append(0)
    del pair
    gc.collect()
    memory.append(0)


def test_released_by_another_thread():
    memory = bytearray(8)
    bm = ib.alloc(0, 64 * 4096, 4096, memory)
    arrays = [pa.array(bm)]
    bm.free()
    thread = threading.Thread(target=arrays.clear)
    thread.start()
    thread.join()
    memory.append(0)


def test_a_freed_bitmap():
    bm = ib.IOVABitmap(0, 4096)
    bm.free()
    with pytest.raises(ValueError, match="freed"):
        bm.__arrow_c_array__()


def test_a_requested_schema():
    bm = ib.IOVABitmap(0, 64 * 4096)
    for requested in (None, pa.bool_().__arrow_c_schema__(), pa.int8().__arrow_c_schema__()):
        schema, array = bm.__arrow_c_array__(requested_schema=requested)
        assert pa.Array._import_from_c_capsule(schema, array).type == pa.bool_()
    for wrong in ("bool", 1, bm.__arrow_c_array__()[1]):
        with pytest.raises(TypeError, match="arrow_schema"):
            bm.__arrow_c_array__(wrong)


def test_many_do_not_leak():
    memory = bytearray(8)
    bm = ib.alloc(0, 64 * 4096, 4096, memory)
    for _ in range(1000):
        pa.array(bm)
        bm.__arrow_c_array__()
    bm.free()
    gc.collect()
    memory.append(0)
