"""What this machine can do: sources, kernel interfaces, limits and libraries, and why not.

Each is a question of its own that is asked for real: a source by a round trip, an interface by
opening it and making its simplest call.
"""

from __future__ import annotations

import errno
import mmap
import os
import platform
import resource
from contextlib import contextmanager
from importlib.util import find_spec
from typing import TYPE_CHECKING, NamedTuple

from iovabitmap import sources
from iovabitmap.sources import Probe
from iovabitmap.sources.probe import probed
from iovabitmap.uapi import pagemap, userfaultfd
from iovabitmap.uapi.calls import io

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

KVM_GET_API_VERSION, KVM_CHECK_EXTENSION = io(0xAE, 0x00), io(0xAE, 0x03)
KVM_API_VERSION = 12
KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2, KVM_CAP_DIRTY_LOG_RING = 168, 192
VFIO_GET_API_VERSION, VFIO_CHECK_EXTENSION = io(ord(";"), 100), io(ord(";"), 101)
VFIO_API_VERSION = 0
VFIO_TYPE1V2_IOMMU = 3

SOURCES = {
    "CommandTracker": "another program and its children: record, top",
    "ProcessTracker": "this process",
    "WriteTracker": "a buffer of this process",
    "SoftDirty": "a process that runs already: top --pid",
    "SnapshotDiff": "memory that can be read",
}
EXTRAS = {
    "pyarrow": "logs",
    "click": "the command",
    "rich": "the command",
    "matplotlib": "plot",
    "pandas": "to_pandas",
    "hypothesis": "tests of yours",
}


class Ability(NamedTuple):
    """Something that can be done here, or not and why; `what` it is for."""

    name: str
    what: str
    ok: bool
    reason: str


def of_sources() -> list[Ability]:
    return [Ability(name, what, *getattr(sources, name).probe()) for name, what in SOURCES.items()]


def of_interfaces() -> list[Ability]:
    asked: dict[str, tuple[str, Callable[[], Probe]]] = {
        "userfaultfd": ("asynchronous write protection", _userfaultfd),
        "PAGEMAP_SCAN": ("pages written since they were protected", _pagemap_scan),
        "soft-dirty": ("bit 55 of /proc/PID/pagemap", sources.SoftDirty.probe),
        "KVM": ("dirty log of a guest", _kvm),
        "KVM ring": ("dirty rings of a guest's CPUs", lambda: _kvm(KVM_CAP_DIRTY_LOG_RING)),
        "KVM clear": (
            "clearing a part of the log",
            lambda: _kvm(KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2),
        ),
        "VFIO type1": ("pages that devices may have written", _vfio),
        "iommufd": ("pages that devices wrote, by the IOMMU", _iommufd),
    }
    return [Ability(name, what, *probed(question)) for name, (what, question) in asked.items()]


def of_libraries() -> list[Ability]:
    return [
        Ability(name, what, found, "" if found else "not installed")
        for name, what in EXTRAS.items()
        for found in [find_spec(name) is not None]
    ]


def machine() -> dict[str, str | int | None]:
    """Facts: system, page size, and how much a process may lock (`pin="mlock"`), None: all."""
    soft, _ = resource.getrlimit(resource.RLIMIT_MEMLOCK)
    return {
        "system": f"{platform.system()} {platform.release()} {platform.machine()}",
        "python": f"{platform.python_implementation()} {platform.python_version()}",
        "page_size": mmap.PAGESIZE,
        "memlock_bytes": None if soft == resource.RLIM_INFINITY else soft,
    }


def _userfaultfd() -> Probe:
    fd = userfaultfd.open_descriptor()
    try:
        userfaultfd.enable(fd)
    finally:
        os.close(fd)
    return Probe(True, "")


def _pagemap_scan() -> Probe:
    with _opened("/proc/self/pagemap", os.O_RDONLY) as fd:
        for _ in pagemap.scan(fd, 0, mmap.PAGESIZE, mask=pagemap.PAGE_IS_PRESENT):
            pass
    return Probe(True, "")


def _kvm(extension: int | None = None) -> Probe:
    with _opened("/dev/kvm") as fd:
        version = _ask(fd, KVM_GET_API_VERSION)
        if version != KVM_API_VERSION:
            return Probe(False, f"KVM's interface has version {version}, not {KVM_API_VERSION}")
        if extension is not None and not _ask(fd, KVM_CHECK_EXTENSION, extension):
            return Probe(False, "this kernel's KVM has it not")
    return Probe(True, "")


def _vfio() -> Probe:
    with _opened("/dev/vfio/vfio") as fd:
        version = _ask(fd, VFIO_GET_API_VERSION)
        if version != VFIO_API_VERSION:
            return Probe(False, f"VFIO's interface has version {version}, not {VFIO_API_VERSION}")
        if not _ask(fd, VFIO_CHECK_EXTENSION, VFIO_TYPE1V2_IOMMU):
            return Probe(False, "no type1 IOMMU: is there one, and vfio_iommu_type1 loaded?")
    return Probe(True, "")


def _iommufd() -> Probe:
    with _opened("/dev/iommu"):
        return Probe(True, "")


def _ask(fd: int, request: int, argument: int = 0) -> int:
    import fcntl

    return fcntl.ioctl(fd, request, argument)


@contextmanager
def _opened(path: str, flags: int = os.O_RDWR) -> Iterator[int]:
    """A descriptor; an OSError that names the path where it cannot be had."""
    try:
        fd = os.open(path, flags | os.O_CLOEXEC)
    except OSError as error:
        missing = error.errno in (errno.ENOENT, errno.ENXIO, errno.ENODEV)
        why = "is not there" if missing else f"cannot be opened: {error.strerror}"
        raise OSError(error.errno, f"{path} {why}") from error
    try:
        yield fd
    finally:
        os.close(fd)
