"""Times as integers of nanoseconds, which are never mixed up with seconds."""

from __future__ import annotations

import operator
from typing import Any


def nanoseconds(name: str, value: Any) -> int:
    """A time as an integer; TypeError for a float, which may be seconds, and for anything else.

    >>> nanoseconds("t_start_ns", 0.5)
    Traceback (most recent call last):
        ...
    TypeError: t_start_ns must be an integer, of nanoseconds, not 0.5
    """
    try:
        return operator.index(value)
    except TypeError:
        raise TypeError(f"{name} must be an integer, of nanoseconds, not {value!r}") from None
