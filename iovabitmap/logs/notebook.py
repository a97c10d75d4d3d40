"""What notebooks show of a log: what was recorded, a map and the rate."""

from __future__ import annotations

from typing import TYPE_CHECKING

from .._base import html
from ..timeline import notebook

if TYPE_CHECKING:
    from .log import DirtyLog

SCAN_ROWS = 1 << 19  # of a log; a larger one is not read to be shown


@html.never_raising
def shown(log: DirtyLog) -> str:
    """A `DirtyLog`."""
    facts = [("file", str(log.path)), *notebook.facts(log)]
    if log.source:
        facts.append(("source", log.source))
    if log.unfinished:
        facts.append(("unfinished", log.unfinished))
    if log._epochs.closed:
        return html.piece(log, [*facts, ("state", "closed")])
    return html.piece(log, facts, *pictures(log))


def pictures(log: DirtyLog) -> list[str]:
    """A map and the rate; none of a large log, or of one that is being written."""
    small = log._nrows is not None and log._nrows <= SCAN_ROWS
    return notebook.pictures(log) if small else []
