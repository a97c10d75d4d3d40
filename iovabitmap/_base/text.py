"""Numbers, and what others wrote, as people read them: the one text for sizes, times and counts."""

from __future__ import annotations

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
