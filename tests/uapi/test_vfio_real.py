"""Against the real VFIO: the type1 bitmap of a container that holds a device bound to vfio-pci."""

from __future__ import annotations

import ctypes
import errno
import fcntl
import mmap
import os
import struct
from pathlib import Path

import pytest

import iovabitmap as ib
from iovabitmap.uapi import RefusedError, calls, vfio_device, vfio_type1

PAGE = 4096
IOVA, NPAGES = 0x100000, 80

VFIO_SET_IOMMU = 0x3B66
VFIO_GROUP_SET_CONTAINER = 0x3B68
VFIO_GROUP_GET_DEVICE_FD = 0x3B6A
VFIO_IOMMU_MAP_DMA = 0x3B71
VFIO_TYPE1V2_IOMMU = 3
READ_AND_WRITE = 3


def devices() -> list[Path]:
    """PCI devices that are bound to vfio-pci."""
    return sorted(Path("/sys/bus/pci/drivers/vfio-pci").glob("????:??:??.?"))


def reason() -> str:
    if not Path("/dev/vfio/vfio").exists():
        return "no /dev/vfio/vfio"
    return "" if devices() else "no device is bound to vfio-pci"


pytestmark = pytest.mark.skipif(bool(reason()), reason=reason() or "works")


class Container:
    """A container with one device, and NPAGES of memory mapped for it at IOVA."""

    def __init__(self) -> None:
        device = devices()[0]
        group = Path("/dev/vfio") / (device / "iommu_group").resolve().name
        self.fd = os.open("/dev/vfio/vfio", os.O_RDWR)
        self.group = os.open(group, os.O_RDWR)
        fcntl.ioctl(self.group, VFIO_GROUP_SET_CONTAINER, struct.pack("=i", self.fd))
        fcntl.ioctl(self.fd, VFIO_SET_IOMMU, VFIO_TYPE1V2_IOMMU)
        name = bytearray(device.name.encode() + b"\0")
        self.device = fcntl.ioctl(self.group, VFIO_GROUP_GET_DEVICE_FD, name)
        self.memory = mmap.mmap(-1, NPAGES * PAGE)
        address = ctypes.addressof(ctypes.c_char.from_buffer(self.memory))
        argument = struct.pack("=IIQQQ", 32, READ_AND_WRITE, address, IOVA, NPAGES * PAGE)
        fcntl.ioctl(self.fd, VFIO_IOMMU_MAP_DMA, argument)

    def close(self) -> None:
        for fd in (self.device, self.group, self.fd):
            os.close(fd)


@pytest.fixture
def container():
    made = Container()
    yield made
    made.close()


def bitmap(iova: int = IOVA, npages: int = NPAGES) -> ib.IOVABitmap:
    return ib.IOVABitmap(iova, npages * PAGE)


def kernel_says(container, *, iova=IOVA, size=NPAGES * PAGE, pgsize=PAGE, nbytes=16) -> int:
    """The errno of GET_BITMAP itself, 0 where it succeeds."""
    bits = mmap.mmap(-1, 1 << 20)
    argument = vfio_type1._Get()
    argument.head.argsz = ctypes.sizeof(argument)
    argument.head.flags = vfio_type1.VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP
    argument.get.iova, argument.get.size = iova, size
    argument.get.bitmap.pgsize, argument.get.bitmap.size = pgsize, nbytes
    argument.get.bitmap.data = ctypes.addressof(ctypes.c_char.from_buffer(bits))
    try:
        calls.call(container.fd, vfio_type1.VFIO_IOMMU_DIRTY_PAGES, argument)
    except OSError as error:
        return error.errno
    return 0


def test_all_that_is_pinned_is_dirty(container):
    """The emulated IOMMU has no dirty bits: each mapped page may have been written."""
    assert vfio_type1.page_size(container.fd) == PAGE
    vfio_type1.start(container.fd)
    bm = ib.IOVABitmap(IOVA - 5 * PAGE, (NPAGES + 10) * PAGE)
    assert vfio_type1.get_bitmap(container.fd, bm, iova=IOVA, length=NPAGES * PAGE) == NPAGES
    assert bm.to_text() == f"5-{NPAGES + 4}"
    vfio_type1.stop(container.fd)


def test_not_started(container):
    assert kernel_says(container) == errno.EINVAL
    with pytest.raises(OSError) as caught:
        vfio_type1.get_bitmap(container.fd, bitmap())
    assert caught.value.errno == errno.EINVAL and not isinstance(caught.value, RefusedError)


@pytest.mark.parametrize("iova, size", [(IOVA, 0), (IOVA + 5, NPAGES * PAGE), (IOVA, PAGE + 5)])
def test_refused_by_the_kernel_and_by_us(container, iova, size):
    vfio_type1.start(container.fd)
    assert kernel_says(container) == 0
    assert kernel_says(container, iova=iova, size=size) == errno.EINVAL
    with pytest.raises(RefusedError) as caught:
        vfio_type1.get_bitmap(container.fd, bitmap(), iova=iova, length=size)
    assert caught.value.errno == errno.EINVAL


def test_what_we_never_ask(container):
    """A bitmap that is too short or too long, and other page sizes: ours is right by itself."""
    vfio_type1.start(container.fd)
    assert kernel_says(container, nbytes=8) == errno.EINVAL
    assert kernel_says(container, nbytes=(256 << 20) + 8) == errno.EINVAL
    assert kernel_says(container, pgsize=2 * PAGE) == errno.EINVAL
    assert kernel_says(container, pgsize=2048) == errno.EINVAL


def test_a_range_that_cuts_a_mapping(container):
    """Only the kernel knows what is mapped: its errno comes through."""
    vfio_type1.start(container.fd)
    assert kernel_says(container, size=NPAGES // 2 * PAGE) == errno.EINVAL
    with pytest.raises(OSError) as caught:
        vfio_type1.get_bitmap(container.fd, bitmap(npages=NPAGES // 2))
    assert caught.value.errno == errno.EINVAL and not isinstance(caught.value, RefusedError)


def test_a_range_that_is_not_mapped(container):
    """Nothing can be written there."""
    vfio_type1.start(container.fd)
    assert kernel_says(container, iova=1 << 40) == 0
    assert vfio_type1.get_bitmap(container.fd, bitmap(1 << 40)) == 0


def test_a_device_that_cannot_log(container):
    assert not vfio_device.can_log(container.device)
    with pytest.raises(OSError) as caught:
        vfio_device.start_logging(container.device, [(IOVA, NPAGES * PAGE)])
    assert caught.value.errno == errno.ENOTTY
    with pytest.raises(OSError, match="as dirty") as caught:
        vfio_device.report(container.device, bitmap())
    assert caught.value.errno == errno.ENOTTY
