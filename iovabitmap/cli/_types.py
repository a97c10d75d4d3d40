"""Values that commands take, each a function that click calls with the text: sizes, durations,
windows of epochs and parts of an address space."""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

import click

from iovabitmap._base.text import duration_ns

if TYPE_CHECKING:
    from collections.abc import Callable

SUFFIXES = {letter: 1 << 10 * (n + 1) for n, letter in enumerate("kmgtp")}


def size(text: str) -> int:
    """A number of bytes, or an address: 4096, 0x1000, 4K, 2MiB."""
    found = re.fullmatch(r"(0x[0-9a-f]{1,16}|[0-9]{1,20})(?:([kmgtp])(?:i?b)?)?", text.lower())
    if found is None:
        raise click.BadParameter(f"{text!r} is not a valid size: 4096, 0x1000, 4K or 2MiB")
    digits, suffix = found.groups()
    number = int(digits, 16 if digits.startswith("0x") else 10) * SUFFIXES.get(suffix, 1)
    if number > 2**64:
        raise click.BadParameter(f"{text!r} is more than 2**64")
    return number


def duration(text: str) -> int:
    """A length of time, in nanoseconds: 100ms, 2s, or a number of seconds."""
    try:
        return duration_ns(text)
    except ValueError as error:
        raise click.BadParameter(str(error)) from None


def interval(shortest_ns: int, shortest: str) -> Callable[[str], int]:
    """A type of option: a duration that is not shorter than this, which has that name."""

    def interval(text: str) -> int:
        found = duration(text)
        if found < shortest_ns:
            raise click.BadParameter(f"{text!r} is too short: {shortest} or more")
        return found

    return interval


def epochs(text: str) -> slice:
    """A window of epochs as a slice: 3:7 is 3 to 6, -10: the last ten; 5 is that one alone."""
    one = re.fullmatch(r"-?[0-9]{1,18}", text)
    if one is not None:
        return slice(int(text), int(text) + 1 or None)
    found = re.fullmatch(r"(-?[0-9]{1,18})?:(-?[0-9]{1,18})?", text)
    if found is None:
        raise click.BadParameter(f"{text!r} is not a valid window of epochs: 5, 3:7, :10 or -10:")
    return slice(*(None if bound is None else int(bound) for bound in found.groups()))


def region(text: str) -> tuple[int, int]:
    """A part of an address space: START:LENGTH."""
    start, colon, length = text.partition(":")
    if not colon:
        raise click.BadParameter(f"{text!r} is not a valid START:LENGTH")
    return size(start), size(length)
