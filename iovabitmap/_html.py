"""What notebooks show: bitmaps, logs and what the analysis answers, as short pieces of HTML.

Each piece stands for itself, without scripts, style sheets or links, and is of a size that does not
grow with what it shows. Text and lines have the colour of the page around, so it can be read on a
light and a dark one. Nothing raises but for want of memory, whatever the object's state is: where a
look fails, what is shown is the `repr`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from html import escape
from itertools import pairwise
from typing import TYPE_CHECKING, Any, TypeVar

from ._text import show_bytes, show_seconds

if TYPE_CHECKING:
    from .analysis import DirtyRate, Prediction, VolumeCurve, WorkingSet
    from .logs import DirtyLog

Shown = TypeVar("Shown")
Fact = tuple[str, str]

LOOK_BYTES = 16 << 20  # of a bitmap: a larger one is not walked to be shown
LOOK_ROWS, LOOK_EPOCHS = 1 << 19, 20_000  # of a log
CELLS_ACROSS, BITMAP_ROWS, LOG_ROWS = 64, 8, 12
CELL_PIXELS = 8
LONGEST_TEXT = 200
ROUNDS = 12  # of a pre-copy: the first ones, and the last

FILL = "#2585c7"  # seen on white and on black, and by the colour-blind
LEVELS = ("0.4", "0.6", "0.8", "1")


def never_raising(show: Callable[[Shown], str]) -> Callable[[Shown], str]:
    """What it shows; where that fails, the object's `repr`, or its type's name."""

    @wraps(show)
    def shown(thing: Shown) -> str:
        try:
            return show(thing)
        except MemoryError:
            raise
        except Exception:
            try:
                return f"<code>{_text(repr(thing))}</code>"
            except Exception:
                return f"<code>&lt;{_text(type(thing).__name__)}&gt;</code>"

    return shown


# --- what is shown -------------------------------------------------------------------------------


@never_raising
def bitmap(bm: Any) -> str:
    """An `IOVABitmap`, or its model: the geometry, and where it is dirty.

    A pin object is not called, and a large bitmap not walked.
    """
    facts = [
        ("range", f"{bm.iova:#x} to {bm.end:#x}: {show_bytes(bm.length)}"),
        ("pages", f"{bm.nbits:,} of {show_bytes(bm.page_size)}"),
    ]
    if bm.freed:
        return _piece(bm, [*facts, ("state", "freed")])
    if not isinstance(bm.pin, str) or bm.nbytes > LOOK_BYTES:
        return _piece(bm, [*facts, ("dirty", f"not counted: {show_bytes(bm.nbytes)} of bitmap")])
    dirty = int(bm.count())
    facts.append(("dirty", f"{_count(dirty, 'page')} in {_count(int(bm.count_ranges()), 'range')}"))
    if not dirty:
        return _piece(bm, facts)
    across = min(CELLS_ACROSS, bm.nbits)
    rows = min(BITMAP_ROWS, -(-bm.nbits // across))
    cells = across * rows
    sizes = [(n + 1) * bm.nbits // cells - n * bm.nbits // cells for n in range(cells)]
    parts = [
        int(pages) / max(size, 1) for pages, size in zip(bm.histogram(cells), sizes, strict=True)
    ]
    lines = [parts[n : n + across] for n in range(0, cells, across)]
    return _piece(bm, facts, _grid(lines, "dirty pages: addresses from left to right, then down"))


@never_raising
def log(log: DirtyLog) -> str:
    """A `DirtyLog`: what was recorded, and, where reading it is quick, a map and the rate."""
    facts = [("file", str(log.path)), ("epochs", f"{len(log):,}")]
    end = log.iova + log.length
    facts.append(("range", f"{log.iova:#x} to {end:#x}, pages of {show_bytes(log.page_size)}"))
    if log.source:
        facts.append(("source", log.source))
    if log.unfinished:
        facts.append(("unfinished", log.unfinished))
    if log._closed:
        return _piece(log, [*facts, ("state", "closed")])
    return _piece(log, facts, *pictures(log))


def pictures(log: DirtyLog) -> list[str]:
    """A map of the log and the rate below it, with what they are of; nothing where reading the log
    takes long, or nothing is dirty."""
    if log._nrows is None or log._nrows > LOOK_ROWS or not 0 < len(log) <= LOOK_EPOCHS:
        return []
    from .logs.summary import summarize

    summary = summarize(log, rows=LOG_ROWS, columns=CELLS_ACROSS)
    seconds = float(summary.t_end_ns[-1] - summary.t_start_ns[0]) / 1e9
    size = show_bytes(summary.union_pages * log.page_size)
    ever = f"ever dirty: {_count(summary.union_pages, 'page')}, {size}, in {show_seconds(seconds)}"
    if not summary.union_pages:
        return [f"<div>{ever}</div>"]
    sums = [float(summary.pages[a:b].mean()) for a, b in pairwise(summary.columns)]
    return [
        f"<div>{ever}</div>",
        _grid(summary.density[::-1].tolist(), "dirty pages: address, going up, over epochs"),
        _bars(sums, f"dirty pages in an epoch: at most {max(sums):,.0f}"),
    ]


@never_raising
def rate(rate: DirtyRate) -> str:
    """A `DirtyRate`, with its interval."""
    return _piece(
        rate,
        [
            ("rate", f"{rate.mib_per_s:.4g} MiB/s" if rate.seconds else "none within 0 s"),
            ("dirty", f"{_count(rate.pages, 'page')} of {show_bytes(rate.page_size)}"),
            ("within", show_seconds(rate.seconds)),
        ],
    )


@never_raising
def working_set(found: WorkingSet) -> str:
    """A `WorkingSet` in its three forms."""
    left = f"left by a pre-copy at {_bits(found.bandwidth)}"
    return _piece(
        found,
        [
            ("union", show_bytes(found.union)),
            (f"hot, dirty in {100 * found.at_least:.3g} % of epochs", show_bytes(found.hot)),
            (left, found._plateau_text()),
            ("within", show_seconds(found.seconds)),
        ],
    )


@never_raising
def curve(curve: VolumeCurve) -> str:
    """A `VolumeCurve`: its ends, and its form between them."""
    last = float(curve.seconds[-1])
    points = [float(curve(last * (n + 1) / CELLS_ACROSS)) for n in range(CELLS_ACROSS)]
    facts = [
        (f"within {show_seconds(float(at))}", show_bytes(float(volume)))
        for at, volume in {
            n: (curve.seconds[n], curve.nbytes[n]) for n in (0, len(curve.seconds) - 1)
        }.values()
    ]
    return _piece(
        curve,
        [*facts, ("memory", _memory(curve.total_bytes))],
        _bars(points, f"distinct dirty memory within 0 to {show_seconds(last)}"),
    )


@never_raising
def prediction(found: Prediction) -> str:
    """A `Prediction`: whether it converges, and its rounds."""
    facts = [
        ("converges", "yes" if found.converges else "no"),
        ("why", found.why),
        ("bandwidth", _bits(found.bandwidth)),
        ("downtime limit", show_seconds(found.downtime_limit)),
    ]
    numbered = list(enumerate(found.rounds))
    few = numbered if len(numbered) <= ROUNDS else [*numbered[: ROUNDS - 1], numbered[-1]]
    rows = [
        (
            str(n),
            show_bytes(part.nbytes),
            show_seconds(part.seconds),
            show_bytes(part.remaining_bytes),
        )
        for n, part in few
    ]
    if len(few) < len(numbered):
        rows.insert(ROUNDS - 1, (f"{len(numbered) - len(few)} more", "", "", ""))
    return _piece(found, facts, table(("round", "sent", "time", "dirty at its end"), rows))


# --- how -----------------------------------------------------------------------------------------


def _piece(thing: object, facts: Iterable[Fact], *parts: str) -> str:
    return piece(type(thing).__name__, facts, *parts)


def piece(title: str, facts: Iterable[Fact], *parts: str) -> str:
    """A title, facts below it, then parts that are HTML already."""
    lines = "".join(
        f'<div><span style="opacity:.7">{_text(name)}:</span> {_text(value)}</div>'
        for name, value in facts
    )
    return (
        '<div style="color:inherit;font:13px/1.5 system-ui,sans-serif;overflow-wrap:anywhere">'
        f"<strong>{_text(title)}</strong>{lines}{''.join(parts)}</div>"
    )


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of text."""
    style = "text-align:right;padding:0 .8em 0 0;background:none;color:inherit;border:0"

    def line(tag: str, cells: Iterable[str]) -> str:
        return "".join(f'<{tag} style="{style}">{_text(cell)}</{tag}>' for cell in cells)

    body = "".join(f'<tr style="background:none">{line("td", cells)}</tr>' for cells in rows)
    return (
        '<table style="border-collapse:collapse;color:inherit;font:inherit;margin:.3em 0">'
        f'<tr style="background:none">{line("th", head)}</tr>{body}</table>'
    )


def _text(text: str) -> str:
    """Escaped, and of a bounded length."""
    return escape(text if len(text) <= LONGEST_TEXT else text[: LONGEST_TEXT - 1] + "\u2026")


def _count(number: int, what: str) -> str:
    return f"{number:,} {what}{'s' * (number != 1)}"


def _bits(bandwidth: float) -> str:
    return f"{bandwidth * 8 / 1e9:.4g} Gbit/s"


def _memory(nbytes: float | None) -> str:
    return "unknown" if nbytes is None else show_bytes(nbytes)


def _grid(lines: Sequence[Sequence[float]], label: str) -> str:
    """Cells of which a part is dirty, 0 to 1, from the top: empty where it is 0."""
    paths: list[list[str]] = [[] for _ in LEVELS]
    for y, line in enumerate(lines):
        levels = [_level(part) for part in line]
        x = 0
        while x < len(levels):
            end = x + 1
            while end < len(levels) and levels[end] == levels[x]:
                end += 1
            if levels[x] >= 0:
                paths[levels[x]].append(f"M{x} {y}h{end - x}v1h{x - end}z")
            x = end
    drawn = "".join(
        f'<path d="{"".join(path)}" fill="{FILL}" fill-opacity="{opacity}"/>'
        for path, opacity in zip(paths, LEVELS, strict=True)
        if path
    )
    return _svg(max(map(len, lines)), len(lines), drawn, label)


def _level(part: float) -> int:
    """Which of the levels, by the root of the part; -1 where nothing is dirty."""
    return -1 if part <= 0 else min(int(part**0.5 * len(LEVELS)), len(LEVELS) - 1)


def _bars(values: Sequence[float], label: str) -> str:
    """A bar for each value, over the largest one."""
    high, top = 6, max(values) or 1
    path = "".join(
        f"M{x} {high}v-{high * value / top:.2f}h1V{high}z"
        for x, value in enumerate(values)
        if value > 0
    )
    return _svg(len(values), high, f'<path d="{path}" fill="{FILL}"/>', label)


def _svg(width: int, height: int, drawn: str, label: str) -> str:
    return (
        f'<div style="margin:.3em 0"><svg role="img" aria-label="{_text(label)}" '
        f'viewBox="0 0 {width} {height}" width="{width * CELL_PIXELS}" '
        f'height="{height * CELL_PIXELS}" preserveAspectRatio="none" '
        'style="max-width:100%;outline:1px solid currentColor">'
        f'{drawn}</svg><div style="font-size:11px;opacity:.7">{_text(label)}</div></div>'
    )
