"""Numbers, and what others wrote, as people read them: the one text for sizes, times and counts."""

from __future__ import annotations

import re

DURATIONS = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}
MAX_DURATION_DAYS = 366  # far less than what a clock or a timeout can hold
UNITS = ("bytes", "KiB", "MiB", "GiB", "TiB", "PiB", "EiB")
SHORTER = ((1.0, "s"), (1e-3, "ms"), (1e-6, "us"), (1e-9, "ns"))  # each with its seconds


def unit_of(nbytes: float) -> tuple[str, int]:
    """The largest unit of which there is at least one, and its bytes: ("KiB", 1024)."""
    power = 0
    while power + 1 < len(UNITS) and abs(nbytes) >= 1 << 10 * (power + 1):
        power += 1
    return UNITS[power], 1 << 10 * power


def show_bytes(nbytes: float) -> str:
    """A number of bytes for people.

    >>> show_bytes(0), show_bytes(1023), show_bytes(1.5 * 2**30)
    ('0 bytes', '1023 bytes', '1.5 GiB')
    """
    unit, size = unit_of(nbytes)
    return f"{nbytes / size:.4g} {unit}"


def show_seconds(seconds: float) -> str:
    """A length of time for people.

    >>> show_seconds(0), show_seconds(0.3), show_seconds(1e-7), show_seconds(86_400)
    ('0 s', '300 ms', '100 ns', '86400 s')
    """
    if abs(seconds) >= 1000:
        return f"{seconds:.0f} s"
    for size, unit in SHORTER:
        if abs(seconds) >= size:
            return f"{seconds / size:.4g} {unit}"
    return f"{seconds / 1e-9:.4g} ns" if seconds else "0 s"


def show_count(number: int, what: str) -> str:
    """So many of what is counted: "1 page", "1,024 pages"."""
    return f"{number:,} {what}{'s' * (number != 1)}"


def show_bandwidth(bytes_per_s: float) -> str:
    """A network's bandwidth, in decimal bits as those are counted: "10 Gbit/s"."""
    return f"{bytes_per_s * 8 / 1e9:.4g} Gbit/s"


def printable(text: str) -> str:
    """A text that others wrote, on one line and without what a terminal would obey: characters that
    are not printable, and bytes that are not UTF-8, as Python writes them.

    >>> print(printable("a[/b]\\x1b[31m"))
    a[/b]\\x1b[31m
    """
    if text.isprintable():
        return text
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


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
