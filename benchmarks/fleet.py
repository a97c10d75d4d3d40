"""How the time of a fleet changes with the number of Dask's workers.

    python benchmarks/fleet.py [--logs 200] [--epochs 100] [--rounds 5] [--workers 1 2 4]
                               [--logs-per-task 5]

Makes that many logs, and asks them all for working sets: one after another without Dask, by the
threads of one process, and by clusters of processes with one thread each, all of which take turns.
Ends with 1 where the answers are not the same. README.md says how to read it.
"""

from __future__ import annotations

import argparse
import os
import statistics
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import dask
import numpy as np
from dask.distributed import Client, LocalCluster

import iovabitmap as ib
import iovabitmap.analysis as an
from iovabitmap import fleet

PAGE = 4096
NPAGES = 1 << 18  # of 1 GiB
COLUMNS = ["union_bytes", "hot_bytes", "plateau_bytes", "seconds"]
Answers = list[tuple[float, ...]]


def options() -> argparse.Namespace:
    parser = argparse.ArgumentParser(description=__doc__.partition("\n")[0])
    parser.add_argument("--logs", type=int, default=200)
    parser.add_argument("--epochs", type=int, default=100, help="of a log, each of 100 ms")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--workers", type=int, nargs="+", default=[1, 2, 4])
    parser.add_argument("--logs-per-task", type=int, default=5)
    return parser.parse_args()


def make_log(path: Path, epochs: int, rng: np.random.Generator) -> None:
    """A machine of 1 GiB: in each epoch half of 64 hot runs of pages, and 50 pages anywhere."""
    hot = rng.integers(0, NPAGES - 64, 64)
    with ib.LogWriter(path, ib.Geometry(0, NPAGES * PAGE, PAGE), host=path.stem) as log:
        for epoch in range(epochs):
            some = rng.integers(0, NPAGES, 50)
            runs = [(start, 64) for start in hot[rng.random(64) < 0.5]]
            runs += [(page, 1) for page in some]
            rows = np.array(runs, np.uint64) * np.uint64(PAGE)
            log.append_ranges(rows, epoch * 10**8, (epoch + 1) * 10**8)


def one_by_one(folder: Path) -> Answers:
    """Without Dask and without a fleet."""
    found = []
    for path in sorted(folder.iterdir()):
        with ib.DirtyLog.open(path) as log:
            answer = an.working_set(log)
        found.append((answer.union, answer.hot, answer.plateau, answer.seconds))
    return found


def by_fleet(folder: Path, logs_per_task: int) -> Answers:
    frame = fleet.open(folder, logs_per_task=logs_per_task).working_sets()
    assert (frame["error"] == "").all(), frame["error"]
    return [*frame[COLUMNS].itertuples(index=False, name=None)]


@contextmanager
def cluster(workers: int) -> Iterator[Client]:
    """Processes of one thread each, that have done something before they are timed."""
    with (
        LocalCluster(n_workers=workers, threads_per_worker=1, dashboard_address=":0") as made,
        Client(made, set_as_default=False) as client,
    ):
        yield client


def ways(
    folder: Path, logs_per_task: int, clients: dict[int, Client]
) -> dict[str, Callable[[], Answers]]:
    """Each way to ask all logs, by its name."""

    def threads() -> Answers:
        with dask.config.set(scheduler="threads"):
            return by_fleet(folder, logs_per_task)

    def workers(client: Client) -> Callable[[], Answers]:
        def ask() -> Answers:
            with client.as_current():
                return by_fleet(folder, logs_per_task)

        return ask

    found: dict[str, Callable[[], Answers]] = {
        "one by one, without Dask": lambda: one_by_one(folder),
        f"threads of one process ({os.cpu_count()})": threads,
    }
    for number, client in clients.items():
        found[f"{number} worker{'s'[: number > 1]}"] = workers(client)
    return found


def measure(asked: dict[str, Callable[[], Answers]], rounds: int) -> dict[str, list[float]]:
    """Seconds of each way, which take turns, each round in another order. Ends the program where
    their answers differ: the first round is for that, and not timed."""
    expected: Any = None
    for name, ask in asked.items():
        answers = ask()
        expected = expected or answers
        if answers != expected:
            sys.exit(f"{name}: other answers")
    times: dict[str, list[float]] = {name: [] for name in asked}
    names = list(asked)
    for number in range(rounds):
        turn = number % len(names)
        for name in names[turn:] + names[:turn]:
            start = time.perf_counter()
            asked[name]()
            times[name].append(time.perf_counter() - start)
    return times


def report(times: dict[str, list[float]], base: str) -> None:
    reference = statistics.median(times[base])
    for name, found in times.items():
        median = statistics.median(found)
        print(
            f"  {name:32}{median:8.2f} s  {reference / median:5.2f} times as fast as {base}"
            f"  ({min(found):.2f} to {max(found):.2f} s, n={len(found)})"
        )


def main() -> None:
    args = options()
    with tempfile.TemporaryDirectory(prefix="fleet-") as temporary, ExitStack() as stack:
        folder = Path(temporary)
        rng = np.random.default_rng(1)
        for number in range(args.logs):
            make_log(folder / f"machine-{number:04}.parquet", args.epochs, rng)
        size = sum(path.stat().st_size for path in folder.iterdir())
        print(
            f"{args.logs} logs of {args.epochs} epochs, {size / 2**20:.0f} MiB of files, "
            f"{args.logs_per_task} in a task; "
            f"{os.cpu_count()} CPUs, load {os.getloadavg()[0]:.1f} before; working sets of all:",
            flush=True,
        )
        clients = {n: stack.enter_context(cluster(n)) for n in args.workers}
        asked = ways(folder, args.logs_per_task, clients)
        times = measure(asked, args.rounds)
        report(times, [*asked][2])
        print(f"load {os.getloadavg()[0]:.1f} after; the answers are the same")


if __name__ == "__main__":
    main()
