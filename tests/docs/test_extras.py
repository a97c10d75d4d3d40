"""What to install: an error that says so names an extra that brings the package."""

from __future__ import annotations

import ast
import re
from importlib.metadata import requires
from pathlib import Path

import pytest

import iovabitmap

NAMES = re.compile(r"[\w.-]+")
EXTRAS = re.compile(r'extra == "([\w-]+)"')


def of_extras() -> dict[str, set[str]]:
    """The packages that each extra brings itself, by name, and `iovabitmap[...]` among them."""
    found: dict[str, set[str]] = {}
    for line in requires("iovabitmap") or ():
        wanted, _, marker = line.partition(";")
        for extra in EXTRAS.findall(marker):
            found.setdefault(extra, set()).add(wanted.strip().lower())
    return found


def brought(extra: str, extras: dict[str, set[str]]) -> set[str]:
    """The packages of an extra, also by way of others."""
    packages: set[str] = set()
    for wanted in extras[extra]:
        name, _, more = wanted.partition("[")
        if name == "iovabitmap":
            for other in NAMES.findall(more.rstrip("]")):
                packages |= brought(other, extras)
        else:
            packages.add(NAMES.match(wanted)[0])
    return packages


def needed() -> list[tuple[str, str, str]]:
    """(file, package, extra) of each call of `need`, whose error names the extra."""
    found = []
    package = Path(iovabitmap.__file__).parent
    for path in sorted(package.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if not (isinstance(node, ast.Call) and getattr(node.func, "id", "") == "need"):
                continue
            if isinstance(node.args[0], ast.Constant):
                module, extra = [*(each.value for each in node.args), "logs"][:2]
                name = path.relative_to(package).as_posix()
                found.append((name, module.partition(".")[0].lower(), extra))
    return sorted(set(found))


@pytest.mark.parametrize("file, package, extra", needed())
def test_the_extra_that_an_error_names_brings_the_package(file, package, extra):
    assert package in brought(extra, of_extras())


def test_pandas_for_answers_of_the_analysis():
    """Its error names an extra in its own words."""
    text = Path(iovabitmap.__file__).with_name("analysis").joinpath("_extras.py").read_text("utf-8")
    (extra,) = re.findall(r"iovabitmap\[(\w+)\]", text)
    assert "pandas" in brought(extra, of_extras())


def test_all_brings_what_users_may_want():
    extras = of_extras()
    for extra in (
        "cli",
        "fleet",
        "hypothesis",
        "jupyter",
        "logs",
        "pandas",
        "plot",
        "qemu",
        "view",
    ):
        assert brought(extra, extras) <= brought("all", extras)
