"""VFIO device features: the log of the DMA writes that a device makes (`linux/vfio.h`, Linux 6.1).

`fd` is an open VFIO device whose driver can log, such as a network card's virtual function.
"""

from __future__ import annotations

import ctypes
import errno
import itertools
from ctypes import Structure, c_uint32, c_uint64, sizeof
from typing import TYPE_CHECKING, Any

from .calls import (
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
    from collections.abc import Iterable

    from .._core import IOVABitmap


class vfio_device_feature(Structure):  # noqa: N801  (the header's name)
    """The head; the feature's own data follows."""

    _fields_ = (("argsz", c_uint32), ("flags", c_uint32))


class vfio_device_feature_dma_logging_control(Structure):  # noqa: N801
    _fields_ = (
        ("page_size", c_uint64),
        ("num_ranges", c_uint32),
        ("__reserved", c_uint32),
        ("ranges", c_uint64),
    )


class vfio_device_feature_dma_logging_range(Structure):  # noqa: N801
    _fields_ = (("iova", c_uint64), ("length", c_uint64))


class vfio_device_feature_dma_logging_report(Structure):  # noqa: N801
    _fields_ = (
        ("iova", c_uint64),
        ("length", c_uint64),
        ("page_size", c_uint64),
        ("bitmap", c_uint64),
    )


VFIO_DEVICE_FEATURE = io(ord(";"), 100 + 17)
VFIO_DEVICE_FEATURE_GET = 1 << 16
VFIO_DEVICE_FEATURE_SET = 1 << 17
VFIO_DEVICE_FEATURE_PROBE = 1 << 18
VFIO_DEVICE_FEATURE_DMA_LOGGING_START = 6
VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP = 7
VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT = 8

MAX_RANGES = 256
MIN_PAGE_SIZE = 4096


def _feature(fd: int, flags: int, data: Structure | None = None) -> Any:
    """One VFIO_DEVICE_FEATURE call; the data as the kernel left it."""
    fields: list[tuple[str, type[Structure]]] = [("head", vfio_device_feature)]
    if data is not None:
        fields.append(("data", type(data)))
    kind = type("vfio_device_feature_call", (Structure,), {"_fields_": fields})
    argument: Any = kind()
    argument.head.argsz = sizeof(kind)
    argument.head.flags = flags
    if data is not None:
        argument.data = data
    call(fd, VFIO_DEVICE_FEATURE, argument)
    return argument.data if data is not None else None


def can_log(fd: int) -> bool:
    """Whether the device has the three features of a DMA log. Starts nothing."""
    wanted = (
        VFIO_DEVICE_FEATURE_DMA_LOGGING_START | VFIO_DEVICE_FEATURE_SET,
        VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP | VFIO_DEVICE_FEATURE_SET,
        VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT | VFIO_DEVICE_FEATURE_GET,
    )
    try:
        for flags in wanted:
            _feature(fd, flags | VFIO_DEVICE_FEATURE_PROBE)
    except OSError as error:
        if error.errno in (errno.ENOTTY, errno.EINVAL):
            return False
        raise
    return True


def start_logging(fd: int, ranges: Iterable[tuple[int, int]], page_size: int = 4096) -> int:
    """Starts the device's log for rows (iova, length) of bytes.

    Returns
    -------
    int
        The page size in bytes that the device chose: at least as coarse as it must be.

    Raises
    ------
    RefusedError
        EINVAL for no range, E2BIG for more than 256, EINVAL for a page size that is no power of two
        or ends that are not multiples of it, EOVERFLOW for a range that ends beyond 2**64, EINVAL
        for an empty range and for two that overlap.
    OSError
        The kernel's own: ENOTTY where the device cannot log.
    """
    rows = [(int(iova), int(length)) for iova, length in ranges]
    check_ranges(rows, page_size)
    table = (vfio_device_feature_dma_logging_range * len(rows))(
        *(vfio_device_feature_dma_logging_range(*row) for row in rows)
    )
    control = vfio_device_feature_dma_logging_control(
        page_size=page_size, num_ranges=len(rows), ranges=ctypes.addressof(table)
    )
    flags = VFIO_DEVICE_FEATURE_DMA_LOGGING_START | VFIO_DEVICE_FEATURE_SET
    return int(_feature(fd, flags, control).page_size)


def check_ranges(rows: list[tuple[int, int]], page_size: int) -> None:
    """Refuses what `start_logging` says."""
    if not rows:
        raise refuse(errno.EINVAL, "no range to log: 1 to 256 are needed")
    if len(rows) > MAX_RANGES:
        raise refuse(errno.E2BIG, f"{len(rows)} ranges, at most {MAX_RANGES} can be logged")
    check_power_of_two(page_size)
    for iova, length in rows:
        unsigned(iova, "iova")
        unsigned(length, "length")
        check_aligned(iova, "iova", page_size, "the page_size")
        check_aligned(length, "length", page_size, "the page_size")
        check_end(iova, length, top_allowed=True)
        if length == 0:
            raise refuse(errno.EINVAL, f"the range at {iova:#x} has length 0, at least 1 page is")
    for (iova, length), (other, _) in itertools.pairwise(sorted(rows)):
        if iova + length > other:
            raise refuse(
                errno.EINVAL, f"range {iova:#x} (+{length:#x}) overlaps that at {other:#x}"
            )


def stop_logging(fd: int) -> None:
    """Stops the device's log. What was not reported is gone."""
    _feature(fd, VFIO_DEVICE_FEATURE_DMA_LOGGING_STOP | VFIO_DEVICE_FEATURE_SET)


def report(
    fd: int,
    bm: IOVABitmap,
    *,
    iova: int | None = None,
    length: int | None = None,
    page_size: int | None = None,
) -> int:
    """Marks in `bm` the pages of [iova, iova + length) that the device wrote since the last report.

    Parameters
    ----------
    bm : IOVABitmap
        Of any geometry that covers the range. Range and page size are its own where not given.
    page_size : int
        Bytes that one bit of the answer stands for; it need not be the device's.

    Returns
    -------
    int
        Pages of the bitmap that were clean before.

    Raises
    ------
    RefusedError
        EINVAL for a page size below 4096 or no power of two; EOVERFLOW for a range that ends at
        2**64 or beyond: this interface cannot say such an end. Nothing was asked.
    IOVARangeError
        `bm` does not cover the range. Nothing was asked.
    OSError
        The kernel's own. The log may be lost: treat all of the range as dirty.
    """
    iova = bm.iova if iova is None else iova
    length = bm.length if length is None else length
    page_size = bm.page_size if page_size is None else page_size
    check_power_of_two(page_size, MIN_PAGE_SIZE)
    check_end(iova, length, top_allowed=False)
    if length == 0:
        raise refuse(errno.EINVAL, "length must be at least 1 page, not 0")
    check_covers(bm, iova, length)
    answer = Answer(iova, length, page_size)
    argument = vfio_device_feature_dma_logging_report(
        iova=iova, length=length, page_size=page_size, bitmap=answer.address
    )
    flags = VFIO_DEVICE_FEATURE_DMA_LOGGING_REPORT | VFIO_DEVICE_FEATURE_GET
    try:
        _feature(fd, flags, argument)
    except OSError as error:
        raise OSError(
            error.errno,
            f"{error.strerror}: no report; treat all of {iova:#x} (+{length:#x}) as dirty",
        ) from error
    return answer.deliver(bm)
