"""What to install: an error that says so names an extra that brings the package."""

from __future__ import annotations

import ast
import re
import sys
from importlib.metadata import requires
from pathlib import Path

import pytest

import iovabitmap
from iovabitmap._base.optional import EXTRAS, need

NAMES = re.compile(r"[\w.-]+")
MARKER = re.compile(r'extra == "([\w-]+)"')


def of_extras() -> dict[str, set[str]]:
    """The packages that each extra brings itself, by name, and `iovabitmap[...]` among them."""
    found: dict[str, set[str]] = {}
    for line in requires("iovabitmap") or ():
        wanted, _, marker = line.partition(";")
        for extra in MARKER.findall(marker):
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
            module, *extra = (getattr(each, "value", "") for each in node.args)
            if isinstance(module, str) and module:
                name = path.relative_to(package).as_posix()
                wanted = module if module in EXTRAS else module.partition(".")[0]
                found.append((name, wanted, *(extra or [EXTRAS[wanted]])))
    return sorted({*found, *(("optional.py", *each) for each in EXTRAS.items())})


@pytest.mark.parametrize("file, package, extra", needed())
def test_the_extra_that_an_error_names_brings_the_package(file, package, extra):
    assert package.lower() in brought(extra, of_extras())


def test_the_error_names_the_package_and_the_extra(monkeypatch):
    for package, extra in EXTRAS.items():
        monkeypatch.setitem(sys.modules, package, None)
        with pytest.raises(ImportError) as caught:
            need(package)
        assert str(caught.value) == f"this needs {package}: pip install 'iovabitmap[{extra}]'"
        assert caught.value.name == package
    with pytest.raises(ImportError, match=r"needs pandas: pip install 'iovabitmap\[fleet\]'"):
        need("pandas", "fleet")


def test_nobody_else_writes_that_text():
    package = Path(iovabitmap.__file__).parent
    named = {
        path.relative_to(package).as_posix()
        for path in package.rglob("*.py")
        if re.search("raise (ImportError|ModuleNotFound)", path.read_text())
    }
    assert named == {"_base/optional.py"}


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
