"""iovabitmap report LOG: what a log holds, as text with bars and a map, or as JSON."""

from __future__ import annotations

from dataclasses import asdict
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
import numpy as np
from rich.table import Table
from rich.text import Text

from iovabitmap._base.text import show_bytes, show_seconds
from iovabitmap.logs import DirtyLog
from iovabitmap.timeline import Dirtied, Summary

from .._output import (
    bar,
    console,
    json_option,
    print_json,
    progress,
    shade,
    warn,
    written,
)

if TYPE_CHECKING:
    from rich.console import Console

MAX_BARS = 16
MAX_NAMES = 10
LABEL = 20  # characters before the map: an address


@click.command(short_help="What a log holds: totals, bars over time, a map.")
@click.argument("log", type=click.Path(path_type=Path))
@click.option("--rows", type=click.IntRange(1, 200), default=16, help="Rows of the map.")
@json_option
def command(log: Path, rows: int, as_json: bool) -> None:
    """Says what LOG holds: where it comes from, how many pages were dirty when, and where they are.

    The bars are means over the epochs of a line. The map has addresses downwards and time to the
    right, each cell as dark as the part of its pages that an epoch of that time dirtied; gaps in
    which nothing was ever dirty are cut short.
    """
    screen = console()
    with DirtyLog.open(log) as opened:
        with progress("reading", len(opened)) as done:
            width = 60 if as_json else max(screen.width - LABEL - 2, 10)
            summary = opened.summary(rows=rows, columns=width, progress=done)
        memory = opened.by_memory(summary.ever)
        if as_json:
            named = [asdict(each) for each in memory]
            print_json({**document(opened, summary), "memory": named})
            return
        if opened.unfinished:
            warn(opened.unfinished)
        head(screen, opened, summary)
        if len(opened):
            bars(screen, opened, summary)
        if memory:
            names(screen, opened, memory)
        if summary.addresses:
            heatmap(screen, summary)


def document(log: DirtyLog, summary: Summary) -> dict[str, Any]:
    """All of the report, for programs."""
    starts, ends = log.times()
    seconds = (ends - starts) / 1e9
    total = float(seconds.sum())
    nbytes = int(summary.counts.sum()) * log.page_size
    return {
        "path": str(log.path),
        "unfinished": log.unfinished,
        "iova": log.iova,
        "length": log.length,
        "page_size": log.page_size,
        "granularity": log.granularity,
        "source": log.source,
        "host": log.host,
        "command": log.command,
        "started": log.started,
        "notes": log.notes,
        "epochs": len(log),
        "clean_epochs": int((summary.counts == 0).sum()),
        "seconds": total,
        "interval_seconds": float(np.median(seconds)) if len(log) else 0.0,
        "pages_ever_dirty": summary.union_count,
        "pages_mean": float(summary.counts.mean()) if len(log) else 0.0,
        "pages_max": int(summary.counts.max()) if len(log) else 0,
        "bytes_per_s": nbytes / total if total else None,
        "series": [
            {"epoch": n, "t_start_ns": start, "t_end_ns": end, "pages": pages}
            for n, (start, end, pages) in enumerate(
                zip(starts.tolist(), ends.tolist(), summary.counts.tolist(), strict=True)
            )
        ],
        "heatmap": {
            "first_epochs": summary.columns[:-1].tolist(),
            "addresses": summary.addresses,
            "density": summary.density.round(6).tolist(),
        },
    }


def head(screen: Console, log: DirtyLog, summary: Summary) -> None:
    """Where the log comes from, and its totals."""
    facts = document(log, summary)
    command = log.command if isinstance(log.command, str) else " ".join(log.command or ())
    interval = show_seconds(facts["interval_seconds"])
    rate = facts["bytes_per_s"]
    lines = {
        "range": f"{log.iova:#x} to {log.iova + log.length:#x}, {show_bytes(log.length)}",
        "pages": f"{show_bytes(log.page_size)}, told apart by {show_bytes(log.granularity)}",
        "source": log.source,
        "command": command,
        "recorded": f"{log.started} on {log.host}",
        "epochs": f"{len(log)}, {facts['clean_epochs']} of them clean; "
        f"{show_seconds(facts['seconds'])}, mostly {interval} each",
        "ever dirty": amount(summary.union_count, log),
        "an epoch": f"{amount(facts['pages_mean'], log)}, at most "
        f"{amount(facts['pages_max'], log)}",
        "dirty rate": f"{show_bytes(rate)}/s at {interval}" if rate is not None else "",
    }
    heading = written(str(log.path), "italic")
    table = Table(box=None, show_header=False, padding=(0, 1, 0, 0), title=heading)
    table.title_justify = "left"
    for name, text in lines.items():
        if text:
            table.add_row(written(name, "bold"), written(text))
    screen.print(table)


def amount(pages: float, log: DirtyLog) -> str:
    """Pages for people."""
    return f"{pages:,.0f} pages ({show_bytes(pages * log.page_size)})"


def bars(screen: Console, log: DirtyLog, summary: Summary) -> None:
    """Dirty pages over time, a line for an equal number of epochs each."""
    count = len(log)
    begins = [n * count // min(count, MAX_BARS) for n in range(min(count, MAX_BARS) + 1)]
    means = [summary.counts[a:b].mean() for a, b in pairwise(begins)]
    most = max(means) or 1
    table = Table(box=None, padding=(0, 1, 0, 0), title="\ndirty pages in an epoch", expand=False)
    table.title_justify = "left"
    for name in ("time", "epochs", "pages", ""):
        table.add_column(name, justify="left" if not name else "right", no_wrap=True)
    width = max(min(screen.width - 40, 60), 10)
    starts, _ = log.times()
    for (first, after), mean in zip(pairwise(begins), means, strict=True):
        seconds = (int(starts[first]) - int(starts[0])) / 1e9
        which = f"{first}" if after == first + 1 else f"{first}-{after - 1}"
        cells = show_seconds(seconds), which, f"{mean:,.0f}"
        table.add_row(*cells, written(bar(mean / most, width), "blue"))
    screen.print(table)


def names(screen: Console, log: DirtyLog, memory: list[Dirtied]) -> None:
    """Which memory was ever dirty, the most first, a line for each name of each process."""
    table = Table(box=None, padding=(0, 1, 0, 0), title="\never dirty, by memory")
    table.title_justify = "left"
    for name in ("process", "pages", "of"):
        table.add_column(name, justify="right", no_wrap=True)
    table.add_column("", overflow="fold")
    for each in memory[:MAX_NAMES]:
        cells = str(each.pid), f"{each.count:,}", f"{each.nbytes // log.page_size:,}"
        table.add_row(*cells, written(each.name))
    if len(memory) > MAX_NAMES:
        rest = sum(each.count for each in memory[MAX_NAMES:])
        table.add_row("", f"{rest:,}", "", f"in {len(memory) - MAX_NAMES} more")
    screen.print(table)


def heatmap(screen: Console, summary: Summary) -> None:
    """The map: a line for each row."""
    each = -(-int(summary.columns[-1]) // max(len(summary.columns) - 1, 1))
    darkest = float(summary.density.max()) or 1.0
    epochs = "an epoch" if each == 1 else f"about {each} epochs"
    about = f"where: a column is {epochs}, the darkest cell {darkest:.2%} dirty"
    screen.print("\n", written(about, "italic"), sep="")
    for address, row in zip(summary.addresses, summary.density, strict=True):
        cells = "".join(shade(part / darkest) for part in row)
        line = Text.assemble(f"{address:#{LABEL - 2}x} │", (cells, "red"), "│")
        screen.print(line, overflow="crop", no_wrap=True)
