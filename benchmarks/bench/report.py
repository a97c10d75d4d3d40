"""What was found: each case as it comes, the bars at the end, and all of it as JSON."""

from __future__ import annotations

import json
from dataclasses import asdict, dataclass
from typing import TYPE_CHECKING, Any

from .timing import OURS, Bar, Case, Times, fastest

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

MET, MISSED, UNKNOWN, ABSENT = "met", "not met", "not measurable here", "not there yet"


@dataclass
class Verdict:
    """One bar: `value` of at least `needed`, or what `found` says of it."""

    question: str
    where: str
    text: str
    verdict: str
    found: str
    value: float | None = None
    by_least: float | None = None  # the same by the least times instead of the medians
    needed: float = 1.0

    @property
    def key(self) -> tuple[str, str, str]:
        return (self.question, self.where, self.text)


@dataclass
class Result:
    case: Case
    times: list[Times]
    verdicts: list[Verdict]

    def as_json(self) -> dict[str, Any]:
        return {
            "question": self.case.question,
            "where": self.case.where,
            "nbytes": self.case.nbytes,
            "note": self.case.note,
            "absent": {entry.name: entry.absent for entry in self.case.candidates if entry.absent},
            "times_ns": [asdict(found) for found in self.times],
            "bars": [asdict(verdict) for verdict in self.verdicts],
        }


def judge(case: Case, times: list[Times]) -> Result:
    """A case's bars, against what was measured."""
    made = Result(case, times, [])
    for fact in case.facts:
        verdict = MET if fact.met else MISSED
        made.verdicts.append(Verdict(case.question, case.where, fact.text, verdict, fact.value))
    for bar in case.bars:
        made.verdicts.append(_verdict(case, times, bar))
    if not case.candidates and case.note:
        made.verdicts.append(Verdict(case.question, case.where, "all", UNKNOWN, case.note))
    return made


def _verdict(case: Case, times: list[Times], bar: Bar) -> Verdict:
    value, by_least = _ratio(times, bar, "median"), _ratio(times, bar, "least")
    absent = next((entry.absent for entry in case.candidates if entry.name == OURS), "")
    if absent:
        return Verdict(case.question, case.where, bar.text, ABSENT, absent)
    if value is None or by_least is None:
        missing = [tool for tool in bar.against if fastest(times, tool) is None]
        found = f"nothing to compare with: {', '.join(missing)}"
        return Verdict(case.question, case.where, bar.text, UNKNOWN, found)
    needed, by_limit = bar.at_least, ""
    limit = fastest(times, bar.limit) if bar.limit else None
    ours = fastest(times, OURS)
    if limit is not None and ours is not None and value * ours / limit * bar.of_limit < needed:
        needed = value * ours / limit * bar.of_limit
        by_limit = f", for {bar.limit} has {value * ours / limit:.3g}"
    verdict = MET if value >= needed else MISSED
    found = f"{value:.3g} of {needed:.3g}{by_limit} ({by_least:.3g} by the least times)"
    return Verdict(case.question, case.where, bar.text, verdict, found, value, by_least, needed)


def _ratio(times: list[Times], bar: Bar, of: str) -> float | None:
    """How many times as fast as what it is held against."""
    ours = fastest(times, OURS, of)
    parts = [fastest(times, tool, of) for tool in bar.against]
    if ours is None or None in parts:
        return None
    return (sum(part for part in parts if part is not None) or bar.at_most_ns) / ours


# --- text ---------------------------------------------------------------------------------------


def duration(ns: float) -> str:
    for unit, size in (("s", 1e9), ("ms", 1e6), ("us", 1e3)):
        if ns >= size:
            return f"{ns / size:.3g} {unit}"
    return f"{ns:.3g} ns"


def show(result: Result) -> None:
    """Prints a case: the times, and how many times as long as ours each one took."""
    case = result.case
    note = f"  ({case.note})" if case.note else ""
    print(f"\n{case.question}: {case.where}{note}")
    for candidate in case.candidates:
        if candidate.absent:
            print(f"  {candidate.name:36} not there: {candidate.absent}")
    ours = fastest(result.times, OURS)
    for found in result.times:
        rate = f"{case.nbytes / found.median:7.1f} GB/s" if case.nbytes else ""
        spread = f"{duration(found.quarter)} to {duration(found.three_quarters)}"
        ratio = f"{found.median / ours:8.2f}x" if ours else ""
        print(
            f"  {found.name:36} {duration(found.median):>9} {ratio:>9} {rate:>12}"
            f"   {spread}, n={found.samples}"
        )
    for verdict in result.verdicts:
        print(f"  -> {verdict.text}: {verdict.found}: {verdict.verdict}")


def medians(results: Iterable[Result]) -> list[str]:
    """A line for each case: ours, and how many times as long the best way of each tool took."""
    lines = []
    for result in results:
        ours = fastest(result.times, OURS)
        if ours is None:
            continue
        tools = dict.fromkeys(
            entry.name.partition(":")[0] for entry in result.times if " @" not in entry.name
        )
        others = [
            f"{tool} {best / ours:.2f}x"
            for tool in tools
            if tool != OURS and (best := fastest(result.times, tool)) is not None
        ]
        where = f"{result.case.question}: {result.case.where}"
        lines.append(f"{duration(ours):>9}  {where}: {', '.join(others)}")
    return lines


def title(text: str) -> str:
    return f"\n--- {text} ".ljust(100, "-")


def summary(results: Iterable[Result], variants: dict[str, list[Verdict]]) -> list[str]:
    """All bars, and what the other implementations of the inner loops reach."""
    lines = []
    counts = dict.fromkeys((MET, MISSED, ABSENT, UNKNOWN), 0)
    by_variant = {
        name: {verdict.key: verdict for verdict in verdicts} for name, verdicts in variants.items()
    }
    for result in results:
        for verdict in result.verdicts:
            counts[verdict.verdict] += 1
            lines.append(f"{verdict.verdict:8} {verdict.question}: {verdict.text}")
            lines.append(f"{'':9}{verdict.where}: {verdict.found}")
            for name, others in by_variant.items():
                if verdict.key in others and verdict.value is not None:
                    other = others[verdict.key]
                    lines.append(f"{'':9}with {name}: {other.found}: {other.verdict}")
    lines.append(", ".join(f"{number} {verdict}" for verdict, number in counts.items()))
    return lines


# --- JSON ----------------------------------------------------------------------------------------


def write_json(
    file: Path,
    about: dict[str, Any],
    results: list[Result],
    variants: dict[str, list[Verdict]],
    against: dict[str, Any] | None = None,
) -> None:
    content = {
        "machine": about,
        "against": against,
        "cases": [result.as_json() for result in results],
        "variants": {
            name: [asdict(verdict) for verdict in verdicts] for name, verdicts in variants.items()
        },
    }
    file.write_text(json.dumps(content, indent=1) + "\n")


def read_verdicts(file: Path) -> list[Verdict]:
    """The bars of another run."""
    cases = json.loads(file.read_text())["cases"]
    return [Verdict(**bar) for case in cases for bar in case["bars"]]
