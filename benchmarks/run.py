"""Every question, side by side: iovabitmap, its peers, a plain C loop, and the machine's limits.

    python benchmarks/run.py [--quick] [--only QUESTION] [--against REV] [--out build/bench]

Prints each case and at the end the report: the machine, the other revision, the bars. Writes
report.txt, results.json and bench.png. README.md says how to read them.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from dataclasses import asdict, dataclass, field, replace
from pathlib import Path
from typing import TYPE_CHECKING

ROOT = Path(__file__).resolve().parents[1]

try:
    from bench import against, compare, library, machine, native, plot, report
    from bench.context import Context
    from bench.patterns import KIB, LARGE, MIDDLE, SMALL
    from bench.questions import QUESTIONS
    from bench.timing import CLOCKS, FULL, OURS, QUICK, WrongAnswerError, compared, measure
except ImportError as error:
    sys.exit(f"{error}: the bench needs more packages, pip install '.[bench]'")


if TYPE_CHECKING:
    from bench.timing import Case, Effort


def sizes(text: str) -> tuple[int, ...]:
    found = tuple(int(part) * KIB for part in text.split(","))
    if len(found) != 3 or min(found) < 4 * KIB or any(size & (size - 1) for size in found[:2]):
        raise argparse.ArgumentTypeError(
            "three sizes in KiB, 4 or more, the first two powers of two"
        )
    return found


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--quick", action="store_true", help="fewer cases and turns: two minutes")
    parser.add_argument(
        "--only", action="append", choices=[*QUESTIONS, "call_overhead"], help="may be given again"
    )
    parser.add_argument(
        "--variants",
        action="store_true",
        help="run again with each other implementation of the inner loops that this CPU has",
    )
    parser.add_argument(
        "--against",
        metavar="REV",
        help="measure each row for this commit too, in turns; or for a folder with a built package",
    )
    parser.add_argument(
        "--ours", action="store_true", help="only iovabitmap: no peers, limits or bars"
    )
    parser.add_argument(
        "--clock",
        choices=list(CLOCKS),
        default="wall",
        help="cpu: the time that this thread has a CPU, where the machine has more to do",
    )
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "bench", help="a folder")
    default = ",".join(str(size // KIB) for size in (SMALL, MIDDLE, LARGE))
    parser.add_argument(
        "--kib", type=sizes, default=default, help=f"sizes of bitmaps in KiB, {default}"
    )
    return parser.parse_args()


@dataclass
class Run:
    """What is measured, and what was found."""

    context: Context
    effort: Effort
    ours: bool = False
    revision: str = ""
    results: list[report.Result] = field(default_factory=list)
    rows: list[compare.Row] = field(default_factory=list)

    def questions(self, chosen: list[str]) -> None:
        for name in chosen:
            for case in QUESTIONS[name](self.context):
                if self.ours:
                    case.bars.clear()
                    case.candidates[:] = [
                        candidate
                        for candidate in case.candidates
                        if candidate.name == case.baseline or candidate.name.startswith(OURS)
                    ]
                self._measure(case)
                del case.candidates[:]  # and with them the memory
                del case

    def _measure(self, case: Case) -> None:
        times = measure(case, self.effort) if case.candidates else []
        result = report.judge(case, times)
        report.show(result)
        self.results.append(result)
        if self.revision:
            rows = compare.rows_of(case, times, self.revision)
            if any(row.seems_slower() for row in rows):
                print("  once more: it seems slower than before", flush=True)
                compare.join(rows, compare.rows_of(case, measure(case, self.effort), self.revision))
            self.rows += rows
        sys.stdout.flush()


def run_variants(names: list[str], chosen: list[str], args: argparse.Namespace) -> dict:
    """The same in a process of its own for each variant, since one process has one."""
    verdicts = {}
    for name in names:
        out = args.out / name
        command = [sys.executable, __file__, "--out", str(out)]
        command += ["--kib", ",".join(str(size // KIB) for size in args.kib)]
        command += ["--clock", args.clock, *["--quick"] * args.quick]
        for question in chosen:
            command += ["--only", question]
        print(f"\n=== inner loops: {name}", flush=True)
        subprocess.run(command, env=os.environ | {"IOVABITMAP_CPU": name}, check=True)
        verdicts[name] = report.read_verdicts(out / "results.json")
    return verdicts


def libraries(revision: str | None, out: Path) -> list[library.Library]:
    """The present one; and the other revision twice."""
    found = [library.present()]
    if revision:
        name, lib, again = against.build(revision, out)
        found += [library.load(lib, name), library.load(again, name + compare.AGAIN)]
    return found


def main() -> int:
    args = options()
    chosen = args.only or list(QUESTIONS)
    args.out.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    all_libraries = libraries(args.against, args.out)
    start = machine.now()
    with tempfile.TemporaryDirectory(prefix="iovabitmap-") as folder:
        built = native.build(Path(folder))
        about = machine.about(built, all_libraries[0]) | {"clock": args.clock}
        for key, value in about.items():
            print(f"{key:26} {value}")
        print(f"{'load':26} {start.load}")
        wide = "avx512" in about["inner loops available"]
        if not wide:
            print("This CPU has no AVX-512, or not all of it that is needed.")
        context = Context(built, all_libraries, args.quick, *args.kib)
        if context.scaled:
            print("These are not the sizes that the bars are about: they say nothing here.")
        effort = replace(QUICK if args.quick else FULL, clock=args.clock)
        if args.against:
            effort = compared(effort)
        run = Run(context, effort, args.ours, all_libraries[1].name if args.against else "")
        run.questions([name for name in chosen if name in QUESTIONS])
    forced, variants = "IOVABITMAP_CPU" in os.environ, {}
    if run.results and (args.variants or not wide) and not forced:
        others = [name for name in about["inner loops available"] if name != about["inner loops"]]
        variants = run_variants(others, [name for name in chosen if name in QUESTIONS], args)
    if run.results:
        tell(run, args.out, about, machine.between(start, machine.now()), variants)
    if "call_overhead" in chosen or not (args.only or args.quick or args.ours or forced):
        print(flush=True)
        command = [sys.executable, str(ROOT / "benchmarks" / "call_overhead.py")]
        if subprocess.run(command, check=False).returncode != 0:
            return 1  # it has said why
    print(f"{time.monotonic() - started:.0f} s")
    return 0


def tell(run: Run, out: Path, about: dict, quiet: machine.Quiet, variants: dict) -> None:
    """The report, on the screen and in files: first of all what machine it is true of."""
    about = about | {"quiet": asdict(quiet)}
    lines = [report.title("the machine"), *machine.statement(about, quiet)]
    compared_with = None
    if run.revision:
        limit = compare.judge(run.rows)
        lines.append(report.title(f"against {run.revision}"))
        lines += compare.show(run.rows, run.revision, limit, report.duration)
        compared_with = compare.as_json(run.rows, run.revision, limit)
    lines += [report.title("medians"), *report.medians(run.results)]
    lines += [report.title("the bars"), *report.summary(run.results, variants)]
    print("\n".join(lines))
    (out / "report.txt").write_text("\n".join(lines).lstrip() + "\n")
    report.write_json(out / "results.json", about, run.results, variants, compared_with)
    print(f"\n{out / 'results.json'}")
    _draw(run.results, out / "bench.png")


def _draw(results: list[report.Result], file: Path) -> None:
    try:
        plot.draw(results, file)
    except ImportError:
        print("no picture: it needs matplotlib")
        return
    print(file)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except WrongAnswerError as error:
        sys.exit(f"wrong answer, so nothing is timed: {error}")
    except against.NotBuiltError as error:
        sys.exit(f"nothing to compare with: {error}")
