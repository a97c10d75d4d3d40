"""iovabitmap top: which memory of a program is written most, live."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click
from rich.live import Live
from rich.table import Table
from rich.text import Text

from iovabitmap._base.text import show_bytes, show_seconds
from iovabitmap.recording import Schedule
from iovabitmap.recording.life import Life
from iovabitmap.recording.running import Running

from .. import _running, _types
from .._given import refuse
from .._output import bar, console, json_option, print_json, warn, written
from .._running import make_tracker, start_program
from .._watching import SourceWatch, by_name, watch_process

if TYPE_CHECKING:
    from iovabitmap.sources import CommandTracker

    from .._watching import Watch, Written

BAR_WIDTH = 12
COLUMNS = {"process": 7, "pages": 9, "of": 9, "rate": 11}  # with the widths that they need


@click.command(
    short_help="Which memory of a program is written most, live.",
    context_settings={"allow_interspersed_args": False},
)
@click.option("-p", "--pid", type=click.IntRange(1), help="A process that runs already.")
@click.option(
    "--interval",
    type=_types.interval(10_000_000, "10ms"),
    default="1s",
    show_default=True,
    metavar="TIME",
)
@click.option("-n", "--count", type=click.IntRange(1), help="End after so many intervals.")
@click.option("--lines", type=click.IntRange(1), default=15, show_default=True, help="To show.")
@click.option(
    "--output",
    type=click.Path(path_type=Path),
    default=os.devnull,
    help="Where COMMAND's output goes; nowhere, if this is not given.",
)
@click.option(
    "--copies",
    type=_types.size,
    default="1G",
    show_default=True,
    help="With --pid, memory for copies where the kernel has no soft-dirty bits.",
)
@json_option
@_running.options
def command(
    pid: int | None,
    interval: int,
    count: int | None,
    lines: int,
    output: Path,
    copies: int,
    as_json: bool,
    **what: Any,
) -> int:
    """Shows the mappings of COMMAND, or of a process that runs, by how many of their pages are
    written in an interval.

    \b
    top -- redis-server --port 7777
    top --interval 200ms --count 50 --json -- sqlite3 my.db < script.sql
    top --pid 1234

    COMMAND is tracked as by `record`: exactly, with its children, and top ends with its exit
    status. A process that runs already is tracked by soft-dirty bits where the kernel has them, and
    stands still for each look; else by comparing copies of its memory, which misses rewrites of
    equal content. With --json each interval is a line.
    """
    if as_json:
        refuse("is for people: --json has all mappings", "lines")
    if pid is None:
        if not what["words"]:
            raise click.UsageError("which program? iovabitmap top -- COMMAND..., or --pid PID")
        refuse("is for --pid", "copies")
    else:
        if what["words"]:
            raise click.UsageError("either --pid or a COMMAND")
        refuse("is for a COMMAND that top runs, not for --pid", "output", *what)
    with Shown(lines, as_json) as shown:
        if pid is not None:
            return watch_running(pid, interval, count, copies, shown)
        with output.open("ab") as file:
            tracker = make_tracker(**what, stdout=file.fileno(), stderr=file.fileno())
            return watch_command(tracker, interval, count, shown)


def watch_command(tracker: CommandTracker, interval: int, count: int | None, shown: Shown) -> int:
    """Until its end; its exit status."""
    with Running(tracker, lambda: start_program(tracker)) as running:
        watch = SourceWatch(tracker)
        follow(watch, running.life, Schedule(running.start_ns, interval), count, shown)
        missing = tracker.untracked
        tracker.stop()
        status = running.exit_status()
    for each in missing:
        warn(f"not tracked: process {each.pid}, {each.what}: {each.reason}")
    return status


def watch_running(pid: int, interval: int, count: int | None, copies: int, shown: Shown) -> int:
    """Until its end, or Ctrl-C."""
    with (
        contextlib.closing(watch_process(pid, copies)) as watch,
        contextlib.closing(Life(pid)) as life,
        contextlib.suppress(KeyboardInterrupt),
    ):
        follow(watch, life, Schedule(time.monotonic_ns(), interval), count, shown)
    return 0


def follow(watch: Watch, life: Life, schedule: Schedule, count: int | None, shown: Shown) -> None:
    """Looks at each moment of the schedule, until the process has ended or `count` looks."""
    before = schedule.start_ns
    number, over = 0, False
    while not over and number != count:
        over = life.over(schedule.due_ns)
        now = time.monotonic_ns()
        try:
            found = by_name(watch.look())
        except ProcessLookupError:
            return
        schedule.looked(time.monotonic_ns())
        shown.show(watch, found, (now - schedule.start_ns) / 1e9, (now - before) / 1e9)
        before = now
        number += 1


class Shown:
    """Where looks are shown: a table that changes in a terminal, a table for each look elsewhere,
    or lines of JSON. With `with`."""

    def __init__(self, lines: int, as_json: bool) -> None:
        self._lines, self._as_json = lines, as_json
        self._screen = console()
        self._live = Live(console=self._screen, auto_refresh=False, transient=False)

    def __enter__(self) -> Shown:
        if self._screen.is_terminal and not self._as_json:
            self._live.start()
        return self

    def __exit__(self, *exc: object) -> None:
        self._live.stop()

    def show(self, watch: Watch, found: list[Written], at: float, seconds: float) -> None:
        """A look `at` seconds from the start, after `seconds`."""
        if self._as_json:
            print_json(document(watch, found, at, seconds))
            return
        shown = table(watch, found, at, seconds, self._lines)
        if self._live.is_started:
            self._live.update(shown, refresh=True)
        else:
            self._screen.print(shown)


def document(watch: Watch, found: list[Written], at: float, seconds: float) -> dict[str, Any]:
    """A look, for programs."""
    pages = sum(each.pages for each in found)
    return {
        "at_seconds": at,
        "seconds": seconds,
        "page_size": watch.page_size,
        "pages": pages,
        "bytes_per_s": pages * watch.page_size / seconds,
        "remarks": watch.remarks,
        "mappings": [each._asdict() for each in found],
    }


def table(watch: Watch, found: list[Written], at: float, seconds: float, lines: int) -> Table:
    """A look, for people: the mappings that were written most."""
    facts = document(watch, found, at, seconds)
    title = (
        f"{at:.1f} s: {facts['pages']:,} pages in {show_seconds(seconds)}, "
        f"{show_bytes(facts['bytes_per_s'])}/s in {len(found)} mappings"
    )
    remarks = Text("\n").join(written(remark, "dim italic") for remark in watch.remarks)
    shown = Table(title=title, caption=remarks or None, box=None, padding=(0, 1))
    shown.title_justify = shown.caption_justify = "left"
    for name, width in COLUMNS.items():
        shown.add_column(name, justify="right", no_wrap=True, min_width=width)
    shown.add_column("", no_wrap=True, min_width=BAR_WIDTH)
    shown.add_column("mapping", overflow="ellipsis", no_wrap=True)
    for each in found[:lines]:
        cells = [str(each.pid), f"{each.pages:,}", show_bytes(each.nbytes)]
        cells.append(f"{show_bytes(each.pages * watch.page_size / seconds)}/s")
        part = bar(each.pages / found[0].pages, BAR_WIDTH)
        shown.add_row(*cells, written(part, "blue"), written(short(each.name)))
    return shown


def short(name: str) -> str:
    """A mapping's name, of a path the last part."""
    return Path(name).name if name.startswith("/") else name
