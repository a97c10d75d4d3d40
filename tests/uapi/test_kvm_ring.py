"""The dirty ring: entries are taken and given back in order, and none of a page is lost."""

from __future__ import annotations

import mmap

import numpy as np
import pytest

import iovabitmap as ib
from iovabitmap.uapi import kvm

PAGE = mmap.PAGESIZE
ENTRY = np.dtype([("flags", "<u4"), ("slot", "<u4"), ("offset", "<u8")])
CLEAN, DIRTY, RESET = 0, 1, 2


class Producer:
    """KVM's side: fills in entries in order, and takes back those that were given back."""

    def __init__(self, entries: int) -> None:
        self.memory = bytearray(entries * ENTRY.itemsize)
        self.ring = np.frombuffer(self.memory, ENTRY)
        self.head = self.tail = 0

    def dirty(self, slot: int, *offsets: int) -> None:
        for offset in offsets:
            assert self.ring["flags"][self.head % len(self.ring)] == CLEAN, "the ring is full"
            self.ring[self.head % len(self.ring)] = (DIRTY, slot, offset)
            self.head += 1

    def reset(self) -> int:
        before = self.tail
        while self.ring["flags"][self.tail % len(self.ring)] & RESET:
            self.ring["flags"][self.tail % len(self.ring)] = CLEAN
            self.tail += 1
        return self.tail - before


def test_entries_become_marks():
    kvm_side = Producer(8)
    ring = kvm.DirtyRing(kvm_side.memory)
    low, high = ib.IOVABitmap(0, 64 * PAGE), ib.IOVABitmap(1 << 32, 64 * PAGE)
    slots = {0: low, 1 << 16 | 2: high}
    assert ring.harvest(slots) == 0
    kvm_side.dirty(0, 5, 63)
    kvm_side.dirty(1 << 16 | 2, 0)
    kvm_side.dirty(0, 5)
    assert ring.harvest(slots) == 4
    assert low.to_text() == "5,63"
    assert high.to_text() == "0"
    assert kvm_side.ring["flags"].tolist() == [RESET] * 4 + [CLEAN] * 4
    assert ring.harvest(slots) == 0
    assert kvm_side.reset() == 4


@pytest.mark.parametrize("entries", [1, 2, 64, 65536])
def test_any_number_over_many_rounds(entries):
    """Around the end of the ring again and again, up to full."""
    rng = np.random.default_rng(entries)
    kvm_side = Producer(entries)
    ring = kvm.DirtyRing(kvm_side.memory)
    bm = ib.IOVABitmap(0, 4096 * PAGE)
    for count in [entries, 0, *rng.integers(0, entries + 1, 5 if entries > 64 else 100).tolist()]:
        pages = rng.integers(0, 4096, count)
        kvm_side.dirty(7, *pages.tolist())
        assert ring.harvest({7: bm}) == count
        assert np.array_equal(np.flatnonzero(bm.to_mask()), np.unique(pages))
        assert kvm_side.reset() == count
        bm.reset()


def test_behind_a_clean_entry_nothing_is_taken():
    """An entry that is being filled in ends the walk, whatever lies behind it."""
    kvm_side = Producer(8)
    ring = kvm.DirtyRing(kvm_side.memory)
    bm = ib.IOVABitmap(0, 64 * PAGE)
    kvm_side.dirty(0, 1, 2, 3)
    kvm_side.ring["flags"][1] = CLEAN
    assert ring.harvest({0: bm}) == 1
    assert bm.to_text() == "1"
    kvm_side.ring["flags"][1] = DIRTY
    assert ring.harvest({0: bm}) == 2
    assert bm.to_text() == "1-3"


@pytest.mark.parametrize("slot, offset, error", [(9, 0, KeyError), (0, 64, ib.IOVARangeError)])
def test_what_has_no_bitmap_stays_in_the_ring(slot, offset, error):
    kvm_side = Producer(8)
    ring = kvm.DirtyRing(kvm_side.memory)
    bm = ib.IOVABitmap(PAGE, 64 * PAGE)
    kvm_side.dirty(0, 1)
    kvm_side.dirty(slot, offset)
    with pytest.raises(error):
        ring.harvest({0: bm})
    assert kvm_side.ring["flags"].tolist()[:2] == [DIRTY, DIRTY]
    kvm_side.ring[1] = (DIRTY, 0, 2)
    assert ring.harvest({0: bm}) == 2
    assert bm.to_text() == "1-2"


def test_an_offset_beyond_all_addresses():
    kvm_side = Producer(2)
    kvm_side.dirty(0, 2**64 - 1)
    with pytest.raises(ValueError):
        kvm.DirtyRing(kvm_side.memory).harvest({0: ib.IOVABitmap(PAGE, 64 * PAGE)})


@pytest.mark.parametrize("memory", [b"", bytearray(15), bytearray(48), bytearray(2**21)])
def test_memory_that_is_no_ring(memory):
    with pytest.raises(ValueError, match="a ring is 16 bytes for each"):
        kvm.DirtyRing(memory)


def test_read_only_memory():
    with pytest.raises(ValueError, match="writable"):
        kvm.DirtyRing(bytes(64))
