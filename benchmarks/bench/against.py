"""Builds the package of another commit, by its own setup.py, as this one was built.

It lies in build/bench/<commit>/ and is built once for each interpreter and set of flags. A second
copy of the same build is beside it: loaded as a library of its own, it shows what two loads of the
same code differ by.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
import tarfile
from io import BytesIO
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
BUILT = ROOT / "build" / "bench"
CHANGE_A_BUILD = ("CC", "CFLAGS", "CPPFLAGS", "LDFLAGS")


class NotBuiltError(Exception):
    """There is nothing to compare with."""


def _git(*arguments: str) -> bytes:
    done = subprocess.run(["git", *arguments], cwd=ROOT, capture_output=True, check=False)
    if done.returncode != 0:
        said = done.stderr.decode(errors="replace").strip()
        raise NotBuiltError(f"git {' '.join(arguments)}: {said}")
    return done.stdout


def _environment() -> dict[str, str]:
    """The caller's, except that warnings are no errors: another commit may have other ones."""
    return {name: value for name, value in os.environ.items() if name != "IOVABITMAP_WERROR"}


def _made_by(environment: dict[str, str]) -> str:
    """What a build depends on beside its sources."""
    chosen = sorted(
        (name, value)
        for name, value in environment.items()
        if name in CHANGE_A_BUILD or name.startswith("IOVABITMAP_")
    )
    lines = [sys.version, *(f"{name}={value}" for name, value in chosen)]
    return "\n".join(lines) + "\n"


def build(revision: str, out: Path) -> tuple[str, Path, Path]:
    """The short name of a commit, and two folders to load() it from.

    `revision` is what git takes; or a folder that holds iovabitmap/ as it was installed, which is
    only copied, to `out`.
    """
    given, out = Path(revision).resolve(), out.resolve()
    if (given / "iovabitmap" / "__init__.py").exists():
        name, at, lib = given.name, out / f"copy-{given.name}", given
        at.mkdir(parents=True, exist_ok=True)
    else:
        commit = _git("rev-parse", "--verify", f"{revision}^{{commit}}").decode().strip()
        name, at = commit[:9], BUILT / commit[:9]
        lib = _built(commit, at)
    again = at / "again"
    shutil.rmtree(again, ignore_errors=True)
    shutil.copytree(lib / "iovabitmap", again / "iovabitmap")
    return name, lib, again


def _built(commit: str, at: Path) -> Path:
    environment = _environment()
    stamp, lib = at / "built", at / "lib"
    if stamp.exists() and stamp.read_text() == _made_by(environment):
        return lib
    shutil.rmtree(at, ignore_errors=True)
    source = at / "source"
    source.mkdir(parents=True)
    with tarfile.open(fileobj=BytesIO(_git("archive", commit))) as archive:
        archive.extractall(source, filter="data")
    command = [sys.executable, "setup.py", "--quiet", "build"]
    command += [f"--build-base={at / 'temp'}", f"--build-lib={lib}"]
    done = subprocess.run(
        command, cwd=source, env=environment, capture_output=True, text=True, check=False
    )
    if done.returncode != 0:
        raise NotBuiltError(f"{commit} does not build:\n{done.stdout}{done.stderr}")
    stamp.write_text(_made_by(environment))
    return lib
