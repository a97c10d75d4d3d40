"""All places that state the version or its date agree, and the checker notices where they do not.

What takes more than reading files is done by `make release`.
"""

from __future__ import annotations

import importlib.util
import re
import shutil
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import pytest

import iovabitmap as ib

ROOT = Path(__file__).parents[2]
TOOL = ROOT / "tools" / "release.py"
HEADER = "csrc/include/iova_bitmap.h"
FILES = ("pyproject.toml", "iovabitmap/__init__.py", "CHANGELOG.md", "CITATION.cff", HEADER)


@pytest.fixture(scope="module")
def tool():
    if not TOOL.exists():
        pytest.skip("tools/ is not beside this copy of the tests")
    spec = importlib.util.spec_from_file_location("release", TOOL)
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


@pytest.fixture
def tree(tool, tmp_path):
    """A copy of the files that state the version."""
    for name in FILES:
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(ROOT / name, tmp_path / name)
    return tmp_path


def change(path: Path, pattern: str, replacement: str) -> None:
    text, number = re.subn(
        pattern, replacement, path.read_text("utf-8"), count=1, flags=re.MULTILINE
    )
    assert number == 1
    path.write_text(text, "utf-8")


def test_what_is_installed_is_the_version_that_it_states():
    try:
        assert version("iovabitmap") == ib.__version__
    except PackageNotFoundError:
        pytest.skip("the package is not installed, only importable")


def test_this_tree_agrees(tool):
    assert tool.disagreements(ROOT) == []
    assert tool.stated(ROOT, tool.STATED)["pyproject.toml"] == ib.__version__


@pytest.mark.parametrize(
    "name, pattern",
    [
        ("pyproject.toml", r'^version = "'),
        ("iovabitmap/__init__.py", r'^__version__ = "'),
        ("CHANGELOG.md", r"^## \[(?=\d)"),
        ("CITATION.cff", "^version: "),
        (HEADER, "^#define IOVA_BITMAP_VERSION_MAJOR "),
    ],
)
def test_another_version_in_one_file_is_noticed(tool, tree, name, pattern):
    assert tool.disagreements(tree) == []
    change(tree / name, pattern, r"\g<0>7")
    (line,) = tool.disagreements(tree)
    assert line.startswith("not one version: ") and f"{name} says 7{ib.__version__}" in line


@pytest.mark.parametrize("name", ["CHANGELOG.md", "CITATION.cff"])
def test_another_date_or_none_is_noticed(tool, tree, name):
    date = tool.stated(tree, tool.DATED)[name]
    change(tree / name, date, "1999-12-31")
    assert f"{name} says 1999-12-31" in tool.disagreements(tree)[0]
    change(tree / name, "1999-12-31", "soon")
    assert f"{name} says nothing" in tool.disagreements(tree)[0]


def test_changes_without_a_version_are_noticed(tool, tree):
    page = tree / "CHANGELOG.md"  # which has some, or none, as things are
    unreleased = re.compile(r"^## \[Unreleased\]\n.*?(?=^## )", re.MULTILINE | re.DOTALL)
    page.write_text(unreleased.sub("", page.read_text("utf-8")), "utf-8")
    assert not any("Unreleased" in line for line in tool.unreleased(tree))
    change(tree / "CHANGELOG.md", r"^## \[", "## [Unreleased]\n\n- New.\n\n## [")
    assert tool.disagreements(tree) == []  # that is for the release only
    assert any("Unreleased" in line for line in tool.unreleased(tree))


def test_built_files_of_another_version_are_noticed(tool, tmp_path):
    assert len(tool.misnamed(tmp_path, "0.9.0")) == 2
    (tmp_path / "iovabitmap-0.9.0.tar.gz").touch()
    (tmp_path / "iovabitmap-0.9.0-cp311-abi3-linux_x86_64.whl").touch()
    assert tool.misnamed(tmp_path, "0.9.0") == []
    assert len(tool.misnamed(tmp_path, "0.9.1")) == 3
    (tmp_path / "iovabitmap-0.9.0.post1-cp314-cp314t-linux_x86_64.whl").touch()
    assert len(tool.misnamed(tmp_path, "0.9.0")) == 1
