"""Bools are a mask of pages, not addresses 0 and 1: whatever takes addresses refuses them."""

import array

import numpy as np
import pytest

import iovabitmap as ib
from iovabitmap.model import ModelBitmap

MASK = np.array([False, True, True])
KINDS = pytest.mark.parametrize("kind", [ib.IOVABitmap, ModelBitmap])
ADVICE = "bm.iova \\+ numpy.flatnonzero\\(mask\\) \\* bm.page_size"


def bitmap(kind):
    return kind(0, 16 * 4096, 4096)


@KINDS
@pytest.mark.parametrize(
    "mask",
    [MASK, memoryview(MASK), MASK[::-1], np.array(MASK.tolist() * 100)],
    ids=["array", "memoryview", "backwards", "long"],
)
def test_a_mask_is_no_array_of_addresses(kind, mask):
    bm = bitmap(kind)
    with pytest.raises(TypeError, match=f"iovas must hold addresses, not bools: .*{ADVICE}"):
        bm.set_pages(mask)
    assert bm.count() == 0


@KINDS
@pytest.mark.parametrize(
    "values", [[False, True], (4096, True), {True}, [np.True_], np.array([True], object)]
)
def test_a_sequence_with_a_bool_is_no_addresses(kind, values):
    bm = bitmap(kind)
    with pytest.raises(TypeError, match=r"row [01]: iova must be an int, not .*bool"):
        bm.set_pages(values)
    assert bm.count() == 0


@KINDS
@pytest.mark.parametrize("method", ["set_ranges", "clear_ranges"])
@pytest.mark.parametrize(
    "rows, message",
    [
        (np.ones((3, 2), bool), f"ranges must hold addresses, not bools: .*{ADVICE}"),
        ([(4096, 1), (True, 1)], "row 1: iova must be an int, not .*bool"),
        ([(4096, True)], "row 0: length must be an int, not .*bool"),
        ([np.array([True, True])], "row 0: iova must be an int, not .*bool"),
    ],
)
def test_rows_of_bools(kind, method, rows, message):
    bm = bitmap(kind)
    bm.set(0, 8192)
    with pytest.raises(TypeError, match=message):
        getattr(bm, method)(rows)
    assert bm.count() == 2


@KINDS
def test_small_integers_are_addresses(kind):
    """Bytes are integers of eight bits, and so is what is no bool of NumPy's."""
    bm = bitmap(kind)
    bm.set_pages(bytes([1, 2]))
    bm.set_pages(MASK.view(np.uint8))
    bm.set_pages(array.array("b", [3]))
    assert bm.pages().tolist() == [0] if kind is ib.IOVABitmap else bm.pages() == [0]


def test_the_advice_marks_the_mask():
    bm = ib.IOVABitmap(0x5000, 3 * 4096, 4096)
    bm.set_pages(bm.iova + np.flatnonzero(MASK) * bm.page_size)
    assert bm.to_mask().tolist() == MASK.tolist()
