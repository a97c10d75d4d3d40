"""A moment in a call is the same whenever it is chosen: the interpreter's own doings are none."""

from __future__ import annotations

import gc

from iovabitmap.testing._interruption import Interruption, Patience


def call() -> list[list[int]]:
    """Makes objects that the collector counts."""
    made = []
    for _ in range(50):
        made.append([1])  # noqa: PERF401 - each turn is a line
    return made


def moments() -> list[str]:
    """Where the first of them are."""
    found = []
    for moment in range(20):
        interruption = Interruption(lambda: None, moment, Patience())
        interruption.during(call)
        found.append(interruption.where)
    return found


def test_a_collection_is_not_a_moment():
    """hypothesis, for one, has a function called at each: it has lines too."""
    calls = []

    def at_a_collection(phase: str, info: object) -> None:
        calls.append(phase)

    expected = moments()
    assert all("of call()" in where for where in expected)
    before = gc.get_threshold()
    gc.callbacks.append(at_a_collection)
    gc.set_threshold(1)
    try:
        assert moments() == expected
        assert gc.isenabled()
    finally:
        gc.set_threshold(*before)
        gc.callbacks.remove(at_a_collection)
    assert calls


def test_where_the_collector_is_off_it_stays_off():
    gc.disable()
    try:
        moments()
        assert not gc.isenabled()
    finally:
        gc.enable()
