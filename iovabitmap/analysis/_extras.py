"""What only some functions need, loaded when they are called."""

from __future__ import annotations

from importlib import import_module
from typing import Any


def pandas() -> Any:
    """pandas, or an ImportError that says how to get it."""
    try:
        return import_module("pandas")
    except ImportError as error:
        raise ImportError(
            "this answer is a data frame and needs pandas: pip install 'iovabitmap[pandas]'"
        ) from error
