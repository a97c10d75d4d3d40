"""What is asked of one log: each answer is a row, a dict with a name and a unit for each number.

All of them ask `iovabitmap.analysis` and work nothing out themselves, so that what a fleet says of
a log is what the log says when it is asked alone. They run in Dask's workers.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ..analysis import dirty_rate, predict_precopy, volume_curve, working_set
from ..logs import DirtyLog, LogError

if TYPE_CHECKING:
    from ._places import Place

Row = dict[str, Any]
Question = Callable[[DirtyLog], Mapping[str, Any]]

# Around the columns of each answer.
FIRST, LAST = {"host": "string"}, {"unfinished": "string", "error": "string"}

ABOUT = {
    "source": "string",
    "started": "string",
    "epochs": "Int64",
    "iova": "UInt64",
    "length_bytes": "UInt64",
    "page_size_bytes": "UInt64",
}
RATE = {
    "pages": "Int64",
    "page_size_bytes": "UInt64",
    "seconds": "float64",
    "bytes_per_s": "float64",
    "mib_per_s": "float64",
}
WORKING_SET = {
    "union_bytes": "UInt64",
    "hot_bytes": "UInt64",
    "plateau_bytes": "float64",
    "seconds": "float64",
}
PRECOPY = {
    "converges": "boolean",
    "rounds": "Int64",
    "total_bytes": "float64",
    "total_seconds": "float64",
    "downtime_seconds": "float64",
    "why": "string",
}


def ask_each(place: Place, names: list[str], question: Question) -> list[Row]:
    """What a task does: the rows of some logs."""
    return [ask(place, name, question) for name in names]


def ask(place: Place, name: str, question: Question) -> Row:
    """The row of a log, or one that says in `error` why it has none.

    What logs, files and analyses raise about a log becomes text. Anything else is a mistake in the
    question, and is raised.
    """
    row: Row = {"unfinished": "", "error": ""}
    try:
        with place.log(name) as log:
            row |= {"host": log.host, "unfinished": log.unfinished}
            answer = question(log)
    except LogError as error:
        return row | {"error": error.problem}
    except (OSError, ValueError, ArithmeticError, MemoryError) as error:
        return row | {"error": f"{type(error).__name__}: {error}".removesuffix(": ")}
    if taken := {*FIRST, *LAST} & {*answer}:
        raise TypeError(f"columns that each frame has already: {', '.join(sorted(taken))}")
    return {**row, **answer}


def about(log: DirtyLog) -> Row:
    """What a log says about itself."""
    return {
        "source": log.source,
        "started": log.started,
        "epochs": len(log),
        "iova": log.iova,
        "length_bytes": log.length,
        "page_size_bytes": log.page_size,
    }


def rate(log: DirtyLog, *, epochs: slice) -> Row:
    """Its `dirty_rate`."""
    found = dirty_rate(log[epochs])
    if not found.seconds:
        raise ValueError("its epochs last 0 s: there is no rate")
    return {
        "pages": found.pages,
        "page_size_bytes": found.page_size,
        "seconds": found.seconds,
        "bytes_per_s": found.bytes_per_s,
        "mib_per_s": found.mib_per_s,
    }


def working(log: DirtyLog, /, *, epochs: slice, **how: Any) -> Row:
    """Its `working_set`."""
    found = working_set(log[epochs], **how)
    return {
        "union_bytes": found.union,
        "hot_bytes": found.hot,
        "plateau_bytes": found.plateau,
        "seconds": found.seconds,
    }


def precopy(
    log: DirtyLog,
    /,
    *,
    epochs: slice,
    memory_bytes: float | None,
    zero_bytes: float | None,
    **how: Any,
) -> Row:
    """What `predict_precopy` says of its volume curve."""
    curve = volume_curve(log[epochs], memory_bytes=memory_bytes, zero_bytes=zero_bytes)
    found = predict_precopy(curve, **how)
    return {
        "converges": found.converges,
        "rounds": len(found.rounds),
        "total_bytes": found.total_bytes,
        "total_seconds": found.total_seconds,
        "downtime_seconds": found.downtime_seconds,
        "why": found.why,
    }
