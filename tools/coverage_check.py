"""Is every line and branch of csrc/core covered, but for those that people looked at and listed?

    python tools/coverage_check.py GCOVR.json [--suggest]

What is not covered is compared with tests/coverage/exceptions.toml. The check fails where something
is missing that is not listed, and where something listed is covered or no longer there. Lines are
known by file, function and text, so that code may move. --suggest prints entries to be reviewed.
"""

from __future__ import annotations

import argparse
import json
import sys
import tomllib
from collections import defaultdict
from dataclasses import dataclass
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
EXCEPTIONS = ROOT / "tests" / "coverage" / "exceptions.toml"
STRICT = "csrc/core/"


@dataclass(frozen=True, order=True)
class Place:
    """A line, or lines of equal text in one function."""

    file: str
    function: str
    line: str


@dataclass
class Missing:
    lines: int = 0
    branches: int = 0  # of lines that were reached
    sometimes: bool = False  # listed: no more than these

    def allows(self, found: Missing) -> bool:
        if self.sometimes:
            return found.lines <= self.lines and found.branches <= self.branches
        return (found.lines, found.branches) == (self.lines, self.branches)

    def __str__(self) -> str:
        if self.lines:
            return "not reached"
        return f"{self.branches} branch{'es' if self.branches > 1 else ''} not taken"


@dataclass
class Sum:
    lines: int = 0
    lines_covered: int = 0
    branches: int = 0
    branches_covered: int = 0

    def __str__(self) -> str:
        return (
            f"{self.lines_covered} of {self.lines} lines "
            f"({share(self.lines_covered, self.lines)}), "
            f"{self.branches_covered} of {self.branches} branches "
            f"({share(self.branches_covered, self.branches)})"
        )


def share(part: int, whole: int) -> str:
    return f"{100 * part / whole if whole else 100:.2f} %"


def measure(report: Path) -> tuple[dict[str, Sum], dict[Place, Missing], dict[Place, int]]:
    """Sums by folder, what is missing, and the number of each line, from what gcovr says."""
    sums: dict[str, Sum] = defaultdict(Sum)
    missing: dict[Place, Missing] = defaultdict(Missing)
    numbers: dict[Place, int] = {}
    for file in json.loads(report.read_text(encoding="utf-8"))["files"]:
        name = file["file"]
        text = (ROOT / name).read_text(encoding="utf-8").splitlines()
        folder = sums[str(Path(name).parent)]
        for line in file["lines"]:
            if line.get("gcovr/noncode"):
                continue
            branches = [branch["count"] > 0 for branch in line.get("branches", [])]
            folder.lines += 1
            folder.lines_covered += line["count"] > 0
            folder.branches += len(branches)
            folder.branches_covered += sum(branches)
            if not name.startswith(STRICT):
                continue
            number = line["line_number"]
            place = Place(
                name.removeprefix(STRICT), line.get("function_name", ""), text[number - 1].strip()
            )
            numbers.setdefault(place, number)
            if line["count"] == 0:
                missing[place].lines += 1
            elif not all(branches):
                missing[place].branches += branches.count(False)
    return sums, missing, numbers


def cpu_has(feature: str) -> bool:
    try:
        return (
            feature in Path("/proc/cpuinfo").read_text(encoding="ascii", errors="replace").split()
        )
    except OSError:
        return False


def listed() -> tuple[dict[Place, Missing], list[str], set[str]]:
    """The exceptions, what is wrong with the list, and the files that this machine cannot run."""
    content = tomllib.loads(EXCEPTIONS.read_text(encoding="utf-8"))
    places: dict[Place, Missing] = {}
    wrong = []
    for entry in content.get("exception", []):
        place = Place(entry["file"], entry["function"], entry["line"])
        if place in places or not entry["reason"].strip():
            wrong.append(f"{place.file}: {place.line}: listed twice, or without a reason")
        places[place] = Missing(
            entry.get("lines", 0), entry.get("branches", 0), entry.get("sometimes", False)
        )
    apart = {
        entry["file"]
        for entry in content.get("machine", [])
        if not all(map(cpu_has, entry["features"]))
    }
    return places, wrong, apart


def toml_string(text: str) -> str:
    return f"'{text}'" if "'" not in text else json.dumps(text)


def suggest(place: Place, missing: Missing) -> str:
    kind = f"lines = {missing.lines}" if missing.lines else f"branches = {missing.branches}"
    return (
        f'[[exception]]\nfile = "{place.file}"\nfunction = "{place.function}"\n'
        f'line = {toml_string(place.line)}\n{kind}\nreason = ""\n'
    )


def main() -> int:
    parser = argparse.ArgumentParser(description=(__doc__ or "").split("\n\n")[0])
    parser.add_argument("report", type=Path, help="what gcovr --json wrote")
    parser.add_argument("--suggest", action="store_true", help="entries for what is not listed")
    args = parser.parse_args()
    sums, missing, numbers = measure(args.report)
    exceptions, wrong, apart = listed()
    for folder, total in sorted(sums.items()):
        print(f"{folder}: {total}")
    for file in sorted(apart):
        print(f"left out: {file}, which this CPU cannot run")
    excused = 0
    for place in sorted(missing.keys() | exceptions.keys()):
        if place.file in apart:
            continue
        found, allowed = missing.get(place, Missing()), exceptions.get(place, Missing())
        if allowed.allows(found) and place in numbers:
            excused += 1
        elif args.suggest and place not in exceptions:
            print(suggest(place, found))
        elif place in missing:
            more = f", listed: {allowed}" if place in exceptions else ""
            where = f"csrc/core/{place.file}:{numbers[place]} {place.function}"
            wrong.append(f"{where}: {found}{more}\n        {place.line}")
        else:
            wrong.append(
                f"listed, but covered or gone: {place.file} {place.function}\n        {place.line}"
            )
    print(f"{STRICT}: {excused} exceptions, all listed in {EXCEPTIONS.relative_to(ROOT)}")
    for line in wrong:
        print("    " + line)
    return 1 if wrong else 0


if __name__ == "__main__":
    sys.exit(main())
