"""Times of a log as arguments: whole nanoseconds, and never seconds that were given by mistake."""

from __future__ import annotations

import operator
from typing import SupportsIndex


def nanoseconds(name: str, value: SupportsIndex) -> int:
    """`value` as an int.

    Raises
    ------
    TypeError
        For a float, which is likely to be seconds, and for whatever else is not an integer.

    Examples
    --------
    >>> nanoseconds("t_start_ns", 1.5)
    Traceback (most recent call last):
      ...
    TypeError: t_start_ns must be a whole number of nanoseconds, not 1.5 (1.5 s are 1500000000 ns)
    """
    try:
        return operator.index(value)
    except TypeError:
        hint = ""
        if isinstance(value, float) and abs(value) < 2**62:
            hint = f" ({float(value)!r} s are {round(value * 1e9)} ns)"
        raise TypeError(
            f"{name} must be a whole number of nanoseconds, not {value!r:.80}{hint}"
        ) from None
