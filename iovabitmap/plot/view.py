"""A log to pan and zoom in a browser: one page of HTML that needs no server. Needs Bokeh.

The page holds the log's rows as they are, and draws the part of them that is seen: all of a long
log, or single pages of single epochs. What it holds is bounded: of a log with more rows or epochs
than that, pages are taken together in blocks, then epochs, until it fits, and the title says so.
"""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from html import escape
from importlib.resources import files
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from .._base.interval_arrays import union, union_by_group
from .._base.optional import need
from .._base.text import printable, show_bytes
from ..timeline import Timeline
from ..timeline.axis import Axis

if TYPE_CHECKING:
    from .._base.paths import StrPath
    from ..timeline import Rows as DirtyRows
    from ..timeline.timeline import Source

MAX_ROWS = 1 << 20  # rows, and epochs
LINES, COLUMNS = 512, 1024  # the most cells of the image, of two pixels each
LEVELS = 255  # of a cell; 0 has no colour
TICKS = (1, 5, 10, 25, 50, 75, 100)  # of the scale of colours, in percent
PALEST = 30  # of the palette's 256 colours, which are hard to see on white
EXACT_BITS = 52  # a number of that size is exact in JavaScript

Ints = npt.NDArray[np.int64]


def _none() -> Ints:
    return np.empty(0, np.int64)


@dataclass
class Rows:
    """A log's rows, as runs of blocks of ``1 << shift`` pages in groups of `epochs_each` epochs.

    `group`, `first` and `count` have an entry for each run, ascending by group, then by block;
    `start` and `end`, in nanoseconds, one for each group.
    """

    shift: int = 0
    epochs_each: int = 1
    group: Ints = field(default_factory=_none)
    first: Ints = field(default_factory=_none)
    count: Ints = field(default_factory=_none)
    start: Ints = field(default_factory=_none)
    end: Ints = field(default_factory=_none)

    @classmethod
    def of(cls, tl: Timeline, max_rows: int) -> Rows:
        """Those of a Timeline, which is read a block at a time; at most so many."""
        rows = cls(shift=max(0, (tl.geometry.npages - 1).bit_length() - EXACT_BITS))
        rows._fit(len(tl), max_rows)
        for block in tl.blocks():
            rows._add(block, tl)
            rows._fit(len(tl), max_rows)
        if tl.has_times and len(tl):
            start, end = tl.times()
            begins = np.arange(0, len(tl), rows.epochs_each)
            rows.start, rows.end = start[begins], np.maximum.reduceat(end, begins)
        else:
            rows.start = rows.end = np.zeros(-(-len(tl) // rows.epochs_each), np.int64)
        return rows

    def _add(self, block: DirtyRows, tl: Timeline) -> None:
        size = np.uint64(tl.page_size.bit_length() - 1 + self.shift)
        first = ((block.iova - np.uint64(tl.iova)) >> size).astype(np.int64)
        last = ((block.last() - np.uint64(tl.iova)) >> size).astype(np.int64)
        self._join(
            np.append(self.group, block.epoch // self.epochs_each),
            np.append(self.first, first),
            np.append(self.first + self.count - 1, last),
        )

    def _fit(self, epochs: int, max_rows: int) -> None:
        """Coarser, until there are at most so many runs, and groups of the epochs so far."""
        while (many := epochs > max_rows * self.epochs_each) or len(self.first) > max_rows:
            self._coarser(many or len(np.unique(self.group)) * 2 > max_rows)

    def _coarser(self, epochs: bool) -> None:
        """Half of the groups, or blocks twice as large."""
        last = self.first + self.count - 1
        if epochs:
            self.epochs_each *= 2
            self._join(self.group >> 1, self.first, last)
        else:
            self.shift += 1
            self._join(self.group, self.first >> 1, last >> 1)

    def _join(self, group: Ints, first: Ints, last: Ints) -> None:
        """Takes these runs, of which those of a group that overlap or touch become one."""
        self.group, self.first, last = union_by_group(group, first, last)
        self.count = last - self.first + 1


def _axis(rows: Rows) -> Axis:
    """Of the blocks that were ever dirty."""
    first, last = union(rows.first, rows.first + rows.count - 1)
    return Axis(np.column_stack((first, last - first + 1)).astype(np.uint64))


def _times(rows: Rows) -> tuple[Any, Any, str]:
    """Starts and ends, ascending, and in what: seconds, or the number of the epoch."""
    if (np.diff(rows.start) > 0).all() and (rows.end > rows.start).all():
        zero = rows.start[0]
        return (rows.start - zero) / 1e9, (rows.end - zero) / 1e9, "time (s)"
    numbers = np.arange(len(rows.start), dtype=np.float64) * rows.epochs_each
    return numbers, numbers + rows.epochs_each, "epoch"


def view(tl: Source, *, max_rows: int = MAX_ROWS) -> View:
    """A Timeline to pan and zoom in a browser, as one page of HTML, or in a notebook.

    Zoom by the wheel or with a box. Each dirty page of each epoch can be seen, and what is under
    the pointer is said in words. Colours are those of `heatmap`.

    Parameters
    ----------
    tl : Timeline, or what `Timeline.of` takes
        A log, a part of one, bitmaps.
    max_rows : int
        Rows that the page holds, and epochs, which bounds its size: some 20 MB by default. Of a
        larger log pages are taken together in blocks, then epochs; the title says so.

    Raises
    ------
    ValueError
        Where no page was ever dirty.
    ImportError
        Without Bokeh.

    Examples
    --------
    >>> with DirtyLog.open("run.parquet") as log:        # doctest: +SKIP
    ...     view(log).save("run.html")
    """
    need("bokeh")
    if max_rows < 1:
        raise ValueError(f"max_rows must be 1 or more, not {max_rows}")
    tl = Timeline.of(tl)
    rows = Rows.of(tl, max_rows)
    if not len(rows.first):
        raise ValueError("no page is ever dirty: there is nothing to draw")
    block = tl.page_size << rows.shift
    title = f"{printable(tl.title)}: {len(tl):,} epochs"
    title += f", in blocks of {show_bytes(block)}" if rows.shift else ""
    title += f", {rows.epochs_each} epochs together" if rows.epochs_each > 1 else ""
    return View(_figure(tl, rows, title), title)


def _sources(rows: Rows, axis: Axis, start: Any, end: Any) -> dict[str, Any]:
    """What the page holds, by the names that view.js has."""
    source = need("bokeh.models").ColumnDataSource
    position = axis.position(rows.first.astype(np.uint64))
    small = np.uint32 if axis.size < 1 << 32 else np.float64
    jumps = np.flatnonzero(np.diff(axis.starts - axis.positions, prepend=np.uint64(2**64 - 1)))
    page = axis.starts[jumps]
    offsets = np.searchsorted(rows.group, np.arange(len(start) + 1))
    return {
        "epochs": source({"start": start, "end": end, "reach": np.maximum.accumulate(end)}),
        "offsets": source({"offset": offsets.astype(np.uint32)}),
        "rows": source({"first": position.astype(small), "count": rows.count.astype(small)}),
        "breaks": source(
            {
                "position": axis.positions[jumps].astype(np.float64),
                "high": (page >> np.uint64(32)).astype(np.uint32),
                "low": (page & np.uint64(2**32 - 1)).astype(np.uint32),
            }
        ),
    }


def _figure(tl: Timeline, rows: Rows, title: str) -> Any:
    models, plotting = need("bokeh.models"), need("bokeh.plotting")
    axis = _axis(rows)
    start, end, unit = _times(rows)
    about = {
        "end": float(end.max()),
        "size": axis.size,
        "iova": str(tl.iova),
        "page_size": str(tl.page_size << rows.shift),
        "epochs_each": rows.epochs_each,
        "hint": "wheel or box: zoom; drag: move",
    }
    code = files(__package__).joinpath("view.js").read_text(encoding="utf-8") + (
        f"const log = {{...{json.dumps(about)}, epochs: epochs.data, rows: rows.data, "
        "breaks: breaks.data, offsets: offsets.data.offset};\n"
    )
    figure = plotting.figure(
        name="view",
        title=title,
        x_range=models.Range1d(0, about["end"]),
        y_range=models.Range1d(0, axis.size),
        x_axis_label=unit,
        y_axis_label="address (gaps that are never dirty are cut short)",
        sizing_mode="stretch_width",
        height=600,
        tools="pan,wheel_zoom,xwheel_zoom,ywheel_zoom,box_zoom,reset,save",
        active_scroll="wheel_zoom",
    )
    image = models.ColumnDataSource(
        {
            "image": [np.zeros((LINES, COLUMNS), np.uint8)],
            **{name: [0.0] for name in "xy"},
            **{name: [1.0] for name in ("dw", "dh")},
        },
        name="image",
    )
    said = models.Label(
        x=6, y=6, x_units="screen", y_units="screen", text=about["hint"], name="said"
    )
    said.update(background_fill_color="white", background_fill_alpha=0.85, text_font_size="12px")
    arguments = _sources(rows, axis, start, end)
    _draw_into(figure, image)
    figure.add_layout(said)
    figure.yaxis.formatter = models.CustomJSTickFormatter(
        args=arguments, code=code + "return address(log, tick);"
    )
    # Many changes come at once: they are drawn together.
    changed = models.CustomJS(
        args={**arguments, "figure": figure, "image": image},
        code=code
        + "image.due ??= requestAnimationFrame(() => "
        + "{ image.due = undefined; draw(log, figure, image); });",
    )
    for ranged in (figure.x_range, figure.y_range):
        ranged.js_on_change("start", changed)
        ranged.js_on_change("end", changed)
    figure.js_on_change("inner_width", changed)
    figure.js_on_change("inner_height", changed)
    pointed = models.CustomJS(
        args={**arguments, "said": said}, code=code + "said.text = words(log, cb_obj.x, cb_obj.y);"
    )
    figure.js_on_event("mousemove", pointed)
    return figure


def _draw_into(figure: Any, image: Any) -> None:
    """The image and its scale of colours, which is one of roots."""
    models, palettes = need("bokeh.models"), need("bokeh.palettes")
    mapper = models.LinearColorMapper(
        palette=palettes.Viridis256[::-1][PALEST:], low=1, high=LEVELS, low_color="rgba(0, 0, 0, 0)"
    )
    figure.image("image", x="x", y="y", dw="dw", dh="dh", source=image, color_mapper=mapper)
    ticks = {1 + round((LEVELS - 1) * (percent / 100) ** 0.5): str(percent) for percent in TICKS}
    figure.add_layout(
        models.ColorBar(
            color_mapper=mapper,
            ticker=models.FixedTicker(ticks=list(ticks)),
            major_label_overrides=ticks,
            title="pages dirty in an epoch (%); white: none",
        ),
        "right",
    )


class View:
    """An interactive view of a log.

    Attributes
    ----------
    figure : bokeh figure
        For `bokeh.io.show`, or in a layout of yours.
    """

    def __init__(self, figure: Any, title: str) -> None:
        self.figure = figure
        self._title = title

    def html(self) -> str:
        """A page that stands for itself: no server, nothing to be loaded."""
        from bokeh.embed import file_html
        from bokeh.resources import INLINE

        page: str = file_html(self.figure, INLINE, self._title)
        return page

    def save(self, path: StrPath) -> None:
        """Writes the page; an existing file is replaced."""
        Path(path).write_text(self.html(), encoding="utf-8")

    def _repr_html_(self) -> str:
        page = escape(self.html())
        return f'<iframe srcdoc="{page}" style="width:100%;height:640px;border:0"></iframe>'
