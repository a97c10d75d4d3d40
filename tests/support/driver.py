"""Runs an operation on the engine and on the model, and compares everything that can be seen.

`Pair` holds a bitmap over an `Arena`, and a model of it over one that has the same content at the
same offset in its page. After each operation: the result or the exception and its attributes, every
byte of the bitmap and of the guards, the present window, the statistics, and (with a pin object)
each call of pin and unpin; and the bitmap says that it is sound.

An operation fails when its pins do; `complete` then repeats the same call until it is done, as a
caller would.
"""

from __future__ import annotations

from itertools import chain, islice

import numpy as np

import iovabitmap as ib
from iovabitmap.model import ModelBitmap

from .memory import HOST_PAGE, Arena
from .pins import FaultyPin, RecordingPin

CALLS_UNTIL_DONE = 200
FIRST_BATCHES = 50


def plain(answer):
    """An answer as the model gives it: lists, and a tuple for each row."""
    if not isinstance(answer, np.ndarray):
        return answer
    if answer.ndim == 2:
        assert answer.dtype == np.uint64 and answer.shape[1] == 2
        return [tuple(row) for row in answer.tolist()]
    assert answer.ndim == 1 and answer.dtype in (np.uint64, np.int64, np.bool_)
    return answer.tolist()


def outcome(call) -> tuple:
    """What a call returned, or the exception with all that it says, and the exception."""
    try:
        return plain(call()), None
    except ib.IOVARangeError as error:
        return (ib.IOVARangeError, str(error), error.iova, error.length), error
    except ib.PinError as error:
        return (ib.PinError, error.errno, error.iova, error.length, error.newly), error


class Pair:
    """`pin` is "fault" for a pin object, or the name of a built-in backend of the engine."""

    def __init__(
        self, iova, length, page_size, *, pgoff=0, window_pages=None, pin="none", seed=1
    ) -> None:
        nbytes = ib.nbytes_for(length, page_size)
        self.pgoff = pgoff
        self.arena = Arena(nbytes, pgoff, content=None, seed=seed)
        self.twin = Arena(nbytes, pgoff, seed=seed)
        self.twin.data[:] = self.arena.data
        faulty = pin == "fault"
        self.pins = [FaultyPin(), FaultyPin()] if faulty else []
        # The model's other backends need memory that can be had: an object takes their windows.
        engine_pin, model_pin = self.pins or (pin, "none" if pin == "none" else RecordingPin())
        self.bm = ib.IOVABitmap(
            iova, length, page_size, self.arena.data, window_pages=window_pages, pin=engine_pin
        )
        self.model = ModelBitmap(
            iova, length, page_size, self.twin.data, window_pages=window_pages, pin=model_pin
        )
        # Where they may differ in how often they pin: how often the engine did so more, and the
        # most pages that either held.
        self.more_pins = self.high = 0
        assert self.bm.nbytes == self.model.nbytes and self.bm.nbits == self.model.nbits
        self.compare()

    @property
    def bits(self) -> np.ndarray:
        """The pages of the model: a copy, one bool each."""
        return np.array(self.model.to_mask(), bool)

    def fill(self, bits) -> None:
        """New content for both, without operations; bits that stand for no page stay."""
        now = np.unpackbits(self.twin.data, bitorder="little")
        now[: self.bm.nbits] = bits
        self.twin.data[:] = self.arena.data[:] = np.packbits(now, bitorder="little")

    # --- what is compared -----------------------------------------------------------------------

    def compare(self, *, passes_known=True) -> None:
        """`passes_known` is False for operations that may read the bits more than once."""
        if not np.array_equal(self.arena.data, self.twin.data):
            where = int(np.flatnonzero(self.arena.data != self.twin.data)[0])
            raise AssertionError(
                f"byte {where} of {self.bm.nbytes} is {self.arena.data[where]:#04x}, "
                f"the model's {self.twin.data[where]:#04x} (nbits {self.bm.nbits})"
            )
        self.arena.assert_guards()
        self.twin.assert_guards()
        self.bm.validate()
        self.model.validate()
        assert self.bm.window == self.model.window
        if not passes_known:
            self._adopt_counts()
        self._compare_accounts()

    def _adopt_counts(self) -> None:
        """Pins of a reading operation: any number, all given back, moves and the present window
        untouched."""
        a, b = self.bm.stats, self.model.stats
        self.more_pins = a.pins - b.pins
        room = self.bm.window_pages
        if self.bm.pin == "none":  # rows in any order have one window for all of the bitmap
            room = max(room, self.bm.nbytes // HOST_PAGE + 2)
        most = max(self.high, b.pinned_pages + room)
        self.high = max(a.peak_pinned_pages, b.peak_pinned_pages)
        assert self.high <= most
        for pin in self.pins:
            pin.log.clear()

    def _compare_accounts(self) -> None:
        a, b = self.bm.stats, self.model.stats
        assert (a.pins, a.unpins) == (b.pins + self.more_pins, b.unpins + self.more_pins)
        assert (a.pinned_pages, a.moves) == (b.pinned_pages, b.moves)
        assert max(a.peak_pinned_pages, self.high) == max(b.peak_pinned_pages, self.high)
        self.high = max(a.peak_pinned_pages, self.high)
        logs = []
        for pin, arena in zip(self.pins, (self.arena, self.twin), strict=False):
            assert not pin.errors, pin.errors
            assert pin.pinned_pages == a.pinned_pages
            logs.append([(what, at - arena.address, *rest) for what, at, *rest in pin.log])
            pin.log.clear()
        assert logs == [] or logs[0] == logs[1]

    def load(self, outcomes=(), bad_pages=()) -> None:
        """Plans the faults of the next operations, the same for both. `bad_pages` count from the
        host page that holds the first byte of the bitmap."""
        for pin, arena in zip(self.pins, (self.arena, self.twin), strict=False):
            page = arena.address - self.pgoff
            pin.load(outcomes, [page + n * HOST_PAGE for n in bad_pages])

    # --- running --------------------------------------------------------------------------------

    def both(self, engine, model, *, passes_known=True):
        """Calls both; the engine's result or what its exception says, and that exception."""
        expected, _ = outcome(model)
        result, error = outcome(engine)
        assert result == expected
        self.compare(passes_known=passes_known)
        return result, error

    def call(self, name: str, *args, passes_known=True, **options):
        """Calls this method of both."""
        return self.both(
            lambda: getattr(self.bm, name)(*args, **options),
            lambda: getattr(self.model, name)(*args, **options),
            passes_known=passes_known,
        )

    def _complete(self, call) -> None:
        """Repeats the same call as long as pins fail."""
        for _ in range(CALLS_UNTIL_DONE):
            _, error = call()
            if not isinstance(error, ib.PinError):
                return
            assert error.length > 0
        raise AssertionError("still failing")

    def complete(self, name: str, *args, **options) -> None:
        """Calls this method of both until no pin fails."""
        self._complete(lambda: self.call(name, *args, **options))

    # --- operations -----------------------------------------------------------------------------

    def walk(self) -> None:
        """for_each(by_window=True): the pieces, the window during each call, the last one stays."""

        def walk(bm):
            calls: list = []

            def visit(seen, iova, length, opaque):
                assert seen is bm and opaque is calls
                assert bm.window[:2] == (iova, length)
                calls.append(bm.window)

            assert bm.for_each(visit, calls, by_window=True) == 0
            return calls

        self._complete(lambda: self.both(lambda: walk(self.bm), lambda: walk(self.model)))

    def ask(self, name: str, *args, **options) -> None:
        """A question. No faults planned: how often the bits are read is the engine's own affair."""
        self.load()
        self.call(name, *args, passes_known=False, **options)

    def iter_ranges(self, iova=None, length=None, *, dirty=True, batch=65536) -> None:
        """All batches of the engine, and the first of the model, each of which is a walk from its
        start to the end of a window: the others by their rows."""
        self.load()

        def engine():
            found = []
            for rows in self.bm.iter_ranges(iova, length, dirty=dirty, batch=batch):
                assert 1 <= len(rows) <= batch
                found.append(plain(rows))
            return found[:FIRST_BATCHES], list(chain.from_iterable(found))

        def model():
            found = self.model.iter_ranges(iova, length, dirty=dirty, batch=batch)
            rows = self.model.ranges(iova, length, dirty=dirty)
            return list(islice(found, FIRST_BATCHES)), rows

        self.both(engine, model, passes_known=False)

    def copy(self) -> None:
        """A copy equals the bitmap until one of them changes, and has memory of its own."""
        self.load()

        def twin_of(bm):
            twin = bm.copy()
            assert twin == bm and twin.pin == "none"
            assert twin.window_pages == bm.window_pages and twin.window is None
            text, dirty = twin.to_text(), twin.any()
            twin.reset()
            assert (twin == bm) is not dirty
            return text

        self.both(lambda: twin_of(self.bm), lambda: twin_of(self.model), passes_known=False)

    def windows(self) -> None:
        self.both(lambda: list(self.bm.windows()), lambda: list(self.model.windows()))

    def finish(self) -> None:
        """Frees, and nothing may be left pinned."""
        self.model.free()
        self.bm.free()
        self._compare_accounts()
        assert self.bm.stats.pins == self.bm.stats.unpins and self.bm.stats.pinned_pages == 0
        for pin in self.pins:
            pin.assert_balanced()
        self.arena.assert_guards()
