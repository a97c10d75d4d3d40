"""iovabitmap probe: what this machine can do, and why not."""

from __future__ import annotations

from typing import TYPE_CHECKING

import click
from rich.table import Table

from iovabitmap._base.text import show_bytes

from .._abilities import machine, of_interfaces, of_libraries, of_sources
from .._output import console, json_option, print_json, written

if TYPE_CHECKING:
    from .._abilities import Ability


@click.command(short_help="What this machine can do, and why not.")
@json_option
def command(as_json: bool) -> None:
    """Tries each source and each kernel interface, and says which work here, and why others do
    not. Nothing is changed, and no privilege is needed, but who has some may see more work."""
    facts = machine()
    groups = {
        "sources": of_sources(),
        "interfaces": of_interfaces(),
        "libraries": of_libraries(),
    }
    if as_json:
        listed = {title: [each._asdict() for each in found] for title, found in groups.items()}
        print_json({**facts, **listed})
        return
    screen = console()
    lock = facts["memlock_bytes"]
    limit = "any memory" if lock is None else show_bytes(int(lock))
    screen.print(
        f"{facts['system']}, {facts['python']}, pages of {facts['page_size']} bytes; "
        f"{limit} may be locked"
    )
    for title, found in groups.items():
        screen.print(table(title, found))


def table(title: str, found: list[Ability]) -> Table:
    """What works, and what does not with its reason."""
    shown = Table(box=None, padding=(0, 2, 0, 0), title=f"\n{title}", show_header=False)
    shown.title_justify = "left"
    for each in found:
        mark = written("yes", "green") if each.ok else written("no", "red")
        about = written(each.what)
        if each.reason:
            about.append("\n").append(written(each.reason, "dim"))
        shown.add_row(written(each.name), mark, about)
    return shown
