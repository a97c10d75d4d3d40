"""iovabitmap plot LOG: the map and the rate over time, as a picture."""

from __future__ import annotations

from pathlib import Path

import click

from iovabitmap.logs import DirtyLog
from iovabitmap.plot import overview, view

from .._given import refuse
from .._output import json_option, print_json, print_path, progress, warn


@click.command(short_help="The map and the rate over time, as a picture.")
@click.argument("log", type=click.Path(path_type=Path))
@click.option("-o", "--out", type=click.Path(path_type=Path), help="By default LOG's name and .png")
@click.option("--rows", type=click.IntRange(1, 2000), default=256, help="Rows of the map.")
@click.option("--columns", type=click.IntRange(1, 5000), default=1000, help="At most so many.")
@json_option
def command(log: Path, out: Path | None, rows: int, columns: int, as_json: bool) -> None:
    """Draws LOG: above which addresses were dirty when, below the dirty rate.

    The picture's format is that of its suffix: .png, .svg, .pdf, or .html for a page to zoom and
    move in, which has all rows. An existing file is replaced.
    """
    out = out or log.with_suffix(".png")
    page = out.suffix == ".html"
    if page:
        refuse("is for a picture: a page (.html) has all rows", "rows", "columns")
    with DirtyLog.open(log) as opened:
        if opened.unfinished:
            warn(opened.unfinished)
        if page:
            view(opened).save(out)
        else:
            with progress("reading", len(opened)) as done:
                summary = opened.summary(rows=rows, columns=columns, progress=done)
            overview(opened, out, summary)
    if as_json:
        print_json({"log": str(log), "out": str(out)})
    else:
        print_path(out)
