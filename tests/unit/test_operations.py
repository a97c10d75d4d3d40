"""The table of public operations leaves nothing public out, and each does what it says."""

from __future__ import annotations

import pytest

import iovabitmap as ib
from iovabitmap import _core
from iovabitmap.sources import WriteTracker
from support.operations import ALL, BY_NAME, TRACKING
from support.world import plain

# What a class has without doing anything.
PASSIVE = {"__doc__", "__module__", "__weakref__", "__slots__", "__annotations__", "__dict__"}
PASSIVE |= {"__firstlineno__", "__static_attributes__", "__type_params__", "__abstractmethods__"}


def covered() -> set[str]:
    return {name for each in (*ALL, *TRACKING) for name in each.covers.split()}


def test_every_name_of_the_bitmap_is_in_the_table():
    assert set(vars(ib.IOVABitmap)) - PASSIVE - covered() == set()


def test_every_name_of_a_difference_is_used():
    """By the one operation `diff`, which names them in code."""
    names = {name for name in vars(ib.Diff) if not name.startswith("_")}
    used = set(BY_NAME["diff"].call.__code__.co_names)
    assert names <= used


def test_every_name_of_the_tracker_is_in_the_table():
    names = set(vars(WriteTracker)) | set(vars(_core._WriteTracker))
    assert {f"WriteTracker.{name}" for name in names - PASSIVE} - covered() == set()


def test_every_function_is_in_the_table():
    functions = {name for name in vars(_core) if callable(getattr(_core, name))}
    classes = {name for name in functions if isinstance(getattr(_core, name), type)}
    assert functions - classes - covered() == set()


@pytest.mark.parametrize("name", BY_NAME)
def test_each_does_what_it_says(name):
    operation = BY_NAME[name]
    world = operation.world()
    if operation.raises is not None:
        with pytest.raises(operation.raises):
            operation.call(world)
    else:
        first, other = plain(operation.call(world)), operation.world()
        assert plain(operation.call(other)) == first, "the same twice"
        other.close()
    world.close()
