"""What commands print: JSON for programs, text for people, progress beside either.

Standard output holds the answer and nothing else; progress and warnings go to standard error, and
progress only where that is a terminal.
"""

from __future__ import annotations

import json
import os
import shutil
import sys
import time
from contextlib import contextmanager
from typing import TYPE_CHECKING, Any

import click
from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeRemainingColumn
from rich.text import Text

from iovabitmap._base.text import printable

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

json_option = click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")

BAR = " ▏▎▍▌▋▊▉█"
SHADES = " ░▒▓█"


def console() -> Console:
    """Where answers for people go. Colours and width are those of the terminal.

    A str is printed as it is, since nothing in it is markup; `written` makes what has a style, or
    was written by others.
    """
    return Console(highlight=False, soft_wrap=True, markup=False, emoji=False)


def written(text: str, style: str = "") -> Text:
    """What others wrote, as it is and printable: a path, a command, the name of a process or of
    memory, an error. Of any text, the one way to give it a style."""
    return Text(printable(text), style)


def print_json(document: Any) -> None:
    """Prints JSON on one line, so that it can be piped line by line."""
    click.echo(json.dumps(document, allow_nan=False))


def warn(text: str) -> None:
    """Says something to whoever runs the command."""
    click.echo("\n".join(map(printable, f"iovabitmap: {text}".split("\n"))), err=True)


def print_path(path: Path) -> None:
    """Prints where a result is, for programs: byte by byte, whatever the name is."""
    click.echo(os.fsencode(path))


@contextmanager
def progress(text: str, total: int | None) -> Iterator[Callable[[int], None]]:
    """A bar while the block runs: call what it gives with the number of epochs done."""
    columns = TextColumn("{task.description}", markup=False), BarColumn(), MofNCompleteColumn()
    with Progress(
        *columns,
        TimeRemainingColumn(),
        console=Console(stderr=True),
        transient=True,
        disable=not sys.stderr.isatty(),
    ) as shown:
        task = shown.add_task(text, total=total)
        yield lambda done: shown.update(task, completed=done)


class StatusLine:
    """One line on standard error that changes, where that is a terminal; with `with`.

    Meant to be called often: it is drawn at most every half second.
    """

    _EVERY_NS = 500_000_000

    def __init__(self, wanted: bool = True) -> None:
        self._shown = wanted and sys.stderr.isatty()
        self._next_ns = 0

    def __call__(self, text: Callable[[], str]) -> None:
        """Shows the text, if it is time."""
        now = time.monotonic_ns()
        if self._shown and now >= self._next_ns:
            self._next_ns = now + self._EVERY_NS
            width = shutil.get_terminal_size().columns - 1
            self._write(text()[:width])

    def __enter__(self) -> StatusLine:
        return self

    def __exit__(self, *exc: object) -> None:
        if self._shown:
            self._write("")

    def _write(self, text: str) -> None:
        sys.stderr.write(f"\r\x1b[K{text}")
        sys.stderr.flush()


def bar(part: float, width: int) -> str:
    """A bar of `width` characters of which `part`, 0 to 1, is filled, to an eighth of one."""
    eighths = round(max(0.0, min(part, 1.0)) * width * 8)
    full, rest = divmod(eighths, 8)
    return ("█" * full + (BAR[rest] if rest else "")).ljust(width)


def shade(part: float) -> str:
    """A character as dark as `part`, 0 to 1; blank only for nothing at all."""
    if part <= 0:
        return SHADES[0]
    steps = len(SHADES) - 1
    return SHADES[min(1 + int(part**0.5 * steps), steps)]  # a root, so that a little is seen
