"""Numbers as people read and write them. Imports nothing of the package, so that everything may
use it."""

from __future__ import annotations

import re

DURATIONS = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
MAX_DURATION_DAYS = 366  # far less than what a clock or a timeout can hold


def show_bytes(nbytes: float) -> str:
    """A number of bytes for people: "1.5 GiB"."""
    for shift, unit in (
        (60, "EiB"),
        (50, "PiB"),
        (40, "TiB"),
        (30, "GiB"),
        (20, "MiB"),
        (10, "KiB"),
    ):
        if abs(nbytes) >= 1 << shift:
            return f"{nbytes / (1 << shift):.4g} {unit}"
    return f"{nbytes:.4g} bytes"


def show_seconds(seconds: float) -> str:
    """A time for people: "300 ms"."""
    if abs(seconds) >= 1 or seconds == 0:
        return f"{seconds:.4g} s"
    return f"{seconds * 1e3:.4g} ms" if abs(seconds) >= 1e-3 else f"{seconds * 1e6:.4g} us"


def duration_ns(text: str) -> int:
    """A length of time in nanoseconds, from text: 100ms, 2s, or a number of seconds.

    Raises ValueError, which says what is right: another text, or more than 366 days.

    Examples
    --------
    >>> duration_ns("100ms"), duration_ns("0.5"), duration_ns("2 m")
    (100000000, 500000000, 120000000000)
    """
    found = re.fullmatch(r"([0-9]{1,18})(?:\.([0-9]{1,18}))? ?(ns|us|ms|s|m|h)?", text)
    if found is None:
        raise ValueError(f"{text!r} is not a valid time: 100ms, 2s, or a number of seconds")
    whole, part, unit = found[1], found[2] or "", DURATIONS[found[3] or "s"]
    divisor: int = 10 ** len(part)
    duration = (int(whole + part) * unit + divisor // 2) // divisor
    if duration > MAX_DURATION_DAYS * 24 * DURATIONS["h"]:
        raise ValueError(f"{text!r} is longer than {MAX_DURATION_DAYS} days")
    return duration
