"""See which pages a real workload dirties, live: a table of epochs, and a heatmap as a picture.

    python examples/demo.py [--mib 256] [--interval 0.2] [--out FILE] [--source auto]

A thread sorts, updates and sweeps through a piece of memory (demo_workload.py). Meanwhile, this one
asks at each interval which pages were written since it last asked, as a live migration does.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import time
from concurrent.futures import Future, ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import TYPE_CHECKING

import numpy as np
from demo_workload import PAGE, Workload

import iovabitmap as ib
from iovabitmap.sources import SnapshotDiff, Source, WriteTracker

try:
    from demo_plot import heatmap
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn
    from rich.table import Table
except ImportError as error:
    sys.exit(f"{error}: the demo needs matplotlib and rich, pip install '.[demo]'")

if TYPE_CHECKING:
    from numpy.typing import NDArray

    from iovabitmap.recording import Recorder, Recording

MIB = 1 << 20
BINS = 256  # rows of the heatmap
SHADES = " ░▒▓█"
LEGEND = """
dirty      pages written in the epoch
ranges     runs of them, side by side
MiB/s      their bytes over the length of the epoch
newly      those of them that were clean in the epoch before
again      those of them that were dirty in the epoch before too
addresses  the memory from low to high, the darker the more of it was dirty
"""
PHASE_STYLES = {"sort": "cyan", "updates": "yellow", "sweep": "green"}


@dataclass
class Epoch:
    """What was dirty between two collects. Times in seconds from the first; pages."""

    phase: str
    start: float
    end: float
    collect_s: float
    dirty: int
    ranges: int
    newly: int  # and not dirty in the epoch before
    again: int  # dirty in the epoch before too
    density: NDArray[np.float64]  # in each of BINS bins, the part of the pages that was dirty

    @property
    def rate(self) -> float:
        """MiB/s."""
        return self.dirty * PAGE / MIB / (self.end - self.start)


class Epochs:
    """What the demonstration shows of each epoch of a recording."""

    def __init__(self, nbytes: int) -> None:
        npages = nbytes // PAGE
        self.before = np.zeros(npages, bool)
        self.times: dict[str, NDArray[np.int64]] = {}  # by phase: epochs that a page was dirty in
        bins = min(BINS, npages)
        self.bin_edges = np.arange(bins + 1) * npages // bins
        self.all: list[Epoch] = []

    def add(self, phase: str, recorder: Recorder) -> Epoch:
        """The last epoch that was recorded."""
        tally, mask = recorder.tally, recorder.bitmap.to_mask()
        again = int(np.count_nonzero(mask & self.before))
        self.before = mask
        self.times.setdefault(phase, np.zeros(mask.size, np.int64))[mask] += 1
        sums = np.add.reduceat(mask, self.bin_edges[:-1], dtype=np.int64)
        epoch = Epoch(
            phase=phase,
            start=tally.seconds - tally.last_ns / 1e9,
            end=tally.seconds,
            collect_s=tally.last_look_ns / 1e9,
            dirty=tally.last_pages,
            ranges=len(recorder.bitmap.ranges()),
            newly=tally.last_pages - again,
            again=again,
            density=sums / np.diff(self.bin_edges),
        )
        self.all.append(epoch)
        return epoch


def table(strip: int, *, header: bool) -> Table:
    """The table of epochs, or one that continues it: widths are fixed, so rows come one by one."""
    made = Table(box=None, show_header=header, padding=(0, 1), header_style="bold")
    for name, width in (
        ("time s", 6),
        ("phase", 7),
        ("dirty", 6),
        ("ranges", 6),
        ("MiB/s", 7),
        ("newly", 6),
        ("again", 6),
    ):
        left = name == "phase"
        made.add_column(name, justify="left" if left else "right", width=width, no_wrap=True)
    made.add_column("addresses", width=strip, no_wrap=True)
    return made


def add_row(to: Table, epoch: Epoch, strip: int) -> None:
    bins = np.array_split(epoch.density, strip)
    marks = [0 if part.max() == 0 else max(1, round(part.mean() * 4)) for part in bins if part.size]
    to.add_row(
        f"{epoch.end:.2f}",
        epoch.phase,
        f"{epoch.dirty}",
        f"{epoch.ranges}",
        f"{epoch.rate:.1f}",
        f"{epoch.newly}",
        f"{epoch.again}",
        "".join(SHADES[mark] for mark in marks),
        style=PHASE_STYLES[epoch.phase],
    )


def watch(source: Source, workload: Workload, console: Console) -> Epochs:
    """Runs the phases in a thread, and prints an epoch for each interval and each phase's end."""
    epochs = Epochs(len(workload.memory))
    strip = min(max(console.width - 61, 8), 64)
    console.print(table(strip, header=True))
    columns = (
        TextColumn("{task.description:>8}"),
        BarColumn(None),
        TextColumn("{task.percentage:3.0f} %"),
        TimeElapsedColumn(),
    )
    phases = list(workload.phases.items())
    with (
        TemporaryDirectory(prefix="demo-") as folder,
        Progress(*columns, console=console) as bar,
        ThreadPoolExecutor(1, "workload") as worker,
    ):
        task = bar.add_task("", total=len(phases))
        running: list[Future[None]] = []

        def over(until_ns: int) -> bool:
            """Waits for the end of a phase, which an epoch has whole; whether it was the last."""
            if not running or running[-1].done():
                workload.progress = 0.0
                running.append(worker.submit(phases[len(running)][1]))
            wait(running[-1:], max(0.0, (until_ns - time.monotonic_ns()) / 1e9))
            return len(running) == len(phases) and running[-1].done()

        def show(recording: Recording) -> None:
            done, name = len(running) - 1, phases[len(running) - 1][0]
            row = table(strip, header=False)
            add_row(row, epochs.add(name, recording.recorder), strip)
            workload.observed += 1
            bar.update(task, description=name, completed=done + workload.progress)
            console.print(row)

        try:
            path = Path(folder) / "demo.parquet"
            ib.record(source, path, interval=workload.interval, on_epoch=show).run(over)
            for each in running:
                each.result()
            bar.update(task, description="done", completed=len(phases))
        finally:
            workload.stopped = True
    return epochs


def print_findings(workload: Workload, recorded: Epochs, console: Console) -> None:
    epochs = recorded.all
    page_mib = PAGE / MIB
    total = len(workload.memory) / MIB
    distinct = np.count_nonzero(sum(recorded.times.values())) * page_mib
    written = sum(epoch.dirty for epoch in epochs) * page_mib
    rates = {}
    for name in workload.phases:
        of_phase = [epoch for epoch in epochs if epoch.phase == name]
        seconds = sum(epoch.end - epoch.start for epoch in of_phase)
        rates[name] = sum(epoch.dirty for epoch in of_phase) * page_mib / seconds
    worst = max(rates, key=rates.__getitem__)
    updates = sum(epoch.phase == "updates" for epoch in epochs)
    hot = np.count_nonzero(recorded.times["updates"] > updates / 2) * page_mib
    collects = [epoch.collect_s * 1000 for epoch in epochs]

    console.print(LEGEND, style="dim")
    console.print("Findings", style="bold")
    for line in (
        f"{len(epochs)} epochs; {' and '.join(dict.fromkeys(workload.checks))}",
        f"{distinct:.1f} of {total:g} MiB were dirty at some time: what is only read stays clean",
        (
            f"{written:.1f} MiB in all epochs together: each dirty MiB was dirty "
            f"in {written / distinct:.1f} epochs"
        ),
        f"{hot:.1f} MiB were dirty in most epochs of the updates: their hot set",
        "mean rate: " + ", ".join(f"{name} {rate:.1f} MiB/s" for name, rate in rates.items()),
        (
            f"worst is {worst}: to keep up with it takes a link of more than "
            f"{rates[worst] * MIB * 8 / 1e9:.1f} Gbit/s"
        ),
        (
            f"one look took {statistics.median(collects):.1f} ms (median), "
            f"{max(collects):.1f} ms at most"
        ),
    ):
        console.print(f"  {line}")


def choose_source(wanted: str, workload: Workload, console: Console) -> Source:
    """The source that was asked for; with "auto" the best that works here, and why."""
    if wanted == "snapshot":
        return SnapshotDiff(workload.memory)
    probe = WriteTracker.probe()
    if probe:
        return WriteTracker(workload.memory)
    if wanted == "tracker":
        sys.exit(f"this machine cannot track writes: {probe.reason}")
    console.print(
        f"This machine cannot track writes: {probe.reason}.\n"
        "Comparing the memory with a copy of it instead: slower, and it sees changes only."
    )
    return SnapshotDiff(workload.memory)


def main() -> None:
    parser = argparse.ArgumentParser(
        description="See which pages a real workload dirties, live.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.add_argument("--mib", type=int, default=256, help="memory to work in, MiB")
    parser.add_argument("--interval", type=float, default=0.2, help="seconds between two looks")
    parser.add_argument("--out", type=Path, default=Path("build/demo/heatmap.png"), help="picture")
    parser.add_argument("--source", choices=("auto", "tracker", "snapshot"), default="auto")
    options = parser.parse_args()
    if options.mib < 1 or not 0.001 <= options.interval <= 10:
        parser.error("--mib must be 1 or more, --interval must be 0.001 to 10")

    console = Console(highlight=False, markup=False, emoji=False)
    if not console.is_terminal and "COLUMNS" not in os.environ:
        console = Console(highlight=False, markup=False, emoji=False, width=100)
    console.print(f"{options.mib} MiB of random numbers: sort, update at random, sweep")
    workload = Workload(options.mib * MIB, options.interval)
    source = choose_source(options.source, workload, console)
    name = "comparing with a copy" if isinstance(source, SnapshotDiff) else "WriteTracker"
    recorded = watch(source, workload, console)
    print_findings(workload, recorded, console)
    heatmap(recorded.all, workload, name, options.out)
    console.print(f"  heatmap: {options.out.resolve()}", soft_wrap=True)


if __name__ == "__main__":
    try:
        main()
    except KeyboardInterrupt:
        sys.exit(130)
