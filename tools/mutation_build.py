"""Compiles and links one mutant of csrc/core after the other, in a folder of its own.

Everything is compiled once; a mutant costs its own object file, and a link for each program that is
run with it.
"""

from __future__ import annotations

import enum
import functools
import os
import re
import shutil
import subprocess
import sys
import sysconfig
from pathlib import Path

from mutants import Mutant

COMPILE = ["-std=c11", "-D_GNU_SOURCE", "-O1", "-fPIC", "-fvisibility=hidden", "-w", "-pthread"]
SANITIZE = ["-fsanitize=address,undefined", "-fno-sanitize-recover=all"]
BINDING = ["-DPy_LIMITED_API=0x030B0000"]


class Outcome(enum.Enum):
    BUILT = "built"
    REFUSED = "does not compile"
    SAME = "same machine code"


class Flavour:
    """The engine's objects and the C programs', compiled in one way."""

    def __init__(self, build: Build, name: str, *options: str) -> None:
        self.build = build
        self.name = name
        self.options = options
        self.folder = build.folder / name
        self.folder.mkdir()
        self.originals: dict[str, bytes] = {}
        self.changed: set[str] = set()
        for source in sorted(build.core.rglob("*.c")):
            name = source.relative_to(build.core).as_posix()
            if not self.compile(source, self.object(name)):
                sys.exit(f"{source} does not compile")
            self.originals[name] = self.object(name).read_bytes()
        self.tests = []
        programs = build.folder / "tests" / "core"
        for source in sorted(programs.glob("*/*.c")):
            name = source.relative_to(programs).with_suffix("").as_posix()
            if not self.compile(source, self.object(f"{name}.test"), f"-I{programs}"):
                sys.exit(f"{source} does not compile")
            self.tests.append(name)

    def object(self, file: str) -> Path:
        return self.folder / f"{file.replace('/', '_')}.o"

    def compile(self, source: Path, to: Path, *more: str) -> bool:
        # From its folder and without paths, so that equal code gives equal files.
        include = (f"-I{self.build.csrc}", f"-I{self.build.csrc / 'include'}")
        command = [self.build.cc, *COMPILE, *self.options, *include, *more]
        command += ["-c", source.name, "-o", str(to)]
        done = subprocess.run(command, cwd=source.parent, capture_output=True, check=False)
        return done.returncode == 0

    def follow(self, files: set[str]) -> Outcome:
        """Compiles the files that are not as they were, and takes the others back."""
        for file in self.changed - files:
            self.object(file).write_bytes(self.originals[file])
        self.changed = set(files)
        same = True
        for file in sorted(files):
            if not self.compile(self.build.core / file, self.object(file)):
                return Outcome.REFUSED
            same = same and self.object(file).read_bytes() == self.originals[file]
        return Outcome.SAME if same else Outcome.BUILT

    def link(self, to: Path, objects: list[Path], *more: str) -> bool:
        core = [self.object(file) for file in self.originals]
        command: list[str | Path] = [self.build.cc, "-pthread", *self.options, *more]
        command += [*objects, *core, "-o", to]
        return subprocess.run(command, capture_output=True, check=False).returncode == 0

    def program(self, test: str) -> Path | None:
        """A C program, linked with the mutant; None where it does not link."""
        made = self.folder / test.replace("/", "_")
        options = self.build.folder / "tests" / "core" / f"{test}.link"
        more = [f"@{options}"] if options.exists() else []
        linked = self.link(made, [self.object(f"{test}.test")], *more)
        return made if linked else None


class Build:
    """The folder that mutants are built in, with a copy of all that takes part."""

    def __init__(self, root: Path, folder: Path) -> None:
        self.folder = folder
        self.cc = os.environ.get("CC", "cc")
        self.csrc = folder / "csrc"
        self.core = self.csrc / "core"
        self.package = folder / "lib" / "iovabitmap"
        shutil.copytree(root / "csrc", folder / "csrc")
        shutil.copytree(root / "tests", folder / "tests")
        shutil.copytree(
            root / "iovabitmap", self.package, ignore=shutil.ignore_patterns("*.so", "__pycache__")
        )
        shutil.copy(root / "pyproject.toml", folder)
        self.sources = {
            p.relative_to(self.core).as_posix(): p.read_text(encoding="utf-8")
            for p in self.core.rglob("*.[ch]")
        }
        self.users = self.find_users()
        self.mutants: list[Mutant] = []
        self.changed: set[str] = set()
        self.plain = Flavour(self, "plain")
        self.binding = self.compile_binding()

    @functools.cached_property
    def sanitized(self) -> Flavour:
        """Compiled when it is asked for, which must be while nothing is mutated."""
        assert not self.mutants
        return Flavour(self, "sanitized", *SANITIZE)

    def find_users(self) -> dict[str, set[str]]:
        """Which files are to be compiled when a file changes."""
        users: dict[str, set[str]] = {}
        for source in sorted(self.core.rglob("*.c")):
            name = source.relative_to(self.core).as_posix()
            listed = subprocess.run(
                [self.cc, "-std=c11", "-D_GNU_SOURCE", "-I.", "-Iinclude", "-MM", f"core/{name}"],
                cwd=self.csrc,
                stdout=subprocess.PIPE,
                check=True,
                text=True,
            ).stdout
            for used in re.findall(r"\bcore/(\S+\.[ch])\b", listed):
                users.setdefault(used, set()).add(name)
        return users

    def compile_binding(self) -> list[Path]:
        include = f"-I{sysconfig.get_path('include')}"
        made = []
        for source in sorted((self.csrc / "python").rglob("*.c")):
            made.append(self.plain.object(source.relative_to(self.csrc).as_posix()))
            if not self.plain.compile(source, made[-1], *BINDING, include):
                sys.exit(f"{source} does not compile")
        return made

    def extension(self) -> bool:
        """Links the extension module into the copy of the package."""
        return self.plain.link(self.package / "_core.abi3.so", self.binding, "-shared")

    def mutate(self, mutants: list[Mutant]) -> Outcome:
        """Makes the original plus these changes, whatever was there before. The sanitized one
        follows when it is asked for."""
        self.mutants = mutants
        files = {m.file for m in mutants}
        for file in self.changed | files:
            source = self.sources[file]
            for mutant in sorted(mutants, key=lambda m: -m.start):
                source = mutant.apply(source) if mutant.file == file else source
            (self.core / file).write_text(source, encoding="utf-8")
        self.changed = files
        return self.plain.follow(self.to_compile())

    def to_compile(self) -> set[str]:
        return set().union(*(self.users.get(file, set()) for file in self.changed))
