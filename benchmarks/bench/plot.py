"""The picture: the bars, and what the time of ranges depends on."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .report import MET, Result
from .timing import fastest

if TYPE_CHECKING:
    from pathlib import Path

    from matplotlib.axes import Axes

TOOLS = {
    "iovabitmap": "#0b7a75",
    "C": "#7b2d26",
    "NumPy": "#4d77cf",
    "bitarray": "#e09f3e",
    "pyroaring": "#8d6a9f",
    "limit read": "#999999",
}


def draw(results: list[Result], file: Path) -> None:
    """Draws it to a file. ImportError without matplotlib, which nothing else of the bench needs."""
    import matplotlib as mpl

    mpl.use("Agg")
    import matplotlib.pyplot as plt

    verdicts = [
        verdict for result in results for verdict in result.verdicts if verdict.value is not None
    ]
    curves = [result for result in results if result.case.question in {"ranges", "ranges(out=)"}]
    figure, (left, right) = plt.subplots(
        1,
        2,
        figsize=(18, max(6.0, 0.24 * len(verdicts) + 1.5)),
        width_ratios=(1, 1.2),
        layout="constrained",
    )
    for y, verdict in enumerate(reversed(verdicts)):
        assert verdict.value is not None
        reached = verdict.value / verdict.needed
        left.barh(y, reached - 1, left=1, color="#0b7a75" if verdict.verdict == MET else "#c0392b")
    left.set_yticks(
        range(len(verdicts)),
        [f"{v.question}, {v.where[:40]}: {v.text[:44]}" for v in reversed(verdicts)],
        fontsize=6,
    )
    left.set_xscale("log")
    left.margins(y=0.01)
    left.axvline(1, color="black", linewidth=0.8)
    left.set_xlabel("speed reached over speed asked for (right of 1: met)")
    left.set_title("The bars")
    _draw_cases(right, curves or results)
    figure.savefig(file, dpi=110)
    plt.close(figure)


def _draw_cases(axes: Axes, results: list[Result]) -> None:
    """A point for each tool's best time of each case."""
    for tool, colour in TOOLS.items():
        points = [
            (best / 1e6, y)
            for y, result in enumerate(reversed(results))
            if (best := fastest(result.times, tool)) is not None
        ]
        if points:
            x, y = zip(*points, strict=True)
            axes.plot(x, y, "o", color=colour, label=tool, markersize=4)
    names = [f"{result.case.question}, {result.case.where[:44]}" for result in reversed(results)]
    axes.set_yticks(range(len(results)), names, fontsize=6)
    axes.set_xscale("log")
    axes.margins(y=0.01)
    axes.grid(axis="x", linewidth=0.3)
    axes.set_xlabel("milliseconds, median")
    axes.set_title("Times of each tool's best way")
    axes.legend(fontsize=8)
