"""SnapshotDiff: equal content, odd sizes, files that shrink, and the C function below it."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

import iovabitmap as ib
from iovabitmap import _core
from iovabitmap.sources import SnapshotDiff
from support.memory import Region

PAGE = 4096


def collected(source: SnapshotDiff) -> list[list[int]]:
    bm = ib.IOVABitmap(source.iova, source.length, source.granularity)
    source.collect(bm)
    return bm.ranges().tolist()


def test_equal_content_is_missed():
    """As it says: rewritten with what was there, or changed and changed back."""
    memory = bytearray(8 * PAGE)
    with SnapshotDiff(memory) as source:
        memory[PAGE] = 0
        memory[2 * PAGE] = 1
        memory[2 * PAGE] = 0
        assert collected(source) == []
        memory[3 * PAGE] = 1
        assert collected(source) == [[3 * PAGE, PAGE]]


@given(data=st.data())
def test_any_memory(data):
    """Random changes in memory of any length, compared by pages of any size."""
    length = data.draw(st.integers(1, 3000))
    page_size = 1 << data.draw(st.integers(0, 13))
    iova = data.draw(st.sampled_from([0, 12345, 2**64 - length]))
    memory = np.zeros(length, np.uint8)
    with SnapshotDiff(memory, iova=iova, page_size=page_size) as source:
        for _ in range(data.draw(st.integers(1, 4))):
            places = data.draw(st.lists(st.integers(0, length - 1), max_size=8, unique=True))
            memory[places] += 1
            bits = {place // page_size for place in places}
            with ib.IOVABitmap(iova, length, page_size) as bm:
                assert source.collect(bm) == len(bits)
                assert set(np.flatnonzero(bm.to_mask()).tolist()) == bits


def test_more_than_one_step():
    """Files and buffers are compared in steps; changes at both sides of their ends."""
    length = (9 << 20) + 100
    memory = np.zeros(length, np.uint8)
    places = [0, (4 << 20) - 1, 4 << 20, (8 << 20) - 1, 8 << 20, length - 1]
    with SnapshotDiff(memory) as source:
        memory[places] = 1
        bm = ib.IOVABitmap(0, length)
        source.collect(bm)
        assert bm.pages().tolist() == sorted({place // PAGE * PAGE for place in places})


def test_a_file_that_shrinks(tmp_path):
    path = tmp_path / "memory"
    path.write_bytes(bytes(8 * PAGE))
    with SnapshotDiff(path) as source:
        path.write_bytes(bytes([1]) * 4 * PAGE)
        with pytest.raises(OSError, match="ends at byte 16384, and should have 32768 bytes"):
            collected(source)
        path.write_bytes(bytes([1]) * 8 * PAGE)
        assert collected(source) == [[0, 8 * PAGE]]


def test_a_part_of_a_file_by_descriptor(tmp_path):
    path = tmp_path / "memory"
    path.write_bytes(bytes(8 * PAGE))
    with path.open("r+b", buffering=0) as file:
        source = SnapshotDiff(file.fileno(), offset=2 * PAGE, length=4 * PAGE, iova=1 << 20)
        with source:
            file.write(b"x")
            file.seek(3 * PAGE)
            file.write(b"x")
            file.seek(6 * PAGE)
            file.write(b"x")
            assert collected(source) == [[(1 << 20) + PAGE, PAGE]]
            assert source.layout()[0][:3] == (1 << 20, 4 * PAGE, 2 * PAGE)


@pytest.mark.parametrize(
    "arguments, error",
    [
        ({"memory": b""}, ValueError),
        ({"memory": b"12", "page_size": 3}, ValueError),
        ({"memory": b"12", "page_size": 0}, ValueError),
        ({"memory": b"12", "iova": 2**64 - 1}, ValueError),
        ({"memory": b"12", "iova": -1}, ValueError),
        ({"memory": b"12", "offset": 1}, ValueError),
        ({"memory": None}, TypeError),
        ({"memory": memoryview(b"12345678")[::2]}, BufferError),
        ({"memory": "/nonexistent"}, FileNotFoundError),
        ({"memory": "/dev/null"}, ValueError),
        ({"memory": 10**6}, OSError),
    ],
)
def test_bad_arguments(arguments, error):
    with pytest.raises(error):
        SnapshotDiff(**arguments)


def test_the_buffer_is_held():
    memory = bytearray(PAGE)
    source = SnapshotDiff(memory)
    with pytest.raises(BufferError):
        memory.append(1)
    assert source.length == PAGE


def test_nothing_beside_is_read():
    """Memory that ends right before an inaccessible page, and so does its shadow."""
    regions = Region(2), Region(2)
    memory, shadow = (memoryview(each.at_end(2 * PAGE - 5)).cast("B") for each in regions)
    changed = bytearray(5)
    memory[3 * PAGE // 2] = 1
    assert _core._changed_pages(memory, shadow, 2048, changed) == 1
    assert changed == b"\0\0\0\1\0"
    assert bytes(shadow) == bytes(memory)


@pytest.mark.parametrize(
    "arguments, error",
    [
        ((bytearray(10), bytearray(9), 4, bytearray(3)), ValueError),
        ((bytearray(10), bytearray(10), 4, bytearray(2)), ValueError),
        ((bytearray(10), bytearray(10), 0, bytearray(2)), ValueError),
        ((bytearray(10), bytearray(10), -1, bytearray(2)), ValueError),
        ((bytearray(10), bytes(10), 4, bytearray(3)), BufferError),
        ((bytearray(10), bytearray(10), 4, bytes(3)), BufferError),
        ((None, bytearray(10), 4, bytearray(3)), TypeError),
        ((bytearray(10), bytearray(10), 4), TypeError),
    ],
)
def test_the_function_below_refuses(arguments, error):
    with pytest.raises(error):
        _core._changed_pages(*arguments)
