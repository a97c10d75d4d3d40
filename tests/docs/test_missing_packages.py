"""Without an optional package: what needs it says which extra brings it, and that one does, as
pyproject.toml has it. Each package is missing in a process of its own."""

from __future__ import annotations

import ast
import re
import tomllib
from pathlib import Path

import pytest

import iovabitmap
from support.children import run_child
from support.logs import needs

ROOT = Path(__file__).parents[2]
EXTRAS = tomllib.loads((ROOT / "pyproject.toml").read_text(encoding="utf-8"))["project"][
    "optional-dependencies"
]
NAME = re.compile(r"[\w.-]+")
ADVICE = re.compile(r"pip install '?\"?iovabitmap\[([\w,-]+)\]")
# Not None in sys.modules, which others take for the package.
MISSING = """
import sys
class Missing:
    def find_spec(self, name, path=None, target=None):
        if name == {0!r} or name.startswith({0!r} + "."):
            raise ModuleNotFoundError("No module named " + name, name=name)
sys.meta_path.insert(0, Missing())
"""
LOG = """
import tempfile, pathlib, iovabitmap as ib
path = pathlib.Path(tempfile.mkdtemp()) / "log"
log = ib.LogWriter(path, ib.Geometry(0, 1 << 20, 4096))
log.append_ranges([(0, 4096)], 0, 10**9)
log.append_ranges([(4096, 4096)], 10**9, 2 * 10**9)
log.close()
log = ib.DirtyLog.open(path)
"""
REUSE = "analysis.reuse(log)"
# (package, what must be there beside it, what is done without it)
CASES = [
    (
        "pyarrow",
        (),
        "import iovabitmap as ib; ib.LogWriter('/none/log', ib.Geometry(0, 4096, 4096))",
    ),
    ("pyarrow", (), "import iovabitmap as ib; ib.DirtyLog.open(__import__('sys').executable)"),
    ("pyarrow", (), "from iovabitmap.logs import import_log; import_log('raw', [BITS], NEW)"),
    ("pandas", ("pyarrow",), f"{LOG}log.to_pandas()"),
    ("pandas", ("pyarrow",), f"{LOG}from iovabitmap import analysis; {REUSE}"),
    ("xarray", ("pyarrow", "pandas"), f"{LOG}log.to_xarray()"),
    ("matplotlib", ("pyarrow",), f"{LOG}from iovabitmap import plot; plot.heatmap(log)"),
    ("bokeh", ("pyarrow",), f"{LOG}from iovabitmap import plot; plot.view(log)"),
    ("IPython", ("pyarrow",), "from iovabitmap import jupyter; jupyter._arguments('')"),
    ("dask", ("pyarrow", "pandas"), "from iovabitmap import fleet; fleet.open(FOLDER)"),
    ("pandas", ("pyarrow", "dask"), "from iovabitmap import fleet; fleet.open(FOLDER)"),
    ("pyarrow", ("pandas", "dask"), "from iovabitmap import fleet; fleet.open(FOLDER)"),
    ("fsspec", ("pyarrow", "pandas", "dask"), "from iovabitmap import fleet; fleet.open(FOLDER)"),
    ("qemu.qmp", (), "from iovabitmap.qemu import Monitor; Monitor('/none')"),
    ("hypothesis", (), "import iovabitmap.testing.strategies"),
    ("hypothesis", (), "from iovabitmap.testing import DirtyTrackerMachine"),
    ("click", (), "from iovabitmap.cli import main; main(['probe'])"),
    ("rich", ("click",), "from iovabitmap.cli import main; main(['probe'])"),
]


def brought(extra: str) -> set[str]:
    """The packages that an extra brings, also by way of others."""
    packages: set[str] = set()
    for wanted in EXTRAS[extra]:
        name, _, more = wanted.partition("[")
        if name == "iovabitmap":
            packages = packages.union(*(brought(each) for each in more.rstrip("]").split(",")))
        else:
            packages.add(NAME.match(wanted)[0].lower())
    return packages


@pytest.mark.parametrize(
    "package, others, code", CASES, ids=[f"{name}-{n}" for n, (name, *_) in enumerate(CASES)]
)
def test_what_is_missing_is_said_with_the_extra_that_brings_it(tmp_path, package, others, code):
    needs(*others)
    (tmp_path / "bits").write_bytes(bytes(8))
    done = run_child(
        MISSING.format(package)
        + f"BITS, NEW, FOLDER = {str(tmp_path / 'bits')!r}, {str(tmp_path / 'new')!r}, "
        f"{str(tmp_path)!r}\n" + code
    )
    assert done.returncode != 0, "it works without"
    said = done.stderr.strip().splitlines()[-1]
    assert re.search(rf"\b{re.escape(package)}\b", said.partition("pip install")[0]), done.stderr
    found = ADVICE.search(said)
    assert found, done.stderr
    for extra in found[1].split(","):
        assert package.lower() in brought(extra), said


def test_every_optional_package_is_in_the_table():
    """What the extras for users bring, except the extras themselves."""
    by_dask = {"distributed"}  # which loads it, and says so itself
    assert brought("all") - by_dask == {package.lower() for package, *_ in CASES}


def advice() -> list[tuple[str, str]]:
    """(file, extra) of each piece of advice in the package and the manual."""
    package = Path(iovabitmap.__file__).parent
    found = []
    for path in sorted(package.rglob("*.py")):
        for node in ast.walk(ast.parse(path.read_text(encoding="utf-8"))):
            if isinstance(node, ast.Constant) and isinstance(node.value, str):
                found += [(path.relative_to(package), each) for each in ADVICE.findall(node.value)]
    for path in (*sorted((ROOT / "docs").glob("**/*.md")), ROOT / "README.md"):
        found += [(path.name, each) for each in ADVICE.findall(path.read_text(encoding="utf-8"))]
    return found


def test_all_advice_names_extras_that_exist():
    named = advice()
    assert len(named) > 10
    assert {each for _, extras in named for each in extras.split(",")} <= EXTRAS.keys()
