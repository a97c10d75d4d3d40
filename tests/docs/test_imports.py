"""Imports go one way: between the rooms of the package, and between the modules of a room.

A room is a folder of the package, or a module that stands in it; docs/architecture.md has the
picture. Imports for types only count as others do. The same holds, as far as it can, for the
benchmarks and the tools. Includes of C are in test_includes.py.
"""

from __future__ import annotations

import ast
import graphlib
from collections.abc import Iterator
from functools import cache
from pathlib import Path
from typing import NamedTuple

import pytest

ROOT = Path(__file__).resolve().parents[2]
PACKAGE = "iovabitmap"

pytestmark = pytest.mark.skipif(
    not (ROOT / PACKAGE / "__init__.py").exists(), reason="there is no source beside the tests"
)

# From the lowest up: a room imports those of lines before its own.
ROOMS = [
    ["_base", "_core"],
    ["timeline", "uapi", "model"],
    ["sources", "logs"],
    ["recording", "analysis"],
    ["plot", "testing"],
    ["cli", "jupyter", "fleet", "qemu"],
    ["(the package)", "__main__"],
]
# Those beside the others import less than that, and what nobody else imports is for users.
BESIDE = {
    "uapi": {"_base", "_core"},
    "model": {"_base", "_core"},
    "testing": {"_base", "_core", "sources"},
}
FOR_USERS = {"model", "testing"}
# What is loaded late, by a name made when the program runs, and why.
BY_NAME = {
    "iovabitmap._base.lazy": "the same, of other names",
    "iovabitmap._base.optional": "packages that only a part of this one needs",
    "iovabitmap.cli": "click and rich may be missing, and that is said",
    "iovabitmap.cli._app": "every file in commands/ is a subcommand",
    "iovabitmap.logs.importers": "a file for each format",
}


class Import(NamedTuple):
    """`module` is imported in line `line` of module `by`; `inside` a function or not."""

    by: str
    module: str
    inside: bool
    line: int


@cache
def modules() -> dict[str, Path]:
    """The modules of the package, of the benchmarks and of the tools, by name."""
    found = {}
    for folder in (ROOT, ROOT / "benchmarks", ROOT / "tools"):
        paths = folder.glob("*.py") if folder != ROOT else ()
        packages = (ROOT / PACKAGE,) if folder == ROOT else folder.glob("*/")
        for path in (*paths, *(file for each in packages for file in each.rglob("*.py"))):
            parts = path.relative_to(folder).with_suffix("").parts
            found[".".join(parts[:-1] if parts[-1] == "__init__" else parts)] = path
    return found | {f"{PACKAGE}._core": ROOT / PACKAGE / "_core.pyi"}


def parsed(name: str) -> ast.Module:
    return ast.parse(modules()[name].read_text(encoding="utf-8"))


def absolute(name: str, node: ast.ImportFrom) -> str:
    """The module that a `from` names, in the module `name`."""
    if not node.level:
        return node.module or ""
    package = name.split(".")
    up = node.level - (modules()[name].name == "__init__.py")
    return ".".join([*package[: len(package) - up], *filter(None, [node.module])])


def imports_of(name: str) -> Iterator[Import]:
    """All of a module's: of modules that are in none of our folders too."""

    def walk(node: ast.AST, inside: bool) -> Iterator[Import]:
        for child in ast.iter_child_nodes(node):
            if isinstance(child, ast.Import):
                for alias in child.names:
                    yield Import(name, alias.name, inside, child.lineno)
            elif isinstance(child, ast.ImportFrom):
                module = absolute(name, child)
                for alias in child.names:
                    whole = f"{module}.{alias.name}"
                    found = whole if whole in modules() else module
                    yield Import(name, found, inside, child.lineno)
            function = isinstance(child, ast.FunctionDef | ast.AsyncFunctionDef | ast.Lambda)
            yield from walk(child, inside or function)

    yield from walk(parsed(name), False)


@cache
def imports() -> list[Import]:
    """Those of our own modules."""
    found = [each for name in modules() for each in imports_of(name)]
    # A script finds what lies beside it.
    beside = [
        each._replace(module=f"{each.by.rpartition('.')[0]}.{each.module}")
        for each in found
        if each.module not in modules() and not in_package(each.by)
    ]
    return [each for each in [*found, *beside] if each.module in modules()]


def in_package(name: str) -> bool:
    return name.partition(".")[0] == PACKAGE


def room(name: str) -> str:
    parts = name.split(".")
    return parts[1] if len(parts) > 1 else "(the package)"


def rank(name: str) -> int:
    (found,) = [n for n, rooms in enumerate(ROOMS) if room(name) in rooms]
    return found


def show(wrong: list[Import]) -> list[str]:
    return [f"{each.by}, line {each.line}, imports {each.module}" for each in wrong]


def test_the_imports_are_read():
    """Of each way to write them: else the rest holds of nothing."""
    found = {(each.by, each.module) for each in imports()}
    assert (f"{PACKAGE}.testing.strategies._ranges", f"{PACKAGE}._base.geometry") in found
    assert (f"{PACKAGE}.logs.log", f"{PACKAGE}.logs.storage.parquet") in found
    assert (f"{PACKAGE}.cli.commands.report", f"{PACKAGE}.cli._output") in found
    assert ("fleet", f"{PACKAGE}.fleet") in found and ("run", "bench.report") in found
    assert len(found) > 300


def test_every_room_has_its_place():
    for name in filter(in_package, modules()):
        rank(name)


def test_rooms_import_those_below():
    wrong = [
        each
        for each in imports()
        if in_package(each.by)
        and in_package(each.module)
        and room(each.by) != room(each.module)
        and (
            rank(each.module) >= rank(each.by)
            or room(each.module) not in BESIDE.get(room(each.by), {room(each.module)})
            or room(each.module) in FOR_USERS
        )
    ]
    assert show(wrong) == []


def test_there_is_no_circle():
    graph = {name: set() for name in modules()}
    for each in imports():
        graph[each.by].add(each.module)
    graphlib.TopologicalSorter(graph).prepare()  # raises CycleError, which shows it


def test_what_is_imported_inside_a_function_is_not_ours():
    assert show([each for each in imports() if each.inside]) == []


def test_what_is_loaded_by_name_is_known():
    found = set()
    for name in filter(in_package, modules()):
        calls = (node.func for node in ast.walk(parsed(name)) if isinstance(node, ast.Call))
        called = {getattr(call, "id", getattr(call, "attr", "")) for call in calls}
        if called & {"import_module", "__import__"}:
            found.add(name)
    assert found == set(BY_NAME)


def test_modules_of_other_rooms_that_are_imported_have_no_underscore():
    wrong = [
        each
        for each in imports()
        if in_package(each.module)
        and (room(each.by) != room(each.module) or not in_package(each.by))
        and any(part[0] == "_" for part in each.module.split(".")[1:] if part not in ROOMS[0])
    ]
    assert show(wrong) == []


def test_the_lowest_room_imports_nothing_of_the_package():
    wrong = [
        each
        for each in imports()
        if room(each.by) == "_base" and in_package(each.by) and room(each.module) != "_base"
    ]
    assert show(wrong) == []
