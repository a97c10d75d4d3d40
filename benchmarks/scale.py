"""Long logs: seconds and memory of each analysis, beside DuckDB and polars on the same file.

    python benchmarks/scale.py                       # 90 million rows: an hour of a guest of 64 GiB
    python benchmarks/scale.py --epochs 3600         # a tenth of it
    python benchmarks/scale.py --only dirty_rate --only summary

The log is made once and kept in a cache folder. Everything runs in a process of its own, in turns;
figures are medians. DuckDB and polars sum the pages of each epoch. "times" is the time over that of
DuckDB; the bar is 5 for what needs one pass, 10 for what needs each page's history, and 1 GiB. CPU
seconds stand beside those on the wall: on a machine that has more to do, compare those. Ends with 1
if a bar is not met.
"""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import resource
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path
from statistics import median
from typing import Any

import scale_log

import iovabitmap as ib
import iovabitmap.analysis as an

MEMORY_MIB = 1024
LINK = {"bandwidth": 1e8, "downtime_limit": 0.001, "max_total_seconds": 1e9}  # reads all epochs
QUERY = "SELECT epoch, sum(length) // 4096 FROM '{}' GROUP BY epoch"


def sum_by_duckdb(path: Path) -> object:
    import duckdb

    return duckdb.sql(QUERY.format(path)).fetchnumpy()


def sum_by_polars(path: Path) -> object:
    import polars as pl

    pages = pl.col("length").sum() // 4096
    return pl.scan_parquet(path).group_by("epoch").agg(pages).collect()


def asked(ask: Callable[[ib.DirtyLog], object]) -> Callable[[Path], object]:
    def run(path: Path) -> object:
        with ib.DirtyLog.open(path) as log:
            return ask(log)

    return run


PEERS = {"DuckDB": sum_by_duckdb, "polars": sum_by_polars}
ONE_PASS: dict[str, Callable[[Any], object]] = {
    "dirty_rate": an.dirty_rate,
    "summary": lambda log: log.summary(),
    "heatmap": lambda log: log.summary(rows=256, columns=1000),  # what plot.heatmap draws
    "amplification": an.amplification,
}
HISTORY: dict[str, Callable[[Any], object]] = {
    "hot_ranges": an.hot_ranges,
    "volume_curve": an.volume_curve,
    "reuse": an.reuse,
    "working_set": an.working_set,
    "replay_precopy": lambda log: an.replay_precopy(log, **LINK),
}
BARS = dict.fromkeys(ONE_PASS, 5) | dict.fromkeys(HISTORY, 10)
ALL = PEERS | {name: asked(ask) for name, ask in (ONE_PASS | HISTORY).items()}


def child(name: str, path: Path, warm: Path) -> None:
    """Runs one of them, after a small log for what is imported and loaded once."""
    run = ALL[name]
    run(warm)
    wall, cpu = time.perf_counter(), time.process_time()
    run(path)
    wall, cpu = time.perf_counter() - wall, time.process_time() - cpu
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss >> 10
    print(json.dumps([wall, cpu, peak]))


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--epochs", type=int, default=36_000)
    parser.add_argument("--rows", type=int, default=2_500, help="of an epoch, about")
    parser.add_argument("--turns", type=int, default=3)
    parser.add_argument("--only", action="append", choices=list(BARS), help="may be given again")
    cache = Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "iovabitmap"
    parser.add_argument("--cache", type=Path, default=cache, help="the folder of the logs")
    parser.add_argument("--child", nargs=3, help=argparse.SUPPRESS)
    return parser.parse_args()


def log_of(cache: Path, epochs: int, rows: int) -> Path:
    """The log, made if it is not there yet."""
    path = cache / f"scale-{epochs}-{rows}.parquet"
    if not path.exists():
        cache.mkdir(parents=True, exist_ok=True)
        scale_log.make(path.with_suffix(".part"), epochs=epochs, rows=rows).rename(path)
    return path


def measured(name: str, path: Path, warm: Path) -> list[float]:
    argv = [sys.executable, __file__, "--child", name, str(path), str(warm)]
    found: list[float] = json.loads(subprocess.run(argv, check=True, stdout=-1).stdout)
    return found


def main() -> int:
    args = options()
    if args.child:
        name, path, warm = args.child
        child(name, Path(path), Path(warm))
        return 0
    path, warm = log_of(args.cache, args.epochs, args.rows), log_of(args.cache, 2, 50)
    with ib.DirtyLog.open(path) as log:
        print(f"{len(log):,} epochs, {log._nrows:,} rows, {path.stat().st_size >> 20} MiB of file")
    peers = [name for name in PEERS if importlib.util.find_spec(name.lower())]
    names = [*peers, *(args.only or BARS)]
    samples: dict[str, list[list[float]]] = {name: [] for name in names}
    for _ in range(args.turns):
        for name in names:
            samples[name].append(measured(name, path, warm))
    medians = {
        name: [median(column) for column in zip(*found, strict=True)]
        for name, found in samples.items()
    }
    unit = medians["DuckDB"]
    met = True
    print(f"{'':16}{'wall s':>8}{'CPU s':>8}{'times':>7}{'CPU':>7}{'MiB':>6}  bar")
    for name, (wall, cpu, peak) in medians.items():
        bar = BARS.get(name)
        holds = bar is None or (wall <= bar * unit[0] and peak < MEMORY_MIB)
        met &= holds
        verdict = "" if bar is None else f"{bar}: {'met' if holds else 'not met'}"
        ratios = f"{wall / unit[0]:>7.1f}{cpu / unit[1]:>7.1f}"
        print(f"{name:16}{wall:>8.2f}{cpu:>8.2f}{ratios}{peak:>6.0f}  {verdict}")
    print(f"load {os.getloadavg()[0]:.1f} with {os.cpu_count()} CPUs")
    return 0 if met else 1


if __name__ == "__main__":
    sys.exit(main())
