"""Every question, side by side: iovabitmap, its peers, a plain C loop, and the machine's limits.

    python benchmarks/run.py [--quick] [--only QUESTION] [--variants] [--out build/bench]

Prints each case and at the end the bars; writes results.json and bench.png. README.md says how to
read them.
"""

from __future__ import annotations

import argparse
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]

try:
    from bench import native, report
    from bench.patterns import KIB, LARGE, MIDDLE, SMALL
    from bench.questions import QUESTIONS, Context
    from bench.timing import FULL, QUICK, WrongAnswerError, measure
except ImportError as error:
    sys.exit(f"{error}: the bench needs more packages, pip install '.[bench]'")


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
    parser.add_argument("--out", type=Path, default=ROOT / "build" / "bench", help="a folder")
    default = ",".join(str(size // KIB) for size in (SMALL, MIDDLE, LARGE))
    parser.add_argument(
        "--kib", type=sizes, default=default, help=f"sizes of bitmaps in KiB, {default}"
    )
    return parser.parse_args()


def run(chosen: list[str], context: Context) -> list[report.Result]:
    effort = QUICK if context.quick else FULL
    results = []
    for name in chosen:
        for case in QUESTIONS[name](context):
            times = measure(case, effort) if case.candidates else []
            result = report.judge(case, times)
            report.show(result)
            sys.stdout.flush()
            results.append(result)
            del case, result.case.candidates[:]  # and with them the memory
    return results


def run_variants(names: list[str], chosen: list[str], args: argparse.Namespace) -> dict:
    """The same in a process of its own for each variant, since one process has one."""
    verdicts = {}
    for name in names:
        out = args.out / name
        command = [sys.executable, __file__, "--out", str(out)]
        command += ["--kib", ",".join(str(size // KIB) for size in args.kib)]
        command += ["--quick"] * args.quick
        for question in chosen:
            command += ["--only", question]
        print(f"\n=== inner loops: {name}", flush=True)
        subprocess.run(command, env=os.environ | {"IOVABITMAP_CPU": name}, check=True)
        verdicts[name] = report.read_verdicts(out / "results.json")
    return verdicts


def main() -> int:
    args = options()
    chosen = args.only or list(QUESTIONS)
    args.out.mkdir(parents=True, exist_ok=True)
    started = time.monotonic()
    with tempfile.TemporaryDirectory(prefix="iovabitmap-") as folder:
        built = native.build(Path(folder))
        about = report.machine(built)
        for key, value in about.items():
            print(f"{key:26} {value}")
        available, variants = about["inner loops available"], {}
        wide = "avx512" in available
        if not wide:
            print("This CPU has no AVX-512, or not all of it that is needed.")
        small, middle, large = args.kib
        context = Context(built, args.quick, small, middle, large)
        if context.scaled:
            print("These are not the sizes that the bars are about: they say nothing here.")
        results = run([name for name in chosen if name in QUESTIONS], context)
    forced = "IOVABITMAP_CPU" in os.environ
    if results and (args.variants or not wide) and not forced:
        others = [name for name in available if name != about["inner loops"]]
        variants = run_variants(others, [name for name in chosen if name in QUESTIONS], args)
    if results:
        report.summary(results, variants)
        report.write_json(args.out / "results.json", about, results, variants)
        print(f"\n{args.out / 'results.json'}")
        _draw(results, args.out / "bench.png")
    if "call_overhead" in chosen or not (args.only or args.quick or forced):
        print(flush=True)
        command = [sys.executable, str(ROOT / "benchmarks" / "call_overhead.py")]
        if subprocess.run(command, check=False).returncode != 0:
            return 1  # it has said why
    print(f"{time.monotonic() - started:.0f} s")
    return 0


def _draw(results: list[report.Result], file: Path) -> None:
    try:
        from bench.plot import draw
    except ImportError:
        print("no picture: it needs matplotlib")
        return
    draw(results, file)
    print(file)


if __name__ == "__main__":
    try:
        sys.exit(main())
    except WrongAnswerError as error:
        sys.exit(f"wrong answer, so nothing is timed: {error}")
