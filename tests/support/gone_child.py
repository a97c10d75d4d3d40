"""Takes away memory of a bitmap under every operation. A child process does this: a store to what
is gone would kill it. A line is printed before each step.
"""

from __future__ import annotations

import errno
import mmap
import resource
import tempfile

import numpy as np

import iovabitmap as ib

from .memory import HOST_PAGE, Region
from .nobody import become
from .operations import ALL
from .reference import Reference, operation_error
from .world import assert_between

NPAGES = 4


class Truncated:
    """A mapped file that is cut off at a page, and then as long as before."""

    def __init__(self) -> None:
        self.file = tempfile.TemporaryFile()  # noqa: SIM115
        self.file.truncate(NPAGES * HOST_PAGE)
        self.memory = mmap.mmap(self.file.fileno(), NPAGES * HOST_PAGE)

    def take(self, page: int) -> list[int]:
        """Which pages can still be read."""
        self.file.truncate(page * HOST_PAGE)
        return list(range(page))

    def give_back(self) -> bool:
        """Whether the content is as before."""
        self.file.truncate(NPAGES * HOST_PAGE)
        return False


class Unmapped:
    """Private memory with a hole in the address space."""

    def __init__(self) -> None:
        self.region = Region(NPAGES)
        self.memory = self.region.buffer(0, NPAGES * HOST_PAGE)

    def take(self, page: int) -> list[int]:
        self.region.punch(page)
        return [n for n in range(NPAGES) if n != page]

    def give_back(self) -> bool:
        return False  # for good


class Protected(Unmapped):
    """A page without any permission."""

    PROTECTION = Region.NO_ACCESS

    def take(self, page: int) -> list[int]:
        self.region.protect(page, 1, self.PROTECTION)
        return [n for n in range(NPAGES) if n != page]

    def give_back(self) -> bool:
        self.region.protect(0, NPAGES, Region.READ_WRITE)
        return True


class ReadOnly(Protected):
    """A page that can be read."""

    PROTECTION = Region.READ_ONLY


KINDS = {each.__name__: each for each in (Truncated, Unmapped, Protected, ReadOnly)}


def _step(reference: Reference, kind: type, page: int, window_pages: int) -> bool:
    """Whether the operation met the page that is gone."""
    operation = reference.operation
    source = kind()
    world = operation.world("populate", window_pages=window_pages, memory=source.memory)
    rows = np.frombuffer(source.memory, np.uint8).reshape(NPAGES, HOST_PAGE)
    good = source.take(page)
    _, error = operation_error(operation, world)
    failed = isinstance(error, ib.PinError)
    if failed:
        assert error.errno in (errno.EFAULT, errno.ENOMEM, errno.EINVAL), error
        assert error.length > 0
    else:
        assert type(error) is reference.raises, f"{error!r}"
    if not operation.harvests:
        before, after = (
            each.reshape(NPAGES, HOST_PAGE)[good] for each in (reference.before, reference.after)
        )
        assert_between(rows[good], before, after)
        if not failed and good:
            assert np.array_equal(rows[good], after), "done, but not all of it"
    if source.give_back():
        if failed:
            reference.check_failure(world, error)
        reference.check_again(world, error)
    world.close()
    return failed


def populate(kind: str) -> int:
    met = 0
    for operation in ALL:
        reference = Reference(operation, operation.world)
        for window_pages in (1, NPAGES):
            for page in (0, 1, NPAGES - 1):
                print(f"{operation.name}, page {page}, {window_pages} pages a window", flush=True)
                met += _step(reference, KINDS[kind], page, window_pages)
    print(f"{kind}: {met} PinErrors", flush=True)
    assert met > 120 if kind != "ReadOnly" else met > 40
    return 0


def no_locks_left() -> int:
    """RLIMIT_MEMLOCK: nothing left of it, or less than a window needs."""
    become()  # root's locks have no limit
    met = shortened = 0
    hard = resource.getrlimit(resource.RLIMIT_MEMLOCK)[1]
    for limit in (0, 1, 3):
        size = limit * HOST_PAGE
        resource.setrlimit(resource.RLIMIT_MEMLOCK, (size, hard))
        for operation in ALL:
            if operation.tracks:  # which needs the rights that are gone
                continue
            print(f"{operation.name} with {limit} pages", flush=True)
            reference = Reference(operation, operation.world)
            world = operation.world("mlock", window_pages=NPAGES)
            _, error = operation_error(operation, world)
            failed = isinstance(error, ib.PinError)
            if failed:
                assert error.errno in (errno.ENOMEM, errno.EAGAIN, errno.EPERM), error
                reference.check_failure(world, error)
            else:
                assert type(error) is reference.raises, f"{error!r}"
                assert np.array_equal(world.content, reference.after)
                shortened += world.bm.stats.pins > 1
            met += failed
            world.close()
    print(f"{met} PinErrors, {shortened} with shorter windows", flush=True)
    assert met > 45 and shortened > 45
    return 0
