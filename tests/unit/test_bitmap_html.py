"""What notebooks show of a bitmap: right, short, self-contained, and there whatever its state."""

from __future__ import annotations

import re
from xml.etree import ElementTree

import numpy as np
import pytest

from iovabitmap._base import bitmap_html
from support.pins import AnsweringPin
from support.under_test import engine_only, ib

PATH = re.compile(r"M(\d+) (\d+)h(\d+)v1h-\3z")


def text_of(html: str) -> str:
    return " ".join("".join(ElementTree.fromstring(html).itertext()).split())


def drawn(html: str) -> set[tuple[int, int]]:
    """The cells (x, y) that have a colour."""
    found = set()
    for path in ElementTree.fromstring(html).iter("path"):
        for x, y, n in PATH.findall(path.attrib["d"]):
            found |= {(int(x) + i, int(y)) for i in range(int(n))}
    return found


def test_facts():
    bm = ib.IOVABitmap(0x1000, 40 * 4096 - 7, 4096)
    bm.set(0x1000, 2 * 4096)
    bm.set(0x1000 + 39 * 4096, 1)
    text = text_of(bm._repr_html_())
    assert text.startswith("IOVABitmap") and "0x1000 to 0x28ff9" in text
    assert "40 of 4 KiB" in text and "3 pages in 2 ranges" in text
    assert drawn(bm._repr_html_()) == {(0, 0), (1, 0), (39, 0)}


@pytest.mark.parametrize("page", [0, 1, 511, 5000, 199_999])
def test_one_page_is_always_seen(page):
    bm = ib.IOVABitmap(0, 200_000, 1)
    bm.set(page, 1)
    (cell,) = drawn(bm._repr_html_())
    number = cell[1] * 64 + cell[0]
    assert number * 200_000 // 512 <= page < (number + 1) * 200_000 // 512


@pytest.mark.parametrize("nbits", [1, 2, 63, 65, 512, 513])
def test_all_dirty_leaves_no_cell_empty(nbits):
    bm = ib.IOVABitmap(0, nbits, 1)
    bm.set(0, nbits)
    pieces = bm._repr_html_()
    _, _, width, height = ElementTree.fromstring(pieces).find(".//svg").attrib["viewBox"].split()
    missing = int(width) * int(height) - len(drawn(pieces))
    assert missing == max(0, int(width) * int(height) - nbits)


def test_the_size_is_bounded_and_nothing_is_loaded():
    bm = ib.IOVABitmap(0, 1 << 18, 1)
    bm.set_pages(np.flatnonzero(np.random.default_rng(1).random(1 << 18) < 0.3).astype(np.uint64))
    html = bm._repr_html_()
    assert len(html) < 20_000
    assert not re.search(r"<script|<link|<style|http|url\(|@import", html)
    assert "currentColor" in html and not re.search(r"[^-]color:(?!inherit)", html)


def test_a_freed_one():
    bm = ib.IOVABitmap(0, 1 << 20)
    bm.free()
    assert "state: freed" in text_of(bm._repr_html_())


def test_a_pin_object_is_not_called():
    bm = ib.IOVABitmap(0, 1 << 20, pin=AnsweringPin(lambda npages: pytest.fail("called")))
    assert "not counted" in text_of(bm._repr_html_())


@engine_only.size
def test_a_large_one_is_not_walked():
    bm = ib.IOVABitmap(0, 1 << 60, 1 << 30)
    assert bm.nbytes > bitmap_html.LOOK_BYTES
    assert "not counted" in text_of(bm._repr_html_()) and not drawn(bm._repr_html_())


class Odd(ib.IOVABitmap if isinstance(ib.IOVABitmap, type) else object):
    """Its questions fail, and so does its repr."""

    def count(self, *args, **kwargs):
        raise RuntimeError("<script>")

    def __repr__(self):
        raise RuntimeError("no repr either")


def test_nothing_raises_and_all_is_escaped():
    assert Odd(0, 4096)._repr_html_() == "<code>&lt;Odd&gt;</code>"

    class Shown:
        def __repr__(self):
            return "<script>" + "x" * 1000

    html = bitmap_html.shown(Shown())
    assert html.startswith("<code>&lt;script&gt;xxx") and len(html) < 300
