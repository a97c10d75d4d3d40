"""Includes go one way: between the layers of csrc, and between the rooms of a layer.

A layer is a folder of csrc, a room a folder of that: docs/architecture.md. A file that stands in a
layer itself assembles its rooms.
"""

from __future__ import annotations

import graphlib
import re
from pathlib import Path

import pytest

CSRC = Path(__file__).resolve().parents[2] / "csrc"

pytestmark = pytest.mark.skipif(not CSRC.is_dir(), reason="there is no source beside the tests")

INCLUDE = re.compile(r'^[ \t]*#[ \t]*include[ \t]*([<"])([^>"]+)[>"]', re.MULTILINE)

# What a file of the layer may include; rooms of one layer also those before them, in this order.
LAYERS = {
    "python": {"python", "core", "include"},
    "core": {"core", "linux", "include"},
    "linux": {"linux"},
    "include": {"include"},
    "preload": set(),
}
ROOMS = {
    "python": ["module", "exchange", "threads", "bitmap", "sources testing epochs", "(assembles)"],
    "core": ["bits", "pin", "bitmap", "ops", "sources epochs"],
}
# What rooms of the core declare for the binding, beside the public headers.
FOR_THE_BINDING = re.compile(r"core/((?:sources|epochs)/\w+|bits/kernels|bits/atomic|pin/host)\.h")
KNOW_LINUX = {"pin", "sources"}


def path_of(name: str) -> str:
    """As it is below csrc: public headers are found without a folder."""
    return name if "/" in name else f"include/{name}"


def files() -> dict[str, list[str]]:
    """What each file of csrc includes of csrc."""
    return {
        file.relative_to(CSRC).as_posix(): [
            path_of(name) for kind, name in INCLUDE.findall(file.read_text()) if kind == '"'
        ]
        for file in sorted(CSRC.rglob("*.[ch]"))
    }


def edges() -> list[tuple[str, str]]:
    return [(file, name) for file, names in files().items() for name in names]


def layer(path: str) -> str:
    return path.split("/", maxsplit=1)[0]


def room(path: str) -> str:
    parts = path.split("/")
    return parts[1] if len(parts) > 2 else "(assembles)"


def rank(path: str) -> int:
    (found,) = [n for n, names in enumerate(ROOMS[layer(path)]) if room(path) in names.split()]
    return found


def test_includes_are_of_files_that_are_there():
    known = files()
    assert len(known) > 50
    assert [edge for edge in edges() if edge[1] not in known] == []


def test_a_layer_includes_those_below():
    assert [(a, b) for a, b in edges() if layer(b) not in LAYERS[layer(a)]] == []


def test_every_room_has_its_place():
    for path in files():
        if layer(path) in ROOMS:
            rank(path)


def test_rooms_include_those_before_them():
    wrong = {
        (a, b)
        for a, b in edges()
        if layer(a) == layer(b) and layer(a) in ROOMS and room(a) != room(b) and rank(b) >= rank(a)
    }
    assert wrong == set()


def test_what_the_binding_includes_of_the_core():
    wrong = [
        (a, b)
        for a, b in edges()
        if (layer(a), layer(b)) == ("python", "core") and not FOR_THE_BINDING.fullmatch(b)
    ]
    assert wrong == []


def test_who_knows_linux():
    assert {room(a) for a, b in edges() if layer(b) == "linux"} <= KNOW_LINUX


def test_no_file_includes_itself():
    graph = {file: set(names) for file, names in files().items()}
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError


def test_python_is_known_to_the_binding_only():
    for file in CSRC.rglob("*.[ch]"):
        names = [name for _, name in INCLUDE.findall(file.read_text())]
        if layer(file.relative_to(CSRC).as_posix()) != "python":
            assert "Python.h" not in names, file
