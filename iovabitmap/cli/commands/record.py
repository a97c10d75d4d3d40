"""iovabitmap record -- COMMAND: the pages that a program writes, into a log."""

from __future__ import annotations

import re
from datetime import datetime
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from iovabitmap._base.text import show_bytes, show_seconds
from iovabitmap.recording import record
from iovabitmap.recording.running import Running

from .. import _running, _types
from .._app import FAILED
from .._output import StatusLine, json_option, print_json, warn
from .._running import make_tracker, start_program

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from iovabitmap.recording import Recorder

SHOWN = 10  # of what was not tracked
STANDARD_ERROR = 2
NAME = 100  # characters of a command in a log's name, at most


@click.command(
    short_help="The pages that a program writes, into a log.",
    context_settings={"allow_interspersed_args": False},  # options behind COMMAND are its own
)
@click.option(
    "--interval",
    type=_types.interval(1_000_000, "1ms"),  # what waiting is exact to
    default="100ms",
    show_default=True,
    metavar="TIME",
    help="Of an epoch: 100ms, 2s, or seconds.",
)
@click.option(
    "--duration",
    type=_types.interval(1, "1ns"),
    metavar="TIME",
    help="Record no longer; COMMAND then goes on untracked.",
)
@click.option("-o", "--out", type=click.Path(path_type=Path), help="By default COMMAND and time.")
@click.option(
    "--progress/--no-progress", default=True, help="A line on a terminal while it records."
)
@json_option
@_running.options
def command(
    interval: int,
    duration: int | None,
    out: Path | None,
    progress: bool,
    as_json: bool,
    **what: Any,
) -> int:
    """Runs COMMAND, and logs which pages it and its children write, as one epoch each interval.

    \b
    record -- redis-server --port 7777
    record --interval 1s --out run.parquet -- sqlite3 my.db
    record --python -- script.py arguments
    record --guest-ram 512M -- qemu-system-x86_64 -m 512 disk.img

    Needs no privilege, but a program that is linked dynamically. The addresses of the log are given
    to memory as it is first seen; the log's note "layout" has a row (iova, length, address,
    process, name) for each piece. With --guest-ram they are guest-physical.

    Ends when COMMAND does, with its exit status, 128 + n where signal n ended it. Ctrl-C, SIGTERM
    and SIGHUP go to COMMAND, and what was recorded is kept. What is to be said goes to standard
    error; with --json, COMMAND's standard output goes there too.
    """
    tracker = make_tracker(**what, stdout=STANDARD_ERROR if as_json else None)
    out = out or default_name(what["words"], what["python"])
    recording = record(
        tracker,
        out,
        interval=interval / 1e9,
        duration=None if duration is None else duration / 1e9,
        on_epoch=lambda recording: line(lambda: brief(recording.recorder)),
    )
    with Running(tracker, lambda: recording.begin(lambda: start_program(tracker))) as running:
        with StatusLine(progress) as line:
            failure = attempt(lambda: recording.run(running.life.over))
        say(recording.recorder, out, interval)
        if failure:
            warn(f"{out}: {failure}; the log is unfinished")
        status = running.exit_status()
    if as_json:
        found = document(recording.recorder, interval)
        print_json({"log": str(out), "command": tracker.argv, "status": status, **found})
    return status or (FAILED if failure else 0)


def default_name(words: Sequence[str], python: bool) -> Path:
    """A new log's name in the working directory: the command's, and the time."""
    program = words[0]
    if python and program.startswith("-"):  # -m MODULE, -c CODE
        program = words[1] if program == "-m" and len(words) > 1 else "python"
    name = re.sub(r"[^\w.+-]", "_", Path(program).stem).lstrip("-")[:NAME] or "command"
    name = f"{name}-{datetime.now():%Y%m%d-%H%M%S}"
    paths = (Path(f"{name}{f'-{n}' if n else ''}.parquet") for n in count())
    return next(path for path in paths if not path.exists())  # another may be of the same second


def attempt(action: Callable[[], object]) -> str:
    """Does it; what went wrong, where something did. The program must not suffer from that."""
    try:
        action()
    except (OSError, ValueError, MemoryError) as error:
        return str(error) or type(error).__name__
    return ""


def document(recorder: Recorder, interval: int) -> dict[str, Any]:
    """How the recording went, for programs."""
    tally, seconds = recorder.tally, recorder.tally.seconds
    nbytes = tally.pages * recorder.page_size
    return {
        "epochs": tally.epochs,
        "seconds": seconds,
        "interval_seconds": interval / 1e9,
        "missed_intervals": recorder.schedule.missed,
        "pages": tally.pages,
        "bytes_per_s": nbytes / seconds if seconds else None,
        "looks_seconds": tally.look_ns / 1e9,
        "longest_look_seconds": tally.look_max_ns / 1e9,
        "untracked": [each._asdict() for each in recorder.untracked],
        "still_running": recorder.still_running,
    }


def brief(recorder: Recorder) -> str:
    """How it goes, in one line."""
    tally = recorder.tally
    last = tally.last_pages * recorder.page_size
    return (
        f"{tally.seconds:.1f} s, {tally.epochs:,} epochs, {tally.last_pages:,} pages in the last "
        f"({show_bytes(last)}), {recorder.schedule.missed} missed"
    )


def say(recorder: Recorder, out: Path, interval: int) -> None:
    """How it went, for people."""
    found = document(recorder, interval)
    seconds, rate = found["seconds"], found["bytes_per_s"] or 0
    every = show_seconds(found["interval_seconds"])
    looks = show_seconds(found["looks_seconds"])
    longest = show_seconds(found["longest_look_seconds"])
    part = found["looks_seconds"] / seconds if seconds else 0
    warn(
        f"{found['epochs']:,} epochs in {seconds:.1f} s, {found['missed_intervals']} intervals "
        f"missed; {found['pages']:,} dirty pages, {show_bytes(rate)}/s at {every}"
    )
    warn(f"looking took {looks}, {part:.1%} of the time; once at most {longest}")
    for each in recorder.untracked[:SHOWN]:
        warn(f"not tracked: process {each.pid}, {each.what}: {each.reason}")
    if len(recorder.untracked) > SHOWN:
        warn(f"not tracked: {len(recorder.untracked) - SHOWN} more, which the log's notes list")
    if recorder.still_running:
        warn(f"still running, and not tracked any more: {recorder.still_running}")
    warn(f"the log is {out}")
