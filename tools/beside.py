"""Runs a command with one set of arguments after another, some of them beside each other.

    python tools/beside.py [--jobs 2] [--times FILE] [--by COMMAND] ARGUMENTS...

Each ARGUMENTS are a line for the shell, which COMMAND is put before. The runs are started in the
order given, so the longest belongs first. What one prints is kept apart and shown when it ends,
under its name. After a failure no more are started; those that run go on, so that their result is
known too. In the end come the times, which are added to FILE too, and what has failed. Ends with 1
if something has.
"""

from __future__ import annotations

import argparse
import subprocess
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass
from pathlib import Path
from threading import Event


@dataclass(frozen=True)
class Result:
    name: str
    status: int
    seconds: float
    text: str


def run(command: str, name: str, failed: Event) -> Result | None:
    """What came of it; None if it was not started, because another had failed."""
    if failed.is_set():
        return None
    start = time.monotonic()
    with tempfile.TemporaryFile() as out:
        line = f"{command} {name}"
        done = subprocess.run(
            line, shell=True, stdin=subprocess.DEVNULL, stdout=out, stderr=out, check=False
        )
        out.seek(0)
        text = out.read().decode(errors="replace")
    if done.returncode != 0:
        failed.set()
    return Result(name, done.returncode, time.monotonic() - start, text)


def show(result: Result) -> None:
    ended = f", FAILED ({result.status})" if result.status else ""
    print(f"\n--- {result.name}: {result.seconds:.0f} s{ended} ---\n{result.text}", flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description="Runs commands beside each other.")
    parser.add_argument("names", nargs="+", metavar="ARGUMENTS")
    parser.add_argument("--by", default="", metavar="COMMAND", help="what they are arguments of")
    parser.add_argument("--jobs", type=int, default=2, help="runs at a time")
    parser.add_argument("--times", type=Path, help="add the times to this file")
    args = parser.parse_args()

    failed = Event()
    results = []
    with ThreadPoolExecutor(args.jobs) as pool:
        for future in as_completed([pool.submit(run, args.by, n, failed) for n in args.names]):
            if (result := future.result()) is not None:
                show(result)
                results.append(result)
    times = "".join(f"{result.seconds:6.0f} s  {result.name}\n" for result in results)
    print(times, end="", flush=True)
    if args.times:
        with args.times.open("a") as file:
            file.write(times)
    bad = [result.name for result in results if result.status != 0]
    if bad:
        left = len(args.names) - len(results)
        sys.exit(f"FAILED: {', '.join(bad)}; not started: {left}")


if __name__ == "__main__":
    main()
