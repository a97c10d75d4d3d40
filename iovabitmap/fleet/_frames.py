"""Rows as a pandas data frame whose columns have the same types whatever is missing in them."""

from __future__ import annotations

from numbers import Integral, Real
from typing import TYPE_CHECKING, Any

from .._base.optional import need

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from ._questions import Row


def frame(names: list[str], rows: list[Row], columns: Mapping[str, str]) -> Any:
    """A data frame with the index `log`. Where a row has no value, one is missing.

    Columns of integers and of truth values are nullable types, so that a log without an answer does
    not make floats of the others' numbers.
    """
    pandas = need("pandas", "fleet")
    # Python's own strings, not pyarrow's: names of files and hosts need not be valid Unicode.
    text = pandas.StringDtype("python")
    index = pandas.Index(names, name="log", dtype=text)
    made = {
        name: pandas.Series(
            [row.get(name) for row in rows], index=index, dtype=text if kind == "string" else kind
        )
        for name, kind in columns.items()
    }
    return pandas.DataFrame(made, index=index)


def kinds(rows: Iterable[Row]) -> dict[str, str]:
    """The columns of rows whose types nobody has named, in the order in which they appear."""
    values: dict[str, list[Any]] = {}
    for row in rows:
        for name, value in row.items():
            values.setdefault(name, []).append(value)
    return {name: _kind(found) for name, found in values.items()}


def _kind(values: list[Any]) -> str:
    kind_of = {bool: "boolean", str: "string", Integral: "Int64", Real: "float64"}
    for kind, name in kind_of.items():
        if all(isinstance(value, kind) for value in values):
            small = kind is not Integral or all(-(2**63) <= value < 2**63 for value in values)
            return name if small else "object"
    return "object"
