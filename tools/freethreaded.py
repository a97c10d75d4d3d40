"""Builds a free-threaded CPython and an environment for the tests, in a cache folder of its own.

    python tools/freethreaded.py [CACHE]

The source is that of python3.13 in Debian 13 (trixie.py). All that is downloaded or built lies in
CACHE; nothing of the system is changed or installed. What is there already is used again.

The last line printed is the environment's folder. Ends with 77, and says why, where this machine
can't have such an interpreter.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path

from trixie import Apt, skip

SOURCE = "python3.13"
PYTHON = "python3.13t"

# Binary wheels only: NumPy from source would take longer than the interpreter.
PACKAGES = ("numpy==2.3.5", "hypothesis>=6.100", "pytest>=8", "pytest-run-parallel>=0.4")
BUILDS_WITH = ("setuptools>=77", "wheel")

# Modules that the interpreter silently goes without, and what brings their headers.
NEEDED = {"zlib": "zlib1g-dev", "ssl": "libssl-dev", "ctypes": "libffi-dev"}


def run(*command: str | Path, cwd: Path | None = None, log: Path | None = None) -> None:
    """A command that must succeed; what it says goes to `log`, whose end is shown if it fails."""
    if log is None:
        subprocess.run(command, cwd=cwd, check=True)
        return
    with log.open("ab") as out:
        done = subprocess.run(command, cwd=cwd, stdout=out, stderr=out, check=False)
    if done.returncode != 0:
        tail = log.read_text(errors="replace")[-3000:]
        sys.exit(f"{tail}\n{command[0]} failed with {done.returncode}; all of it is in {log}")


def fetch_source(cache: Path) -> Path:
    """Downloads the source; returns its archive as Python's authors released it."""
    folder = cache / "apt" / "source"
    folder.mkdir(parents=True, exist_ok=True)
    apt = Apt(cache / "apt", "deb-src")
    apt.run("update", cwd=folder)
    apt.run("source", "--download-only", SOURCE, cwd=folder)
    found = sorted(folder.glob(f"{SOURCE}_*.orig.tar.*z"))
    if not found:
        skip(f"Debian's {SOURCE} came without its archive")
    return found[-1]


def build_interpreter(cache: Path) -> Path:
    """Compiles and installs the interpreter into the cache; returns the program."""
    prefix = cache / "python"
    python = prefix / "bin" / PYTHON
    if python.exists():
        return python
    archive = fetch_source(cache)
    tree, log = cache / "source", cache / "build.log"
    shutil.rmtree(tree, ignore_errors=True)
    tree.mkdir()
    log.unlink(missing_ok=True)
    print(f"building {archive.name} without the GIL, a few minutes; see {log}", flush=True)
    run("tar", "-xf", archive, "-C", tree, "--strip-components=1")
    unfinished = cache / "python.unfinished"
    shutil.rmtree(unfinished, ignore_errors=True)
    options = ("--disable-gil", "--with-ensurepip=install", "--quiet", "--disable-test-modules")
    run("./configure", f"--prefix={prefix}", *options, cwd=tree, log=log)
    run("make", "-j2", "-s", cwd=tree, log=log)
    run("make", "-s", "install", f"DESTDIR={unfinished}", cwd=tree, log=log)
    # In place in one step, so that an interrupted build is not taken for an interpreter.
    (unfinished / prefix.relative_to("/")).rename(prefix)
    shutil.rmtree(unfinished)
    shutil.rmtree(tree)
    return python


def check(python: Path) -> None:
    """It runs without the GIL and has the modules that the tests and pip need."""
    for module, package in NEEDED.items():
        done = subprocess.run([python, "-c", f"import {module}"], capture_output=True, check=False)
        if done.returncode != 0:
            shutil.rmtree(python.parents[1])  # so that it is built anew with them
            skip(f"CPython was built without {module}: please install {package}")
    run(python, "-c", "import sys; assert sys._is_gil_enabled() is False")


def make_environment(cache: Path, python: Path) -> Path:
    """A virtual environment with the tests' packages; returns its folder."""
    venv = cache / "venv"
    made = venv / ".made"
    wanted = "\n".join((*BUILDS_WITH, *PACKAGES))
    if not made.exists() or made.read_text() != wanted:
        shutil.rmtree(venv, ignore_errors=True)
        run(python, "-m", "venv", venv)
        pip = (venv / "bin" / "python", "-m", "pip", "install", "--quiet", "--only-binary", ":all:")
        run(*pip, *BUILDS_WITH, *PACKAGES)
        made.write_text(wanted)
    return venv


def main() -> None:
    cache = Path(sys.argv[1] if len(sys.argv) > 1 else "build/freethreaded").resolve()
    if not sys.platform.startswith("linux"):
        skip("a free-threaded CPython is built on Linux, from Debian's source")
    missing = [name for name in ("cc", "make", "tar") if shutil.which(name) is None]
    if missing:
        skip(f"no free-threaded CPython: please install {' '.join(missing)}")
    os.environ.pop("PYTHONHOME", None)
    os.environ.pop("PYTHONPATH", None)
    cache.mkdir(parents=True, exist_ok=True)
    python = build_interpreter(cache)
    check(python)
    print(make_environment(cache, python))


if __name__ == "__main__":
    main()
