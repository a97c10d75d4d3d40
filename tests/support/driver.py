"""Runs an operation on the engine and on the oracle, and compares everything that can be seen.

`Pair` holds a bitmap over an `Arena` and a `Model` of it. After each operation: the result or the
exception and its attributes, every byte of the bitmap and of the guards, the present window, the
statistics, and (with a pin object) each call of pin and unpin.

An operation fails when its pins do; `complete` then repeats the same call until it is done, as a
caller would.
"""

from __future__ import annotations

import numpy as np

import iovabitmap as ib

from .memory import HOST_PAGE, Arena
from .model import Model, OutOfRange, PinFailed
from .pins import FaultyPin

CALLS_UNTIL_DONE = 200

# What the oracle calls the engine's methods, where the names differ.
ORACLES = {
    "ranges": "rows",
    "to_text": "text",
    "read_and_clear": "harvest",
    "set_pages": "mark_pages",
}


def plain(answer):
    """An answer as the oracle gives it: lists, and a tuple for each row."""
    if not isinstance(answer, np.ndarray):
        return answer
    if answer.ndim == 2:
        assert answer.dtype == np.uint64 and answer.shape[1] == 2
        return [tuple(row) for row in answer.tolist()]
    assert answer.ndim == 1 and answer.dtype in (np.uint64, np.int64)
    return answer.tolist()


class Pair:
    """`pin` is "fault" for a pin object, or the name of a built-in backend."""

    def __init__(
        self, iova, length, page_size, *, pgoff=0, window_pages=None, pin="none", seed=1
    ) -> None:
        self.arena = Arena(ib.nbytes_for(length, page_size), pgoff, content=None, seed=seed)
        self.pin = FaultyPin() if pin == "fault" else pin
        self.model = Model(
            iova,
            length,
            page_size,
            address=self.arena.address,
            window_pages=window_pages,
            pin=FaultyPin() if pin == "fault" else None,
        )
        self.model.bits[:] = np.unpackbits(self.arena.initial, bitorder="little")[
            : self.model.nbits
        ]
        self.bm = ib.IOVABitmap(
            iova, length, page_size, self.arena.data, window_pages=window_pages, pin=self.pin
        )
        assert self.bm.nbytes == self.model.nbytes and self.bm.nbits == self.model.nbits
        self.compare()

    # --- what is compared -----------------------------------------------------------------------

    def compare(self, *, passes_known=True) -> None:
        """`passes_known` is False for operations that may read the bits more than once."""
        model, bm = self.model, self.bm
        expected = model.memory(self.arena.initial)
        if not np.array_equal(self.arena.data, expected):
            where = int(np.flatnonzero(self.arena.data != expected)[0])
            raise AssertionError(
                f"byte {where} of {model.nbytes} is {self.arena.data[where]:#04x}, "
                f"not {expected[where]:#04x} (nbits {model.nbits})"
            )
        self.arena.assert_guards()
        assert bm.window == model.window
        if not passes_known:
            self._adopt_counts()
        assert tuple(bm.stats) == model.stats
        if isinstance(self.pin, FaultyPin):
            assert not self.pin.errors, self.pin.errors
            assert self.pin.log == model.pin.log
            assert self.pin.pinned_pages == bm.stats.pinned_pages

    def _adopt_counts(self) -> None:
        """Pins of a reading operation: any number, all given back, moves and the present window
        untouched."""
        stats, model = self.bm.stats, self.model
        assert stats.pins - model.pins == stats.unpins - model.unpins >= 0
        assert stats.peak_pinned_pages <= max(model.peak, model.pinned + model.window_pages)
        model.pins, model.unpins = stats.pins, stats.unpins
        model.peak = stats.peak_pinned_pages
        if isinstance(self.pin, FaultyPin):
            model.pin.log[:] = self.pin.log

    def load(self, outcomes=(), bad_pages=()) -> None:
        """Plans the faults of the next operations, the same for both. `bad_pages` count from the
        host page that holds the first byte of the bitmap."""
        if isinstance(self.pin, FaultyPin):
            page = self.arena.data.ctypes.data
            page -= page % HOST_PAGE
            bad = [page + n * HOST_PAGE for n in bad_pages]
            self.pin.load(outcomes, bad)
            self.model.pin.load(outcomes, bad)

    # --- running --------------------------------------------------------------------------------

    def both(self, engine, oracle, *, passes_known=True):
        """Calls both; returns (result, failure of the oracle or None)."""
        failure = expected = None
        try:
            expected = oracle()
        except (OutOfRange, PinFailed) as error:
            failure = error
        try:
            result = engine()
        except ib.IOVARangeError as error:
            assert isinstance(failure, OutOfRange), f"unexpected {error!r}, oracle: {failure!r}"
            assert (error.iova, error.length) == (failure.iova, failure.length)
            assert failure.row is None or str(error).startswith(f"row {failure.row}: ")
        except ib.PinError as error:
            assert isinstance(failure, PinFailed), f"unexpected {error!r}, oracle: {failure!r}"
            assert error.errno == failure.errno
            assert (error.iova, error.length) == (failure.iova, failure.length)
            assert error.newly == failure.newly
        else:
            assert failure is None, f"the engine returned {result!r}, the oracle raised {failure!r}"
            assert result == expected
        self.compare(passes_known=passes_known)
        return expected, failure

    def complete(self, engine, oracle) -> None:
        """Runs, and repeats the same call as long as pins fail."""
        for _ in range(CALLS_UNTIL_DONE):
            _, failure = self.both(engine, oracle)
            if not isinstance(failure, PinFailed):
                return
            assert failure.length > 0
        raise AssertionError("still failing")

    # --- operations -----------------------------------------------------------------------------

    def set(self, iova, length, clip=False) -> None:
        def oracle():
            self.model.mark(True, iova, length, clip)

        self.complete(lambda: self.bm.set(iova, length, clip=clip), oracle)

    def clear(self, iova, length, clip=False) -> None:
        def oracle():
            try:
                self.model.mark(False, iova, length, clip)
            except PinFailed as error:
                error.newly = 0  # clear records no page as dirty
                raise

        self.complete(lambda: self.bm.clear(iova, length, clip=clip), oracle)

    def test_and_set(self, iova, length) -> None:
        self.complete(
            lambda: self.bm.test_and_set(iova, length),
            lambda: self.model.mark(True, iova, length),
        )

    def test(self, iova) -> None:
        self.complete(lambda: self.bm.test(iova), lambda: self.model.test(iova))

    def count(self, iova=None, length=None) -> None:
        self.complete(lambda: self.bm.count(iova, length), lambda: self.model.count(iova, length))

    def reset(self) -> None:
        self.complete(self.bm.reset, self.model.reset)

    def walk(self) -> None:
        """for_each(by_window=True): the pieces, the window during each call, the last one stays."""
        calls: list = []

        def visit(bm, iova, length, opaque):
            assert bm is self.bm and opaque is calls
            assert bm.window[:2] == (iova, length)
            calls.append((iova, length))

        def engine():
            calls.clear()
            assert self.bm.for_each(visit, calls, by_window=True) == 0
            return calls

        self.complete(engine, self.model.walk)

    def ask(self, name: str, *args, **options) -> None:
        """A question that the oracle answers by the same name. No faults planned: how often the
        bits are read is the engine's own affair."""
        self.load()

        def engine():
            return plain(getattr(self.bm, name)(*args, **options))

        oracle = getattr(self.model, ORACLES.get(name, name))
        self.both(engine, lambda: oracle(*args, **options), passes_known=False)

    def ranges(self, iova=None, length=None) -> None:
        self.ask("ranges", iova, length)

    def iter_ranges(self, iova=None, length=None, *, dirty=True, batch=65536) -> None:
        self.load()

        def engine():
            found = []
            for rows in self.bm.iter_ranges(iova, length, dirty=dirty, batch=batch):
                assert 1 <= len(rows) <= batch
                found += plain(rows)
            return found

        self.both(engine, lambda: self.model.rows(iova, length, dirty), passes_known=False)

    def find(self, start: int, dirty: bool) -> None:
        self.load()
        engine = self.bm.find_dirty if dirty else self.bm.find_clean
        self.both(lambda: engine(start), lambda: self.model.find(start, dirty), passes_known=False)

    def mark_rows(self, value: bool, rows, clip=False) -> None:
        """set_ranges, or clear_ranges."""
        self.load()
        engine = self.bm.set_ranges if value else self.bm.clear_ranges
        self.both(
            lambda: engine(rows, clip=clip),
            lambda: self.model.mark_rows(value, rows, clip),
            passes_known=False,
        )

    def mask(self) -> None:
        self.load()
        self.both(lambda: self.bm.to_mask().tolist(), self.model.bits.tolist, passes_known=False)

    def copy(self) -> None:
        """A copy equals the bitmap until one of them changes, and has memory of its own."""
        self.load()

        def engine():
            twin = self.bm.copy()
            assert twin == self.bm and twin.pin == "none"
            assert twin.window_pages == self.bm.window_pages and twin.window is None
            bits = twin.to_mask()
            twin.reset()
            assert (twin == self.bm) is not bool(bits.any())
            return bits.tolist()

        self.both(engine, self.model.bits.tolist, passes_known=False)

    def windows(self) -> None:
        self.both(lambda: list(map(tuple, self.bm.windows())), self.model.windows)

    def finish(self) -> None:
        """Frees, and nothing may be left pinned."""
        self.model.release()
        self.bm.free()
        assert tuple(self.bm.stats) == self.model.stats
        assert self.bm.stats.pins == self.bm.stats.unpins and self.bm.stats.pinned_pages == 0
        if isinstance(self.pin, FaultyPin):
            assert self.pin.log == self.model.pin.log
            self.pin.assert_balanced()
        self.arena.assert_guards()
