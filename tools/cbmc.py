"""Runs the proofs of tests/cbmc: each harness on the engine's files, and on copies with a planted
defect, which it must refute.

    python tools/cbmc.py CBMC [--short] [--jobs N] [--no-plants] [NAME...]

tests/cbmc/proofs.toml says what there is. A proof with `each` is made once for every combination of
those constants (`short` has fewer). The short form leaves out the plants that are `long`, and says
how many. Prints a line for each proof: properties, time, plants refuted.
Ends with 1 if a proof failed, or a plant was not refuted.
"""

from __future__ import annotations

import argparse
import itertools
import re
import shutil
import subprocess
import sys
import time
import tomllib
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

HARNESSES = Path("tests/cbmc")
CORE = Path("csrc/core")
PLANTED = Path("build/cbmc-plants")

# Beyond what CBMC checks by default: bounds, pointers, division, signed overflow, shifts, and that
# each loop ends within its bound.
CHECKS = ("--unwinding-assertions", "--pointer-overflow-check", "--drop-unused-functions")
PASSED, REFUTED = 0, 10  # how CBMC ends; anything else is a failure of its own


@dataclass(frozen=True)
class Job:
    """One run of CBMC."""

    proof: str
    command: tuple[str, ...]
    plant: str = ""  # what was planted; then the run must find it


@dataclass(frozen=True)
class Result:
    job: Job
    status: int
    seconds: float
    properties: int
    text: str

    @property
    def ok(self) -> bool:
        return self.status == (REFUTED if self.job.plant else PASSED)


def combinations(each: dict[str, list[Any]]) -> list[tuple[str, ...]]:
    """The -D options of every combination of constants."""
    sets = [[f"-D{name}={value}" for value in values] for name, values in each.items()]
    return list(itertools.product(*sets))


def command(
    cbmc: str, proof: dict[str, Any], core: Path, defines: tuple[str, ...]
) -> tuple[str, ...]:
    loops = [f"{loop}:{bound}" for loop, bound in proof.get("loops", {}).items()]
    return (
        cbmc,
        str(HARNESSES / proof["harness"]),
        *(str(core / name) for name in proof["sources"]),
        f"-I{core.parent}",
        f"-I{core.parent / 'include'}",
        f"-I{HARNESSES}",
        *defines,
        "--function",
        proof["name"],
        "--unwind",
        str(proof["unwind"]),
        *(("--unwindset", ",".join(loops)) if loops else ()),
        *CHECKS,
        *proof.get("options", ()),
    )


def plant(proof: dict[str, Any], number: int) -> Path:
    """A copy of the engine with one defect; the text that it replaces must occur exactly once."""
    defect = proof["plants"][number]
    copy = PLANTED / f"{proof['name']}-{number}"
    shutil.rmtree(copy, ignore_errors=True)
    shutil.copytree(CORE.parent, copy)
    folder = copy / CORE.name
    file = folder / defect["file"]
    text = file.read_text()
    if text.count(defect["old"]) != 1:
        sys.exit(
            f"{proof['name']}: {text.count(defect['old'])} times in {file.name}: {defect['old']}"
        )
    file.write_text(text.replace(defect["old"], defect["new"]))
    return folder


def jobs_of(cbmc: str, proof: dict[str, Any], short: bool, plants: bool) -> list[Job]:
    """The proof for every combination, and each plant for the one combination that it names."""
    each = proof.get("each", {}) | (proof.get("short", {}) if short else {})
    jobs = [Job(proof["name"], command(cbmc, proof, CORE, d)) for d in combinations(each)]
    for number, defect in enumerate(proof["plants"] if plants else ()):
        if short and defect.get("long"):
            continue
        one = {name: values[:1] for name, values in each.items()} | {
            name: [value] for name, value in defect.get("with", {}).items()
        }
        folder = plant(proof, number)
        jobs.append(
            Job(
                proof["name"],
                command(cbmc, proof, folder, *combinations(one)),
                f"{defect['old']} -> {defect['new']}",
            )
        )
    return jobs


def run(job: Job) -> Result:
    start = time.monotonic()
    done = subprocess.run(job.command, capture_output=True, text=True, check=False)
    found = re.search(r"\*\* \d+ of (\d+) failed", done.stdout)
    properties = int(found[1]) if found else 0
    text = done.stdout + done.stderr
    return Result(job, done.returncode, time.monotonic() - start, properties, text)


def report(name: str, results: list[Result]) -> bool:
    """One line for a proof, and below it what went wrong."""
    proofs = [result for result in results if not result.job.plant]
    plants = [result for result in results if result.job.plant]
    good = all(result.ok for result in results)
    print(
        f"{'ok' if good else 'FAIL':4} {name:22} {len(proofs):3} runs "
        f"{sum(r.properties for r in proofs):6} properties {sum(r.seconds for r in proofs):7.1f} s"
        f"   plants refuted: {sum(r.ok for r in plants)} of {len(plants)}",
        flush=True,
    )
    for result in results:
        if not result.ok:
            print("    " + " ".join(result.job.command))
            if result.job.plant:
                print(f"    not refuted: {result.job.plant} (status {result.status})")
            else:
                wrong = [
                    ln for ln in result.text.splitlines() if ln.endswith((": FAILURE", ": ERROR"))
                ]
                print("    " + "\n    ".join(wrong[:10] or result.text.splitlines()[-10:]))
    return good


def main() -> None:
    parser = argparse.ArgumentParser(description="Runs the proofs of tests/cbmc.")
    parser.add_argument("cbmc", help="the program")
    parser.add_argument("names", nargs="*", metavar="NAME", help="only proofs that start so")
    parser.add_argument("--short", action="store_true", help="fewer constants and plants")
    parser.add_argument("--jobs", type=int, default=1, help="runs at a time")
    parser.add_argument("--no-plants", action="store_true", help="the engine as it is only")
    args = parser.parse_intermixed_args()

    proofs = tomllib.loads((HARNESSES / "proofs.toml").read_text())["proof"]
    if args.names:
        proofs = [p for p in proofs if p["name"].startswith(tuple(args.names))]
    start = time.monotonic()
    good, properties, planted = True, 0, 0
    with ThreadPoolExecutor(args.jobs) as pool:
        work = [
            (
                p["name"],
                [
                    pool.submit(run, job)
                    for job in jobs_of(args.cbmc, p, args.short, not args.no_plants)
                ],
            )
            for p in proofs
        ]
        for name, futures in work:
            results = [future.result() for future in futures]
            good &= report(name, results)
            properties += sum(r.properties for r in results if not r.job.plant)
            planted += sum(bool(r.job.plant) for r in results)
    left_out = sum(args.short and plant.get("long", False) for p in proofs for plant in p["plants"])
    if left_out:
        print(f"cbmc: {left_out} plants that take long are left out of the short form")
    print(
        f"cbmc: {len(proofs)} proofs, {properties} properties, {planted} plants, "
        f"{time.monotonic() - start:.0f} s: {'all hold' if good else 'FAILED'}"
    )
    sys.exit(not good or not proofs)


if __name__ == "__main__":
    main()
