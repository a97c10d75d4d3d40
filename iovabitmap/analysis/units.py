"""Units by name. Everything else in this package is in bytes, seconds and bytes per second.

Networks are counted in decimal bits, memory in binary bytes; a factor of 1.07 lies between the two
readings of "1 Gbit/s", so they are never mixed here.
"""

from __future__ import annotations

KIB = 1 << 10
MIB = 1 << 20
GIB = 1 << 30


def mbit_per_s(x: float) -> float:
    """Bytes per second of `x` megabits (10**6 bits) per second.

    >>> mbit_per_s(800)
    100000000.0
    """
    return x * 1e6 / 8


def gbit_per_s(x: float) -> float:
    """Bytes per second of `x` gigabits (10**9 bits) per second.

    >>> gbit_per_s(1)
    125000000.0
    """
    return x * 1e9 / 8


def mib_per_s(x: float) -> float:
    """Bytes per second of `x` mebibytes (2**20 bytes) per second."""
    return x * MIB
