"""A long recording of a program that writes all the time: does the recorder keep up?

    python benchmarks/long_recording.py [--seconds 600] [--mib 1024] [--rate 100000] ...

Prints how long the epochs were, how many intervals were missed, and the recorder's memory from
beginning to end. Ends with 1 where more than 1 % of the intervals were missed, memory grew after
the first fifth, or the log lacks a page.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from pathlib import Path

import numpy as np
from recorded.second_source import children, state

import iovabitmap as ib

WRITER = Path(__file__).parent / "recorded" / "writer.py"
SETTLED_S = 5.0  # when all is loaded, and every page was dirty once
MAX_MISSED, FEW = 0.01, 10  # of a short recording, the epochs in which memory is filled at first
MAX_GROWTH_KIB = 32 << 10


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--seconds", type=float, default=600)
    parser.add_argument("--mib", type=int, default=1024, help="of memory that is written")
    parser.add_argument("--rate", type=float, default=100_000, help="pages a second, 0: no limit")
    parser.add_argument("--interval", type=float, default=100, help="of an epoch, in ms")
    return parser.parse_args()


def memory_kib(pid: int, field: str) -> int:
    """A field of /proc/PID/status: VmRSS now, VmHWM at most; 0 when the process has ended."""
    for line in Path(f"/proc/{pid}/status").read_text().splitlines():
        if line.startswith(f"{field}:"):
            return int(line.split()[1])
    return 0


def record(log: Path, args: argparse.Namespace) -> tuple[dict, list[int], int]:
    """What the recorder said, its memory about each twentieth of the time while it recorded, and
    at most, in KiB."""
    argv = [sys.executable, "-m", "iovabitmap", "record", "--json", "-o", str(log)]
    argv += ["--interval", f"{args.interval:g}ms", "--", sys.executable, str(WRITER)]
    recorder = subprocess.Popen(
        [*argv, str(args.mib), str(args.seconds), str(args.rate)],
        stdout=subprocess.PIPE,
        stderr=subprocess.DEVNULL,
        text=True,
    )
    sizes, most = [], 0
    time.sleep(SETTLED_S)
    step = (args.seconds - SETTLED_S) / 20
    while recorder.poll() is None:
        most = max(most, memory_kib(recorder.pid, "VmHWM"))
        if any(state(child) != "Z" for child in children(recorder.pid)):  # not yet closing
            sizes.append(memory_kib(recorder.pid, "VmRSS"))
        try:
            recorder.wait(step if len(sizes) < 20 else 0.2)
        except subprocess.TimeoutExpired:
            continue
    said = recorder.stdout.read() if recorder.stdout else ""
    if recorder.returncode:
        sys.exit(f"the recorder ended with {recorder.returncode}: {said}")
    return json.loads(said), sizes, most


def main() -> None:
    args = options()
    if args.seconds < 4 * SETTLED_S:
        sys.exit(f"--seconds must be {4 * SETTLED_S:g} or more")
    with tempfile.TemporaryDirectory(prefix="long-recording-") as folder:
        path = Path(folder) / "log.parquet"
        said, sizes, most = record(path, args)
        nbytes = path.stat().st_size
        with ib.DirtyLog.open(path) as log:
            times = np.array([(epoch.t_start_ns, epoch.t_end_ns) for epoch in log]) / 1e6
            pages = log.union().count()
    lengths = np.diff(times).ravel()[:-1]  # the last is as long as there was something to record
    wanted = said["seconds"] * 1e3 / args.interval
    late = times[:-1, 1] - times[0, 0]
    late -= np.floor(late / args.interval) * args.interval
    print(
        f"{said['epochs']} epochs of {wanted:.1f} intervals in {said['seconds']:.1f} s; "
        f"{said['missed_intervals']} missed\n"
        f"epochs of {np.median(lengths):.1f} ms (median), 99 % up to "
        f"{np.quantile(lengths, 0.99):.1f} ms, at most {lengths.max():.1f} ms; "
        f"{np.median(late):.2f} ms late (median), 99 % up to {np.quantile(late, 0.99):.2f} ms\n"
        f"{said['looks_seconds'] / said['seconds']:.1%} of the time in looks, at most "
        f"{said['longest_look_seconds'] * 1e3:.1f} ms\n"
        f"{said['pages']:,} dirty pages, {said['pages'] / said['epochs']:,.0f} in an epoch; "
        f"{pages:,} different ones; the log has {nbytes / 2**20:.1f} MiB\n"
        f"the recorder's memory in MiB: {sizes[0] >> 10} after {SETTLED_S:g} s, "
        f"{sizes[len(sizes) // 5] >> 10} after a fifth of the time, "
        f"{sizes[-1] >> 10} at the end, {max(sizes) >> 10} at most; {most >> 10} with closing "
        f"({os.cpu_count()} CPUs)"
    )
    problems = []
    if said["missed_intervals"] > max(MAX_MISSED * wanted, FEW):
        problems.append("it did not keep up")
    if sizes[-1] - sizes[len(sizes) // 5] > MAX_GROWTH_KIB:
        problems.append("its memory grew")
    if pages < args.mib << 8:
        problems.append("pages are missing")
    print("holds" if not problems else f"DOES NOT HOLD: {', '.join(problems)}")
    sys.exit(bool(problems))


if __name__ == "__main__":
    main()
