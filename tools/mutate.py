"""Mutation testing of csrc/core: is there a test that fails for each small fault?

    python tools/mutate.py [--number 300] [--sample 25] [--only NAME...] [--list] [--show NAME]
    python tools/mutate.py --part 1/2 --folder build/mutation-1     # half of the files, beside 2/2

Each mutant (mutants.py) is compiled and linked in a folder of its own. First the C programs of
tests/core try it, then, where it survives them, the Python tests. One that survives both is a fault
that no test would notice: the run ends with 1, and a test is to be written. What no test can notice
is in tests/mutation/reviewed.toml, each with the reason; those must survive, so that the list says
nothing that is no longer so.

A mutant that compiles to the same machine code is none and is left out.
"""

from __future__ import annotations

import argparse
import json
import re
import shutil
import sys
import time
import tomllib
from collections import Counter, defaultdict
from dataclasses import dataclass, field
from pathlib import Path

from mutants import Mutant, in_order, mutants_of
from mutation_build import Build, Outcome
from mutation_tests import Suite

ROOT = Path(__file__).resolve().parents[1]
CORE = ROOT / "csrc" / "core"
REVIEWED = ROOT / "tests" / "mutation" / "reviewed.toml"
SORTS = ("C", "sanitizer", "Python")
AT_LEAST = 4  # of each file


@dataclass
class Reviewed:
    """What people looked at: mutants that no test can see, and lines that are left alone."""

    equivalent: dict[str, str] = field(default_factory=dict)  # name: the line
    # file, function, line: the kinds that are left out; none: all
    speed_only: dict[tuple[str, str, str], list[str]] = field(default_factory=dict)

    def leaves_out(self, mutant: Mutant) -> bool:
        """Whether it may change the speed, but not what is done."""
        kinds = self.speed_only.get((mutant.file, mutant.function, mutant.line))
        return kinds is not None and (not kinds or mutant.kind in kinds)

    @classmethod
    def load(cls, mutants: list[Mutant]) -> Reviewed:
        content = tomllib.loads(REVIEWED.read_text(encoding="utf-8"))
        lines = {(m.file, m.function, m.line) for m in mutants}
        by_name = {m.name: m for m in mutants}
        reviewed, stale = cls(), []
        for entry in content.get("equivalent", []):
            found = by_name.get(entry["name"])
            if found is None or found.line != entry["line"] or not entry["reason"]:
                stale.append(f"{entry['name']}: {entry['line']}")
            reviewed.equivalent[entry["name"]] = entry["line"]
        for entry in content.get("speed_only", []):
            key = entry["file"], entry["function"], entry["line"]
            if key not in lines or not entry["reason"]:
                stale.append(": ".join(key))
            reviewed.speed_only[key] = entry.get("kinds", [])
        if stale:
            sys.exit(f"{REVIEWED.name} lists what is not there:\n    " + "\n    ".join(stale))
        return reviewed


def all_mutants() -> list[Mutant]:
    return [m for path in sorted(CORE.rglob("*.[ch]")) for m in mutants_of(path, CORE)]


def queues(mutants: list[Mutant], reviewed: Reviewed) -> dict[str, list[Mutant]]:
    """The mutants of each file that may be chosen, in the order in which they are."""
    of_file: dict[str, list[Mutant]] = defaultdict(list)
    for mutant in mutants:
        if not reviewed.leaves_out(mutant) and mutant.name not in reviewed.equivalent:
            of_file[mutant.file].append(mutant)
    return {file: in_order(found) for file, found in of_file.items()}


def shares(of_file: dict[str, list[Mutant]], number: int) -> dict[str, int]:
    """How many of each file: as large as it is, but never too few."""
    total = sum(map(len, of_file.values()))
    floor = min(AT_LEAST, max(1, number // len(of_file)))
    return {file: max(floor, number * len(found) // total) for file, found in of_file.items()}


class Run:
    """Tries mutants one after the other, and keeps the books."""

    def __init__(self, build: Build, suite: Suite) -> None:
        self.build = build
        self.suite = suite
        self.verdicts: Counter[str] = Counter()
        self.survivors: list[Mutant] = []
        self.log: list[dict[str, str]] = []

    def attempt(self, mutant: Mutant) -> bool:
        """Whether it is a mutant at all; then it is tried."""
        started = time.monotonic()
        built = self.build.mutate([mutant])
        if built is not Outcome.BUILT:
            self.verdicts[built.value] += 1
            return False
        sort, test = self.suite.killer(mutant.file)
        self.verdicts[sort] += 1
        if not sort:
            self.survivors.append(mutant)
        seconds = time.monotonic() - started
        verdict = f"killed: {sort}" if sort else "SURVIVED"
        print(f"{verdict:18} {seconds:6.1f} s  {mutant.name}  {test}", flush=True)
        self.log.append({"name": mutant.name, "by": sort, "test": test})
        return True

    def seen_of(self, mutants: list[Mutant]) -> list[str]:
        """Those that a test sees, of mutants that are listed as unseen. They are tried all at once;
        where something sees them together, in halves: two may be seen that alone are not."""
        apart: list[list[Mutant]] = []  # those of a group change different places
        for mutant in mutants:
            for group in apart:
                if not any(overlap(m, mutant) for m in group):
                    group.append(mutant)
                    break
            else:
                apart.append([mutant])
        seen = []
        while apart:
            group = apart.pop()
            test = self.sees(group)
            if test and len(group) > 1:
                apart += [group[::2], group[1::2]]
            elif test:
                seen.append(f"{group[0].name}: {test}")
        return seen

    def sees(self, mutants: list[Mutant]) -> str:
        if self.build.mutate(mutants) is Outcome.REFUSED:
            return "the compiler"
        return self.suite.killer(mutants[0].file)[1]


def overlap(a: Mutant, b: Mutant) -> bool:
    return a.file == b.file and a.start < b.end and b.start < a.end


def show(mutant: Mutant) -> None:
    source = (CORE / mutant.file).read_text(encoding="utf-8")
    number = source.count("\n", 0, mutant.start) + 1
    print(f"{mutant.name}  csrc/core/{mutant.file}:{number}")
    print("  - " + source[mutant.start : mutant.end].replace("\n", "\n    "))
    print("  + " + (mutant.text or "(nothing)").replace("\n", "\n    "))
    print("  in: " + mutant.line)


def share(text: str) -> tuple[int, int]:
    k, n = map(int, text.split("/"))
    if not 1 <= k <= n:
        raise ValueError
    return k, n


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("--number", type=int, default=300, help="mutants, of all files together")
    parser.add_argument("--sample", type=int, help="only so many of them, spread over the files")
    parser.add_argument(
        "--only", nargs="+", metavar="PATTERN", help="those that match, all of them"
    )
    parser.add_argument(
        "--part",
        type=share,
        default=(1, 1),
        metavar="K/N",
        help="every N-th file, from the K-th",
    )
    parser.add_argument("--list", action="store_true", help="print names, and try nothing")
    parser.add_argument("--show", metavar="NAME", help="print what it changes, and try nothing")
    parser.add_argument("--by", nargs="+", choices=SORTS, default=SORTS, help="sorts of tests")
    parser.add_argument("--no-equivalent", action="store_true", help="do not check those listed")
    parser.add_argument("--folder", type=Path, default=ROOT / "build" / "mutation")
    return parser.parse_args()


def chosen(
    of_file: dict[str, list[Mutant]], args: argparse.Namespace
) -> list[tuple[list[Mutant], int]]:
    """Queues, and how many valid ones to try of each."""
    if args.only:
        pattern = re.compile("|".join(f"(?:{p})" for p in args.only))
        return [(found, len(found)) for q in of_file.values()
                if (found := [m for m in q if pattern.search(m.name)])]  # fmt: skip
    parts = shares(of_file, args.number)
    if args.sample:
        # One of each file in turn, the largest files first.
        largest = sorted(of_file, key=lambda file: -len(of_file[file]))
        parts = {f: args.sample // len(of_file) for f in of_file}
        for file in largest[: args.sample - sum(parts.values())]:
            parts[file] += 1
    return [(of_file[file], part) for file, part in parts.items() if part]


def main() -> int:
    args = arguments()
    mutants = all_mutants()
    reviewed = Reviewed.load(mutants)
    of_file = queues(mutants, reviewed)
    if args.show:
        for mutant in (m for m in mutants if m.name == args.show):
            show(mutant)
        return 0
    k, n = args.part
    files = sorted({m.file for m in mutants})[k - 1 :: n]
    work = [(queue, part) for queue, part in chosen(of_file, args) if queue[0].file in files]
    if args.list:
        for queue, part in work:
            print("\n".join(m.name for m in queue[:part]))
        return 0
    started = time.monotonic()
    shutil.rmtree(args.folder, ignore_errors=True)
    build = Build(ROOT, args.folder.resolve())
    suite = Suite(build, tuple(args.by))
    run = Run(build, suite)
    for queue, part in work:
        tried = 0
        for mutant in queue:
            if tried == part:
                break
            tried += run.attempt(mutant)
    wrong = []
    if not (args.no_equivalent or args.only or args.sample):
        listed = [m for m in mutants if m.name in reviewed.equivalent and m.file in files]
        wrong = run.seen_of(listed)
    report(run, reviewed, len(mutants), wrong, time.monotonic() - started)
    (args.folder / "verdicts.json").write_text(json.dumps(run.log, indent=1), encoding="utf-8")
    return 1 if run.survivors or wrong else 0


def report(run: Run, reviewed: Reviewed, possible: int, wrong: list[str], seconds: float) -> None:
    counts = run.verdicts
    tried = len(run.log)
    print(f"\n{possible} mutants are possible; {len(reviewed.equivalent)} are listed as unseen")
    print(f"{tried} were tried; {counts[Outcome.REFUSED.value]} more do not compile, and "
          f"{counts[Outcome.SAME.value]} are the same machine code")  # fmt: skip
    print(f"killed: {counts['C']} by C programs, {counts['sanitizer']} by these under sanitizers, "
          f"{counts['Python']} by Python tests")  # fmt: skip
    print(f"survived: {len(run.survivors)}; {seconds / 60:.0f} minutes")
    for mutant in run.survivors:
        show(mutant)
    for line in wrong:
        print(f"listed as unseen, but seen: {line}")


if __name__ == "__main__":
    sys.exit(main())
