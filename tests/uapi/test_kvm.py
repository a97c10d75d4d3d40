"""Against the real KVM: the log, the cleared log and the ring show the pages that a guest wrote."""

from __future__ import annotations

import errno
import struct

import numpy as np
import pytest

import iovabitmap as ib
from iovabitmap.uapi import RefusedError, calls, kvm
from support import kvm_guest
from support.kvm_guest import FIRST_FREE, NPAGES, PAGE, Guest

_reason = kvm_guest.why_not()
pytestmark = pytest.mark.skipif(bool(_reason), reason=_reason or "works")

MANUAL, INITIALLY_SET = 1, 2


def random_pages(seed: int, count: int = 40) -> list[int]:
    rng = np.random.default_rng(seed)
    return sorted(rng.choice(np.arange(FIRST_FREE, NPAGES), count, replace=False).tolist())


def new_bitmap() -> ib.IOVABitmap:
    return ib.IOVABitmap(0, NPAGES * PAGE)


def logged(guest: Guest) -> list[int]:
    with new_bitmap() as bm:
        newly = kvm.get_dirty_log(guest.vm, 0, bm)
        pages = np.flatnonzero(bm.to_mask()).tolist()
        assert newly == len(pages)
        return pages


def test_log_is_what_the_guest_wrote():
    with Guest() as guest:
        assert logged(guest) == []
        for seed in range(5):
            pages = random_pages(seed)
            guest.write(pages)
            assert logged(guest) == pages
            assert logged(guest) == []


def test_log_adds_to_a_bitmap():
    with Guest() as guest, new_bitmap() as bm:
        for pages in ([3, 64], [64, 255]):
            guest.write(pages)
            kvm.get_dirty_log(guest.vm, 0, bm)
        assert bm.to_text() == "3,64,255"


def test_initially_all_then_clear_by_hand():
    with Guest(capability=(kvm_guest.KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, 3)) as guest:
        everything = new_bitmap()
        assert kvm.get_dirty_log(guest.vm, 0, everything) == NPAGES
        kvm.clear_dirty_log(guest.vm, 0, everything, slot_pages=NPAGES)
        assert logged(guest) == []
        pages = [5, 63, 64, 100, 127, 128, 200]
        guest.write(pages)
        assert logged(guest) == pages
        assert logged(guest) == pages  # reading does not clear
        part = ib.IOVABitmap(64 * PAGE, 64 * PAGE)
        part.set_pages([100 * PAGE, 127 * PAGE])
        kvm.clear_dirty_log(guest.vm, 0, part, first_page=64, slot_pages=NPAGES)
        assert logged(guest) == [5, 63, 64, 128, 200]
        guest.write([100])
        assert logged(guest) == [5, 63, 64, 100, 128, 200]


@pytest.mark.parametrize("entries", [1024, 65536])
def test_ring(entries):
    with Guest(log=False) as probe:
        most = probe.can(kvm_guest.KVM_CAP_DIRTY_LOG_RING)
    if most < entries * 16:
        pytest.skip(f"this KVM's dirty ring has at most {most} bytes")
    with Guest(ring=entries) as guest, new_bitmap() as bm:
        ring = kvm.DirtyRing(guest.ring)
        assert ring.entries == entries
        assert ring.harvest({0: bm}) == 0
        for seed in range(8):  # more pages than the smaller ring has room for
            pages = random_pages(seed, 200)
            guest.write(pages)
            assert ring.harvest({0: bm}) == len(pages)
            assert np.flatnonzero(bm.to_mask()).tolist() == pages
            assert kvm.reset_dirty_rings(guest.vm) == len(pages)
            bm.reset()
        assert ring.harvest({0: bm}) == 0


# --- what the kernel refuses, and we before it ----------------------------------------------------


def kernel_says(guest: Guest, first: int, npages: int) -> int:
    """The errno of KVM_CLEAR_DIRTY_LOG itself, 0 where it succeeds."""
    bits = ib.IOVABitmap(0, 1 << 20)
    argument = kvm.kvm_clear_dirty_log(
        slot=0, num_pages=npages, first_page=first, dirty_bitmap=bits.view().ctypes.data
    )
    try:
        calls.call(guest.vm, kvm.KVM_CLEAR_DIRTY_LOG, argument)
    except OSError as error:
        return error.errno
    return 0


@pytest.mark.parametrize(
    "first, npages, good",
    [(0, 256, 1), (64, 192, 1), (192, 64, 1), (1, 64, 0), (0, 63, 0), (0, 320, 0), (256, 64, 0)],
)
def test_parts_to_clear_as_the_kernel_judges(first, npages, good):
    with Guest(capability=(kvm_guest.KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, MANUAL)) as guest:
        bm = ib.IOVABitmap(first * PAGE, npages * PAGE)
        assert kernel_says(guest, first, npages) == (0 if good else errno.EINVAL)
        if good:
            kvm.clear_dirty_log(guest.vm, 0, bm, first_page=first, slot_pages=NPAGES)
            return
        with pytest.raises(RefusedError) as caught:
            kvm.clear_dirty_log(guest.vm, 0, bm, first_page=first, slot_pages=NPAGES)
        assert caught.value.errno == errno.EINVAL


def test_a_slot_that_is_larger_than_the_bitmap_harms_nothing():
    with Guest() as guest:
        guest.write([200])
        with pytest.raises(OSError, match="larger than the bitmap") as caught:
            kvm.get_dirty_log(guest.vm, 0, ib.IOVABitmap(0, 64 * PAGE))
        assert caught.value.errno == errno.EFAULT


@pytest.mark.parametrize("slot, log", [(1, True), (0, False)])
def test_a_slot_without_a_log(slot, log):
    with Guest(log=log) as guest, pytest.raises(OSError) as caught:
        kvm.get_dirty_log(guest.vm, slot, new_bitmap())
    assert caught.value.errno in (errno.ENOENT, errno.EINVAL)


def test_struct_sizes_are_the_kernels():
    """An unknown size is another number, which KVM does not know."""
    with Guest() as guest, pytest.raises(OSError) as caught:
        calls.fcntl.ioctl(guest.vm, kvm.KVM_GET_DIRTY_LOG + (1 << 16), struct.pack("<QQQ", 0, 0, 0))
    assert caught.value.errno == errno.ENOTTY
