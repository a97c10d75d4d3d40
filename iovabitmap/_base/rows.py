"""Rows of integers, (first, length): made of whatever holds them, and their union.

An address range may end at 2**64, whose end no uint64 holds: nothing here computes an end, only
lasts, which are inclusive. The same functions serve rows of page numbers.
"""

from __future__ import annotations

import operator
from typing import Any

import numpy as np
import numpy.typing as npt

from .interval_arrays import union

Rows = npt.NDArray[np.uint64]


def integer_rows(values: Any, name: str = "ranges") -> Rows:
    """Rows as an array of uint64, shape (n, 2).

    Parameters
    ----------
    values : array_like
        An array of integers of shape (n, 2), or an iterable of pairs of whatever is an int, also of
        several types: NumPy makes floats of a mix of its uint64 and Python's int, so rows are not
        left to it.
    name : str
        What messages call them.

    Raises
    ------
    TypeError
        For what is not integers: floats, and bools, which are a mask.
    ValueError
        For another shape, and for a number outside 0 to 2**64 - 1, with its row.
    """
    dtype = getattr(values, "dtype", None)
    shape = getattr(values, "shape", None)
    if dtype is not None and shape is not None and dtype.kind != "O":
        return _of_array(np.asarray(values), name)
    rows = [_row(row, number, name) for number, row in enumerate(values)]
    return np.array(rows, np.uint64).reshape(-1, 2)


def _of_array(array: npt.NDArray[Any], name: str) -> Rows:
    if array.size == 0:
        return np.empty((0, 2), np.uint64)
    if array.ndim != 2 or array.shape[1] != 2:
        raise ValueError(f"{name} must be of shape (n, 2), not {array.shape}")
    if array.dtype.kind not in "iu":
        raise TypeError(f"{name} must be integers of shape (n, 2), not {array.dtype}")
    negative = (array < 0).any(axis=1)
    if negative.any():
        row = int(negative.argmax())
        raise ValueError(f"row {row} of {name} is negative: {array[row].tolist()}")
    return array.astype(np.uint64)


def _row(row: Any, number: int, name: str) -> tuple[int, int]:
    try:
        first, length = row
    except (TypeError, ValueError):
        raise ValueError(
            f"row {number} of {name} must be a pair (iova, length), not {row!r:.80}"
        ) from None
    return _number(first, number, name), _number(length, number, name)


def _number(value: Any, number: int, name: str) -> int:
    if isinstance(value, bool | np.bool_) or not hasattr(value, "__index__"):
        raise TypeError(f"row {number} of {name} must be integers, not {value!r:.80}")
    found = operator.index(value)
    if not 0 <= found < 2**64:
        raise ValueError(f"row {number} of {name} must be 0 to 2**64 - 1, not {found}")
    return found


def merged(rows: Rows) -> Rows:
    """The same addresses as ascending rows that neither overlap nor touch. No row is of length 0,
    and none reaches beyond 2**64."""
    first, last = union(rows[:, 0], rows[:, 0] + (rows[:, 1] - np.uint64(1)))
    return np.column_stack((first, last - first + np.uint64(1)))
