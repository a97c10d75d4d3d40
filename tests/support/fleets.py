"""Shared by the tests of fleets: folders of logs, and what `iovabitmap.analysis` says of each."""

from __future__ import annotations

import random
from typing import TYPE_CHECKING, Any

import iovabitmap as ib
import iovabitmap.analysis as an

from .logs import PAGE, make_log, random_epochs

if TYPE_CHECKING:
    from pathlib import Path

GEOMETRY = (0x1000, 70 * PAGE - 5, PAGE)
MEMORY: dict[str, Any] = {"memory_bytes": GEOMETRY[1], "zero_bytes": 3 * PAGE}
# About as fast as the logs become dirty, so that some converge; few rounds where one does not.
LINK: dict[str, Any] = {"bandwidth": 1.5e6, "downtime_limit": 0.05, "max_total_seconds": 2.0}


def make_fleet(folder: Path, number: int, *, seed: int = 1) -> list[str]:
    """Logs in some racks; returns their names, sorted."""
    rng = random.Random(seed)
    names = [f"rack {n % 3}/machine-{n:03}.parquet" for n in range(number)]
    for name in names:
        path = folder / name
        path.parent.mkdir(parents=True, exist_ok=True)
        make_log(path, random_epochs(rng, GEOMETRY, rng.randint(1, 5)), GEOMETRY)
    return sorted(names)


def alone(path: Path) -> dict[str, dict[str, Any]]:
    """The rows of one log, for each question, without a fleet."""
    with ib.DirtyLog.open(path) as log:
        rate, working = an.dirty_rate(log), an.working_set(log, **MEMORY)
        found = an.predict_precopy(an.volume_curve(log, **MEMORY), **LINK)
        return {
            "about": {
                "source": "test",
                "started": log.started,
                "epochs": len(log),
                "iova": GEOMETRY[0],
                "length_bytes": GEOMETRY[1],
                "page_size_bytes": GEOMETRY[2],
            },
            "rates": {
                "pages": rate.pages,
                "page_size_bytes": PAGE,
                "seconds": rate.seconds,
                "bytes_per_s": rate.bytes_per_s,
                "mib_per_s": rate.mib_per_s,
            },
            "working_sets": {
                "union_bytes": working.union,
                "hot_bytes": working.hot,
                "plateau_bytes": working.plateau,
                "seconds": working.seconds,
            },
            "precopy": {
                "converges": found.converges,
                "rounds": len(found.rounds),
                "total_bytes": found.total_bytes,
                "total_seconds": found.total_seconds,
                "downtime_seconds": found.downtime_seconds,
                "why": found.why,
            },
        }


def of_fleet(fleet: Any) -> dict[str, Any]:
    """The frames of the same questions."""
    return {
        "about": fleet.about(),
        "rates": fleet.rates(),
        "working_sets": fleet.working_sets(**MEMORY),
        "precopy": fleet.precopy(**LINK, **MEMORY),
    }


def assert_says(frames: dict[str, Any], folder: Path, names: list[str]) -> None:
    """Each frame's rows of these logs are exactly what each log says alone."""
    for name in names:
        answers = alone(folder / name)
        for question, frame in frames.items():
            row, expected = frame.loc[name].to_dict(), answers[question]
            assert (row.pop("host"), row.pop("unfinished"), row.pop("error")) == ("here", "", "")
            assert row == expected, (question, name)
            assert [type(row[n]) for n in row] == [type(expected[n]) for n in row], question
