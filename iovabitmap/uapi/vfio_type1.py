"""VFIO's type1 container: which pages its devices may have written (`linux/vfio.h`, Linux 5.8).

`fd` is an open /dev/vfio/vfio with VFIO_TYPE1v2_IOMMU set. Where the hardware cannot tell, type1
reports all pages that are pinned for a device as dirty.
"""

from __future__ import annotations

import errno
from ctypes import Structure, c_uint32, c_uint64, sizeof
from typing import TYPE_CHECKING

from .calls import Answer, call, check_aligned, check_covers, check_end, io, refuse

if TYPE_CHECKING:
    from .._core import IOVABitmap


class vfio_bitmap(Structure):  # noqa: N801  (the header's name)
    _fields_ = (("pgsize", c_uint64), ("size", c_uint64), ("data", c_uint64))


class vfio_iommu_type1_dirty_bitmap(Structure):  # noqa: N801
    """The head; for GET_BITMAP a vfio_iommu_type1_dirty_bitmap_get follows."""

    _fields_ = (("argsz", c_uint32), ("flags", c_uint32))


class vfio_iommu_type1_dirty_bitmap_get(Structure):  # noqa: N801
    _fields_ = (("iova", c_uint64), ("size", c_uint64), ("bitmap", vfio_bitmap))


class vfio_iommu_type1_info(Structure):  # noqa: N801
    _fields_ = (
        ("argsz", c_uint32),
        ("flags", c_uint32),
        ("iova_pgsizes", c_uint64),
        ("cap_offset", c_uint32),
    )


class _Get(Structure):
    _fields_ = (
        ("head", vfio_iommu_type1_dirty_bitmap),
        ("get", vfio_iommu_type1_dirty_bitmap_get),
    )


VFIO_IOMMU_GET_INFO = io(ord(";"), 100 + 12)
VFIO_IOMMU_DIRTY_PAGES = io(ord(";"), 100 + 17)
VFIO_IOMMU_INFO_PGSIZES = 1
VFIO_IOMMU_DIRTY_PAGES_FLAG_START = 1
VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP = 2
VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP = 4

MAX_BITMAP_NBYTES = 256 << 20


def page_size(fd: int) -> int:
    """The smallest page size of the container's IOMMU, in bytes: the one of its dirty bitmaps.

    Raises OSError: the kernel's, or EOPNOTSUPP where the kernel does not say.
    """
    info = vfio_iommu_type1_info(argsz=sizeof(vfio_iommu_type1_info))
    call(fd, VFIO_IOMMU_GET_INFO, info)
    if not info.flags & VFIO_IOMMU_INFO_PGSIZES or info.iova_pgsizes == 0:
        raise OSError(errno.EOPNOTSUPP, "the kernel does not tell the IOMMU's page sizes")
    return int(info.iova_pgsizes & -info.iova_pgsizes)


def _switch(fd: int, flags: int) -> None:
    head = vfio_iommu_type1_dirty_bitmap(argsz=sizeof(vfio_iommu_type1_dirty_bitmap), flags=flags)
    call(fd, VFIO_IOMMU_DIRTY_PAGES, head)


def start(fd: int) -> None:
    """Starts recording. Raises OSError, the kernel's."""
    _switch(fd, VFIO_IOMMU_DIRTY_PAGES_FLAG_START)


def stop(fd: int) -> None:
    """Stops recording. Raises OSError, the kernel's."""
    _switch(fd, VFIO_IOMMU_DIRTY_PAGES_FLAG_STOP)


def get_bitmap(
    fd: int, bm: IOVABitmap, *, iova: int | None = None, length: int | None = None
) -> int:
    """Marks in `bm` the pages of [iova, iova + length) that may have been written.

    Parameters
    ----------
    bm : IOVABitmap
        Of any geometry that covers the range, which is its own where not given. The kernel is asked
        with the IOMMU's smallest page size, the only one that it takes.

    Returns
    -------
    int
        Pages of the bitmap that were clean before.

    Raises
    ------
    RefusedError
        EINVAL for an empty range, ends that are not multiples of the page size, or more than
        256 MiB of bitmap; EOVERFLOW for a range that ends at 2**64 or beyond.
    IOVARangeError
        `bm` does not cover the range. Nothing was asked.
    OSError
        The kernel's own: EINVAL where recording was not started, or the range cuts a mapping.
    """
    iova = bm.iova if iova is None else iova
    length = bm.length if length is None else length
    size = page_size(fd)
    check_range(iova, length, size)
    check_covers(bm, iova, length)
    answer = Answer(iova, length, size)
    argument = _Get()
    argument.head.argsz = sizeof(_Get)
    argument.head.flags = VFIO_IOMMU_DIRTY_PAGES_FLAG_GET_BITMAP
    argument.get.iova = iova
    argument.get.size = length
    argument.get.bitmap.pgsize = size
    argument.get.bitmap.size = answer.nbytes
    argument.get.bitmap.data = answer.address
    call(fd, VFIO_IOMMU_DIRTY_PAGES, argument)
    return answer.deliver(bm)


def check_range(iova: int, length: int, page_size: int) -> None:
    """Refuses what `get_bitmap` says."""
    check_end(iova, length, top_allowed=False)
    if length == 0:
        raise refuse(errno.EINVAL, "length must be at least 1 page, not 0")
    check_aligned(iova, "iova", page_size, "the IOMMU's page size")
    check_aligned(length, "length", page_size, "the IOMMU's page size")
    limit = MAX_BITMAP_NBYTES * 8 * page_size
    if length > limit:
        raise refuse(
            errno.EINVAL,
            f"length {length:#x} needs more than 256 MiB of bitmap; at most {limit:#x} at once",
        )
