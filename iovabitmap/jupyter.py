"""The IPython extension: `%load_ext iovabitmap`, then `%%dirty` above a cell.

IPython runs the cell as any other; concurrently, a thread asks a `ProcessTracker` at each interval
which pages of this process were written. Afterwards, what the cell dirtied is shown: the rate, the
working set, a map, and NumPy arrays by name. The interpreter's own memory is a part of it, and so
is that of the recording, which is small.
"""

from __future__ import annotations

import ast
from collections.abc import Iterable, Mapping
from typing import TYPE_CHECKING, Any, NamedTuple

import numpy as np

from . import analysis
from ._base import html
from ._base.intervals import union as union_of
from ._base.optional import need
from ._base.text import duration_ns, show_bytes, show_seconds
from .recording.own_process import OwnRecording
from .recording.recording import MIN_INTERVAL
from .sources import ProcessTracker

if TYPE_CHECKING:
    from ._core import IOVABitmap
    from .logs import DirtyLog
    from .sources import LayoutRow

INTERVAL = "100ms"
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
    magic = DirtyMagic(shell)
    shell.register_magic_function(magic.dirty, "line_cell", "dirty")
    shell.input_transformers_post.append(magic.transform)


class DirtyMagic:
    """`%%dirty` in an IPython shell.

    The cell is never run from here, but by IPython, as any other: its first line becomes a call
    that begins a recording, and IPython says when the cell is over.
    """

    def __init__(self, shell: Any) -> None:
        self._shell = shell
        self._recording: OwnRecording | None = None
        self._name = ""
        self._inner = 0  # cells that a cell runs, as %%capture does

    def dirty(self, line: str, cell: str | None = None) -> None:
        """%%dirty [--interval TIME] [NAME]: run the cell, and show which memory it dirtied.

        Scans at each interval, of 100ms by default; a number is in seconds. NAME becomes the
        DirtyLog. If the cell raises, what was recorded until then is shown. As a line, %dirty
        records from there to the end of the cell.
        """
        __tracebackhide__ = True
        if cell is not None:  # called by a program, for IPython's own way is `transform`
            self._shell.run_cell(self._spread(line, cell)).raise_error()
        else:
            self._begin(line)

    def transform(self, lines: list[str]) -> list[str]:
        """Of the lines of a cell, those that IPython runs in place of `%%dirty` and what follows:
        an input transformer, which gets the call that `%%dirty` became."""
        if not lines or not lines[0].startswith(_CALL):
            return lines
        line, cell = (ast.literal_eval(each) for each in _arguments_of("".join(lines)))
        return self._spread(line, cell).splitlines(keepends=True)

    def _spread(self, line: str, cell: str) -> str:
        begin = f"get_ipython().run_line_magic('dirty', {line!r})"
        return _with_first(begin, self._shell.transform_cell(cell))

    def _begin(self, line: str) -> None:
        __tracebackhide__ = True
        if self._recording is not None:
            raise _usage("this cell is recorded already: one %%dirty in a cell")
        interval, name = _arguments(line)
        probe = ProcessTracker.probe()
        if not probe:
            raise _usage(f"this machine cannot track writes: {probe.reason}")
        self._recording = OwnRecording(interval)
        self._name, self._inner = name, 0
        self._shell.events.register("pre_run_cell", self._enter)
        self._shell.events.register("post_run_cell", self._leave)

    def _enter(self, info: object) -> None:
        del info
        self._inner += 1

    def _leave(self, result: object) -> None:
        """The end of a cell, however it ended."""
        del result
        if self._inner:
            self._inner -= 1
            return
        self._shell.events.unregister("pre_run_cell", self._enter)
        self._shell.events.unregister("post_run_cell", self._leave)
        recording, self._recording = self._recording, None
        assert recording is not None
        log, layout, remark = recording.finish()
        arrays = written_arrays(self._shell.user_ns, layout, log.union())
        found = Dirtied(log, arrays, remark)
        if self._name:
            self._shell.user_ns[self._name] = found.log
        need("IPython.display").display(found)


_CALL = "get_ipython().run_cell_magic('dirty', "  # what IPython makes of `%%dirty`


def _arguments_of(call: str) -> list[ast.expr]:
    """The line and the cell in such a call."""
    statement = ast.parse(call).body[0]
    assert isinstance(statement, ast.Expr) and isinstance(statement.value, ast.Call)
    return statement.value.args[1:]


def _with_first(call: str, body: str) -> str:
    """A cell with a call before it, which takes one line; if it begins with `from __future__`,
    which nothing may come before, behind that."""
    at = _end_of_future_imports(body)
    if at is None:
        return f"{call}\n{body}"
    lines = body.split("\n")
    line, column = at
    text = lines[line - 1].encode()
    lines[line - 1] = (text[:column] + f"; {call}".encode() + text[column:]).decode()
    return "\n" + "\n".join(lines)


def _end_of_future_imports(body: str) -> tuple[int, int] | None:
    """The line, from 1, and the byte in it behind the imports from `__future__`; None without."""
    if "__future__" not in body:
        return None
    try:
        statements = ast.parse(body).body
    except (SyntaxError, ValueError):  # IPython says what is wrong
        return None
    imports = [
        each
        for each in statements
        if isinstance(each, ast.ImportFrom) and each.module == "__future__"
    ]
    if not imports:
        return None
    line, column = imports[-1].end_lineno, imports[-1].end_col_offset
    assert line is not None and column is not None
    return line, column


def _usage(message: str) -> Exception:
    error: Exception = need("IPython.core.error").UsageError(message)
    return error


def _arguments(line: str) -> tuple[float, str]:
    """The interval in seconds, and the name, "" if there is none."""
    parser = need("IPython.core.magic_arguments").MagicArgumentParser(
        prog="%%dirty", add_help=False
    )
    parser.add_argument("--interval", default=INTERVAL)
    parser.add_argument("name", nargs="?", default="")
    given = parser.parse_args(line.split())
    try:
        interval = duration_ns(given.interval)
    except ValueError as error:
        raise _usage(f"--interval: {error}") from None
    if interval < MIN_INTERVAL * 1e9:
        raise _usage(f"--interval must be at least {MIN_INTERVAL} seconds, not {given.interval}")
    if given.name and not given.name.isidentifier():
        raise _usage(f"{given.name!r} is not a valid name")
    return interval / 1e9, given.name


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
    if not array.size:  # its strides may say otherwise
        return 0, 0
    steps = [(size - 1) * stride for size, stride in zip(array.shape, array.strides, strict=True)]
    low = array.__array_interface__["data"][0] + sum(step for step in steps if step < 0)
    return low, low + sum(abs(step) for step in steps) + array.itemsize


def _parts(rows: Iterable[LayoutRow], low: int, high: int) -> list[tuple[int, int]]:
    """Where the addresses low to high are in the IOVA space: (iova, length), each place once."""
    spans = (
        (row.iova + first - row.address, row.iova + end - row.address)
        for row in rows
        for first, end in [(max(row.address, low), min(row.address + row.length, high))]
        if first < end
    )
    return [(start, end - start) for start, end in union_of(spans)]
