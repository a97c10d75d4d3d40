"""Questions about what the kernel does: sparse bitmaps of 1 PiB, and a tracker's collect."""

from __future__ import annotations

import mmap
import os
import sys
from contextlib import ExitStack
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from . import limits
from .patterns import MIB, PAGE, SEED
from .timing import Bar, Candidate, Case, Fact

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from numpy.typing import NDArray

    from .context import Context
    from .library import Library

HUGE = 1 << 50  # bytes of IOVA: 32 GiB of bitmap at 4 KiB
DIRTY = 10_000
MOST_NS, MOST_RESIDENT = 50e6, 64 * MIB
MAP_NORESERVE = getattr(mmap, "MAP_NORESERVE", 0x4000 if sys.platform == "linux" else 0)


def _private(nbytes: int) -> mmap.mmap:
    flags = mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS | MAP_NORESERVE
    return mmap.mmap(-1, nbytes, flags=flags)


def _memfd(nbytes: int) -> mmap.mmap:
    """Shared memory whose descriptor stays open in this process."""
    fd = os.memfd_create("bitmap")
    os.ftruncate(fd, nbytes)
    return mmap.mmap(fd, nbytes, flags=mmap.MAP_SHARED | MAP_NORESERVE)


def _shared(nbytes: int) -> mmap.mmap:
    return mmap.mmap(-1, nbytes, flags=mmap.MAP_SHARED | mmap.MAP_ANONYMOUS | MAP_NORESERVE)


def _resident() -> int:
    return int(Path("/proc/self/statm").read_text().split()[1]) * mmap.PAGESIZE


def _growth(run: Callable[[], Any]) -> Fact:
    before = _resident()
    result = run()
    grown = _resident() - before
    del result
    return Fact(
        "the resident set grows by less than 64 MiB",
        f"{grown / MIB:.1f} MiB",
        grown < MOST_RESIDENT,
    )


def sparse(context: Context) -> Iterator[Case]:
    """1 PiB, 10,000 dirty pages, in memory that was never touched elsewhere."""
    length = HUGE if not context.scaled else HUGE >> 10
    nbytes = length // PAGE // 8
    kinds = {"private anonymous": _private, "shared, memfd": _memfd, "shared, mmap(-1)": _shared}
    for kind, make in kinds.items():
        where = f"{nbytes / (1 << 30):g} GiB of bitmap, {kind}, {DIRTY:,} dirty"
        try:
            memory = make(nbytes)
        except (OSError, AttributeError) as error:
            yield Case("sparse", where, [], note=f"not measurable here: {error}")
            continue
        bitmaps = {
            library.name: library.alloc(0, length, PAGE, memory) for library in context.libraries
        }
        bm = bitmaps[""]
        rng = np.random.default_rng(SEED)
        iovas = np.unique(rng.integers(0, length // PAGE, DIRTY, np.uint64) * np.uint64(PAGE))
        mark = partial(bm.set_pages, iovas)
        mark()
        rows = np.stack([iovas, np.full_like(iovas, PAGE)], axis=1)
        known = {"count": len(iovas), "ranges": rows, "read_and_clear": rows}
        for name, answer in known.items():

            def make(library: Library, bitmaps: Any = bitmaps, name: str = name) -> Any:
                return getattr(bitmaps[library.name], name)

            mark()
            fact = _growth(getattr(bm, name))
            yield Case(
                "sparse",
                f"{name}, {where}",
                context.ours(make, mark, np.asarray),
                [Bar("under 50 ms", at_most_ns=MOST_NS)],
                [fact],
                known=answer,
            )
        for bitmap in bitmaps.values():
            bitmap.free()


@dataclass
class _Tracked:
    """Memory of its own, since one page has one tracker, and who tracks it."""

    bm: Any
    tracker: Any
    pages: NDArray[np.uint8]

    def write(self, which: NDArray[np.intp]) -> None:
        self.bm.reset()
        self.pages[which] += 1


def _tracked(library: Library, nbytes: int) -> _Tracked:
    memory = mmap.mmap(-1, nbytes, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
    pages = np.frombuffer(memory, np.uint8)[::PAGE]
    pages[:] = 1
    return _Tracked(library.bitmap_type(0, nbytes, PAGE), library.tracker(memory), pages)


def collect(context: Context) -> Iterator[Case]:
    """Written pages of this process. The same system calls by a loop of C, on the same memory."""
    nbytes = (256 if not context.quick else 64) * MIB
    nbytes = nbytes if not context.scaled else MIB
    probe = context.libraries[0].tracker.probe()
    if not probe or context.native.limits is None:
        reason = probe.reason or context.native.reason
        yield Case("collect", f"{nbytes // MIB} MiB", [], note=f"not measurable here: {reason}")
        return
    pagemap = os.open("/proc/self/pagemap", os.O_RDONLY)
    rng = np.random.default_rng(SEED)
    npages = nbytes // PAGE
    written = {
        "nothing written": np.empty(0, np.intp),
        "1 % random": np.unique(rng.integers(0, npages, npages // 100 + 1)),
        "10 % random": np.unique(rng.integers(0, npages, npages // 10 + 1)),
        "10 % in one run": np.arange(npages // 3, npages // 3 + npages // 10),
    }
    with ExitStack() as stack:
        all_tracked = {}
        for library in context.libraries:
            tracked = _tracked(library, nbytes)
            stack.enter_context(tracked.tracker)
            tracked.tracker.collect(tracked.bm)
            all_tracked[library.name] = tracked
        for pattern, which in written.items():
            candidates = []
            for library in context.libraries:
                tracked = all_tracked[library.name]
                run = partial(tracked.tracker.collect, tracked.bm)
                alone = replace(context, libraries=[library])
                candidates += alone.ours(lambda _, run=run: run, partial(tracked.write, which), int)
            ioctls = _ioctls(context, pagemap, all_tracked[""], nbytes, which)
            yield Case(
                "collect",
                f"{nbytes // MIB} MiB, {pattern}",
                [*candidates, *ioctls],
                [Bar("within 1.2x of the ioctls that it makes", (limits.IOCTLS,), 1 / 1.2)],
            )
    os.close(pagemap)


def _ioctls(
    context: Context, pagemap: int, tracked: _Tracked, nbytes: int, which: NDArray[np.intp]
) -> list[Candidate]:
    start = tracked.tracker.address
    found = context.native.limit(
        limits.IOCTLS, "scan_written", pagemap, start, start + nbytes, PAGE, widths=False
    )
    for candidate in found:
        candidate.before, candidate.answer = partial(tracked.write, which), int
    return found
