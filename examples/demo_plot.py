"""The demonstration's picture: which addresses were dirty when, and how much of it was new."""

from __future__ import annotations

import mmap
from itertools import pairwise
from typing import TYPE_CHECKING

import matplotlib as mpl
import numpy as np

mpl.use("Agg")  # a file, whatever display there is
from matplotlib import pyplot as plt

from iovabitmap import plot

if TYPE_CHECKING:
    from pathlib import Path

    from demo import Epoch
    from demo_workload import Workload
    from matplotlib.axes import Axes

MIB = 1 << 20
PAGE = mmap.PAGESIZE


def heatmap(epochs: list[Epoch], workload: Workload, source: str, path: Path) -> None:
    """Writes the picture to `path`, whose folder it makes.

    Above: a column for each epoch as wide as it lasted, a row for each bin of addresses; the colour
    is the part of the bin's pages that were dirty, none is white. Below: the rate, at the same
    times.
    """
    nbytes = len(workload.memory)
    edges = np.array([epochs[0].start, *(epoch.end for epoch in epochs)])
    bins = len(epochs[0].density)
    density = np.array([epoch.density for epoch in epochs]).T
    addresses = np.linspace(0, nbytes / MIB, bins + 1)

    figure, (map_axes, rate_axes) = plt.subplots(
        2,
        1,
        figsize=(11, 7.5),
        sharex=True,
        height_ratios=(3, 1),
        layout="constrained",
    )
    plot.density_map(
        map_axes, edges, addresses, density, "pages dirty in the epoch (%); white: none"
    )
    map_axes.set_ylabel("address (MiB from the start)")
    map_axes.set_ylim(0, nbytes / MIB)
    unwritten = nbytes - workload.table.nbytes / 2
    map_axes.text(
        edges[-1] / 2,
        unwritten / MIB,
        "a table that is only read",
        ha="center",
        va="center",
        backgroundcolor="white",
    )
    figure.suptitle(
        f"Dirty pages of {nbytes // MIB} MiB over time, {len(epochs)} epochs", fontsize=14
    )
    map_axes.set_title(
        f"{PAGE // 1024} KiB pages, seen by {source}; each row {nbytes / bins / MIB:g} MiB",
        fontsize=9,
        color="0.35",
        pad=20,
    )

    seconds = np.diff(edges)
    new, again = (
        np.array([getattr(epoch, name) for epoch in epochs]) * PAGE / MIB / seconds
        for name in ("newly", "again")
    )
    rate_axes.bar(edges[:-1], new, seconds, align="edge", color=plot.BLUE, label="newly dirty")
    rate_axes.bar(
        edges[:-1], again, seconds, bottom=new, align="edge", color=plot.ORANGE, label="dirty again"
    )
    rate_axes.set_ylabel("dirty rate (MiB/s)")
    rate_axes.set_xlabel("time (s)")
    rate_axes.legend(loc="upper right", ncols=2, fontsize=9, framealpha=0.9)
    rate_axes.set_xlim(edges[0], edges[-1])
    rate_axes.set_ylim(0, 1.2 * max(1e-3, (new + again).max()))
    rate_axes.grid(axis="y", alpha=0.3)
    _mark_phases(map_axes, rate_axes, epochs)

    path.parent.mkdir(parents=True, exist_ok=True)
    figure.savefig(path, dpi=130)
    plt.close(figure)


def _mark_phases(map_axes: Axes, rate_axes: Axes, epochs: list[Epoch]) -> None:
    """A line where a phase begins, and its name above."""
    begins = [epochs[0].start]
    names = [epochs[0].phase]
    for epoch in epochs:
        if epoch.phase != names[-1]:
            begins.append(epoch.start)
            names.append(epoch.phase)
    for begin in begins[1:]:
        for axes in (map_axes, rate_axes):
            axes.axvline(begin, color="#d55e00", linewidth=1.2, linestyle="--")
    for name, (begin, end) in zip(names, pairwise([*begins, epochs[-1].end]), strict=True):
        map_axes.annotate(
            name,
            ((begin + end) / 2, 1),
            xycoords=("data", "axes fraction"),
            xytext=(0, 4),
            textcoords="offset points",
            ha="center",
            va="bottom",
            fontweight="bold",
        )
