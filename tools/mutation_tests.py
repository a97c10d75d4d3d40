"""Lets the tests loose on a mutant: C programs, the same under ASan and UBSan, Python tests.

A run is ended when it uses much more time or memory than the original does: an endless loop is a
fault that was seen. What killed mutants of a file comes first with the next one of it.
"""

from __future__ import annotations

import os
import re
import resource
import signal
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from mutation_build import Build, Flavour, Outcome

MEMORY_LIMIT = 3 << 30  # bytes that a test may have resident
PYTHON_TESTS = ["parity", "unit", "property"]
# They look at the package, the demonstration and the benchmarks, or repeat what others do.
NOT_RUN = [
    "unit/test_benchmarks.py",
    "unit/test_demo.py",
    "unit/test_variants.py",
]
# Where to look first, as long as nothing was killed yet.
LIKELY = {
    "ops/algebra.c": ["unit/test_algebra.py"],
    "ops/batch.c": ["unit/test_batches.py"],
    "ops/copy.c": ["unit/test_copies.py"],
    "ops/harvest.c": ["unit/test_harvest.py"],
    "pin/holes_linux.c": ["unit/test_sparse.py"],
    "ops/merge.c": ["unit/test_harvest.py"],
    "ops/ask.c": ["unit/test_questions.py"],
    "ops/ranges.c": ["unit/test_ranges.py"],
    "ops/rows.c": ["unit/test_ranges.py"],
    "bitmap/window.c": ["unit/test_windows.py"],
    "sources/write_protect_linux.c": ["unit/test_write_tracker.py"],
    "sources/write_tracker.c": ["unit/test_write_tracker.py"],
}
FAILED = re.compile(r"^(?:FAILED|ERROR) (\S+)", re.MULTILINE)

PASSED = re.compile(r"^.*?(\d+) passed", re.MULTILINE)


@dataclass
class Limits:
    """Seconds that a run may take."""

    cpu: float
    wall: float

    def of_mutant(self) -> Limits:
        return Limits(2 + 3 * self.cpu, 30 + 8 * self.wall)


GENEROUS = Limits(1000, 3600)


def limited_run(command: list[str], limits: Limits, output: Path | None, **options: Any) -> int:
    """Runs a command within limits: its status, negative where a signal ended it."""
    with (output or Path(os.devnull)).open("wb") as out:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=out,
            stderr=subprocess.STDOUT,
            start_new_session=True,
            **options,
        )
    seconds = int(limits.cpu) + 1
    resource.prlimit(process.pid, resource.RLIMIT_CPU, (seconds, seconds + 5))
    resource.prlimit(process.pid, resource.RLIMIT_CORE, (0, 0))
    deadline = time.monotonic() + limits.wall
    statm = Path(f"/proc/{process.pid}/statm")
    while True:
        try:
            return int(process.wait(0.25))
        except subprocess.TimeoutExpired:
            try:
                resident = int(statm.read_text(encoding="ascii").split()[1]) * os.sysconf(
                    "SC_PAGESIZE"
                )
            except OSError:
                resident = 0
            if time.monotonic() > deadline or resident > MEMORY_LIMIT:
                os.killpg(process.pid, signal.SIGKILL)


def timed(job: Callable[..., Any], *arguments: object) -> tuple[Any, Limits]:
    before, started = resource.getrusage(resource.RUSAGE_CHILDREN), time.monotonic()
    result = job(*arguments)
    after = resource.getrusage(resource.RUSAGE_CHILDREN)
    cpu = after.ru_utime + after.ru_stime - before.ru_utime - before.ru_stime
    return result, Limits(cpu, time.monotonic() - started)


@dataclass
class Suite:
    """The tests, and what is known of them."""

    build: Build
    sorts: tuple[str, ...] = ("C", "sanitizer", "Python")
    kills: Counter[tuple[str, str]] = field(default_factory=Counter)
    limits: dict[tuple[str, str], Limits] = field(default_factory=dict)
    # How a program ended, how many tests passed. One that cannot run with a mutant has seen it.
    normal: dict[tuple[str, str], int] = field(default_factory=dict)
    prepared: set[str] = field(default_factory=set)

    @property
    def output(self) -> Path:
        return self.build.folder / "output.txt"

    # --- the C programs -------------------------------------------------------------------------

    def run_program(self, flavour: Flavour, test: str) -> int:
        program = flavour.program(test)
        if program is None:
            return 1
        limits = self.limits.get((flavour.name, test))
        if limits is None:  # the original's: what it says is wanted
            return limited_run([str(program)], GENEROUS, self.output)
        return limited_run([str(program)], limits.of_mutant(), None)

    def core(self, file: str, flavour: Flavour) -> str:
        """The first program that fails, or nothing."""
        for test in sorted(flavour.tests, key=lambda test: -self.kills[file, test]):
            if self.run_program(flavour, test) != self.normal[flavour.name, test]:
                self.kills[file, test] += 1
                return test
        return ""

    # --- the Python tests -----------------------------------------------------------------------

    def pytest(self, which: list[str]) -> str:
        """What failed, or nothing."""
        folder = self.build.folder
        tests = folder / "tests"
        command = [
            *(sys.executable, "-P", "-m", "pytest", "-x", "-q", "--tb=no"),
            *("-p", "no:cacheprovider", "-c", str(folder / "pyproject.toml")),
            *(f"--ignore={tests / file}" for file in NOT_RUN),
            *(str(tests / file) for file in which),
        ]
        environment = {**os.environ, "PYTHONPATH": str(folder / "lib")}
        limits = self.limits.get(("python", ""))
        status = limited_run(
            command,
            limits.of_mutant() if limits else GENEROUS,
            self.output,
            cwd=folder,
            env=environment,
        )
        text = self.output.read_text(encoding="utf-8", errors="replace")
        if status != 0:
            found = FAILED.search(text)
            return found[1] if found else f"pytest, which ended with {status}"
        passed = int(PASSED.findall(text)[-1])
        key = "python", " ".join(which)
        if passed < self.normal.get(key, passed):
            return "tests that are skipped now"
        self.normal.setdefault(key, passed)
        return ""

    def python_tests(self, file: str) -> str:
        """The first test that fails, or nothing."""
        if not self.build.extension():
            return "the linker"
        killers = Counter({m: n for (f, m), n in self.kills.items() if f == file and "/" in m})
        first = [module for module, _ in killers.most_common(3)] or LIKELY.get(file, [])
        first = [m for m in first if (self.build.folder / "tests" / m).exists()]
        failed = (self.pytest(first) if first else "") or self.pytest(PYTHON_TESTS)
        if failed:
            self.kills[file, failed.split("::")[0].removeprefix("tests/")] += 1
        return failed

    # --- both -----------------------------------------------------------------------------------

    def killer(self, file: str) -> tuple[str, str]:
        """By what sort of test, and which, the mutant that is built is seen; or nothing."""
        for sort in self.sorts:
            self.prepare(sort)
            if sort == "C":
                test = self.core(file, self.build.plain)
            elif sort == "Python":
                test = self.python_tests(file)
            elif self.build.sanitized.follow(self.build.to_compile()) is Outcome.REFUSED:
                test = "the compiler"
            else:
                test = self.core(file, self.build.sanitized)
            if test:
                return sort, test
        return "", ""

    def prepare(self, sort: str) -> None:
        """Before tests of a sort are run for the first time, the original must pass them. What it
        needs is the measure for mutants."""
        if sort in self.prepared:
            return
        self.prepared.add(sort)
        mutants = self.build.mutants
        self.build.mutate([])
        if sort == "Python":
            self.prepare_python()
        else:
            self.prepare_core(self.build.plain if sort == "C" else self.build.sanitized)
        self.build.mutate(mutants)

    def prepare_core(self, flavour: Flavour) -> None:
        for test in flavour.tests:
            status, limits = timed(self.run_program, flavour, test)
            if status not in {0, 77}:
                print(self.output.read_text(encoding="utf-8", errors="replace")[-3000:])
                sys.exit(f"the original fails {test} ({flavour.name}): {status}")
            if status == 77:
                print(f"{test} cannot run here")
            self.normal[flavour.name, test] = status
            self.limits[flavour.name, test] = limits

    def prepare_python(self) -> None:
        if not self.build.extension():
            sys.exit("the original's extension does not link")
        failed, limits = timed(self.pytest, PYTHON_TESTS)
        if failed:
            sys.exit(f"the original fails {failed}: {self.output}")
        self.limits["python", ""] = limits
