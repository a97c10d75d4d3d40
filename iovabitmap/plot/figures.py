"""Pictures by matplotlib: maps, rates, curves, the rounds of a pre-copy."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

import numpy as np

from .._base.optional import need
from .._base.text import printable, show_bandwidth, show_seconds, unit_of
from ..analysis import VolumeCurve
from ..analysis import volume_curve as measured_curve
from ..timeline import Summary, Timeline

if TYPE_CHECKING:
    from matplotlib.axes import Axes

    from .._base.paths import StrPath
    from .._core import IOVABitmap
    from ..analysis import Prediction
    from ..timeline.axis import Floats
    from ..timeline.timeline import Source

MIB = 1 << 20
SECONDS = "time (s)"
LABELS = 12  # addresses beside a map
BLUE, ORANGE, GREY = "#0072b2", "#e69f00", "0.35"


def heatmap(
    tl: Source | Summary, ax: Axes | None = None, *, rows: int = 256, columns: int = 1000
) -> Axes:
    """Which addresses were dirty when: address over time.

    Parameters
    ----------
    tl : Timeline, or what `Timeline.of` takes
        A log, a part of one, bitmaps. Or its `summary()`, which is not read again.
    ax : matplotlib Axes, optional
    rows, columns : int
        About so many rows, at most so many columns. Epochs of a column are averaged.

    Raises
    ------
    ValueError
        Where no page was ever dirty.
    ImportError
        Without matplotlib.

    Examples
    --------
    >>> with DirtyLog.open("run.parquet") as log:        # doctest: +SKIP
    ...     heatmap(log).figure.savefig("run.png")
    """
    summary = _summary(tl, rows, columns)
    if not summary.addresses:
        raise ValueError("no page is ever dirty: there is nothing to draw")
    ax = _axes(ax)
    edges, unit = _time_edges(summary)
    parts = np.arange(len(summary.addresses) + 1)
    density_map(ax, edges, parts, summary.density, "pages dirty in an epoch (%); white: none")
    step = max(len(summary.addresses) // LABELS, 1)
    labels = summary.addresses[::step]
    ax.set_yticks(parts[:-1:step], [f"{address:#x}" for address in labels], fontsize=8)
    ax.set_ylabel("address (gaps that are never dirty are cut short)")
    ax.set_xlabel(unit)
    return ax


def rate(tl: Source | Summary, ax: Axes | None = None) -> Axes:
    """The dirty rate over time, in MiB/s: distinct pages of each epoch over its seconds.

    Where times are not known, MiB in each epoch. Of more than 1000 epochs neighbours are taken
    together, as the mean of their rates. Arguments are those of `heatmap`.
    """
    summary = _summary(tl, 1, 1000)
    ax = _axes(ax)
    edges, unit = _time_edges(summary)
    widths = np.diff(edges)
    if len(widths):
        nbytes = np.add.reduceat(summary.counts, summary.columns[:-1]) * float(summary.page_size)
        ax.bar(edges[:-1], nbytes / MIB / widths, widths, align="edge", color=BLUE)
    ax.set_ylabel("dirty rate (MiB/s)" if unit == SECONDS else "dirty (MiB in an epoch)")
    ax.set_xlabel(unit)
    ax.grid(axis="y", alpha=0.3)
    return ax


def volume_curve(
    curve: VolumeCurve | Source, ax: Axes | None = None, *, bandwidth: float = 0
) -> Axes:
    """D(t): bytes of distinct pages that are written within t seconds, and their spread.

    Parameters
    ----------
    curve : VolumeCurve
        Or a log, or any other that `analysis.volume_curve` takes, which is measured then.
    ax : matplotlib Axes, optional
    bandwidth : float
        Bytes per second. Where it is given, what is sent within t is drawn too: a pre-copy gains on
        the guest where that is above the curve.
    """
    if not isinstance(curve, VolumeCurve):
        curve = measured_curve(curve)
    ax = _axes(ax)
    top = float(curve.seconds[-1])
    unit, size = unit_of(max(float(curve.nbytes.max()), float(curve(top))))
    t = np.linspace(0, top, 513)
    ax.plot(t, curve(t) / size, color=BLUE, label="dirty volume D(t)")
    ax.errorbar(
        curve.seconds,
        curve.nbytes / size,
        yerr=curve.spread / size,
        fmt="o",
        color=BLUE,
        markersize=4,
        label="measured, with spread",
    )
    if bandwidth:
        ax.plot(
            t,
            t * bandwidth / size,
            "--",
            color=ORANGE,
            label=f"sent at {show_bandwidth(bandwidth)}",
        )
        ax.set_ylim(0, 1.15 * max(float(curve(top)), float(curve.nbytes.max())) / size or None)
    ax.set_xlabel("interval t (s)")
    ax.set_ylabel(f"distinct dirty memory ({unit})")
    ax.grid(alpha=0.3)
    ax.legend()
    return ax


def precopy(prediction: Prediction, ax: Axes | None = None) -> Axes:
    """The rounds of a pre-copy: what each sends, when, and what is dirty at its end.

    A bar is a round, as wide as it lasts; the line is what remains then, in the same unit. The
    title says whether it converges, and why.
    """
    ax = _axes(ax)
    rounds = prediction.rounds
    ends = np.cumsum([part.seconds for part in rounds])
    starts = np.concatenate(([0], ends[:-1]))
    unit, size = unit_of(max(part.nbytes for part in rounds))
    sent = np.array([part.nbytes for part in rounds]) / size
    ax.bar(starts, sent, ends - starts, align="edge", color=BLUE, edgecolor="white", label="sent")
    remaining = np.array([part.remaining_bytes for part in rounds]) / size
    ax.plot(ends, remaining, "o-", color=ORANGE, label="dirty at the round's end")
    allowed = prediction.downtime_limit * prediction.bandwidth / size
    ax.axhline(allowed, color=GREY, linestyle=":", label="may be sent within the downtime limit")
    ax.set_yscale("symlog", linthresh=max(allowed, float(sent.min()), 1e-9))
    ax.set_ylim(bottom=0)
    ax.set_xlabel(SECONDS)
    ax.set_ylabel(f"memory ({unit})")
    ends_in = f"downtime {show_seconds(prediction.downtime_seconds)}"
    ax.set_title(
        f"converges in {len(rounds)} rounds, {ends_in}"
        if prediction.converges
        else f"does not converge: {prediction.why}",
        wrap=True,
    )
    ax.legend()
    return ax


def bitmap(bm: IOVABitmap, ax: Axes | None = None, *, rows: int = 64, columns: int = 128) -> Axes:
    """All of a bitmap: addresses ascend from left to right, and then from row to row.

    Each cell stands for the same number of pages but for rounding, and is coloured by the part of
    them that is dirty.
    """
    ax = _axes(ax)
    columns = min(columns, bm.nbits)
    rows = min(rows, math.ceil(bm.nbits / columns))
    cells = rows * columns
    bounds = np.array([n * bm.nbits // cells for n in range(cells + 1)], np.float64)
    dirty = bm.histogram(cells)
    with np.errstate(invalid="ignore", divide="ignore"):
        density = np.nan_to_num(dirty / np.diff(bounds)).reshape(rows, columns)
    pages = bm.nbits / cells
    density_map(
        ax, np.arange(columns + 1), np.arange(rows + 1), density, "pages dirty (%); white: none"
    )
    ax.invert_yaxis()
    step = max(rows // LABELS, 1)
    first = [
        bm.iova + (n * columns * bm.nbits // cells) * bm.page_size for n in range(0, rows, step)
    ]
    ax.set_yticks(np.arange(0, rows, step), [f"{address:#x}" for address in first], fontsize=8)
    ax.set_ylabel("address of the row")
    ax.set_xlabel(f"columns of about {pages:.4g} pages of {bm.page_size} bytes")
    ax.set_title(f"{bm.count():,} of {bm.nbits:,} pages dirty")
    return ax


def overview(tl: Timeline, path: StrPath, summary: Summary) -> None:
    """Writes a picture to `path`, in the format of its suffix: the map, and the rate below.

    An existing file is replaced. Raises what `heatmap` raises, and ValueError for a suffix of no
    format.
    """
    need("matplotlib")
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    figure = Figure(figsize=(11, 7), layout="constrained")
    FigureCanvasAgg(figure)  # draws to a file, whatever display there is
    where, below = figure.subplots(2, 1, sharex=True, height_ratios=(3, 1))
    heatmap(summary, where)
    where.set_xlabel("")
    name = printable(tl.title)
    where.set_title(
        f"{name}: {len(tl)} epochs, pages of {tl.page_size} bytes, "
        f"{summary.union_count:,} ever dirty",
        parse_math=False,  # a path may hold dollars
    )
    rate(summary, below)
    figure.savefig(path, dpi=130)


def density_map(ax: Axes, x: Any, y: Any, density: Floats, label: str) -> None:
    """A map of cells of which a part is dirty, with its scale of colours; what is 0 stays white.

    No cell falls between two pixels: there are no more than pixels to show them, as means of
    neighbours, and the edges of each are drawn in its own colour.

    Parameters
    ----------
    ax : matplotlib Axes
    x, y : array_like
        The edges of the columns and of the rows, one more than there are.
    density : array of float, shape (rows, columns)
        Parts, 0 to 1.
    label : str
        What the colours stand for, in percent.
    """
    from matplotlib import colormaps
    from matplotlib.colors import ListedColormap, PowerNorm

    pixels = ax.get_window_extent()
    density, y = _at_most(density, np.asarray(y), int(pixels.height))
    density, x = _at_most(density.T, np.asarray(x), int(pixels.width))
    # Without its palest part, which is hard to see on white.
    colours = ListedColormap(colormaps["viridis_r"](np.linspace(0.12, 1, 256)))
    mesh = ax.pcolormesh(
        x,
        y,
        np.ma.masked_equal(100 * density.T, 0),
        cmap=colours,
        norm=PowerNorm(0.5, vmin=0, vmax=100),
        edgecolors="face",
        linewidth=0.8,
        snap=False,
    )
    bar = ax.figure.colorbar(mesh, ax=ax, ticks=[1, 5, 10, 25, 50, 75, 100], pad=0.01)
    bar.set_label(label)


# --- what they share -----------------------------------------------------------------------------


def _axes(ax: Axes | None) -> Axes:
    need("matplotlib")
    if ax is not None:
        return ax
    from matplotlib import pyplot

    return pyplot.subplots(figsize=(9, 5), layout="constrained")[1]


def _summary(tl: Source | Summary, rows: int, columns: int) -> Summary:
    return tl if isinstance(tl, Summary) else Timeline.of(tl).summary(rows=rows, columns=columns)


def _at_most(cells: Floats, edges: Floats, count: int) -> tuple[Floats, Floats]:
    """No more than `count` rows of cells and their edges: means of neighbours, 0 only of zeros."""
    if len(cells) <= count:
        return cells, edges
    count = max(count, 1)
    begins = np.arange(count) * len(cells) // count
    sizes = np.diff([*begins, len(cells)])
    return np.add.reduceat(cells, begins) / sizes[:, None], np.append(edges[begins], edges[-1])


def _time_edges(summary: Summary) -> tuple[Floats, str]:
    """Where each column begins and the last one ends, ascending, and in what: seconds from the
    start, or the number of the epoch where times are not known."""
    if not len(summary.counts):
        return np.zeros(1), SECONDS
    if summary.times is None:
        return summary.columns.astype(np.float64), "epoch"
    first = summary.times[0][summary.columns[:-1]]
    ends = np.append(first, summary.times[1][-1]).astype(np.float64)
    seconds = (ends - ends[0]) / 1e9
    if (np.diff(ends) > 0).all():
        return seconds, SECONDS
    return summary.columns.astype(np.float64), "epoch"
