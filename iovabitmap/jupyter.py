"""The IPython extension: `%load_ext iovabitmap`, then `%%dirty` above a cell.

The cell runs as ever; meanwhile, a thread asks a `ProcessTracker` at each interval which pages of
this process were written. Afterwards, what the cell dirtied is shown: the rate, the working set, a
map, and NumPy arrays by name. The interpreter's own memory is a part of it, and so is that of the
recording, which is small.
"""

from __future__ import annotations

import ast
import math
from collections.abc import Callable, Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from . import analysis
from ._base import html
from ._base.intervals import union
from ._base.optional import need
from ._base.text import show_bytes, show_seconds
from .recording.own_process import OwnRecording
from .sources import ProcessTracker

if TYPE_CHECKING:
    from ._core import IOVABitmap
    from .logs import DirtyLog
    from .sources import LayoutRow

INTERVAL = 0.1
MOST_ARRAYS = 12  # that are shown


class ArrayPages(NamedTuple):
    """An array by its name: its bytes, and those of its whole pages that were dirty."""

    name: str
    about: str
    nbytes: int
    dirty: int


class Dirtied:
    """What a cell dirtied.

    Attributes
    ----------
    log : DirtyLog
        The recording, open for reading; its file goes when the log does.
    rate : analysis.DirtyRate
        Over all of the cell.
    working_set : analysis.WorkingSet
    arrays : list of ArrayPages
        The NumPy arrays that were written, the most first. An array counts by the pages that it has
        for itself: of one without such pages, nobody can tell.
    remark : str
        Empty, or why the recording is not whole.
    """

    def __init__(self, log: DirtyLog, arrays: list[ArrayPages], remark: str) -> None:
        self.log, self.arrays, self.remark = log, arrays, remark
        self.rate = analysis.dirty_rate(log)
        self.working_set = analysis.working_set(log)

    def _facts(self) -> list[tuple[str, str]]:
        rate, found = self.rate, self.working_set
        facts = [
            ("dirty", f"{show_bytes(rate.nbytes)} in {show_seconds(rate.seconds)}"),
            ("rate", f"{rate.mib_per_s:.4g} MiB/s at that interval"),
            ("working set", f"{show_bytes(found.hot)} dirty in at least half of the epochs"),
            ("epochs", f"{len(self.log):,}"),
        ]
        return [*facts, ("remark", self.remark)] if self.remark else facts

    def _rows(self) -> list[tuple[str, str, str, str]]:
        return [
            (each.name, each.about, show_bytes(each.dirty), show_bytes(each.nbytes))
            for each in self.arrays[:MOST_ARRAYS]
        ]

    def __repr__(self) -> str:
        lines = [f"{name}: {value}" for name, value in self._facts()]
        rows = self._rows()
        if rows:
            lines.append("arrays:")
            lines += [f"  {name} {about}: {dirty} of {size}" for name, about, dirty, size in rows]
        return "\n".join(lines)

    @html.never_raising
    def _repr_html_(self) -> str:
        rows = self._rows()
        arrays = html.table(("array", "is", "dirty", "of"), rows) if rows else ""
        return html.piece(self, self._facts(), arrays, *self.log._pictures())


def load_ipython_extension(shell: Any) -> None:
    """Called by `%load_ext`: registers the magic."""

    def dirty(line: str, cell: str) -> None:
        """%%dirty [--interval SECONDS] [NAME]: run the cell, and show which memory it dirtied.

        Looks at each interval, of 0.1 s by default. NAME becomes the DirtyLog. What the cell raises
        is raised, and what was recorded until then is shown.
        """
        __tracebackhide__ = True
        run_dirty(shell, line, cell)

    shell.register_magic_function(dirty, "cell", "dirty")


def run_dirty(shell: Any, line: str, cell: str) -> None:
    """What `%%dirty` does, in an IPython shell."""
    __tracebackhide__ = True
    display = need("IPython.display").display
    interval, name = _arguments(line)
    run = _compiled(shell, cell)
    probe = ProcessTracker.probe()
    if not probe:
        raise _usage(f"this machine cannot track writes: {probe.reason}")
    recording = OwnRecording(interval)
    try:
        run()
    finally:
        log, layout, remark = recording.finish()
        arrays = written_arrays(shell.user_ns, layout, log.union())
        found = Dirtied(log, arrays, remark)
        if name:
            shell.user_ns[name] = found.log
        display(found)


def _usage(message: str) -> Exception:
    error: Exception = need("IPython.core.error").UsageError(message)
    return error


def _arguments(line: str) -> tuple[float, str]:
    parser = need("IPython.core.magic_arguments").MagicArgumentParser(
        prog="%%dirty", add_help=False
    )
    parser.add_argument("--interval", type=float, default=INTERVAL)
    parser.add_argument("name", nargs="?", default="")
    given = parser.parse_args(line.split())
    if not (given.interval > 0 and math.isfinite(given.interval)):
        raise _usage(f"--interval must be above 0 seconds, not {given.interval}")
    if given.name and not given.name.isidentifier():
        raise _usage(f"{given.name!r} is no name")
    return given.interval, given.name


def _compiled(shell: Any, cell: str) -> Callable[[], None]:
    """The cell, ready to run as IPython would: its last expression is shown."""
    source = shell.transform_cell(cell)
    name = shell.compile.cache(source, shell.execution_count, raw_code=cell)
    tree = shell.transform_ast(shell.compile.ast_parse(source, name))
    last = [tree.body.pop()] if tree.body and isinstance(tree.body[-1], ast.Expr) else []
    steps = [
        shell.compile(tree, name, "exec"),
        shell.compile(ast.Interactive(last), name, "single"),
    ]

    def run() -> None:
        __tracebackhide__ = True
        for step in steps:
            exec(step, shell.user_ns)

    return run


# --- arrays --------------------------------------------------------------------------------------


def written_arrays(
    names: Mapping[str, Any], layout: Iterable[LayoutRow], union: IOVABitmap
) -> list[ArrayPages]:
    """The arrays among `names` that have a dirty page in `union`, the most first. Names that begin
    with an underscore, as those of IPython's history, are left out."""
    rows = list(layout)
    found = []
    for name, array in list(names.items()):
        if isinstance(array, np.ndarray) and not name.startswith("_"):
            low, high = _bounds(array)
            low, high = low + -low % union.page_size, high - high % union.page_size
            dirty = sum(union.count(*part) for part in _parts(rows, low, high)) * union.page_size
            if dirty:
                about = f"{array.dtype} {array.shape}"
                found.append(ArrayPages(name, about, high - low, dirty))
    return sorted(found, key=lambda each: (-each.dirty, each.name))


def _bounds(array: np.ndarray[Any, Any]) -> tuple[int, int]:
    """The first byte of an array's memory, and the end."""
    steps = [
        (size - 1) * stride for size, stride in zip(array.shape, array.strides, strict=True) if size
    ]
    low = array.__array_interface__["data"][0] + sum(step for step in steps if step < 0)
    return low, low + sum(abs(step) for step in steps) + (array.itemsize if array.size else 0)


def _parts(rows: Iterable[LayoutRow], low: int, high: int) -> list[tuple[int, int]]:
    """Where the addresses low to high are in the IOVA space: (iova, length), each place once."""
    spans = (
        (row.iova + first - row.address, row.iova + end - row.address)
        for row in rows
        for first, end in [(max(row.address, low), min(row.address + row.length, high))]
        if first < end
    )
    return [(start, end - start) for start, end in union(spans)]
