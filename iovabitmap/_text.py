"""Numbers as people read them. Imports nothing, so that everything may use it."""

from __future__ import annotations


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
