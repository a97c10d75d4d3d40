"""Recordings of real programs: each log held against a second source, and what recording costs.

    python benchmarks/recordings.py [--rounds 5] [--scale 1] [--interval 100ms] [PROGRAM...]

A round runs each program twice, without and with `iovabitmap record`, under the same load, and
times the load. In the recorded run memory is copied before one more load and compared after it:
every page that changed must be in the log. Ends with 1 where one is not. Programs that are not
installed are skipped. README.md says how to read it.
"""

from __future__ import annotations

import argparse
import shutil
import signal
import statistics
import subprocess
import sys
import tempfile
import time
from pathlib import Path

from recorded.programs import PROGRAMS, Program
from recorded.second_source import children
from recorded.verify import Interval, Verdict, verify, watch

import iovabitmap as ib

LOADS = 3  # timed in each run
NEXT_LOOK_S = 1.0  # in which there is one: more than the interval


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("programs", nargs="*", choices=[[], *(each.name for each in PROGRAMS)])
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--scale", type=int, default=1, help="times the work of a load")
    parser.add_argument("--interval", default="100ms", help="of an epoch")
    return parser.parse_args()


def timed_loads(program: Program) -> list[float]:
    times = []
    for _ in range(LOADS):
        start = time.perf_counter()
        program.load()
        times.append(time.perf_counter() - start)
    return times


def run_bare(program: Program) -> list[float]:
    """Seconds of each load, without a recorder."""
    program.start([])
    program.fill()
    times = timed_loads(program)
    program.stop()
    return times


def run_recorded(program: Program, log: Path, interval: str) -> tuple[list[float], Interval]:
    """Seconds of each load under the recorder, and what a second source saw in one more."""
    recorder = [sys.executable, "-m", "iovabitmap", "record", "--interval", interval]
    program.start([*recorder, "-o", str(log), *program.options, "--"])
    assert program.process is not None
    (pid,) = children(program.process.pid)
    program.fill()
    times = timed_loads(program)
    seen = watch(program, pid)
    # A look comes at the end of each interval, and what a program gave back by then is not told:
    # SQLite frees its whole heap when it ends.
    time.sleep(NEXT_LOOK_S)
    program.stop()
    return times, seen


def middle(times: list[float]) -> str:
    low, _, high = statistics.quantiles(times, n=4)
    return f"{statistics.median(times) * 1e3:.0f} ms ({low * 1e3:.0f} to {high * 1e3:.0f})"


def describe(path: Path, seen: Interval, verdict: Verdict) -> None:
    """A round: the pages, and how the recorder kept up."""
    with ib.DirtyLog.open(path) as log:
        about = log.notes["recording"]
        seconds = (log[-1].t_end_ns - log[0].t_start_ns) / 1e9
        share = about["looks_seconds"] / seconds
        missed = about["missed_intervals"]
        print(
            f"  {len(log)} epochs in {seconds:.1f} s, {missed} intervals missed, "
            f"{share:.1%} of the time spent in looks; {len(about['untracked'])} not tracked"
        )
        for each in about["untracked"][:3]:
            print(f"    not tracked: {each['pid']} {each['what']}: {each['reason']}")
    print(
        f"  in {(seen.end_ns - seen.start_ns) / 1e9:.2f} s {verdict.changed:,} of "
        f"{verdict.pages:,} pages changed: {verdict.missing} of them not in the log, which has "
        f"{verdict.logged:,} (by chance {verdict.by_chance:.0%} would be missing)",
        flush=True,
    )


def measure(kind: type[Program], args: argparse.Namespace) -> bool:
    """All rounds of a program: whether each log held."""
    held = True
    bare: list[float] = []
    recorded: list[float] = []
    for number in range(args.rounds):
        folder = Path(tempfile.mkdtemp(prefix="recordings-"))
        folder.chmod(0o755)
        try:
            log = folder / "log.parquet"
            if number % 2 == 0:  # neither is always the first
                bare += run_bare(kind(folder, args.scale))
            times, seen = run_recorded(kind(folder, args.scale), log, args.interval)
            recorded += times
            if number % 2:
                bare += run_bare(kind(folder, args.scale))
            print(f"{kind.name}, round {number + 1}")
            verdict = verify(log, seen)
            describe(log, seen, verdict)
            held &= verdict.holds
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    ratio = statistics.median(recorded) / statistics.median(bare)
    print(
        f"{kind.name}: a load takes {middle(bare)} without, {middle(recorded)} with the recorder: "
        f"{ratio:.2f} times as long (n={len(bare)}); {'holds' if held else 'DOES NOT HOLD'}\n"
    )
    return held


def main() -> None:
    args = options()
    held = True
    # The programs are ended by it; they would ignore what a shell lets us ignore in the background.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    for kind in PROGRAMS:
        if args.programs and kind.name not in args.programs:
            continue
        reason = kind.why_not() or ib.sources.CommandTracker.probe().reason
        if reason:
            print(f"{kind.name}: skipped: {reason}\n")
            continue
        try:
            held &= measure(kind, args)
        except (RuntimeError, subprocess.TimeoutExpired) as error:
            print(f"{kind.name}: {error}")
            held = False
    sys.exit(not held)


if __name__ == "__main__":
    main()
