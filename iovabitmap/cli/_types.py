"""Values that commands take, each a function that click calls with the text: sizes, durations,
windows of epochs and parts of an address space."""

from __future__ import annotations

import re

import click

SUFFIXES = {letter: 1 << 10 * (n + 1) for n, letter in enumerate("kmgtp")}
DURATIONS = {"ns": 1, "us": 10**3, "ms": 10**6, "s": 10**9, "m": 60 * 10**9, "h": 3600 * 10**9}


def size(text: str) -> int:
    """A number of bytes, or an address: 4096, 0x1000, 4K, 2MiB."""
    found = re.fullmatch(r"(0x[0-9a-f]{1,16}|\d{1,20})(?:([kmgtp])(?:i?b)?)?", text.lower())
    if found is None:
        raise click.BadParameter(f"{text!r} is no size: 4096, 0x1000, 4K or 2MiB")
    digits, suffix = found.groups()
    number = int(digits, 16 if digits.startswith("0x") else 10) * SUFFIXES.get(suffix, 1)
    if number > 2**64:
        raise click.BadParameter(f"{text!r} is more than 2**64")
    return number


def duration(text: str) -> int:
    """A length of time, in nanoseconds: 100ms, 2s, or a number of seconds."""
    found = re.fullmatch(r"(\d{1,9}(?:\.\d{1,9})?)\s*(ns|us|ms|s|m|h)?", text)
    if found is None:
        raise click.BadParameter(f"{text!r} is no duration: 100ms, 2s, or a number of seconds")
    return round(float(found[1]) * DURATIONS[found[2] or "s"])


def epochs(text: str) -> slice:
    """A window of epochs as a slice: 3:7 is 3 to 6, -10: the last ten; 5 is that one alone."""
    one = re.fullmatch(r"-?\d{1,18}", text)
    if one is not None:
        return slice(int(text), int(text) + 1 or None)
    found = re.fullmatch(r"(-?\d{1,18})?:(-?\d{1,18})?", text)
    if found is None:
        raise click.BadParameter(f"{text!r} is no window of epochs: 5, 3:7, :10 or -10:")
    return slice(*(None if bound is None else int(bound) for bound in found.groups()))


def region(text: str) -> tuple[int, int]:
    """A part of an address space: START:LENGTH."""
    start, colon, length = text.partition(":")
    if not colon:
        raise click.BadParameter(f"{text!r} is no START:LENGTH")
    return size(start), size(length)
