"""`for_each` in both forms: what the callback sees, what its result does, and what it may do."""

from __future__ import annotations

import pytest

from support.memory import HOST_PAGE, Arena
from support.pins import FaultyPin
from support.under_test import ib

FORMS = pytest.mark.parametrize("by_window", [False, True], ids=["whole", "by window"])


def bitmap(npages=3, window_pages=1, pgoff=0, pin="none", base=0x1000):
    arena = Arena(npages * HOST_PAGE - pgoff, pgoff)
    length = arena.data.nbytes * 8 * 4096
    return ib.alloc(base, length, 4096, arena.data, window_pages=window_pages, pin=pin)


class Odd:
    """Not an int, though it can be used as an index."""

    def __index__(self):
        return 1


# --- what the callback gets --------------------------------------------------------------------


def test_once_with_the_whole_range():
    bm = bitmap()
    calls = []
    token = object()
    assert bm.for_each(lambda *arguments: calls.append(arguments), token) == 0
    assert calls == [(bm, bm.iova, bm.length, token)] and calls[0][0] is bm
    bm.for_each(lambda *arguments: calls.append(arguments))
    assert calls[1][3] is None


def test_every_argument_by_its_name():
    bm = bitmap()
    seen = []
    bm.for_each(
        by_window=False, opaque=seen, fn=lambda bm, iova, length, opaque: opaque.append(iova)
    )
    assert seen == [bm.iova]
    assert bm.for_each(lambda *_: 3, None, by_window=True) == 3


def test_once_for_each_window_in_ascending_order():
    pin = FaultyPin()
    bm = bitmap(npages=5, window_pages=2, pgoff=100, pin=pin)
    bm.set(bm.end - 1, 1)  # a present window at the end is no place to start from
    windows, seen = list(bm.windows()), []

    def visit(bm, iova, length, opaque):
        assert opaque is seen and bm.window == windows[len(seen)]
        assert pin.pinned_pages == bm.stats.pinned_pages == bm.window.npages
        seen.append((iova, length))

    assert bm.for_each(visit, seen, by_window=True) == 0
    assert seen == [(w.iova, w.length) for w in windows]
    assert bm.window == windows[-1], "the last window stays"
    assert bm.stats.moves == 1 + len(windows)
    assert bm.for_each(lambda *_: None, by_window=True) == 0
    assert bm.stats.moves == 1 + 2 * len(windows), "taken afresh, from the first byte"
    bm.free()
    pin.assert_balanced()


def test_short_pins_make_more_windows():
    pin = FaultyPin([1, None, 2])
    bm = bitmap(npages=6, window_pages=3, pin=pin)
    seen = []
    bm.for_each(lambda bm, iova, length, _: seen.append((iova, length)), by_window=True)
    page = HOST_PAGE * 8 * 4096
    sizes = [1, 3, 2]
    assert [length // page for _, length in seen] == sizes
    assert [(iova - bm.iova) // page for iova, _ in seen] == [0, 1, 4]


def test_a_pin_that_fails_ends_the_walk():
    pin = FaultyPin([None, -5])
    bm = bitmap(npages=3, pin=pin)
    seen = []
    with pytest.raises(ib.PinError) as caught:
        bm.for_each(lambda bm, iova, length, _: seen.append(iova), by_window=True)
    page = HOST_PAGE * 8 * 4096
    assert seen == [bm.iova]
    assert (caught.value.errno, caught.value.iova) == (5, bm.iova + page)
    assert caught.value.length == bm.length - page
    assert bm.window is None
    pin.assert_balanced()


# --- what its result does ----------------------------------------------------------------------


@FORMS
@pytest.mark.parametrize("result", [None, 0, False])
def test_none_and_zero_go_on(by_window, result):
    calls = []

    def visit(*_):
        calls.append(1)
        return result

    assert bitmap().for_each(visit, by_window=by_window) == 0
    assert len(calls) == (3 if by_window else 1)


@FORMS
@pytest.mark.parametrize("result", [1, -1, 2**31, -(2**31) - 1, 2**64, -(2**100), 12345678901234])
def test_another_int_stops_the_walk_and_is_returned(by_window, result):
    calls = []

    def visit(*_):
        calls.append(1)
        return result

    bm = bitmap()
    assert bm.for_each(visit, by_window=by_window) == result
    assert len(calls) == 1
    if by_window:
        assert bm.window.base_index == 0


@FORMS
def test_true_is_an_int_too(by_window):
    assert bitmap().for_each(lambda *_: True, by_window=by_window) == 1


@FORMS
@pytest.mark.parametrize(
    "result",
    [1.0, 0.0, "1", "", b"", [], (), Odd(), object()],
    ids=lambda value: type(value).__name__,
)
def test_anything_else_is_a_type_error(by_window, result):
    calls = []

    def visit(*_):
        calls.append(1)
        return result

    with pytest.raises(TypeError):
        bitmap().for_each(visit, by_window=by_window)
    assert len(calls) == 1


@FORMS
@pytest.mark.parametrize(
    "kind", [ZeroDivisionError, KeyboardInterrupt, StopIteration, SystemExit, OSError, ib.PinError]
)
def test_an_exception_stops_it_and_propagates(by_window, kind):
    pin = FaultyPin()
    bm = bitmap(pin=pin)
    error, calls = kind("mine"), []

    def visit(*_):
        calls.append(1)
        raise error

    with pytest.raises(kind) as caught:
        bm.for_each(visit, by_window=by_window)
    assert caught.value is error and len(calls) == 1
    bm.set(bm.iova, 1)
    bm.free()
    pin.assert_balanced()


@FORMS
@pytest.mark.parametrize("fn", [None, 1, "fn"])
def test_what_cannot_be_called(by_window, fn):
    bm = bitmap()
    with pytest.raises(TypeError):
        bm.for_each(fn, by_window=by_window)


@pytest.mark.parametrize(
    "arguments, named",
    [
        ((), {}),
        ((print, None, True), {}),
        ((print,), {"unknown": 1}),
        ((print,), {"fn": print}),
        ((), {"opaque": 1}),
    ],
)
def test_wrong_arguments(arguments, named):
    with pytest.raises(TypeError):
        bitmap().for_each(*arguments, **named)


def test_a_callback_with_another_signature():
    with pytest.raises(TypeError):
        bitmap().for_each(lambda: None)


# --- what the callback may do ------------------------------------------------------------------


def test_using_the_bitmap_does_not_disturb_the_walk():
    """Marking moves the present window; the walk goes on where it was."""
    pin = FaultyPin()
    bm = bitmap(npages=4, pin=pin)
    windows, seen = list(bm.windows()), []

    def visit(bm, iova, length, _):
        seen.append((iova, length))
        bm.set(bm.end - 1, 1)
        bm.set(bm.iova, 1)
        bm.set(iova, length)
        assert bm.count(iova, length) == length // 4096
        assert len(bm.ranges(iova, length)) == 1

    assert bm.for_each(visit, by_window=True) == 0
    assert seen == [(w.iova, w.length) for w in windows]
    assert bm.count() == bm.nbits
    bm.free()
    pin.assert_balanced()


@FORMS
@pytest.mark.parametrize("inner_by_window", [False, True])
def test_nested_walks(by_window, inner_by_window):
    pin = FaultyPin()
    bm = bitmap(npages=3, pin=pin)
    outer, inner = [], []

    def visit_inner(bm, iova, length, _):
        inner.append((iova, length))

    def visit(bm, iova, length, _):
        outer.append((iova, length))
        assert bm.for_each(visit_inner, by_window=inner_by_window) == 0

    assert bm.for_each(visit, by_window=by_window) == 0
    windows = [(w.iova, w.length) for w in bm.windows()]
    whole = [(bm.iova, bm.length)]
    assert outer == (windows if by_window else whole)
    assert inner == (windows if inner_by_window else whole) * len(outer)
    bm.free()
    pin.assert_balanced()


@FORMS
def test_endless_nesting_is_a_recursion_error(by_window):
    bm = bitmap()

    def visit(bm, *_):
        bm.for_each(visit, by_window=by_window)

    with pytest.raises(RecursionError):
        bm.for_each(visit, by_window=by_window)
    bm.set(bm.iova, 1)
    assert bm.count() == 1


@FORMS
def test_freeing_inside(by_window):
    """Deferred to the end of the walk; what is new fails at once."""
    pin = FaultyPin()
    data = bytearray(3 * HOST_PAGE)
    bm = ib.alloc(0, len(data) * 8, 1, data, window_pages=1, pin=pin)
    refused = []

    def visit(bm, iova, length, _):
        bm.free()
        bm.free()
        for call in (bm.count, bm.reset, lambda: bm.set(iova, 1), lambda: bm.for_each(visit)):
            with pytest.raises(ValueError):
                call()
            refused.append(call)
        with pytest.raises(BufferError):
            data.append(0)  # the walk still holds the memory
        return 7

    assert bm.for_each(visit, by_window=by_window) == 7
    assert len(refused) == 4
    assert bm.freed and tuple(bm.stats)[2] == 0
    pin.assert_balanced()
    data.append(0)


@pytest.mark.parametrize("at", [0, 1, 2])
def test_no_further_window_is_taken_for_a_freed_bitmap(at):
    pin = FaultyPin()
    bm = bitmap(npages=3, pin=pin)
    calls = []

    def visit(bm, *_):
        if len(calls) == at:
            bm.free()
        calls.append(1)

    if at == 2:  # there is none left
        assert bm.for_each(visit, by_window=True) == 0
    else:
        with pytest.raises(ValueError):
            bm.for_each(visit, by_window=True)
    assert len(calls) == bm.stats.moves == at + 1 and bm.freed
    pin.assert_balanced()
    assert bm.stats.pins == bm.stats.unpins


@FORMS
def test_freeing_and_raising_inside(by_window):
    pin = FaultyPin()
    bm = bitmap(pin=pin)

    def visit(bm, *_):
        bm.free()
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        bm.for_each(visit, by_window=by_window)
    assert bm.freed
    pin.assert_balanced()


@FORMS
def test_freeing_in_a_nested_walk(by_window):
    pin = FaultyPin()
    bm = bitmap(pin=pin)

    def visit(bm, *_):
        bm.for_each(lambda bm, *_: bm.free())
        with pytest.raises(ValueError):
            bm.for_each(lambda *_: None, by_window=by_window)
        return 5

    assert bm.for_each(visit, by_window=by_window) == 5
    assert bm.freed
    pin.assert_balanced()


@FORMS
def test_losing_the_last_reference_inside(by_window):
    pin = FaultyPin()
    holder = [bitmap(pin=pin)]

    def visit(*_):
        holder.clear()

    holder[0].for_each(visit, by_window=by_window)
    pin.assert_balanced()


def test_after_free():
    bm = bitmap()
    bm.free()
    with pytest.raises(ValueError):
        bm.for_each(lambda *_: None)
    with pytest.raises(ValueError):
        bm.for_each(lambda *_: None, by_window=True)


@pytest.mark.parametrize("by_window", [False, True])
def test_an_int_counts_by_its_value(by_window):
    """A subclass may say what it likes of its truth."""

    class Odd(int):
        def __bool__(self):
            raise RuntimeError("must not be asked")

    bm = ib.IOVABitmap(0, 4096 * 8)
    stop = Odd(5)
    assert bm.for_each(lambda *_: stop, by_window=by_window) is stop
    assert bm.for_each(lambda *_: Odd(0), by_window=by_window) == 0
    assert bm.for_each(lambda *_: 1 << 70, by_window=by_window) == 1 << 70
