"""userfaultfd's asynchronous write protection (`linux/userfaultfd.h`, Linux 6.7).

A descriptor stands for the memory of the process that opened it, whoever holds it: the calls here
take addresses of that process.
"""

from __future__ import annotations

import ctypes
import errno
import os
import sys
from ctypes import Structure, c_uint64

from .calls import call, io, ior, iowr

UFFD_KIND = 0xAA
_SYS_USERFAULTFD = {"x86_64": 323, "aarch64": 282, "riscv64": 282, "loongarch64": 282, "s390x": 355}


class uffdio_api(Structure):  # noqa: N801  (the header's name)
    _fields_ = (("api", c_uint64), ("features", c_uint64), ("ioctls", c_uint64))


class uffdio_range(Structure):  # noqa: N801
    _fields_ = (("start", c_uint64), ("len", c_uint64))


class uffdio_register(Structure):  # noqa: N801
    _fields_ = (("range", uffdio_range), ("mode", c_uint64), ("ioctls", c_uint64))


class uffdio_writeprotect(Structure):  # noqa: N801
    _fields_ = (("range", uffdio_range), ("mode", c_uint64))


UFFD_API = 0xAA
UFFD_USER_MODE_ONLY = 1
UFFD_FEATURE_PAGEFAULT_FLAG_WP = 1 << 0
UFFD_FEATURE_WP_HUGETLBFS_SHMEM = 1 << 12
UFFD_FEATURE_WP_UNPOPULATED = 1 << 13
UFFD_FEATURE_WP_ASYNC = 1 << 15
UFFDIO_REGISTER_MODE_WP = 2
UFFDIO_WRITEPROTECT_MODE_WP = 1
USERFAULTFD_IOC_NEW = io(UFFD_KIND, 0x00)  # on /dev/userfaultfd
UFFDIO_API = iowr(UFFD_KIND, 0x3F, uffdio_api)
UFFDIO_REGISTER = iowr(UFFD_KIND, 0x00, uffdio_register)
UFFDIO_UNREGISTER = ior(UFFD_KIND, 0x01, uffdio_range)
UFFDIO_WRITEPROTECT = iowr(UFFD_KIND, 0x06, uffdio_writeprotect)


def open_descriptor() -> int:
    """A new descriptor for the memory of this process.

    The system call needs no privilege for faults of user space, and asynchronous write protection
    has no others. Where the call is forbidden /dev/userfaultfd is tried.

    Raises
    ------
    PermissionError
        Both are forbidden.
    OSError
        ENOSYS where the kernel has no userfaultfd.
    """
    if sys.platform != "linux":
        raise OSError(errno.ENOSYS, "there is no userfaultfd here (it needs Linux 6.7 or later)")
    import fcntl

    flags = os.O_CLOEXEC | os.O_NONBLOCK | UFFD_USER_MODE_ONLY
    libc = ctypes.CDLL(None, use_errno=True)
    fd = int(libc.syscall(_SYS_USERFAULTFD[os.uname().machine], flags))
    if fd >= 0:
        return fd
    number = ctypes.get_errno()
    if number != errno.EPERM:
        raise OSError(number, f"userfaultfd: {os.strerror(number)}")
    try:
        device = os.open("/dev/userfaultfd", os.O_RDWR | os.O_CLOEXEC)
    except OSError:
        raise PermissionError(
            errno.EPERM,
            "userfaultfd is forbidden here, the system call as well as /dev/userfaultfd "
            "(a container's seccomp profile?)",
        ) from None
    try:
        return int(fcntl.ioctl(device, USERFAULTFD_IOC_NEW, flags))
    finally:
        os.close(device)


def enable(fd: int) -> None:
    """The handshake that asks for asynchronous write protection of memory of every kind.

    Raises OSError EINVAL where the kernel has none.
    """
    features = (
        UFFD_FEATURE_PAGEFAULT_FLAG_WP
        | UFFD_FEATURE_WP_HUGETLBFS_SHMEM
        | UFFD_FEATURE_WP_UNPOPULATED
        | UFFD_FEATURE_WP_ASYNC
    )
    call(fd, UFFDIO_API, uffdio_api(api=UFFD_API, features=features))


def register(fd: int, start: int, end: int) -> None:
    """Makes the mapped pages [start, end) protectable. Protects none. OSError: the kernel's."""
    span = uffdio_range(start, end - start)
    call(fd, UFFDIO_REGISTER, uffdio_register(range=span, mode=UFFDIO_REGISTER_MODE_WP))


def unregister(fd: int, start: int, end: int) -> None:
    """Takes protection and registration away. OSError: the kernel's."""
    call(fd, UFFDIO_UNREGISTER, uffdio_range(start, end - start))


def write_protect(fd: int, start: int, end: int) -> None:
    """Protects registered pages, populated or not. OSError: the kernel's."""
    span = uffdio_range(start, end - start)
    call(fd, UFFDIO_WRITEPROTECT, uffdio_writeprotect(span, UFFDIO_WRITEPROTECT_MODE_WP))
