"""Proves what users install: checks the sdist and the wheel, and runs the tests against the wheel.

    python tools/wheel_test.py DIST

DIST holds one sdist and one wheel. The wheel goes into an empty environment in a temporary folder,
and the tests are those of the sdist, so that neither this tree nor its environment can help.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import zipfile
from pathlib import Path

PACKAGE = ("iovabitmap/", "iovabitmap-")
# What could differ from the tree: the extension module, and the packages that are built.
TESTED = ("tests/unit", "tests/parity", "tests/property", "tests/logs", "tests/analysis")
SUITE = ("tests", "pyproject.toml", "README.md")  # pyproject.toml: pytest's settings


def only(files: list[Path]) -> Path:
    if len(files) != 1:
        sys.exit(f"expected one file, found {[file.name for file in files]}: make clean dist")
    return files[0]


def check_wheel(wheel: Path) -> None:
    """Tagged for every later CPython, with types and licence, and nothing but the package."""
    if not sysconfig.get_config_var("Py_GIL_DISABLED") and "-cp311-abi3-" not in wheel.name:
        sys.exit(f"{wheel.name} is not tagged cp311-abi3")
    names = zipfile.ZipFile(wheel).namelist()
    for wanted in ("iovabitmap/py.typed", "iovabitmap/_core.pyi", "licenses/LICENSE"):
        if not any(name.endswith(wanted) for name in names):
            sys.exit(f"{wheel.name} lacks {wanted}")
    for name in names:
        header = name.startswith("iovabitmap/include/")  # which get_include() is for
        if not name.startswith(PACKAGE) or (name.endswith((".c", ".h")) and not header):
            sys.exit(f"{wheel.name} should not hold {name}")
    print(f"{wheel.name}: {len(names)} files")


def unpack_suite(sdist: Path, folder: Path) -> Path:
    """The tests of the sdist and what they need, alone in a folder; returns that folder."""
    shutil.unpack_archive(sdist, folder)
    source = only(list(folder.iterdir()))
    suite = folder / "suite"
    suite.mkdir()
    for name in SUITE:
        (source / name).rename(suite / name)
    return suite


def main() -> None:
    dist = Path(sys.argv[1])
    wheel = only(list(dist.glob("*.whl"))).resolve()
    check_wheel(wheel)

    with tempfile.TemporaryDirectory(prefix="iovabitmap-") as temporary:
        suite = unpack_suite(only(list(dist.glob("*.tar.gz"))), Path(temporary, "unpacked"))
        venv = Path(temporary, "venv")
        programs = venv / ("Scripts" if sys.platform == "win32" else "bin")
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
        for command in (
            [sys.executable, "-m", "venv", venv],
            [programs / "python", "-m", "pip", "install", "--quiet", f"{wheel}[test]"],
            [programs / "python", "-c", "import iovabitmap; print(iovabitmap.__file__)"],
            [programs / "pytest", "-n", "auto", *TESTED],
        ):
            result = subprocess.run(command, cwd=suite, env=environment, check=False)
            if result.returncode != 0:
                sys.exit(result.returncode)


if __name__ == "__main__":
    main()
