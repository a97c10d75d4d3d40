"""Runs the fuzzer on the engine, or on the Python type, and keeps the engine's corpus small.

    python tools/fuzz.py run [--python] [--seconds 600 | --runs N] [--jobs 2]
    python tools/fuzz.py merge

`run` starts from tests/fuzz/corpus and what earlier runs found, in build/fuzz/found, where new
inputs go; for Python, by an interpreter that has atheris, from build/fuzz/python-found alone. It
ends at the first find, with 1: the input is kept in build/fuzz/finds, its path and what it broke
are printed. With --runs each process tries so many inputs, with a seed of its own that is always
the same, and starts from the corpus alone: it does the same each time. `merge` makes the corpus
anew: as few inputs as cover what the corpus and the found ones cover.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from random import Random

FUZZ = Path("build/fuzz")
FINDS = FUZZ / "finds"
CORPUS = Path("tests/fuzz/corpus")
FUZZER = str(FUZZ / "core" / "fuzzer")
FOUND = FUZZ / "found"
LONGEST = 1024  # bytes of an input: 40 operations
MOST_KIB = 200  # of the corpus
OPTIONS = (f"-max_len={LONGEST}", "-len_control=0", "-timeout=20", "-print_final_stats=1")
FIXED_ADDRESSES = ("setarch", "-R")
NOISE = 50  # long inputs to begin with: each is a list of many operations


@dataclass
class Target:
    """What is fuzzed."""

    command: tuple[str, ...]
    found: Path  # where its inputs go
    corpus: tuple[Path, ...]
    again: str  # the command that runs an input


ENGINE = Target((FUZZER,), FOUND, (CORPUS,), "make fuzz-replay FUZZ_INPUTS=")
HARNESS = "tests/fuzz/fuzz_python.py"
PYTHON = Target(
    (sys.executable, HARNESS), FUZZ / "python-found", (), f"{sys.executable} {HARNESS} --replay "
)


@dataclass
class Job:
    """One process of the fuzzer."""

    process: subprocess.Popen[bytes]
    log: Path

    def figure(self, name: str) -> int:
        found = re.findall(rf"{name}: +(\d+)", self.log.read_text(errors="replace"))
        return int(found[-1]) if found else 0


def searching(target: Target, seconds: int) -> list[str]:
    """From all that was found so far, with a random seed; processes learn from each other."""
    add_noise(target.found)
    folders = [str(target.found), *map(str, target.corpus)]
    return [*folders, f"-max_total_time={seconds}", "-reload=1"]


def repeatable(target: Target, number: int, runs: int) -> list[str]:
    """From the corpus, in the order of its names, with a seed; alone, and with addresses that are
    always the same, since what is compared goes into what is tried."""
    found = target.found.with_name(f"{target.found.name}-{number}")
    noise = target.found.with_name(f"{target.found.name}-{number}-noise")
    for folder in (found, noise):
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
    add_noise(noise)
    inputs = [path for folder in (*target.corpus, noise) for path in sorted(folder.iterdir())]
    listed = noise.with_suffix(".txt")
    listed.write_text(",".join(map(str, inputs)))
    seed = (f"-seed={number + 1}", f"-runs={runs}", "-reload=0")
    return [str(found), f"-seed_inputs=@{listed}", *seed]


def start(target: Target, number: int, seconds: int, runs: int) -> Job:
    log = FUZZ / f"{target.found.name}-{number}.log"
    how = repeatable(target, number, runs) if runs else searching(target, seconds)
    under = FIXED_ADDRESSES if runs else ()
    command = [*under, *target.command, *how, *OPTIONS, f"-artifact_prefix={FINDS}/"]
    with log.open("wb") as out:
        return Job(subprocess.Popen(command, stdout=out, stderr=subprocess.STDOUT), log)


def stop(jobs: list[Job]) -> None:
    for job in jobs:
        if job.process.poll() is None:
            job.process.terminate()
            job.process.wait()


def wait(jobs: list[Job]) -> Job | None:
    """Until all have ended, or one that has failed."""
    running = list(jobs)
    while running:
        pid, status = os.wait()
        for job in [job for job in running if job.process.pid == pid]:
            job.process.returncode = os.waitstatus_to_exitcode(status)
            running.remove(job)
            if job.process.returncode != 0:
                return job
    return None


def show_find(target: Target, job: Job, before: set[Path]) -> None:
    lines = job.log.read_text(errors="replace").splitlines()
    told = [
        i
        for i, line in enumerate(lines)
        if re.search(r"does not hold|ERROR|Uncaught|runtime error", line)
    ]
    print("\n".join(lines[max(told[0] - 1, 0) : told[0] + 25] if told else lines[-25:]))
    for path in sorted(set(FINDS.iterdir()) - before):
        print(f"\nfuzz: FIND, kept in {path}\nfuzz: again: {target.again}{path}")


def add_noise(found: Path) -> None:
    """The corpus has the shortest inputs there are; mutations of these alone would stay short."""
    found.mkdir(parents=True, exist_ok=True)
    random = Random(1)
    for i in range(NOISE):
        (found / f"noise-{i}").write_bytes(random.randbytes(random.randint(100, LONGEST)))


def run(target: Target, seconds: int, runs: int, count: int) -> int:
    FINDS.mkdir(parents=True, exist_ok=True)
    before = set(FINDS.iterdir())
    began = time.monotonic()
    jobs: list[Job] = []
    try:
        jobs += [start(target, number, seconds, runs) for number in range(count)]
        failed = wait(jobs)
    finally:
        stop(jobs)
    if failed is not None:
        show_find(target, failed, before)
        return 1
    executions = sum(job.figure("stat::number_of_executed_units") for job in jobs)
    operations = sum(job.figure("operations") for job in jobs)
    covered = max(job.figure("cov") for job in jobs)
    print(
        f"fuzz: {executions} executions, {operations} operations on {count} processes in "
        f"{time.monotonic() - began:.0f} s, no find; edges covered: {covered}"
    )
    return 0 if executions and operations else 1


def merge() -> int:
    """Only edges count here, not how often they are taken: that would keep thousands of inputs.
    Those that people gave a name stay."""
    FOUND.mkdir(parents=True, exist_ok=True)
    small = FUZZ / "corpus"
    shutil.rmtree(small, ignore_errors=True)
    small.mkdir()
    command = [FUZZER, "-merge=1", "-use_counters=0", f"-max_len={LONGEST}"]
    command += [str(small), str(CORPUS), str(FOUND)]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    for path in CORPUS.iterdir():
        if not re.fullmatch("[0-9a-f]{40}", path.name):  # the fuzzer's own names
            shutil.copy(path, small)
    inputs = list(small.iterdir())
    size = sum(path.stat().st_size for path in inputs)
    if done.returncode != 0 or not inputs or size > MOST_KIB * 1024:
        print(done.stderr[-2000:])
        print(f"fuzz: {CORPUS} is as it was: {len(inputs)} inputs, {size} bytes")
        return 1
    shutil.rmtree(CORPUS)
    shutil.copytree(small, CORPUS)
    print(f"fuzz: {CORPUS}: {len(inputs)} inputs, {size} bytes")
    return 0


def main() -> int:
    parser = argparse.ArgumentParser(description="Runs the fuzzer, and keeps its corpus.")
    commands = parser.add_subparsers(dest="command", required=True)
    runs = commands.add_parser("run")
    runs.add_argument("--python", action="store_true", help="the Python type")
    runs.add_argument("--seconds", type=int, default=600)
    runs.add_argument("--runs", type=int, default=0, help="so many inputs, the same each time")
    runs.add_argument("--jobs", type=int, default=2)
    commands.add_parser("merge")
    args = parser.parse_args()
    if args.command == "merge":
        return merge()
    return run(PYTHON if args.python else ENGINE, args.seconds, args.runs, args.jobs)


if __name__ == "__main__":
    sys.exit(main())
