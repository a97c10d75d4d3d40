"""Bitmaps over memory that was mostly never touched: right answers whatever the memory is made of,
and holes that are not faulted in. How long it takes is not looked at here.
"""

from __future__ import annotations

import ctypes
import mmap
import os
import resource
import subprocess
import sys
import tempfile
from pathlib import Path

import numpy as np
import pytest

import iovabitmap as ib
from support.children import run_child
from support.driver import plain
from support.memory import HOST_PAGE, Region, needs_linux
from support.nobody import NOBODY

pytestmark = needs_linux

MIB = 1 << 20
BITS = HOST_PAGE * 8  # of a host page
PIB = 1 << 50
NO_RESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000) if sys.platform.startswith("linux") else 0


# --- memory of every kind ------------------------------------------------------------------------


def anonymous(nbytes: int):
    memory = mmap.mmap(-1, nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | NO_RESERVE)
    memory.madvise(mmap.MADV_NOHUGEPAGE)  # a single page of a bitmap would take 2 MiB
    return memory


def shared(nbytes: int):
    return mmap.mmap(-1, nbytes, flags=mmap.MAP_SHARED | mmap.MAP_ANONYMOUS | NO_RESERVE)


def memfd(nbytes: int):
    fd = os.memfd_create("sparse")
    try:
        os.ftruncate(fd, nbytes)
        return mmap.mmap(fd, nbytes)
    finally:
        os.close(fd)


def file(nbytes: int, flags: int = mmap.MAP_SHARED):
    with tempfile.TemporaryFile() as temporary:
        temporary.truncate(nbytes)
        return mmap.mmap(temporary.fileno(), nbytes, flags=flags)


def private_file(nbytes: int):
    return file(nbytes, mmap.MAP_PRIVATE)


KINDS = {f.__name__: f for f in (anonymous, shared, memfd, file, private_file)}


def require_holes(kind: str) -> None:
    """Skips where nothing but reading it all can tell what is in memory of that kind."""
    if kind == "shared":
        try:
            first = next(Path("/proc/self/map_files").iterdir())
            os.close(os.open(first, os.O_RDONLY))
        except OSError:
            if len(Path("/proc/swaps").read_text(encoding="ascii").splitlines()) > 1:
                pytest.skip("no descriptor of anonymous shared memory to be had, and swap")


def status_kib(*fields: str) -> int:
    lines = Path("/proc/self/status").read_text(encoding="ascii").splitlines()
    return sum(int(line.split()[1]) for line in lines if line.split(":")[0] in fields)


# --- 1 PiB ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["anonymous", "shared", "memfd"])
def test_a_pebibyte(kind):
    """32 GiB of bitmap with 10,000 dirty pages."""
    require_holes(kind)
    try:
        memory = KINDS[kind](ib.nbytes_for(PIB, 4096))
    except OSError as error:
        pytest.skip(f"no such memory here: {error}")
    rng = np.random.default_rng(1)
    bits = np.unique(np.append(rng.integers(0, PIB >> 12, 9_998), (0, (PIB >> 12) - 1)))
    bm = ib.alloc(0, PIB, 4096, memory)
    bm.set_pages(bits.astype(np.uint64) << np.uint64(12))
    gaps = np.flatnonzero(np.diff(bits) > 1)
    starts, stops = bits[np.append(0, gaps + 1)], bits[np.append(gaps, bits.size - 1)] + 1
    rows = np.column_stack((starts, stops - starts)).astype(np.uint64) << np.uint64(12)

    def lean(question, *args, **options):
        """A question's answer, and hardly any memory used for it."""
        resident = status_kib("VmRSS")
        answer = question(*args, **options)
        assert status_kib("VmRSS") - resident < 64 * 1024, question.__name__
        return answer

    faults = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
    assert lean(bm.count) == bits.size and lean(bm.any) and not lean(bm.all)
    assert np.array_equal(lean(bm.ranges), rows)
    assert np.array_equal(lean(bm.ranges, out=np.empty_like(rows)), rows)
    assert np.array_equal(np.concatenate(lean(lambda: list(bm.iter_ranges(batch=3000)))), rows)
    assert lean(bm.count_ranges) == len(rows)
    assert np.array_equal(lean(bm.pages) >> np.uint64(12), bits)
    for n in (1, 5000):
        start = int(bits[n - 1]) + 1 << 12
        assert lean(bm.find_dirty, start) == int(bits[n]) << 12
        assert lean(bm.count, start) == bits.size - n
    low, high = PIB // 2, PIB // 4 * 3
    inside = np.count_nonzero((bits >= low >> 12) & (bits < high >> 12))
    assert lean(bm.count, low, high - low) == inside
    assert lean(bm.ranges, dirty=False).shape == (len(rows) - 1, 2)
    assert lean(bm.find_clean, PIB - 4096) is None and lean(bm.find_clean, 0) == 4096
    assert np.array_equal(lean(bm.read_and_clear), rows)
    assert lean(bm.count) == 0 and lean(bm.find_dirty, 0) is None
    assert plain(lean(bm.ranges, dirty=False)) == [(0, PIB)]
    # Eight million pages, had they been touched.
    assert resource.getrusage(resource.RUSAGE_SELF).ru_minflt - faults < 400_000


def test_histogram_where_bins_times_pages_overflow():
    """The number of a bin times that of pages needs more than 64 bits, though neither does."""
    bins, nbits = 1 << 20, 1 << 45
    try:
        memory = anonymous(nbits // 8)
    except OSError as error:
        pytest.skip(f"no such memory here: {error}")
    bm = ib.alloc(0, nbits, 1, memory)
    bm.set_pages([0, nbits // 4 * 3 - 1, nbits // 4 * 3, nbits - 1])
    counts = bm.histogram(bins)
    assert np.flatnonzero(counts).tolist() == [0, bins // 4 * 3 - 1, bins // 4 * 3, bins - 1]
    assert counts.sum() == 4 == bm.count()


# --- answers -------------------------------------------------------------------------------------


def check(bm: ib.IOVABitmap, runs: list[tuple[int, int]], low: int = 0, high: int = 0) -> None:
    """`runs` [first, stop) is all that is dirty; asked of the part [low, high)."""
    high = high or bm.nbits
    cut = [(max(a, low), min(b, high)) for a, b in runs if max(a, low) < min(b, high)]
    dirty = [(a, b - a) for a, b in cut]
    ends = [low, *(end for run in cut for end in run), high]
    clean = [(a, b - a) for a, b in zip(ends[::2], ends[1::2], strict=True) if a < b]
    part = (low, high - low)
    assert plain(bm.ranges(*part)) == dirty
    assert plain(bm.ranges(*part, dirty=False)) == clean
    assert bm.count(*part) == sum(n for _, n in dirty)
    assert bm.count_ranges(*part) == len(dirty)
    assert bm.any(*part) is bool(dirty) and bm.all(*part) is not bool(clean)
    first = next((max(a, low) for a, b in runs if b > low), None)
    assert bm.find_dirty(low) == first
    first = next((b for a, b in runs if a <= low < b), low)
    assert bm.find_clean(low) == (first if first < bm.nbits else None)
    pages = bm.pages(*part)
    assert pages.size == sum(n for _, n in dirty)
    assert pages.size == 0 or (pages[0], pages[-1]) == (cut[0][0], cut[-1][1] - 1)


# Behind stretches that are long enough for holes to be looked for, and at their edges.
RUNS = [
    (0, 1),
    (BITS - 3, BITS),  # up to the end of a page, with a hole behind
    (5000 * BITS, 5001 * BITS),  # a whole page between holes
    (5002 * BITS + 7, 5003 * BITS + 7),
    (9000 * BITS - 1, 9000 * BITS + 1),
    (12_000 * BITS + 77, 12_000 * BITS + 78),
    (16_384 * BITS - 65, 16_384 * BITS - 64),
]
PARTS = [
    (0, 0),
    (1, 0),
    (5000 * BITS + 5, 9000 * BITS),
    (5001 * BITS, 5002 * BITS + 8),
    (9000 * BITS, 0),
    (10_000 * BITS + 3, 11_999 * BITS),
    (16_384 * BITS - 64, 16_384 * BITS - 1),
]


@pytest.mark.parametrize("kind", KINDS)
@pytest.mark.parametrize("offset", [0, 1, 4089 % HOST_PAGE])
def test_every_kind_of_memory(kind, offset):
    memory = KINDS[kind](65 * MIB)
    data = np.frombuffer(memory, np.uint8)[offset : offset + 64 * MIB]
    bm = ib.alloc(0, 64 * MIB * 8, 1, data)
    check(bm, [])
    bm.set_ranges([(a, b - a) for a, b in RUNS])
    for low, high in PARTS:
        check(bm, RUNS, low, high)
    assert plain(bm.read_and_clear(1)) == [(a, b - a) for a, b in RUNS[1:]]
    check(bm, RUNS[:1])
    into = ib.IOVABitmap(0, bm.length, 4096)
    bm.set_ranges([(a, b - a) for a, b in RUNS])
    bm.read_and_clear(into=into)
    assert into.count() == len({p for a, b in RUNS for p in range(a // 4096, (b - 1) // 4096 + 1)})
    check(bm, [])


@pytest.mark.parametrize("offset", [0, 1, 77])
def test_random_pages_in_holes(offset):
    rng = np.random.default_rng(offset)
    memory = anonymous(33 * MIB)
    bm = ib.alloc(0, 32 * MIB * 8, 1, np.frombuffer(memory, np.uint8)[offset : 32 * MIB + offset])
    edges = np.unique(rng.choice(32 * MIB // 64, 300) * 512 + rng.integers(-2, 3, 300))
    edges = edges[(edges >= 0) & (np.diff(edges, append=2**40) < 2 * BITS) & (edges < bm.nbits)]
    runs = [(int(a), int(b)) for a, b in zip(edges[::2], edges[1::2], strict=False)]
    bm.set_ranges([(a, b - a) for a, b in runs])
    for _ in range(8):
        low, high = sorted(rng.integers(0, bm.nbits, 2).tolist())
        check(bm, runs, low, high + 1)


# --- what must not be taken for a hole -----------------------------------------------------------


@pytest.mark.parametrize("kind", ["memfd", "file"])
def test_what_another_process_wrote(kind):
    """Into memory that this process never touched."""
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "bitmap"
        fd = os.memfd_create("other") if kind == "memfd" else os.open(path, os.O_RDWR | os.O_CREAT)
        os.ftruncate(fd, 64 * MIB)
        memory = mmap.mmap(fd, 64 * MIB)
        bm = ib.alloc(0, 64 * MIB * 8, 1, memory)
        assert not bm.any()
        script = (
            "import mmap, sys; m = mmap.mmap(int(sys.argv[1]), 0); "
            f"m[{20 * MIB}] = 4; m[{63 * MIB + 5}] = 0x81"
        )
        subprocess.run([sys.executable, "-P", "-c", script, str(fd)], pass_fds=[fd], check=True)
        os.close(fd)
        one, last = 20 * MIB * 8 + 2, (63 * MIB + 5) * 8
        check(bm, [(one, one + 1), (last, last + 1), (last + 7, last + 8)])
        assert len(bm.read_and_clear()) == 3 and not bm.any()


def test_what_a_forked_process_wrote_or_inherited():
    """Shared memory without a descriptor, and private memory on the other side of a fork."""
    run_child(
        """
        import mmap, os
        import iovabitmap as ib
        size = 64 << 20
        shared = ib.alloc(0, size * 8, 1, mmap.mmap(-1, size))
        private = ib.alloc(0, size * 8, 1, mmap.mmap(-1, size, flags=mmap.MAP_PRIVATE))
        private.set(size, 2)
        private.set(size * 8 - 1, 1)
        wanted = [[size, 2], [size * 8 - 1, 1]]
        child = os.fork()
        if child == 0:
            shared.set(size, 2)
            shared.set(size * 8 - 1, 1)
            assert private.ranges().tolist() == wanted
            private.set(77, 1)
            assert private.count() == 4
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        assert private.ranges().tolist() == wanted
        assert shared.count() == 3 and shared.find_dirty(0) == size
        assert shared.ranges().tolist() == wanted
        assert shared.read_and_clear().tolist() == wanted
        assert not shared.any()
        """
    ).assert_lived("fork")


# A mapping of a file on a disk, made with plain mmap and then without any descriptor, in a process
# that may not have one of /proc/self/map_files; the file's pages are on the disk only.
ON_DISK = """
import ctypes, os, sys
import numpy as np
import iovabitmap as ib
from support.nobody import become
path, flags, size = sys.argv[1], int(sys.argv[2]), 64 << 20
libc = ctypes.CDLL(None, use_errno=True)
libc.mmap.restype = ctypes.c_void_p
libc.mmap.argtypes = [ctypes.c_void_p, ctypes.c_size_t] + [ctypes.c_int] * 3 + [ctypes.c_long]
fd = os.open(path, os.O_RDWR)
os.posix_fadvise(fd, 0, 0, os.POSIX_FADV_DONTNEED)
address = libc.mmap(None, size, 3, flags, fd, 0)
assert address not in (None, 2**64 - 1)
os.close(fd)
libc.madvise(ctypes.c_void_p(address), ctypes.c_size_t(size), 1)  # MADV_RANDOM
become()
bm = ib.alloc(0, size * 8, 1, (ctypes.c_ubyte * size).from_address(address))
wanted = [[20 << 23, 8], [(63 << 23) + 8, 1]]
assert bm.ranges().tolist() == wanted, bm.ranges().tolist()
assert bm.count() == 9 and bm.find_dirty(0) == 20 << 23
assert bm.read_and_clear().tolist() == wanted
assert not bm.any()
"""


@pytest.mark.parametrize("flags", [mmap.MAP_SHARED, mmap.MAP_PRIVATE])
def test_content_that_is_on_a_disk_only(flags):
    with tempfile.NamedTemporaryFile() as temporary:
        temporary.truncate(64 * MIB)
        for at, byte in ((20 * MIB, 0xFF), (63 * MIB + 1, 1)):
            temporary.seek(at)
            temporary.write(bytes([byte]))
        temporary.flush()
        os.fsync(temporary.fileno())
        if os.geteuid() == 0:
            os.chown(temporary.fileno(), NOBODY, NOBODY)
        run_child(ON_DISK, temporary.name, str(flags)).assert_lived("a file's mapping")


def test_a_private_mapping_of_a_file_with_content():
    with tempfile.TemporaryFile() as temporary:
        temporary.truncate(64 * MIB)
        temporary.seek(40 * MIB)
        temporary.write(b"\xff" * 5000)
        temporary.flush()
        memory = mmap.mmap(temporary.fileno(), 64 * MIB, flags=mmap.MAP_PRIVATE)
    bm = ib.alloc(0, 64 * MIB * 8, 1, memory)
    first = 40 * MIB * 8
    check(bm, [(first, first + 40_000)])
    bm.set(100, 1)
    check(bm, [(100, 101), (first, first + 40_000)])


def test_pages_that_were_dropped_or_paged_out():
    memory = anonymous(64 * MIB)
    bm = ib.alloc(0, 64 * MIB * 8, 1, memory)
    bm.set_ranges([(a, b - a) for a, b in RUNS])
    for advice in ("MADV_COLD", "MADV_PAGEOUT"):  # to swap, where there is some
        if hasattr(mmap, advice):
            memory.madvise(getattr(mmap, advice))
        check(bm, RUNS)
    memory.madvise(mmap.MADV_DONTNEED, 5000 * HOST_PAGE, HOST_PAGE)
    check(bm, [run for run in RUNS if run[0] != 5000 * BITS])


def test_huge_pages():
    memory = mmap.mmap(-1, 66 * MIB, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    memory.madvise(mmap.MADV_HUGEPAGE)
    bm = ib.alloc(0, 64 * MIB * 8, 1, np.frombuffer(memory, np.uint8)[MIB + 1 : 65 * MIB + 1])
    runs = [(20 * MIB * 8, 20 * MIB * 8 + 5), (50 * MIB * 8 - 3, 50 * MIB * 8 + 3)]
    bm.set_ranges([(a, b - a) for a, b in runs])
    check(bm, runs)


# --- mappings of several parts -------------------------------------------------------------------


def marked(region: Region, pages) -> tuple[ib.IOVABitmap, list]:
    """One bit in each of these pages."""
    bm = ib.alloc(0, region.nbytes * 8, 1, region.buffer(0, region.nbytes))
    runs = [(page * BITS + 9, page * BITS + 10) for page in pages]
    bm.set_ranges([(a, 1) for a, _ in runs])
    return bm, runs


PAGES = [0, 1, 3000, 4999, 5000, 5001, 5009, 5010, 9000, 16_383]


def test_a_mapping_that_is_split_by_its_protection():
    region = Region(16_384)
    bm, runs = marked(region, PAGES)
    region.protect(5000, 10, region.READ_ONLY)
    region.protect(9000, 1, region.READ_ONLY)
    for low, high in ((0, 0), (3000 * BITS, 0), (5000 * BITS, 5010 * BITS), (5005 * BITS, 0)):
        check(bm, runs, low, high)


def test_a_mapping_that_is_split_by_a_lock():
    region = Region(16_384)
    bm, runs = marked(region, PAGES)
    if region._libc.mlock(region.address + 5000 * HOST_PAGE, 10 * HOST_PAGE) != 0:
        pytest.skip("this process may not lock 10 pages")
    check(bm, runs)
    assert len(bm.read_and_clear()) == len(runs)
    check(bm, [])


def test_private_shared_and_file_memory_in_one_bitmap():
    """Mappings of other kinds in the middle of a private one, with content of their own."""
    region = Region(16_384)
    bm, runs = marked(region, [0, 7000, 16_383])
    fixed = mmap.MAP_SHARED | 0x10  # MAP_FIXED
    with tempfile.TemporaryFile() as disk, tempfile.TemporaryFile() as other:
        for fd, page, flags in (
            (os.memfd_create("middle"), 3000, fixed),
            (os.dup(disk.fileno()), 5000, fixed),
            (os.dup(other.fileno()), 9000, mmap.MAP_PRIVATE | 0x10),
        ):
            os.ftruncate(fd, 1000 * HOST_PAGE)
            os.pwrite(fd, b"\x01", 600 * HOST_PAGE)
            # From its second half on, so that offsets in file and mapping differ.
            got = region._libc.mmap(
                region.address + page * HOST_PAGE, 500 * HOST_PAGE, 3, flags, fd, 500 * HOST_PAGE
            )
            os.close(fd)
            assert got == region.address + page * HOST_PAGE, ctypes.get_errno()
            runs.append(((page + 100) * BITS, (page + 100) * BITS + 1))
    runs.sort()
    for low, high in ((0, 0), (3000 * BITS, 0), (3100 * BITS + 1, 9000 * BITS), (9100 * BITS, 0)):
        check(bm, runs, low, high)
    assert plain(bm.read_and_clear()) == [(a, b - a) for a, b in runs]
    check(bm, [])
