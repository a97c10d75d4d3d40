"""A signal during a long operation is honoured at once, and nothing is lost.

Long operations look for signals about 20 times a second, in the main thread, where Python runs
handlers. What is measured is printed: `pytest -s tests/faults/test_signals.py`. No test depends on
it: that an operation ended early is seen from the work it left out.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap
import time

import pytest

from support.children import run_child
from support.long import LONG
from support.memory import needs_linux
from support.pins import require

pytestmark = needs_linux

MIB = "3072" if LONG else "256"


def run(call: str, *arguments: str) -> str:
    result = run_child(
        f"from support import signal_child\nsys.exit(signal_child.{call}(*sys.argv[1:]))",
        *arguments,
    )
    result.assert_lived(call)
    print(result.stdout)
    return result.stdout


def test_every_long_operation_ends_at_once():
    require("populate")
    lines = run("measure", MIB).splitlines()
    assert len(lines) >= 35
    assert sum("interrupted after" in line for line in lines) >= (35 if LONG else 5)


def test_the_exception_says_where_a_change_ended():
    run("place_is_exact", "256")


def test_what_an_interrupted_harvest_took_is_not_lost():
    run("harvest_is_kept", "256")


# --- handlers -------------------------------------------------------------------------------------

SETUP = """
    import signal, threading, time
    import numpy as np
    import iovabitmap as ib

    PAGE = 4096
    memory = np.zeros(1 << 28, np.uint8)
    memory[::64] = 0x3C
    bm = ib.alloc(0, memory.size * 8 * PAGE, PAGE, memory)
    expected = 4 * memory.size // 64
    calls = []

    def on_alarm(handler, first=0.002, every=0.002):
        signal.signal(signal.SIGALRM, handler)
        signal.setitimer(signal.ITIMER_REAL, first, every)

    def quiet():
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, signal.SIG_IGN)
"""


def test_a_handler_that_returns_lets_the_operation_go_on():
    run_child(
        SETUP
        + """
    on_alarm(lambda *_: calls.append(bm.test(0)))
    rounds = 0
    while len(calls) < 10:
        rounds += 1
        assert bm.count() == expected
        assert bm.ranges().shape == (memory.size // 64, 2)
        bm.reset()
        memory[::64] = 0x3C
        rows = bm.read_and_clear()
        assert int(rows[:, 1].sum()) == expected * PAGE
        bm.set_ranges(rows)
        assert (memory[::64] == 0x3C).all() and bm.count() == expected
        del rows
    quiet()
    """
    ).assert_lived("a handler that returns")


@pytest.mark.parametrize("operation", ["count", "read_and_clear", "reset", "ranges"])
def test_a_handler_may_free_the_bitmap(operation):
    """It takes effect when the operation ends."""
    run_child(
        SETUP
        + """
    def free(*_):
        bm.free()
        calls.append(bm.freed)

    on_alarm(free)
    while not calls:
        try:
            result = getattr(bm, sys.argv[1])()
        except ValueError:  # between two operations
            break
    quiet()
    assert bm.freed and bm.stats.pins == bm.stats.unpins
    memory.sum()
    """,
        operation,
    ).assert_lived("a handler that frees")


def test_an_oserror_of_a_handler_is_no_pin_error():
    """As an alarm's TimeoutError: it propagates as it is."""
    run_child(
        SETUP
        + """
    class Late(TimeoutError):
        pass

    def late(*_):
        signal.setitimer(signal.ITIMER_REAL, 0)
        raise Late("late")

    for name in ("count", "reset", "ranges", "to_mask", "copy"):
        caught = None
        while caught is None:
            try:
                on_alarm(late)
                while True:
                    getattr(bm, name)()
            except Late as error:
                caught = error
        assert type(caught) is Late and caught.args == ("late",) and caught.__cause__ is None
    """
    ).assert_lived("a handler that raises an OSError")


@pytest.mark.parametrize("by_window", [False, True])
def test_a_callback_in_c_is_interrupted_between_two_windows(by_window):
    """It runs no Python code, in which a signal would be answered."""
    run_child(
        """
        import ctypes, signal
        import iovabitmap as ib

        signal.signal(signal.SIGINT, signal.default_int_handler)  # the parent may ignore it
        interrupt = ctypes.pythonapi.PyErr_SetInterrupt  # as Ctrl-C does
        interrupt.argtypes = [ctypes.py_object, ctypes.c_uint64, ctypes.c_uint64, ctypes.py_object]
        interrupt.restype = None
        bm = ib.IOVABitmap(0, 5 << 12 << 15, 4096, window_pages=1)
        try:
            bm.for_each(interrupt, by_window=sys.argv[1] == "True")
        except KeyboardInterrupt:
            print("interrupted", flush=True)
            assert bm.stats.moves == (sys.argv[1] == "True"), bm.stats
        else:
            sys.exit("not interrupted")
        """,
        str(by_window),
    ).assert_lived("a callback in C")


def test_threads_go_on_while_the_main_thread_is_interrupted():
    """Handlers run in the main thread only, however busy the others are."""
    run_child(
        SETUP
        + """
    found, stop = [], threading.Event()

    def work():
        while not stop.is_set():
            found.append((bm.count(), len(bm.ranges())))

    thread = threading.Thread(target=work)
    thread.start()
    interrupted = 0
    while interrupted < 5:
        try:
            on_alarm(signal.default_int_handler, 0.02, 0)  # once: no second one comes in `except`
            while True:
                bm.count()
        except KeyboardInterrupt:
            interrupted += 1
    stop.set()
    thread.join()
    assert found and set(found) == {(expected, memory.size // 64)}
    """
    ).assert_lived("threads beside the main thread")


def test_ctrl_c():
    """SIGINT from another process, as a terminal sends it."""
    source = """
        import signal, sys, time
        import numpy as np
        import iovabitmap as ib
        signal.signal(signal.SIGINT, signal.default_int_handler)  # not so in a shell's background
        bm = ib.IOVABitmap(0, (1 << 28) * 8 * 4096)
        bm.set(0, bm.length)
        bm.view()[::64] = 7
        try:
            print("ready", flush=True)
            while True:
                bm.histogram(64)
        except KeyboardInterrupt:
            print(time.monotonic(), flush=True)
        assert bm.count() == 8 * bm.nbytes - 5 * bm.nbytes // 64
    """
    command = [sys.executable, "-P", "-c", textwrap.dedent(source)]
    path = os.pathsep.join(p for p in sys.path if p)
    environment = dict(os.environ, PYTHONPATH=path)
    with subprocess.Popen(command, stdout=subprocess.PIPE, text=True, env=environment) as child:
        assert child.stdout.readline() == "ready\n"
        sent = time.monotonic()
        child.send_signal(signal.SIGINT)
        line = child.stdout.readline()
        assert child.wait() == 0
    print(f"from Ctrl-C to KeyboardInterrupt: {(float(line) - sent) * 1e3:.1f} ms")
