"""Proves what users install: checks the sdist and the wheel, and runs the tests against the wheel.

    python tools/wheel_test.py DIST [PYTHON...]

DIST holds one sdist and one wheel, and the tests are run by each PYTHON, a program, or by the one
that runs this. The word `all` stands for every CPython from 3.11 on that is found and can load the
wheel. The wheel goes into an empty environment in a temporary folder, and the tests are those of
the sdist, so that neither this tree nor its environment can help.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import sysconfig
import tempfile
import time
import zipfile
from pathlib import Path

PACKAGE = ("iovabitmap/", "iovabitmap-")
# What could differ from the tree: the extension module, and the packages that are built.
TESTED = (
    "tests/unit",
    "tests/parity",
    "tests/property",
    "tests/logs",
    "tests/analysis",
    "tests/leaks",
)
TYPES_AND_HEADERS = (
    "iovabitmap/_core.pyi",
    "iovabitmap/include/iova_bitmap.h",
    "iovabitmap/include/iovabitmap_api.h",
)
SUITE = ("tests", "pyproject.toml", "README.md")  # pyproject.toml: pytest's settings

SAME_VERSION = """
import importlib.metadata, iovabitmap
print(iovabitmap.__file__, iovabitmap.__version__)
assert iovabitmap.__version__ == importlib.metadata.version("iovabitmap")
"""


def only(files: list[Path]) -> Path:
    if len(files) != 1:
        sys.exit(f"expected one file, found {[file.name for file in files]}: make clean dist")
    return files[0]


def check_wheel(wheel: Path) -> None:
    """Tagged for every later CPython, with types and licence, and nothing but the package."""
    if not sysconfig.get_config_var("Py_GIL_DISABLED") and "-cp311-abi3-" not in wheel.name:
        sys.exit(f"{wheel.name} is not tagged cp311-abi3")
    names = zipfile.ZipFile(wheel).namelist()
    for wanted in ("iovabitmap/py.typed", *TYPES_AND_HEADERS, "licenses/LICENSE"):
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


def every_python() -> list[str]:
    """The CPythons 3.11 and later that start; pyenv's are found though another one is chosen."""
    pyenv = Path(os.environ.get("PYENV_ROOT", "~/.pyenv")).expanduser()
    with_gil = "import sysconfig; assert not sysconfig.get_config_var('Py_GIL_DISABLED')"
    found = []
    for minor in range(11, 20):
        programs = [*pyenv.glob(f"versions/3.{minor}.*/bin/python3.{minor}"), f"python3.{minor}"]
        for program in filter(None, map(shutil.which, programs)):
            done = subprocess.run([program, "-c", with_gil], capture_output=True, check=False)
            if done.returncode == 0:
                found.append(str(program))
                break
    return found


def test(wheel: Path, sdist: Path, python: str) -> bool:
    """Runs the tests by one interpreter; returns whether all passed."""
    with tempfile.TemporaryDirectory(prefix="iovabitmap-") as temporary:
        suite = unpack_suite(sdist, Path(temporary, "unpacked"))
        venv = Path(temporary, "venv")
        programs = venv / ("Scripts" if sys.platform == "win32" else "bin")
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
        for command in (
            [python, "-m", "venv", venv],
            [programs / "python", "-m", "pip", "install", "--quiet", f"{wheel}[test]"],
            [programs / "python", "-c", SAME_VERSION],
            [programs / "pytest", "-n", "auto", *TESTED],
        ):
            if subprocess.run(command, cwd=suite, env=environment, check=False).returncode != 0:
                return False
    return True


def main() -> None:
    dist, *pythons = sys.argv[1:]
    wheel = only(list(Path(dist).glob("*.whl"))).resolve()
    sdist = only(list(Path(dist).glob("*.tar.gz"))).resolve()
    check_wheel(wheel)
    failed = False
    results = []
    if pythons == ["all"]:
        pythons = every_python()
    for python in pythons or [sys.executable]:
        start = time.monotonic()
        passed = test(wheel, sdist, python)
        failed |= not passed
        seconds = time.monotonic() - start
        results.append(f"{'passed' if passed else 'FAILED'} by {python} in {seconds:.0f} s")
    print(f"{wheel.name}:", *results, sep="\n")
    sys.exit(failed)


if __name__ == "__main__":
    main()
