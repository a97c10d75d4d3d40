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
        for source in sorted(build.core.glob("*.c")):
            if not self.compile(source, self.object(source.name)):
                sys.exit(f"{source} does not compile")
            self.originals[source.name] = self.object(source.name).read_bytes()
        self.tests = []
        for source in sorted((build.folder / "tests" / "core").glob("*.c")):
            made = self.folder / f"{source.stem}.test.o"
            if not self.compile(source, made, f"-I{build.core}", f"-I{source.parent}"):
                sys.exit(f"{source} does not compile")
            self.tests.append(source.stem)

    def object(self, file: str) -> Path:
        return self.folder / f"{file}.o"

    def compile(self, source: Path, to: Path, *more: str) -> bool:
        # From its folder and without paths, so that equal code gives equal files.
        command = [self.build.cc, *COMPILE, *self.options, *more, "-c", source.name, "-o", str(to)]
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
        made = self.folder / test
        options = self.build.folder / "tests" / "core" / f"{test}.link"
        more = [f"@{options}"] if options.exists() else []
        linked = self.link(made, [self.folder / f"{test}.test.o"], *more)
        return made if linked else None


class Build:
    """The folder that mutants are built in, with a copy of all that takes part."""

    def __init__(self, root: Path, folder: Path) -> None:
        self.folder = folder
        self.cc = os.environ.get("CC", "cc")
        self.core = folder / "csrc" / "core"
        self.package = folder / "lib" / "iovabitmap"
        shutil.copytree(root / "csrc", folder / "csrc")
        shutil.copytree(root / "tests", folder / "tests")
        shutil.copytree(
            root / "iovabitmap", self.package, ignore=shutil.ignore_patterns("*.so", "__pycache__")
        )
        shutil.copy(root / "pyproject.toml", folder)
        self.sources = {p.name: p.read_text(encoding="utf-8") for p in self.core.glob("*.[ch]")}
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
        for source in sorted(self.core.glob("*.c")):
            listed = subprocess.run(
                [self.cc, "-std=c11", "-D_GNU_SOURCE", "-MM", source.name],
                cwd=self.core,
                stdout=subprocess.PIPE,
                check=True,
                text=True,
            ).stdout
            for name in re.findall(r"\S+\.[ch]\b", listed):
                users.setdefault(Path(name).name, set()).add(source.name)
        return users

    def compile_binding(self) -> list[Path]:
        include = [f"-I{self.core}", f"-I{sysconfig.get_path('include')}"]
        made = []
        for source in sorted((self.folder / "csrc" / "python").glob("*.c")):
            made.append(self.plain.folder / f"python_{source.stem}.o")
            if not self.plain.compile(source, made[-1], *BINDING, *include):
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
