"""Does the fuzzer find defects? Plants those of tests/fuzz/planted.toml, one at a time.

    python tools/fuzz_check.py [--most 1] [--options "-fsanitize=..."] [--only NAME]

Each is compiled into the fuzzer of build/fuzz/core in the place of the file that it is in, and must
be found by the fuzzer that starts from nothing. Whether the corpus alone finds it is said too. Ends
with 1 if one is not found.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
import tempfile
import time
import tomllib
from dataclasses import dataclass
from pathlib import Path

from mutants import Mutant, mutants_of

CORE = Path("csrc/core")
BUILT = Path("build/fuzz/core")
CORPUS = "tests/fuzz/corpus"
LIST = Path("tests/fuzz/planted.toml")
COMPILE = ("-std=c11", "-D_GNU_SOURCE", "-w", "-pthread", "-Icsrc", "-Icsrc/include")
WRAPPED = "@tests/fuzz/fuzz.link"
WALK = Path("bitmap/walk.c")  # the harness has one of its own
LONG_WALK = "-DIOVA_LONG_WALK=100"
FOUND = 77, 1, 70  # how libFuzzer ends: its own checks, a sanitizer, an input that takes too long


@dataclass
class Found:
    executions: int
    seconds: float


def find_mutant(name: str) -> Mutant:
    file = CORE / name.partition(":")[0]
    for mutant in mutants_of(file, CORE):
        if mutant.name == name:
            return mutant
    sys.exit(f"{LIST} names a defect that cannot be planted: {name}")


def users_of(file: str) -> dict[Path, Path]:
    """The sources that a file is compiled with, and their objects; the walker is the harness's."""
    objects = {}
    for source in sorted(CORE.glob("*/*.c")):
        name = source.relative_to(CORE)
        made = BUILT / (Path("fuzz") / "walk.o" if name == WALK else name.with_suffix(".o"))
        if f"{CORE}/{file}" in re.split(r"[\s:]+", made.with_suffix(".d").read_text()):
            objects[source] = made
    return objects


def build(mutant: Mutant, folder: Path, options: list[str]) -> Path:
    """The fuzzer with the defect: its file stands in a folder that is searched first."""
    cc = os.environ.get("CC", "clang")
    changed = folder / CORE.name / mutant.file
    changed.parent.mkdir(parents=True)
    changed.write_text(mutant.apply((CORE / mutant.file).read_text(encoding="utf-8")))
    made = {}
    for source, original in users_of(mutant.file).items():
        made[original] = folder / f"{source.stem}.o"
        planted = changed if source == CORE / mutant.file else source
        flags = [f"-I{folder}", *COMPILE, LONG_WALK, *options]
        subprocess.run([cc, *flags, "-c", planted, "-o", made[original]], check=True)
    left_out = {BUILT / "fuzz" / "replay.o", BUILT / WALK.with_suffix(".o"), *made}
    others = [o for o in sorted(BUILT.glob("*/*.o")) if o not in left_out]
    fuzzer = folder / "fuzzer"
    link = [cc, *options, "-pthread", "-fsanitize=fuzzer", WRAPPED]
    subprocess.run([*link, *made.values(), *others, "-o", fuzzer], check=True)
    return fuzzer


def fuzz(fuzzer: Path, *arguments: str) -> Found | None:
    """With addresses that are always the same: what is compared goes into what is tried."""
    began = time.monotonic()
    command = ["setarch", "-R", str(fuzzer)]
    command += [f"-artifact_prefix={fuzzer.parent}/", "-print_final_stats=1"]
    command.append("-timeout=10")
    done = subprocess.run([*command, *arguments], capture_output=True, check=False)
    log = done.stderr.decode(errors="replace")
    if done.returncode == 0:
        return None
    ran = re.search(r"stat::number_of_executed_units: +(\d+)", log)
    if done.returncode not in FOUND or ran is None:
        sys.exit(f"{fuzzer} ended with {done.returncode}:\n{log[-2000:]}")
    return Found(int(ran[1]), time.monotonic() - began)


def check(name: str, options: list[str], executions: int) -> bool:
    with tempfile.TemporaryDirectory(dir=BUILT.parent) as made:
        fuzzer = build(find_mutant(name), Path(made), options)
        by_corpus = fuzz(fuzzer, "-runs=0", CORPUS)
        limits = (f"-runs={executions}", "-seed=1", "-max_len=1024", "-len_control=0")
        from_nothing = fuzz(fuzzer, *limits)
    told = "not from nothing"
    if from_nothing is not None:
        told = f"from nothing after {from_nothing.executions}, {from_nothing.seconds:.1f} s"
    corpus = "; by the corpus too" if by_corpus is not None else ""
    print(f"{'found' if from_nothing else 'MISSED':7} {name:48} {told}{corpus}", flush=True)
    return from_nothing is not None


def main() -> int:
    parser = argparse.ArgumentParser(description="Plants defects for the fuzzer to find.")
    parser.add_argument("--most", type=int, default=sys.maxsize, help="only the first ones")
    parser.add_argument("--options", default="", help="what the fuzzer was compiled with")
    parser.add_argument("--only", help="this one, which need not be listed")
    args = parser.parse_args()
    listed = tomllib.loads(LIST.read_text(encoding="utf-8"))
    names = [args.only] if args.only else listed["planted"][: args.most]
    options = args.options.split()
    found = [check(name, options, listed["executions"]) for name in names]
    print(f"fuzz-check: {sum(found)} of {len(found)} planted defects found")
    return 0 if found and all(found) else 1


if __name__ == "__main__":
    sys.exit(main())
