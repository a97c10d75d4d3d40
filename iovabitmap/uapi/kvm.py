"""KVM: the dirty log of a memory slot, and the dirty ring of a virtual CPU (`linux/kvm.h`).

`vm` is the descriptor of a virtual machine. A slot's pages are counted from its own first page, and
are those of the host; a bitmap that is given stands for the slot: bit 0 for page 0 of it, its base
for the guest-physical address of the slot.
"""

from __future__ import annotations

import errno
import mmap
import threading
from ctypes import Structure, c_uint32, c_uint64
from typing import TYPE_CHECKING

from .calls import Answer, call, check_covers, io, iow, iowr, refuse, unsigned

if TYPE_CHECKING:
    from collections.abc import Mapping

    import numpy as np
    import numpy.typing as npt
    from typing_extensions import Buffer

    from .._core import IOVABitmap


class kvm_dirty_log(Structure):  # noqa: N801  (the header's name)
    _fields_ = (("slot", c_uint32), ("padding1", c_uint32), ("dirty_bitmap", c_uint64))


class kvm_clear_dirty_log(Structure):  # noqa: N801
    _fields_ = (
        ("slot", c_uint32),
        ("num_pages", c_uint32),
        ("first_page", c_uint64),
        ("dirty_bitmap", c_uint64),
    )


class kvm_dirty_gfn(Structure):  # noqa: N801
    _fields_ = (("flags", c_uint32), ("slot", c_uint32), ("offset", c_uint64))


KVMIO = 0xAE
KVM_GET_DIRTY_LOG = iow(KVMIO, 0x42, kvm_dirty_log)
KVM_CLEAR_DIRTY_LOG = iowr(KVMIO, 0xC0, kvm_clear_dirty_log)
KVM_RESET_DIRTY_RINGS = io(KVMIO, 0xC7)
KVM_DIRTY_GFN_F_DIRTY = 1
KVM_DIRTY_GFN_F_RESET = 2

MAX_RING_ENTRIES = 65536
MAX_SLOTS = 1 << 16
_WORD_PAGES = 64


def _slot_id(slot: int, address_space: int) -> int:
    unsigned(slot, "slot", MAX_SLOTS)
    unsigned(address_space, "address_space", MAX_SLOTS)
    return address_space << 16 | slot


def _slot_pages(bm: IOVABitmap) -> int:
    """Pages of the slot that a bitmap stands for."""
    if bm.freed:
        raise ValueError("the bitmap is freed")
    if bm.length % mmap.PAGESIZE != 0:
        raise refuse(
            errno.EINVAL,
            f"length {bm.length:#x} of the bitmap is not a multiple of {mmap.PAGESIZE:#x}: "
            "a slot has whole pages of the host",
        )
    return bm.length // mmap.PAGESIZE


def get_dirty_log(vm: int, slot: int, bm: IOVABitmap, *, address_space: int = 0) -> int:
    """Marks in `bm` the pages of a slot that were written since its log was last read.

    Parameters
    ----------
    bm : IOVABitmap
        For the whole slot: base and length in bytes are the slot's. The page size may be any.

    Returns
    -------
    int
        Pages of the bitmap that were clean before.

    Raises
    ------
    RefusedError
        A length that is not whole pages of the host. Nothing was asked.
    OSError
        The kernel's own: ENOENT for a slot that is not there or has no log. EFAULT: the slot is
        larger than `bm` says; its log may be lost, so treat all of the slot as dirty.

    Notes
    -----
    Without manual protection, reading clears. With KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2 it does not:
    use `clear_dirty_log`; with its INITIALLY_SET the first read gives all pages. The call does not
    say how large the bitmap is, so a slot that is larger than `bm` is only noticed by the fault of
    an inaccessible page behind it. A slot that is smaller is not noticed.
    """
    identifier = _slot_id(slot, address_space)
    _slot_pages(bm)
    check_covers(bm, bm.iova, bm.length)
    answer = Answer(bm.iova, bm.length, mmap.PAGESIZE)
    try:
        call(vm, KVM_GET_DIRTY_LOG, kvm_dirty_log(slot=identifier, dirty_bitmap=answer.address))
    except OSError as error:
        if error.errno == errno.EFAULT:
            raise OSError(
                errno.EFAULT,
                f"slot {slot} is larger than the bitmap's {bm.length:#x} bytes; "
                "treat all of it as dirty",
            ) from error
        raise
    return answer.deliver(bm)


def clear_dirty_log(
    vm: int,
    slot: int,
    bm: IOVABitmap,
    *,
    first_page: int = 0,
    slot_pages: int | None = None,
    address_space: int = 0,
) -> None:
    """Clears in a slot's log the pages that are dirty in `bm`, and protects them again.

    Parameters
    ----------
    bm : IOVABitmap
        Pages of the slot from `first_page` on; each page that a dirty page of it overlaps is
        cleared. It does not change.
    first_page : int
        The page of the slot that bit 0 stands for.
    slot_pages : int, optional
        Pages of the slot; where given, the part is checked against it.

    Raises
    ------
    RefusedError
        EINVAL: first_page is not a multiple of 64; or the pages are not, and the slot does not end
        with them; or they go beyond it.
    OSError
        The kernel's own: EINVAL for the same where slot_pages is not given.
    """
    identifier = _slot_id(slot, address_space)
    npages = _slot_pages(bm)
    check_part(first_page, npages, slot_pages)
    bits = Answer(bm.iova, bm.length, mmap.PAGESIZE)
    bits.bitmap.merge(bm)
    argument = kvm_clear_dirty_log(
        slot=identifier, num_pages=npages, first_page=first_page, dirty_bitmap=bits.address
    )
    call(vm, KVM_CLEAR_DIRTY_LOG, argument)


def check_part(first_page: int, npages: int, slot_pages: int | None) -> None:
    """Refuses what `clear_dirty_log` says."""
    unsigned(first_page, "first_page")
    unsigned(npages, "pages", 1 << 32)
    if first_page % _WORD_PAGES != 0:
        raise refuse(errno.EINVAL, f"first_page {first_page} is not a multiple of {_WORD_PAGES}")
    if slot_pages is None:
        return
    end = first_page + npages
    if end > slot_pages:
        raise refuse(errno.EINVAL, f"page {end - 1} is beyond the slot's {slot_pages} pages")
    if npages % _WORD_PAGES != 0 and end != slot_pages:
        raise refuse(
            errno.EINVAL,
            f"{npages} pages are not a multiple of {_WORD_PAGES}, and the slot of {slot_pages} "
            f"pages does not end with them",
        )


class DirtyRing:
    """The dirty ring of one virtual CPU: entries that KVM fills in, and we give back in order.

    Parameters
    ----------
    memory : buffer
        The ring as it is mapped from the virtual CPU, writable: 16 bytes for each entry, a power of
        two of them, at most 65536.

    Raises
    ------
    ValueError
        The memory is not such a number of whole entries, or read-only.

    Examples
    --------
    >>> ring = DirtyRing(bytearray(4096 * 16))
    >>> ring.entries
    4096
    """

    def __init__(self, memory: Buffer) -> None:
        import numpy as np

        kind = np.dtype([("flags", "u4"), ("slot", "u4"), ("offset", "u8")])
        view = memoryview(memory)
        entries, rest = divmod(view.nbytes, kind.itemsize)
        if rest or not 1 <= entries <= MAX_RING_ENTRIES or entries & (entries - 1):
            raise ValueError(
                f"a ring is 16 bytes for each of a power of two of entries, at most "
                f"{MAX_RING_ENTRIES}, not {view.nbytes} bytes"
            )
        if view.readonly:
            raise ValueError("the ring must be writable: entries are given back in it")
        self._ring = np.frombuffer(view.cast("B"), kind)
        self._next = 0
        self._fence = threading.Lock()

    @property
    def entries(self) -> int:
        """Entries of the ring."""
        return len(self._ring)

    def harvest(self, slots: Mapping[int, IOVABitmap]) -> int:
        """Marks the pages of all dirty entries, and gives these back, in order.

        Call KVM_RESET_DIRTY_RINGS (`reset_dirty_rings`) afterwards: KVM protects the pages again
        then, and not before.

        Parameters
        ----------
        slots : mapping
            The bitmap of each slot, by its number (address space << 16 | slot): bit 0 of a bitmap's
            range is page 0 of the slot.

        Returns
        -------
        int
            Entries taken. A page can be in several.

        Raises
        ------
        KeyError
            An entry is of a slot that has no bitmap.
        IOVARangeError, PinError
            A bitmap cannot take a page. In all cases no entry was given back; the pages of some may
            be marked, and the same call can be repeated.
        """
        taken = self._dirty()
        for slot in set(taken["slot"].tolist()):
            _mark(slots[slot], taken["offset"][taken["slot"] == slot])
        self._give_back(len(taken))
        return len(taken)

    def _dirty(self) -> npt.NDArray[np.void]:
        """A copy of the entries from the next one on that are dirty."""
        import numpy as np

        order = np.roll(self._ring["flags"], -self._next) & KVM_DIRTY_GFN_F_DIRTY
        clean = np.flatnonzero(order == 0)
        count = int(clean[0]) if clean.size else len(order)
        # The other fields are valid once the flag is set: they must not be read before it.
        with self._fence:
            return np.roll(self._ring, -self._next)[:count]

    def _give_back(self, count: int) -> None:
        for _ in range(count):
            self._ring["flags"][self._next] = KVM_DIRTY_GFN_F_RESET
            self._next = (self._next + 1) % len(self._ring)


def _mark(bm: IOVABitmap, offsets: npt.NDArray[np.uint64]) -> None:
    """Marks the slot's pages at these offsets, all or, where one is outside, none."""
    import numpy as np

    last = int(offsets.max())
    if last * mmap.PAGESIZE >= bm.length:
        bm.test(bm.iova + last * mmap.PAGESIZE)  # an IOVARangeError
    rows = np.full((len(offsets), 2), mmap.PAGESIZE, np.uint64)
    rows[:, 0] = bm.iova + offsets * np.uint64(mmap.PAGESIZE)
    bm.set_ranges(rows)


def reset_dirty_rings(vm: int) -> int:
    """Lets KVM take back the entries of all rings that were given back: how many there were.

    Raises OSError, the kernel's.
    """
    return call(vm, KVM_RESET_DIRTY_RINGS)
