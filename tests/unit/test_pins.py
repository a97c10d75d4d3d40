"""Python pin objects: what they are asked, what they may answer, what a failure leaves behind."""

from __future__ import annotations

import errno
import gc

import pytest

from support.memory import HOST_PAGE, Arena
from support.pins import AnsweringPin, FaultyPin, RecordingPin
from support.under_test import ib


def bitmap(pin, npages=4, pgoff=0, window_pages=512, content=0):
    arena = Arena(npages * HOST_PAGE - pgoff, pgoff, content=content)
    bm = ib.alloc(0x1000, arena.data.nbytes * 8, 1, arena.data, window_pages=window_pages, pin=pin)
    return bm, arena


OPERATIONS = {
    "set": lambda bm: bm.set(bm.iova, bm.length),
    "clear": lambda bm: bm.clear(bm.iova, bm.length),
    "test_and_set": lambda bm: bm.test_and_set(bm.iova, bm.length),
    "test": lambda bm: bm.test(bm.iova),
    "count": lambda bm: bm.count(),
    "ranges": lambda bm: bm.ranges(),
    "to_mask": lambda bm: bm.to_mask(),
    "reset": lambda bm: bm.reset(),
    "copy": lambda bm: bm.copy(),
    # Equal, because a difference in the first window may end the comparison there.
    "==": lambda bm: bm == ib.alloc(bm.iova, bm.length, bm.page_size, bytearray(bm.view())),
    "for_each": lambda bm: bm.for_each(lambda *_: None, by_window=True),
}
each_operation = pytest.mark.parametrize("name", OPERATIONS)


# --- what it is asked --------------------------------------------------------------------------


def test_page_aligned_addresses(recording_pin):
    bm, arena = bitmap(recording_pin, npages=5, pgoff=4081 % HOST_PAGE, window_pages=2)
    bm.set(bm.iova, bm.length)
    page = arena.address - arena.address % HOST_PAGE
    assert recording_pin.pins == [
        (page, 2, 2),
        (page + 2 * HOST_PAGE, 2, 2),
        (page + 4 * HOST_PAGE, 1, 1),
    ]
    bm.free()
    assert recording_pin.log[-1] == ("unpin", page + 4 * HOST_PAGE, 1)
    recording_pin.assert_balanced()


def test_the_object_is_kept_and_shown(recording_pin):
    bm, _ = bitmap(recording_pin)
    assert bm.pin is recording_pin
    bm.free()
    assert bm.pin is recording_pin


@pytest.mark.parametrize("npages", [0, 1])
def test_results_that_can_be_used_as_an_int(npages):
    class Count:
        def __index__(self):
            return 1

    pin = AnsweringPin(lambda asked: Count() if npages else asked)
    bm, _ = bitmap(pin)
    bm.set(bm.iova, 1)
    assert bm.stats.pinned_pages in (1, 4)


@pytest.mark.parametrize("pin", [object(), None, 5, 1.5, b"none", [], RecordingPin])
def test_what_cannot_be_a_pin_object(pin):
    with pytest.raises((TypeError, ValueError, AttributeError)):
        bitmap(pin)[0].set(0x1000, 1)


# --- answers that are refused ------------------------------------------------------------------


@each_operation
@pytest.mark.parametrize("answer", [0, -1, -14, 2**31, 2**63, 2**64, -(2**70), "one more"])
def test_a_number_that_is_not_in_1_to_npages(name, answer):
    pin = AnsweringPin(lambda npages: npages + 1 if answer == "one more" else answer)
    bm, arena = bitmap(pin, content=0x55)
    with pytest.raises(ib.PinError) as caught:
        OPERATIONS[name](bm)
    assert caught.value.errno == errno.EFAULT
    assert caught.value.iova == bm.iova
    assert caught.value.length == (1 if name == "test" else bm.length)
    assert pin.unpinned == [] and tuple(bm.stats) == (0, 0, 0, 0, 0) and bm.window is None
    assert (arena.data == 0x55).all()
    arena.assert_guards()


@each_operation
@pytest.mark.parametrize(
    "answer", [None, 1.0, "1", b"1", [1], object()], ids=lambda value: type(value).__name__
)
def test_what_is_no_int(name, answer):
    pin = AnsweringPin(answer)
    bm, arena = bitmap(pin, content=0x55)
    with pytest.raises(TypeError):
        OPERATIONS[name](bm)
    assert pin.unpinned == [] and tuple(bm.stats) == (0, 0, 0, 0, 0)
    assert (arena.data == 0x55).all()


@each_operation
def test_an_oserror_becomes_the_cause(name):
    error = PermissionError(errno.EACCES, "not today")
    pin = AnsweringPin(error)
    bm, _ = bitmap(pin)
    with pytest.raises(ib.PinError) as caught:
        OPERATIONS[name](bm)
    assert caught.value.__cause__ is error and caught.value.errno == errno.EACCES
    assert isinstance(caught.value, OSError) and type(caught.value) is ib.PinError
    assert (caught.value.iova, caught.value.newly) == (bm.iova, 0)
    assert pin.unpinned == [] and tuple(bm.stats) == (0, 0, 0, 0, 0)


@pytest.mark.parametrize("error", [OSError("no number"), OSError(), ib.PinError])
def test_an_oserror_without_a_number(error):
    pin = AnsweringPin(error() if isinstance(error, type) else error)
    bm, _ = bitmap(pin)
    with pytest.raises(ib.PinError) as caught:
        bm.set(bm.iova + 5, 10)
    assert (caught.value.iova, caught.value.length) == (bm.iova + 5, 10)
    assert caught.value.__cause__ is pin.answer


@pytest.mark.parametrize(
    "error",
    [
        OSError("no number"),
        OSError(),
        OSError("a", "text"),
        OSError(0, "none"),
        OSError(-5, "negative"),
        OSError(2**31, "one too many"),
        OSError(2**40, "far too many"),
        OSError(1.5, "no int"),
        OSError(2**31 - 1, "the last"),
        OSError(True, "one"),
        ib.PinError(errno.EACCES, "of another"),
    ],
    ids=repr,
)
def test_the_number_of_an_oserror_is_one_that_systems_have(error):
    number = error.errno
    known = isinstance(number, int) and 0 < number < 2**31
    bm, _ = bitmap(AnsweringPin(error))
    for call in (lambda: bm.set(bm.iova, 10), lambda: bm.count(bm.iova, 10), bm.read_and_clear):
        with pytest.raises(ib.PinError) as caught:
            call()
        assert caught.value.errno == (number if known else errno.EIO)
        assert caught.value.__cause__ is error


@pytest.mark.parametrize("answer", [0, "one more"])
def test_a_false_answer_has_no_cause(answer):
    bm, _ = bitmap(AnsweringPin(lambda npages: npages + 1 if answer == "one more" else answer))
    for call in (lambda: bm.set(bm.iova, 10), lambda: bm.count(bm.iova, 10), bm.read_and_clear):
        with pytest.raises(ib.PinError) as caught:
            call()
        assert caught.value.__cause__ is None


def test_an_oserror_of_the_number_returned():
    error = PermissionError(errno.EACCES, "no number for you")

    class Refusing:
        def __index__(self):
            raise error

    bm, _ = bitmap(AnsweringPin(Refusing()))
    with pytest.raises(ib.PinError) as caught:
        bm.set(bm.iova, 10)
    assert caught.value.__cause__ is error and caught.value.errno == errno.EACCES


@each_operation
@pytest.mark.parametrize("kind", [KeyError, KeyboardInterrupt, MemoryError, ValueError])
def test_any_other_exception_propagates_as_it_is(name, kind):
    error = kind("mine")
    pin = AnsweringPin(error)
    bm, arena = bitmap(pin, content=0x55)
    with pytest.raises(kind) as caught:
        OPERATIONS[name](bm)
    assert caught.value is error
    assert pin.unpinned == [] and tuple(bm.stats) == (0, 0, 0, 0, 0)
    assert (arena.data == 0x55).all()
    pin.answer = lambda npages: npages
    OPERATIONS[name](bm)
    bm.free()
    assert bm.stats.pins == bm.stats.unpins > 0


# --- what a failure on the way leaves behind ---------------------------------------------------


def test_all_before_the_failure_is_recorded_and_the_call_can_be_repeated():
    pin = FaultyPin([None, -errno.ENOMEM])
    bm, arena = bitmap(pin, npages=3, window_pages=1, pgoff=8)
    bm.set(bm.iova, 3)  # the first window is taken, three pages are old
    start, length = bm.iova + 1, bm.length - 1
    with pytest.raises(ib.PinError) as caught:
        bm.set(start, length)
    covered = (HOST_PAGE - 8) * 8
    error = caught.value
    assert error.errno == errno.ENOMEM
    assert (error.iova, error.length) == (bm.iova + covered, bm.length - covered)
    assert error.newly == covered - 3
    assert bm.count() == covered and bm.window is None and bm.stats.pinned_pages == 0
    assert pin.pinned_pages == 0
    arena.assert_guards()
    bm.set(start, length)
    assert bm.count() == bm.nbits
    bm.free()
    pin.assert_balanced()


def test_a_failure_inside_the_first_page_names_the_start_of_the_range():
    """The larger of the range's start and the page's: here the range starts inside its page."""
    pin = FaultyPin([-errno.EIO])
    arena = Arena(HOST_PAGE, 0)
    bm = ib.alloc(0x800, HOST_PAGE * 8 * 4096, 4096, arena.data, pin=pin)
    with pytest.raises(ib.PinError) as caught:
        bm.set(0x800 + 4096 * 9 + 77, 5000)
    assert (caught.value.iova, caught.value.length) == (0x800 + 4096 * 9 + 77, 5000)
    pin.load([-errno.EIO])
    with pytest.raises(ib.PinError) as caught:
        bm.count(0x800 + 4096 * 9 + 77, 5000)
    assert (caught.value.iova, caught.value.length) == (0x800 + 4096 * 9 + 77, 5000)


def test_a_failed_range_is_clipped_where_clipping_was_asked_for():
    pin = FaultyPin([None, -errno.EIO])
    bm, _ = bitmap(pin, npages=2, window_pages=1)
    with pytest.raises(ib.PinError) as caught:
        bm.set(0, 2**60, clip=True)
    half = HOST_PAGE * 8
    assert (caught.value.iova, caught.value.length) == (bm.iova + half, half)
    assert caught.value.newly == half
    pin.load([-errno.EIO])
    bm.free()
    bm, _ = bitmap(pin, npages=2, window_pages=1)
    with pytest.raises(ib.PinError) as caught:
        bm.set(0, 2**60, clip=True)
    assert (caught.value.iova, caught.value.length) == (bm.iova, bm.length)


def test_a_failure_at_the_end_of_the_address_space():
    pin = FaultyPin([None, -errno.EIO])
    arena = Arena(2 * HOST_PAGE, 0)
    length = 2 * HOST_PAGE * 8 * 4096
    bm = ib.alloc(2**64 - length, length, 4096, arena.data, pin=pin, window_pages=1)
    with pytest.raises(ib.PinError) as caught:
        bm.test_and_set(bm.iova, length)
    assert caught.value.iova + caught.value.length == 2**64
    assert caught.value.length == length // 2


@pytest.mark.parametrize("name", ["count", "ranges", "to_mask", "copy", "reset", "=="])
def test_a_reading_operation_fails_on_the_way(name):
    """Everything it took is given back, the present window stays."""
    pin = FaultyPin()
    bm, arena = bitmap(pin, npages=3, window_pages=1, content=0xFF)
    bm.set(bm.iova, 1)
    window = bm.window
    pin.load(bad=[arena.address + HOST_PAGE])
    with pytest.raises(ib.PinError) as caught:
        OPERATIONS[name](bm)
    assert caught.value.errno == errno.EFAULT
    assert (caught.value.iova, caught.value.length) == (
        bm.iova + HOST_PAGE * 8,
        bm.length - HOST_PAGE * 8,
    )
    assert bm.window == window and bm.stats.pinned_pages == pin.pinned_pages == 1
    pin.load()
    OPERATIONS[name](bm)
    bm.free()
    pin.assert_balanced()


# --- unpin -------------------------------------------------------------------------------------


class BadUnpin(RecordingPin):
    def unpin(self, address: int, npages: int) -> None:
        super().unpin(address, npages)
        raise RuntimeError("cannot let go")


def test_an_exception_from_unpin_goes_to_the_unraisable_hook(unraisable):
    pin = BadUnpin()
    bm, _ = bitmap(pin, window_pages=2)
    bm.set(bm.iova, bm.length)
    assert unraisable == [(RuntimeError, "cannot let go")]
    assert tuple(bm.stats) == (2, 1, 2, 2, 2), "the pages count as released"
    assert bm.count() == bm.nbits
    assert len(unraisable) == 3
    bm.free()
    assert len(unraisable) == 4
    pin.assert_balanced()
    assert bm.stats.pins == bm.stats.unpins == 4 and bm.stats.pinned_pages == 0


def test_unpin_during_another_exception(unraisable):
    """The exception that is on its way is not lost."""
    pin = BadUnpin()
    bm, _ = bitmap(pin, window_pages=1)

    def visit(*_):
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"), bm:
        bm.for_each(visit, by_window=True)
    assert bm.freed and unraisable == [(RuntimeError, "cannot let go")]


def test_unpin_while_the_pin_of_another_bitmap_raises():
    """Comparing holds a window of each: the one is given back while the other's error is raised."""
    error = LookupError("mine")
    pin = RecordingPin()
    bm, _ = bitmap(pin)
    other, _ = bitmap(AnsweringPin(error))
    for compare in (lambda: bm == other, lambda: other == bm):
        with pytest.raises(LookupError) as caught:
            compare()
        assert caught.value is error
        pin.assert_balanced()
    assert pin.log, "the first of the two was pinned"


def test_unpin_of_the_collector(unraisable):
    pin = BadUnpin()
    bm, _ = bitmap(pin)
    bm.set(bm.iova, 1)
    del bm
    gc.collect()
    assert unraisable == [(RuntimeError, "cannot let go")]
    pin.assert_balanced()


def test_the_result_of_unpin_is_ignored():
    pin = RecordingPin()
    pin.unpin = lambda address, npages: "ignored"
    bm, _ = bitmap(pin)
    bm.set(bm.iova, 1)
    bm.free()
    assert bm.freed


# --- what a pin object may do ------------------------------------------------------------------


@each_operation
def test_freeing_inside_pin(name):
    """Deferred to the end of the operation, which is carried out; nothing stays pinned."""

    class Freeing(RecordingPin):
        def deliver(self, address, npages):
            self.bm.free()
            with pytest.raises(ValueError):
                self.bm.count()
            return npages

    pin = Freeing()
    pin.bm, arena = bitmap(pin, window_pages=1)
    bm = pin.bm
    if name == "for_each":  # which takes no further window for a freed bitmap
        with pytest.raises(ValueError):
            OPERATIONS[name](bm)
    else:
        OPERATIONS[name](bm)
    assert bm.freed and bm.stats.pins == bm.stats.unpins
    pin.assert_balanced()
    arena.assert_guards()


def test_freeing_inside_unpin():
    class Freeing(RecordingPin):
        def unpin(self, address, npages):
            super().unpin(address, npages)
            self.bm.free()

    pin = Freeing()
    pin.bm, _ = bitmap(pin, window_pages=1)
    pin.bm.set(pin.bm.iova, pin.bm.length)
    assert pin.bm.freed
    pin.assert_balanced()


@pytest.mark.parametrize("inner", ["count", "set", "ranges"])
def test_using_the_bitmap_inside_pin(inner):
    """Allowed or refused by an exception, but never a crash or an unbalanced account."""

    class Nested(RecordingPin):
        depth = 0

        def deliver(self, address, npages):
            if self.depth < 3:
                self.depth += 1
                OPERATIONS[inner](self.bm)
                self.depth -= 1
            return npages

    pin = Nested()
    pin.bm, arena = bitmap(pin, window_pages=1)
    try:
        pin.bm.set(pin.bm.iova, pin.bm.length)
    except (RuntimeError, ValueError):
        pass
    else:
        assert pin.bm.count() == pin.bm.nbits
    pin.bm.free()
    pin.assert_balanced()
    arena.assert_guards()
