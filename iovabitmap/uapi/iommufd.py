"""iommufd: dirty tracking of a hardware page table (`linux/iommufd.h`, Linux 6.7).

`fd` is an open /dev/iommu, `hwpt_id` a page table of it that was allocated with dirty tracking.
"""

from __future__ import annotations

import errno
from ctypes import Structure, c_uint32, c_uint64, sizeof
from typing import TYPE_CHECKING

from .calls import (
    TOP,
    U32,
    Answer,
    call,
    check_aligned,
    check_covers,
    check_end,
    check_power_of_two,
    io,
    refuse,
    unsigned,
)

if TYPE_CHECKING:
    from .._core import IOVABitmap


class iommu_hwpt_set_dirty_tracking(Structure):  # noqa: N801  (the header's name)
    _fields_ = (
        ("size", c_uint32),
        ("flags", c_uint32),
        ("hwpt_id", c_uint32),
        ("__reserved", c_uint32),
    )


class iommu_hwpt_get_dirty_bitmap(Structure):  # noqa: N801
    _fields_ = (
        ("size", c_uint32),
        ("hwpt_id", c_uint32),
        ("flags", c_uint32),
        ("__reserved", c_uint32),
        ("iova", c_uint64),
        ("length", c_uint64),
        ("page_size", c_uint64),
        ("data", c_uint64),
    )


IOMMU_HWPT_SET_DIRTY_TRACKING = io(ord(";"), 0x8B)
IOMMU_HWPT_GET_DIRTY_BITMAP = io(ord(";"), 0x8C)
IOMMU_HWPT_DIRTY_TRACKING_ENABLE = 1
IOMMU_HWPT_GET_DIRTY_BITMAP_NO_CLEAR = 1


def set_dirty_tracking(fd: int, hwpt_id: int, enable: bool) -> None:
    """Starts or stops recording of dirty pages.

    Raises
    ------
    OSError
        The kernel's: EOPNOTSUPP where this page table has no dirty tracking.
    """
    argument = iommu_hwpt_set_dirty_tracking(
        size=sizeof(iommu_hwpt_set_dirty_tracking),
        flags=IOMMU_HWPT_DIRTY_TRACKING_ENABLE if enable else 0,
        hwpt_id=unsigned(hwpt_id, "hwpt_id", U32),
    )
    call(fd, IOMMU_HWPT_SET_DIRTY_TRACKING, argument)


def get_dirty_bitmap(
    fd: int,
    hwpt_id: int,
    bm: IOVABitmap,
    *,
    iova: int | None = None,
    length: int | None = None,
    page_size: int | None = None,
    io_page_size: int = 4096,
    no_clear: bool = False,
) -> int:
    """Marks in `bm` the pages of [iova, iova + length) that the hardware found dirty.

    The kernel clears what it tells, unless `no_clear`.

    Parameters
    ----------
    bm : IOVABitmap
        Of any geometry that covers the range. Range and page size are its own where not given.
    page_size : int
        Bytes that one bit of the kernel's answer stands for.
    io_page_size : int
        The smallest page of the hardware's page table, in bytes.

    Returns
    -------
    int
        Pages of the bitmap that were clean before.

    Raises
    ------
    RefusedError
        In the kernel's order: EOVERFLOW for a range that ends beyond 2**64 (at it is fine), or of
        length 0 that does not start at 0; EINVAL for an end that is not a multiple of the IO page;
        EINVAL for page_size 0, or an end that is not a multiple of page_size.
    IOVARangeError
        `bm` does not cover the range. Nothing was asked.
    OSError
        The kernel's own: ENOENT for an unknown `hwpt_id`.

    Notes
    -----
    Linux reports no error of writing the bitmap: with a bad address the call succeeds and the dirty
    bits are gone. So it is given memory of ours that is known to be there; if `bm` then cannot take
    the answer, the exception has it as `harvested`. Length 0 at 0 does nothing.
    """
    iova = bm.iova if iova is None else iova
    length = bm.length if length is None else length
    page_size = bm.page_size if page_size is None else page_size
    unsigned(hwpt_id, "hwpt_id", U32)
    check_power_of_two(io_page_size)
    check_range(iova, length, page_size, io_page_size)
    if length == 0:
        return 0
    check_covers(bm, iova, length)
    answer = Answer(iova, length, page_size)
    argument = iommu_hwpt_get_dirty_bitmap(
        size=sizeof(iommu_hwpt_get_dirty_bitmap),
        hwpt_id=hwpt_id,
        flags=IOMMU_HWPT_GET_DIRTY_BITMAP_NO_CLEAR if no_clear else 0,
        iova=iova,
        length=length,
        page_size=page_size,
        data=answer.address,
    )
    call(fd, IOMMU_HWPT_GET_DIRTY_BITMAP, argument)
    return answer.deliver(bm)


def check_range(iova: int, length: int, page_size: int, io_page_size: int) -> None:
    """Refuses what iommufd refuses, in its order; see `get_dirty_bitmap`."""
    check_end(iova, length, top_allowed=True)
    if length == 0 and iova > 0:
        raise refuse(errno.EOVERFLOW, f"length 0 is only possible at iova 0, not at {iova:#x}")
    end = (iova + length) % TOP
    check_aligned(iova, "iova", io_page_size, "the IO page")
    check_aligned(end, "end", io_page_size, "the IO page")
    check_power_of_two(page_size)
    check_aligned(iova, "iova", page_size, "the page_size")
    check_aligned(end, "end", page_size, "the page_size")
