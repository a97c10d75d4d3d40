"""The program that is run under a CommandTracker: the options that say which, and what is checked
before it starts."""

from __future__ import annotations

import errno
import os
import shutil
import sys
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from iovabitmap.sources import CommandTracker, GuestRam

from . import _types
from ._given import refuse
from ._output import warn

if TYPE_CHECKING:
    from collections.abc import Callable

NOT_FOUND, NOT_EXECUTABLE = 127, 126
WHY_NOT_RUN = {
    errno.ENOENT: NOT_FOUND,
    errno.EACCES: NOT_EXECUTABLE,
    errno.ENOEXEC: NOT_EXECUTABLE,
}


def options(command: Callable[..., Any]) -> Callable[..., Any]:
    """The options that say what is run, and what of it is tracked; their values are the arguments
    of `make_tracker`."""
    ram = "the guest's memory only, by guest-physical addresses: QEMU's -m"
    added = (
        click.option("--python", is_flag=True, help="COMMAND is what follows `python`: a script."),
        click.option("--shared", is_flag=True, help="Shared writable mappings too."),
        click.option("--guest-ram", type=_types.size, help=f"Of QEMU, {ram}."),
        click.option(
            "--guest-ram-file",
            type=click.Path(),
            help="The file that --guest-ram is in, for memory-backend-file.",
        ),
        click.option("--below-4g", type=_types.size, help="Of --guest-ram, what lies below 4 GiB."),
        click.argument("words", metavar="COMMAND...", nargs=-1, type=click.UNPROCESSED),
    )
    for option in reversed(added):
        command = option(command)
    return command


def make_tracker(
    words: tuple[str, ...],
    *,
    python: bool,
    shared: bool,
    guest_ram: int | None,
    guest_ram_file: str | None,
    below_4g: int | None,
    stdout: int | None = None,
    stderr: int | None = None,
) -> CommandTracker:
    """A tracker of the program, not started. Exits with 126 or 127, as a shell does, where there is
    no such program; raises where it, or this machine, cannot be tracked."""
    argv = [sys.executable, *words] if python else list(words)
    if not words:
        name = click.get_current_context().info_name
        raise click.UsageError(f"which command? iovabitmap {name} -- COMMAND...")
    ram = guest_memory(guest_ram, guest_ram_file, below_4g)
    probe = CommandTracker.probe()
    if not probe:
        raise NotImplementedError(f"programs cannot be tracked here: {probe.reason}")
    check_program(argv[0])
    tracker = CommandTracker(argv, placement=ram, shared=shared, stdout=stdout, stderr=stderr)
    reason = tracker.why_not()
    if reason:
        raise NotImplementedError(f"{argv[0]} cannot be tracked: {reason}")
    return tracker


def guest_memory(nbytes: int | None, file: str | None, below_4g: int | None) -> GuestRam | None:
    """What --guest-ram and the options that belong to it say; None without."""
    if nbytes is None:
        refuse("is for --guest-ram", "guest_ram_file", "below_4g")
        return None
    refuse("is for all memory of COMMAND, not for --guest-ram", "shared")
    try:
        return GuestRam(nbytes, path=file, below_4g=below_4g)
    except ValueError as error:
        raise click.UsageError(f"--guest-ram: {error}") from None


def check_program(name: str) -> None:
    """Exits as a shell does if there is no such program, or it may not be executed."""
    if shutil.which(name) is None:
        there = os.sep in name and Path(name).exists()
        warn(f"{name}: {'may not be executed' if there else 'no such command'}")
        raise click.exceptions.Exit(NOT_EXECUTABLE if there else NOT_FOUND)


def start_program(tracker: CommandTracker) -> None:
    """Starts it; exits as a shell does if the system cannot execute its file, or what its first
    line names."""
    try:
        tracker.start()
    except OSError as error:
        status = WHY_NOT_RUN.get(error.errno or 0)
        if tracker.process is not None or error.filename is None or status is None:
            raise
        warn(f"{tracker.argv[0]}: {error.strerror}")
        raise click.exceptions.Exit(status) from error
