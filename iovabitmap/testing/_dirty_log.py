"""verify_dirty_log: is a source exact while the memory that it watches is written?

Each iteration stores its number into random pages, from threads that go on while the log is read.
When they have ended the rest of the log is taken: what was logged in the iteration must then be
just the pages that hold its number. To check only that pages which are *not* logged are old would
pass a log that forgets, or repeats itself; so both directions are checked.
"""

from __future__ import annotations

import mmap
import time
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from .. import _core
from .._base.intervals import minus
from ._ranges import Pages, Row, rows_of

if TYPE_CHECKING:
    import numpy as np
    import numpy.typing as npt
    from typing_extensions import Buffer

WORD = 8  # bytes of the number that is stored
READS = 64  # of the log, at most, while the writers of one iteration run
# How long the stores of an iteration may be drawn out, in turns of an empty loop (some tenths of a
# nanosecond each): from nothing to some milliseconds, or twice as long as reading the log takes.
TURNS = 2**24
MOST_TURNS = 2**31


@dataclass(frozen=True)
class Report:
    """What `verify_dirty_log` found; true where the log was right.

    Attributes
    ----------
    missing, extra : list of (iova, length)
        In the first iteration whose log was wrong: pages that were written and are not in it, and
        pages, or addresses outside of the memory, that are in it and were not written.
    iteration : int
        The number of that iteration, or of the last one, counted from 1.
    iova, npages, page_size, threads, seed : int
        What was verified, and how: the seed repeats the choice of pages, though never the exact
        moments at which threads write.
    stores, during, reads : int
        Stores of all threads together; how many of them were made while the log was being read;
        and how often it was read. Where `during` is 0, no write met the harvest, and the report
        says nothing about marks that come during it.
    """

    iteration: int
    iova: int
    npages: int
    page_size: int
    threads: int
    seed: int
    stores: int = 0
    during: int = 0
    reads: int = 0
    missing: list[Row] = field(default_factory=list)
    extra: list[Row] = field(default_factory=list)

    @property
    def ok(self) -> bool:
        """Whether each page of each iteration was right."""
        return not self.missing and not self.extra

    def __bool__(self) -> bool:
        return self.ok

    def __str__(self) -> str:
        lines = [] if self.ok else [f"the log of iteration {self.iteration} is wrong"]
        pages = Pages(self.iova, self.npages * self.page_size, self.page_size)
        for what, rows in (("missing", self.missing), ("too many", self.extra)):
            if rows:
                lines.append("  " + pages.describe(what, pages.touched(rows)))
        lines.append(
            f"{self.iteration} iterations over {self.npages} pages of {self.page_size} bytes, "
            f"{self.threads} threads, seed {self.seed}: {self.stores} stores, {self.during} of "
            f"them while the log was being read, in {self.reads} reads"
        )
        return "\n".join(lines)

    __repr__ = __str__


def verify_dirty_log(
    memory: Buffer,
    collect: Callable[[], Any],
    *,
    threads: int = 2,
    iterations: int = 32,
    seed: int | None = None,
    iova: int = 0,
    page_size: int = mmap.PAGESIZE,
) -> Report:
    """Whether a source's log names just the pages that are written, also while it is read.

    Parameters
    ----------
    memory : buffer
        Writable, contiguous, a multiple of `page_size` bytes, tracked already. It is overwritten.
        Where the source sees the pages of the host it must begin at one, as an mmap does.
    collect : callable
        Gives the pages that became dirty since its last call, in any order: a bitmap, an (n, 2)
        array or a list of (iova, length).
    threads : int
        Writers. They run without the GIL, so they also write while `collect` holds it.
    iterations : int
        The first writes every page, the second none, the others random ones.
    seed : int, optional
        Repeats the choice of pages.
    iova : int
        The address that `collect` gives to the first byte of memory.
    page_size : int
        How many bytes a bit of the log stands for: a power of two, at least 8 for each thread.

    Returns
    -------
    Report
        True where all was right. It names the pages that were wrong, so let a test show it:
        `assert report, report`.

    Raises
    ------
    ValueError, TypeError
        For memory or options that cannot be used, and for an answer of `collect` that is no ranges.

    Examples
    --------
    >>> import mmap
    >>> import iovabitmap as ib
    >>> from iovabitmap.sources import WriteTracker
    >>> from iovabitmap.testing import verify_dirty_log
    >>> memory = mmap.mmap(-1, 1 << 20)
    >>> with WriteTracker(memory) as tracker:
    ...     def collect():
    ...         bm = ib.IOVABitmap(0, len(memory))
    ...         tracker.collect(bm)
    ...         return bm
    ...     report = verify_dirty_log(memory, collect)
    >>> bool(report)
    True
    """
    import numpy as np

    _check_options(threads, iterations, page_size)
    if seed is None:
        seed = int(np.random.SeedSequence().generate_state(1)[0])
    writers = _Writers(memory, page_size, threads, np.random.default_rng(seed))
    log = _Log(collect, Pages(iova, writers.npages * page_size, page_size), writers)
    writers.clear()
    log.read()  # what was dirty before, and those zeros
    stores = 0
    missing: list[Row] = []
    extra: list[Row] = []
    iteration = 0
    with ThreadPoolExecutor(threads) as pool:
        while iteration < iterations and not missing and not extra:
            iteration += 1
            logged = log.of_iteration(pool, iteration)
            written = writers.pages_with(iteration)
            missing = log.pages.rows(minus(written, logged))
            extra = log.pages.rows(minus(logged, written)) + log.outside
            stores += writers.stores
    return Report(
        iteration,
        iova,
        writers.npages,
        page_size,
        threads,
        seed,
        stores=stores,
        during=log.during,
        reads=log.reads,
        missing=missing,
        extra=extra,
    )


def _check_options(threads: int, iterations: int, page_size: int) -> None:
    if threads < 1 or iterations < 1:
        raise ValueError(f"threads and iterations must be at least 1: {threads}, {iterations}")
    if page_size < WORD * threads or page_size & (page_size - 1):
        raise ValueError(
            f"page_size must be a power of two and at least {WORD * threads} for {threads} "
            f"threads, not {page_size}"
        )


class _Writers:
    """The threads that store, and what they stored.

    Each has a place of its own in every page, the first one at its start and the last one at its
    end, so that several may store into one page at once; a page holds the largest number in it.
    """

    def __init__(
        self, memory: Buffer, page_size: int, threads: int, rng: np.random.Generator
    ) -> None:
        import numpy as np

        self.memory = memoryview(memory)
        self.bytes: npt.NDArray[np.uint8] = np.frombuffer(self.memory, np.uint8)
        if not self.bytes.flags.writeable:
            raise ValueError("memory is read-only")
        if self.bytes.size == 0 or self.bytes.size % page_size:
            raise ValueError(
                f"memory must be whole pages of {page_size} bytes, not {self.bytes.size} bytes"
            )
        if self.bytes.ctypes.data % WORD:
            raise ValueError(f"memory must begin at a multiple of {WORD} bytes")
        self.npages = self.bytes.size // page_size
        self.page_size = page_size
        self.rng = rng
        slots = page_size // WORD
        self.places = [
            WORD * (slots - 1) * i // max(threads - 1, 1) // WORD * WORD for i in range(threads)
        ]
        self.progress = np.zeros(threads, np.uint64)
        self.running: list[Future[None]] = []

    @property
    def stores(self) -> int:
        """How many stores this iteration has made so far."""
        return int(self.progress.sum())

    def clear(self) -> None:
        pages = self.bytes.reshape(self.npages, self.page_size)
        for place in self.places:
            pages[:, place : place + WORD] = 0

    def start(self, pool: ThreadPoolExecutor, iteration: int, turns: int) -> None:
        """Starts all threads, and returns when each that has a store to make has made its first."""
        import numpy as np

        self.progress[:] = 0
        self.running = []
        for i, place in enumerate(self.places):
            pages = self.rng.permutation(self.npages)[: self._how_many(iteration)]
            offsets = pages.astype(np.uint64) * np.uint64(self.page_size) + np.uint64(place)
            mine = self.progress[i : i + 1]
            pause = turns // max(len(pages), 1)
            self.running.append(
                pool.submit(_core._stamp, self.memory, offsets.data, iteration, pause, mine.data)
            )
            while len(pages) and not mine[0] and not self.running[-1].done():
                time.sleep(0)  # gives the GIL away: the thread needs it to begin

    def _how_many(self, iteration: int) -> int:
        """Pages that one thread writes: all, none, then anything between, few as often as many."""
        if iteration <= 2:
            return self.npages if iteration == 1 else 0
        return int((self.npages + 1) ** self.rng.random())

    def busy(self) -> bool:
        return not all(future.done() for future in self.running)

    def join(self) -> None:
        for future in self.running:
            future.result()

    def pages_with(self, number: int) -> list[tuple[int, int]]:
        """Runs of the pages that hold this number."""
        import numpy as np

        pages = self.bytes.reshape(self.npages, self.page_size)
        values = np.zeros(self.npages, np.uint64)
        for place in self.places:
            stored = np.ascontiguousarray(pages[:, place : place + WORD]).view(np.uint64)
            np.maximum(values, stored[:, 0], out=values)
        edges = np.flatnonzero(np.diff(values == number, prepend=False, append=False))
        return [(first, end) for first, end in edges.reshape(-1, 2).tolist()]


class _Log:
    """The log under test: what it said in an iteration, and how it was read."""

    def __init__(self, collect: Callable[[], Any], pages: Pages, writers: _Writers) -> None:
        self.collect = collect
        self.pages = pages
        self.writers = writers
        self.reads = 0
        self.during = 0
        self.longest_ns = 0
        self.outside: list[Row] = []

    def read(self) -> list[Row]:
        """One harvest."""
        before, start = self.writers.stores, time.perf_counter_ns()
        answer = self.collect()
        self.longest_ns = max(self.longest_ns, time.perf_counter_ns() - start)
        self.during += self.writers.stores - before
        self.reads += 1
        return rows_of(answer, "what collect() gave")

    def of_iteration(self, pool: ThreadPoolExecutor, iteration: int) -> list[tuple[int, int]]:
        """Runs of the pages that an iteration's log names."""
        turns = int(min(max(TURNS, 4 * self.longest_ns), MOST_TURNS) ** self.writers.rng.random())
        rows: list[Row] = []
        self.writers.start(pool, iteration, turns)
        for _ in range(READS):
            rows += self.read()
            if not self.writers.busy():
                break
        self.writers.join()
        rows += self.read()  # the rest
        inside = [(0, self.pages.npages)]
        runs = self.pages.touched(rows)
        self.outside = [
            (self.pages.iova + first * self.pages.page_size, (end - first) * self.pages.page_size)
            for first, end in minus(runs, inside)
        ]
        return list(minus(runs, minus(runs, inside)))
