"""What each interface asks of the kernel, byte for byte, and what it does with the answer."""

from __future__ import annotations

import errno
import struct

import numpy as np
import pytest

import iovabitmap as ib
from iovabitmap.uapi import iommufd, kvm, vfio_device, vfio_type1
from support.fake_kernel import FakeKernel, can_write, memory_at

PAGE = 4096
FD = 77


@pytest.fixture
def kernel(monkeypatch) -> FakeKernel:
    return FakeKernel(monkeypatch)


def writes(field: str, content: bytes):
    """An answer: these bytes go where a field of the argument points to."""

    def answer(argument):
        for part in field.split("."):
            holder, argument = argument, getattr(argument, part)
        del holder
        memory_at(argument, len(content))[:] = content
        return 0

    return answer


# --- iommufd --------------------------------------------------------------------------------------


def test_iommufd_switch(kernel):
    iommufd.set_dirty_tracking(FD, 5, True)
    iommufd.set_dirty_tracking(FD, 5, False)
    assert kernel.requests == [
        (FD, 0x3B8B, struct.pack("=IIII", 16, 1, 5, 0)),
        (FD, 0x3B8B, struct.pack("=IIII", 16, 0, 5, 0)),
    ]


@pytest.mark.parametrize("no_clear", [False, True])
def test_iommufd_bitmap(kernel, no_clear):
    bm = ib.IOVABitmap(0x10000, 70 * PAGE)
    bm.set(0x10000 + 7 * PAGE, 1)
    kernel.answer = writes("data", b"\x81" + bytes(7) + b"\x21")
    assert iommufd.get_dirty_bitmap(FD, 3, bm, no_clear=no_clear) == 3
    assert bm.to_text() == "0,7,64,69"
    fd, number, content = kernel.request
    assert (fd, number) == (FD, 0x3B8C)
    assert content[:40] == struct.pack(
        "=IIIIQQQ", 48, 3, int(no_clear), 0, 0x10000, 70 * PAGE, PAGE
    )


def test_iommufd_part_and_page_size(kernel):
    """A part of the bitmap, asked for by pages of another size."""
    bm = ib.IOVABitmap(0, 64 * PAGE)
    kernel.answer = writes("data", b"\x02")
    bits = iommufd.get_dirty_bitmap(FD, 3, bm, iova=8 * PAGE, length=8 * PAGE, page_size=2 * PAGE)
    assert bits == 2
    assert bm.to_text() == "10-11"
    assert kernel.request[2][16:40] == struct.pack("=QQQ", 8 * PAGE, 8 * PAGE, 2 * PAGE)


def test_iommufd_ends_at_the_top(kernel):
    bm = ib.IOVABitmap(2**64 - 8 * PAGE, 8 * PAGE)
    kernel.answer = writes("data", b"\x80")
    assert iommufd.get_dirty_bitmap(FD, 3, bm) == 1
    assert bm.ranges().tolist() == [[2**64 - PAGE, PAGE]]


IOMMUFD_REFUSED = [
    # iova, length, page_size, errno, what the message names
    (2**64 - PAGE, 2 * PAGE, PAGE, errno.EOVERFLOW, "0x10000000000000000"),
    (PAGE, 0, PAGE, errno.EOVERFLOW, "0x1000"),
    (2**64 - 1, 2, 0, errno.EOVERFLOW, "0xffffffffffffffff"),
    (0x800, PAGE, 0, errno.EINVAL, "0x800 is not a multiple of 0x1000, the IO page"),
    (0, 0x800, 0, errno.EINVAL, "0x800 is not a multiple of 0x1000, the IO page"),
    (0, PAGE, 0, errno.EINVAL, "not 0"),
    (PAGE, PAGE, 2 * PAGE, errno.EINVAL, "iova 0x1000 is not a multiple of 0x2000, the page_size"),
    (0, 3 * PAGE, 2 * PAGE, errno.EINVAL, "end 0x3000 is not a multiple of 0x2000, the page_size"),
]


@pytest.mark.parametrize("iova, length, page_size, number, text", IOMMUFD_REFUSED)
def test_iommufd_refuses_in_the_kernels_order(kernel, iova, length, page_size, number, text):
    bm = ib.IOVABitmap(0, 64 * PAGE)
    with pytest.raises(ValueError) as caught:
        iommufd.get_dirty_bitmap(FD, 3, bm, iova=iova, length=length, page_size=page_size)
    assert isinstance(caught.value, OSError)
    assert caught.value.errno == number
    assert text in str(caught.value)
    assert kernel.requests == []


def test_iommufd_other_io_pages(kernel):
    bm = ib.IOVABitmap(0, 64 * PAGE)
    with pytest.raises(ValueError, match="0x1000 is not a multiple of 0x4000, the IO page"):
        iommufd.get_dirty_bitmap(FD, 3, bm, iova=PAGE, length=3 * PAGE, io_page_size=4 * PAGE)
    iommufd.get_dirty_bitmap(FD, 3, bm, iova=0x400, length=0x400, page_size=0x400, io_page_size=512)
    assert len(kernel.requests) == 1


def test_iommufd_length_zero_at_zero(kernel):
    assert iommufd.get_dirty_bitmap(FD, 3, ib.IOVABitmap(0, PAGE), length=0) == 0
    assert kernel.requests == []


# --- VFIO devices ---------------------------------------------------------------------------------


def test_vfio_device_start_and_stop(kernel):
    seen = []

    def answer(argument):
        address = argument.data.ranges
        seen.append(bytes(memory_at(address, 32)))
        argument.data.page_size = 0x10000
        return 0

    kernel.answer = answer
    chosen = vfio_device.start_logging(FD, [(0x20000, 0x10000), (0, 0x8000)], 0x1000)
    assert chosen == 0x10000
    assert seen == [struct.pack("=QQQQ", 0x20000, 0x10000, 0, 0x8000)]
    fd, number, content = kernel.request
    assert (fd, number, len(content)) == (FD, 0x3B75, 32)
    assert content[:24] == struct.pack("=IIQII", 32, 6 | 1 << 17, 0x1000, 2, 0)
    kernel.requests.clear()
    kernel.answer = lambda argument: 0
    vfio_device.stop_logging(FD)
    assert kernel.request == (FD, 0x3B75, struct.pack("=II", 8, 7 | 1 << 17))


def test_vfio_device_can_log(kernel):
    assert vfio_device.can_log(FD)
    assert [content for _, _, content in kernel.requests] == [
        struct.pack("=II", 8, 6 | 1 << 17 | 1 << 18),
        struct.pack("=II", 8, 7 | 1 << 17 | 1 << 18),
        struct.pack("=II", 8, 8 | 1 << 16 | 1 << 18),
    ]
    kernel.error = errno.ENOTTY
    assert not vfio_device.can_log(FD)
    kernel.error = errno.EBADF
    with pytest.raises(OSError):
        vfio_device.can_log(FD)


@pytest.mark.parametrize(
    "rows, page_size, number, text",
    [
        ([], PAGE, errno.EINVAL, "no range"),
        ([(i * PAGE, PAGE) for i in range(257)], PAGE, errno.E2BIG, "257 ranges, at most 256"),
        ([(0, PAGE)], 0, errno.EINVAL, "not 0"),
        ([(0, 0x3000)], 0x3000, errno.EINVAL, "not 12288"),
        ([(0x800, PAGE)], PAGE, errno.EINVAL, "iova 0x800"),
        ([(0, 0x800)], PAGE, errno.EINVAL, "length 0x800"),
        ([(0, 0)], PAGE, errno.EINVAL, "length 0"),
        ([(2**64 - PAGE, 2 * PAGE)], PAGE, errno.EOVERFLOW, "0x10000000000001000"),
        (
            [(PAGE, PAGE), (0, 2 * PAGE)],
            PAGE,
            errno.EINVAL,
            "0x0 (+0x2000) overlaps that at 0x1000",
        ),
    ],
)
def test_vfio_device_refuses(kernel, rows, page_size, number, text):
    with pytest.raises(ValueError) as caught:
        vfio_device.start_logging(FD, rows, page_size)
    assert caught.value.errno == number
    assert text in str(caught.value)
    assert kernel.requests == []


def test_vfio_device_256_ranges_that_touch(kernel):
    rows = [(2**64 - (i + 1) * PAGE, PAGE) for i in range(256)]
    vfio_device.start_logging(FD, rows)
    assert len(kernel.requests) == 1


def test_vfio_device_report(kernel):
    bm = ib.IOVABitmap(0x100000, 16 * PAGE)
    kernel.answer = writes("data.bitmap", b"\x03\x80")
    assert vfio_device.report(FD, bm) == 3
    assert bm.to_text() == "0-1,15"
    fd, number, content = kernel.request
    assert (fd, number, len(content)) == (FD, 0x3B75, 40)
    assert content[:32] == struct.pack("=IIQQQ", 40, 8 | 1 << 16, 0x100000, 16 * PAGE, PAGE)


@pytest.mark.parametrize(
    "iova, length, page_size, number, text",
    [
        (0, PAGE, 2048, errno.EINVAL, "at least 4096, not 2048"),
        (0, PAGE, 12288, errno.EINVAL, "not 12288"),
        (2**64 - PAGE, PAGE, PAGE, errno.EOVERFLOW, "0x10000000000000000"),
        (0, 0, PAGE, errno.EINVAL, "not 0"),
    ],
)
def test_vfio_device_report_refuses(kernel, iova, length, page_size, number, text):
    bm = ib.IOVABitmap(2**64 - PAGE, PAGE)
    with pytest.raises(ValueError) as caught:
        vfio_device.report(FD, bm, iova=iova, length=length, page_size=page_size)
    assert caught.value.errno == number
    assert text in str(caught.value)
    assert kernel.requests == []


def test_vfio_device_failed_report_says_all_is_dirty(kernel):
    kernel.error = errno.ENOTTY
    with pytest.raises(OSError, match=r"treat all of 0x0 \(\+0x1000\) as dirty") as caught:
        vfio_device.report(FD, ib.IOVABitmap(0, PAGE))
    assert caught.value.errno == errno.ENOTTY


# --- VFIO type1 -----------------------------------------------------------------------------------


def type1(content: bytes, sizes: int = PAGE | 1 << 21):
    def answer(argument):
        if isinstance(argument, vfio_type1.vfio_iommu_type1_info):
            argument.flags, argument.iova_pgsizes = 1, sizes
        elif hasattr(argument, "get"):
            memory_at(argument.get.bitmap.data, len(content))[:] = content
        return 0

    return answer


def test_type1(kernel):
    bm = ib.IOVABitmap(PAGE, 65 * PAGE)
    bm.set(2 * PAGE, 1)
    kernel.answer = type1(b"\x01" + bytes(7) + b"\x01")
    vfio_type1.start(FD)
    assert vfio_type1.get_bitmap(FD, bm) == 2
    vfio_type1.stop(FD)
    assert bm.to_text() == "0-1,64"
    start, info, get, stop = (content for _, _, content in kernel.requests)
    assert start == struct.pack("=II", 8, 1)
    assert stop == struct.pack("=II", 8, 2)
    assert len(info) == 24
    # 65 pages: two words
    assert get[:40] == struct.pack("=IIQQQQ", 48, 4, PAGE, 65 * PAGE, PAGE, 16)
    assert [number for _, number, _ in kernel.requests] == [0x3B75, 0x3B70, 0x3B75, 0x3B75]


def test_type1_asks_with_the_smallest_page(kernel):
    bm = ib.IOVABitmap(0, 64 * 2**16, PAGE)
    kernel.answer = type1(b"\x02", 1 << 16 | 1 << 21)
    assert vfio_type1.page_size(FD) == 1 << 16
    assert vfio_type1.get_bitmap(FD, bm) == 16
    assert bm.to_text() == "16-31"


def test_type1_page_sizes_unknown(kernel):
    with pytest.raises(OSError, match="page sizes"):
        vfio_type1.get_bitmap(FD, ib.IOVABitmap(0, PAGE))


@pytest.mark.parametrize(
    "iova, length, number, text",
    [
        (0, 0, errno.EINVAL, "not 0"),
        (0x800, PAGE, errno.EINVAL, "0x800"),
        (0, PAGE + 1, errno.EINVAL, "0x1001"),
        (2**64 - PAGE, PAGE, errno.EOVERFLOW, "0x10000000000000000"),
        (0, (1 << 43) + PAGE, errno.EINVAL, "at most 0x80000000000 at once"),
    ],
)
def test_type1_refuses(kernel, iova, length, number, text):
    kernel.answer = type1(b"")
    with pytest.raises(ValueError) as caught:
        vfio_type1.get_bitmap(FD, ib.IOVABitmap(0, PAGE), iova=iova, length=length)
    assert caught.value.errno == number
    assert text in str(caught.value)
    assert [request for _, request, _ in kernel.requests] == [0x3B70]


# --- KVM ------------------------------------------------------------------------------------------


def test_kvm_log(kernel):
    bm = ib.IOVABitmap(1 << 32, 130 * PAGE)
    kernel.answer = writes("dirty_bitmap", b"\x02" + bytes(15) + b"\x03" + bytes(7))
    assert kvm.get_dirty_log(FD, 3, bm, address_space=1) == 3
    assert bm.to_text() == "1,128-129"
    fd, number, content = kernel.request
    assert (fd, number, content[:8]) == (FD, 0x4010AE42, struct.pack("=II", 3 | 1 << 16, 0))


def test_kvm_bits_behind_the_slot_are_no_pages(kernel):
    bm = ib.IOVABitmap(0, 3 * PAGE)
    kernel.answer = writes("dirty_bitmap", b"\xff" * 8)
    assert kvm.get_dirty_log(FD, 0, bm) == 3


def test_kvm_slot_larger_than_the_bitmap(kernel):
    kernel.error = errno.EFAULT
    with pytest.raises(OSError, match=r"slot 2 is larger than the bitmap's 0x1000 bytes") as caught:
        kvm.get_dirty_log(FD, 2, ib.IOVABitmap(0, PAGE))
    assert caught.value.errno == errno.EFAULT


def test_kvm_clear(kernel):
    bm = ib.IOVABitmap(64 * PAGE, 70 * PAGE)
    bm.set_pages([64 * PAGE, 133 * PAGE])
    seen = []
    kernel.answer = lambda argument: seen.append(bytes(memory_at(argument.dirty_bitmap, 16)))
    kvm.clear_dirty_log(FD, 1, bm, first_page=64, slot_pages=134)
    assert seen == [b"\x01" + bytes(7) + b"\x20" + bytes(7)]
    fd, number, content = kernel.request
    assert (fd, number, content[:16]) == (FD, 0xC018AEC0, struct.pack("=IIQ", 1, 70, 64))
    assert bm.count() == 2


@pytest.mark.parametrize(
    "first, npages, slot_pages, text",
    [
        (1, 64, None, "first_page 1 is not a multiple of 64"),
        (64, 63, 128, "63 pages are not a multiple of 64"),
        (64, 65, 128, "page 128 is beyond the slot's 128 pages"),
    ],
)
def test_kvm_clear_refuses(kernel, first, npages, slot_pages, text):
    bm = ib.IOVABitmap(0, npages * PAGE)
    with pytest.raises(ValueError, match=text) as caught:
        kvm.clear_dirty_log(FD, 0, bm, first_page=first, slot_pages=slot_pages)
    assert caught.value.errno == errno.EINVAL
    assert kernel.requests == []


def test_kvm_half_pages(kernel):
    with pytest.raises(ValueError, match="0x1800"):
        kvm.get_dirty_log(FD, 0, ib.IOVABitmap(0, 0x1800))
    assert kernel.requests == []


# --- all of them ----------------------------------------------------------------------------------

READS = {
    "iommufd": (lambda bm, **k: iommufd.get_dirty_bitmap(FD, 1, bm, **k), "data"),
    "vfio device": (lambda bm, **k: vfio_device.report(FD, bm, **k), "data.bitmap"),
    "vfio type1": (lambda bm, **k: vfio_type1.get_bitmap(FD, bm, **k), "get.bitmap.data"),
    "kvm": (lambda bm: kvm.get_dirty_log(FD, 1, bm), "dirty_bitmap"),
}


def field(argument, path: str):
    for part in path.split("."):
        argument = getattr(argument, part)
    return argument


@pytest.mark.parametrize("name", READS)
@pytest.mark.parametrize("npages", [1, 63, 64, 65, 40000])
def test_the_answers_memory(kernel, name, npages):
    """Whole words, zeroed, aligned, there before the call, and an inaccessible page behind it."""
    read, path = READS[name]
    nbytes = -(-npages // 64) * 8
    checked = []

    def answer(argument):
        if isinstance(argument, vfio_type1.vfio_iommu_type1_info):
            argument.flags, argument.iova_pgsizes = 1, PAGE
            return 0
        address = field(argument, path)
        assert address % 8 == 0
        assert not any(memory_at(address, nbytes))
        assert can_write(address) and can_write(address + nbytes - 1)
        assert not can_write(address + nbytes)
        checked.append(address)
        return 0

    kernel.answer = answer
    assert read(ib.IOVABitmap(0, npages * PAGE)) == 0
    assert len(checked) == 1


@pytest.mark.parametrize("name", READS)
def test_a_bitmap_that_cannot_take_the_answer(kernel, name):
    """What the kernel has forgotten is in the exception."""
    read, path = READS[name]

    class NoPin:
        def pin(self, address, npages):
            raise OSError(errno.ENOMEM, "no memory")

        def unpin(self, address, npages):
            raise AssertionError

    def answer(argument):
        if isinstance(argument, vfio_type1.vfio_iommu_type1_info):
            argument.flags, argument.iova_pgsizes = 1, PAGE
        else:
            memory_at(field(argument, path), 1)[0] = 0x14
        return 0

    kernel.answer = answer
    bm = ib.IOVABitmap(0x100000, 8 * PAGE, pin=NoPin())
    with pytest.raises(ib.PinError) as caught:
        read(bm)
    assert np.array_equal(
        caught.value.harvested, [[0x100000 + 2 * PAGE, PAGE], [0x100000 + 4 * PAGE, PAGE]]
    )


@pytest.mark.parametrize("name", ["iommufd", "vfio device", "vfio type1"])
def test_a_bitmap_that_does_not_cover(kernel, name):
    """Nothing is asked: the kernel would forget."""
    read, _ = READS[name]
    kernel.answer = type1(b"")
    bm = ib.IOVABitmap(4 * PAGE, 4 * PAGE)
    for iova, length in [(3 * PAGE, 2 * PAGE), (4 * PAGE, 5 * PAGE), (8 * PAGE, PAGE)]:
        with pytest.raises(ib.IOVARangeError) as caught:
            read(bm, iova=iova, length=length)
        assert (caught.value.iova, caught.value.length) == (iova, length)
    assert {request for _, request, _ in kernel.requests} <= {0x3B70}


@pytest.mark.parametrize("name", READS)
def test_a_freed_bitmap(kernel, name):
    read, _ = READS[name]
    kernel.answer = type1(b"")
    bm = ib.IOVABitmap(0, 4 * PAGE)
    bm.free()
    with pytest.raises(ValueError, match="freed"):
        read(bm)
    assert {request for _, request, _ in kernel.requests} <= {0x3B70}


@pytest.mark.parametrize("identifier", [-1, 2**32])
def test_identifiers_are_not_cut(kernel, identifier):
    bm = ib.IOVABitmap(0, PAGE)
    for read in (
        lambda: iommufd.get_dirty_bitmap(FD, identifier, bm),
        lambda: iommufd.set_dirty_tracking(FD, identifier, True),
        lambda: kvm.get_dirty_log(FD, identifier, bm),
        lambda: kvm.get_dirty_log(FD, 0, bm, address_space=identifier),
    ):
        with pytest.raises(ValueError, match=str(identifier)):
            read()
    assert kernel.requests == []
