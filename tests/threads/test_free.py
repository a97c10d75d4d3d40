"""free() while operations run: new ones fail at once, those of other threads are waited for."""

from __future__ import annotations

import gc
import sys
import threading

import pytest

import iovabitmap as ib
from support.children import run_child
from support.memory import HOST_PAGE, needs_mprotect
from support.pins import RecordingPin
from support.threads import Started, run, until

NPAGES = 3 * HOST_PAGE * 8  # three windows of one page of bitmap


class Held:
    """An operation of another thread that has begun and goes on until it is let go."""

    def __init__(self, operation) -> None:
        self.inside, self.go_on = threading.Event(), threading.Event()
        self._thread = Started(lambda: operation(self.stay))
        self.inside.wait()

    def stay(self, *_) -> None:
        self.inside.set()
        self.go_on.wait()

    def finish(self):
        self.go_on.set()
        return self._thread.finish()[0]


class HoldingPin(RecordingPin):
    """Calls `during` in each pin of which there is one."""

    during = None

    def deliver(self, address: int, npages: int) -> int:
        if self.during is not None:
            self.during()
        return npages


def bitmap(pin="none"):
    data = bytearray(NPAGES // 8)
    return data, ib.alloc(0, NPAGES, 1, data, window_pages=1, pin=pin)


def resizable(data) -> bool:
    """Whether nobody holds the memory."""
    try:
        data.append(0)
    except BufferError:
        return False
    return True


def by_callback(bm, stay):
    bm.for_each(stay)


def by_window(bm, stay):
    bm.for_each(stay, by_window=True)


def in_pin(method):
    def operation(bm, stay):
        bm.pin.during = stay
        method(bm)

    return operation


OPERATIONS = {
    "for_each": by_callback,
    "set": in_pin(lambda bm: bm.set(0, NPAGES)),
    "count": in_pin(lambda bm: bm.count()),
    "ranges": in_pin(lambda bm: bm.ranges()),
    "set_pages": in_pin(lambda bm: bm.set_pages([1, 2])),
    "read_and_clear": in_pin(lambda bm: bm.read_and_clear()),
    "copy": in_pin(lambda bm: bm.copy()),
    "==": in_pin(lambda bm: bm == bitmap()[1]),
    "merge": in_pin(lambda bm: bitmap()[1].merge(bm)),
}


def leave(bm):
    bm.__exit__(None, None, None)


@pytest.mark.parametrize("free", [ib.IOVABitmap.free, leave], ids=["free", "with"])
@pytest.mark.parametrize("name", OPERATIONS)
def test_it_waits_for_another_thread(name, free):
    pin = HoldingPin()
    data, bm = bitmap(pin)
    held = Held(lambda stay: OPERATIONS[name](bm, stay))
    order = []

    def free_it():
        free(bm)
        order.append("released" if resizable(data) else "still held")

    freeing = Started(free_it)
    until(lambda: bm.freed)
    for call in (bm.count, bm.reset, bm.validate, lambda: bm.set(0, 1), lambda: bm.window):
        with pytest.raises(ValueError, match="freed"):
            call()
    assert not resizable(data)
    order.append("let go")
    held.finish()
    freeing.finish()
    assert order == ["let go", "released"]
    pin.assert_balanced()
    assert bm.stats.pins == bm.stats.unpins and bm.stats.pinned_pages == 0


def test_each_who_frees_waits():
    data, bm = bitmap()
    held = Held(lambda stay: bm.for_each(stay))

    def free_it():
        bm.free()
        return resizable(data)

    freeing = Started(*[free_it] * 4)
    until(lambda: bm.freed)
    held.finish()
    assert freeing.finish() == [True] * 4


@pytest.mark.parametrize("same", [True, False], ids=["one bitmap", "each other's"])
def test_freeing_from_callbacks_of_two_threads(same):
    """Nobody who is within an operation waits: they would wait for each other."""
    datas, bms = zip(bitmap(), bitmap(), strict=True)
    both_inside = threading.Barrier(2)
    still_held = []

    def callback(n):
        def visit(*_):
            both_inside.wait()
            bms[0 if same else 1 - n].free()
            both_inside.wait()
            still_held.append(not resizable(datas[0 if same else n]))

        bms[0 if same else n].for_each(visit)

    run(lambda: callback(0), lambda: callback(1))
    assert still_held == [True, True]
    for data, bm in list(zip(datas, bms, strict=True))[: 1 if same else 2]:
        assert bm.freed and resizable(data)


def test_another_bitmap_freed_within_an_operation_is_released_by_its_own():
    """Within an operation nothing is waited for, whichever bitmap it is."""
    bm = bitmap()[1]
    other_data, other = bitmap()
    held = Held(lambda stay: other.for_each(stay))

    def visit(*_):
        other.free()
        assert other.freed and not resizable(other_data)

    bm.for_each(visit)
    held.finish()
    assert resizable(other_data)


def test_the_last_of_two_operations_releases():
    data, bm = bitmap()
    first, second = (Held(lambda stay: bm.for_each(stay)) for _ in range(2))
    freeing = Started(bm.free)
    until(lambda: bm.freed)
    second.finish()
    assert not resizable(data)
    first.finish()
    freeing.finish()
    assert resizable(data)


@needs_mprotect
def test_memory_that_goes_away_after_free():
    """In a child: whoever still works on the memory when free() has returned would end it."""
    run_child(
        """
        import threading
        from support.memory import Region
        from support.threads import Started, until
        import iovabitmap as ib

        OPERATIONS = [
            lambda bm: bm.count(),
            lambda bm: bm.set(0, bm.length),
            lambda bm: bm.test_and_set(0, bm.length),
            lambda bm: bm.clear(0, bm.length),
            lambda bm: bm.set_pages(range(0, bm.length, 4096)),
            lambda bm: len(bm.ranges()),
            lambda bm: bm.read_and_clear(),
            lambda bm: bm.to_text(),
            lambda bm: bm.to_mask(),
            lambda bm: bm.copy(),
            lambda bm: bm == bm,
            lambda bm: bm.reset(),
            lambda bm: bm.for_each(lambda bm, *range_: bm.set(*range_[:2]), by_window=True),
        ]

        class Worker:
            rounds = 0

            def __init__(self, bm, operation):
                self.bm, self.operation = bm, operation

            def __call__(self):
                try:
                    while True:
                        self.operation(self.bm)
                        self.rounds += 1
                except ValueError as error:
                    assert "freed" in str(error)

        memory = Region(64)
        for n in range(3 * len(OPERATIONS)):
            memory.protect(0, 64, Region.READ_WRITE)
            bm = ib.alloc(0, memory.nbytes * 8, 1, memory.at_start(memory.nbytes), window_pages=2)
            print(n, flush=True)
            workers = [Worker(bm, OPERATIONS[(n + i) % len(OPERATIONS)]) for i in range(2)]
            threads = Started(*workers)
            until(lambda: all(worker.rounds for worker in workers))
            bm.free()
            memory.protect(0, 64, Region.NO_ACCESS)
            threads.finish()
        """
    ).assert_lived("freeing while others work")


# --- what ends a wait, and where there is none --------------------------------------------------


@pytest.mark.skipif(sys.platform == "win32", reason="sends a signal to a waiting main thread")
def test_ctrl_c_ends_the_wait_not_the_freeing():
    run_child(
        """
        import os, signal, threading
        from support.threads import Started, until
        import iovabitmap as ib

        data = bytearray(1000)
        bm = ib.alloc(0, 8000, 1, data)
        inside, go_on = threading.Event(), threading.Event()

        def visit(*_):
            inside.set()
            go_on.wait()

        handled = []
        signal.signal(signal.SIGUSR1, lambda *_: handled.append(1))
        operation = Started(lambda: bm.for_each(visit))
        inside.wait()

        def handler(*_):
            if not raised:
                raised.append(1)
                raise KeyboardInterrupt

        def interrupt():
            until(lambda: bm.freed)
            main = threading.main_thread().ident
            while not handled:  # the wait goes on after a handler that does not raise
                signal.pthread_kill(main, signal.SIGUSR1)
            while not raised:
                signal.pthread_kill(main, signal.SIGINT)

        raised = []
        signal.signal(signal.SIGINT, handler)
        signals = Started(interrupt)
        try:
            bm.free()
            raise AssertionError("the wait has ended")
        except KeyboardInterrupt:
            assert handled and raised
        signals.finish()
        assert bm.freed
        try:
            data.append(0)
            raise AssertionError("the operation has lost its memory")
        except BufferError:
            pass
        go_on.set()
        operation.finish()
        data.append(0)
        """
    ).assert_lived("Ctrl-C while free() waits")


@pytest.mark.skipif(not hasattr(sys, "getdlopenflags"), reason="there is no fork")
@pytest.mark.filterwarnings("ignore:.*fork.*:DeprecationWarning")
def test_a_forked_child_does_not_wait_for_its_parents_threads():
    run_child(
        """
        import os, threading, warnings
        from support.threads import Started
        import iovabitmap as ib

        warnings.simplefilter("ignore")
        bm = ib.IOVABitmap(0, 1 << 20)
        inside, go_on = threading.Event(), threading.Event()

        def visit(*_):
            inside.set()
            go_on.wait()

        operation = Started(lambda: bm.for_each(visit))
        inside.wait()
        child = os.fork()
        if child == 0:
            bm.set(0, 4096)
            bm.free()
            assert bm.freed
            del bm
            os._exit(0)
        assert os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) == 0
        go_on.set()
        operation.finish()
        assert bm.count() == 0 and not bm.freed
        """
    ).assert_lived("freeing in a forked child")


def test_the_end_of_the_interpreter_waits_for_no_daemon():
    """A daemon thread is stopped where it is: its operation never ends."""
    result = run_child(
        """
        import sys, threading, types
        import iovabitmap as ib

        class Freed:
            def __init__(self, bm):
                self.bm = bm

            def __del__(self):
                self.bm.free()
                print("freed at the end", flush=True)

        bm = ib.IOVABitmap(0, 1 << 20)
        inside = threading.Event()

        def visit(*_):
            inside.set()
            threading.Event().wait()

        threading.Thread(target=lambda: bm.for_each(visit), daemon=True).start()
        inside.wait()
        # A module of its own, which no thread keeps: it goes away at the end.
        sys.modules["keeper"] = types.ModuleType("keeper")
        sys.modules["keeper"].last = Freed(bm)
        """
    )
    result.assert_lived("the end of the interpreter")
    assert result.stdout == "freed at the end\n"


def test_the_collector_never_waits():
    """It may run within any operation, of any thread: also within the one that is waited for."""
    data, bm = bitmap()
    held = Held(bm.for_each)
    cycle = [bitmap(RecordingPin())[1], bm]
    cycle.append(cycle)
    del cycle, bm  # which the operation keeps
    gc.collect()
    assert not resizable(data)
    held.finish()
    del held
    gc.collect()
    assert resizable(data)
