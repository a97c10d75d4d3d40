"""The one text for sizes, times and counts, and for what others wrote."""

from __future__ import annotations

import math

import pytest

from iovabitmap._base.text import (
    printable,
    show_bandwidth,
    show_bytes,
    show_count,
    show_seconds,
    unit_of,
)


def test_sizes():
    sizes = 0, 1, 1023, 1024, 1.5 * 2**20, 2**64, -(2**30)
    assert [show_bytes(size) for size in sizes] == [
        "0 bytes",
        "1 bytes",
        "1023 bytes",
        "1 KiB",
        "1.5 MiB",
        "16 EiB",
        "-1 GiB",
    ]
    assert unit_of(1023) == ("bytes", 1) and unit_of(2**70) == ("EiB", 2**60)


def test_times():
    times = 0, 1e-10, 1e-7, 0.0001, 0.1, 0.99, 90, 86400.4, math.inf
    assert [show_seconds(seconds) for seconds in times] == [
        "0 s",
        "0.1 ns",
        "100 ns",
        "100 us",
        "100 ms",
        "990 ms",
        "90 s",
        "86400 s",
        "inf s",
    ]


def test_counts():
    assert [show_count(n, "page") for n in (0, 1, 1024)] == ["0 pages", "1 page", "1,024 pages"]
    assert show_bandwidth(1.25e9) == "10 Gbit/s"


@pytest.mark.parametrize("text", ["", "a[/]b", "caf\u00e9 \u65e5", "a b\\c"])
def test_what_can_be_printed_stays(text):
    assert printable(text) == text


@pytest.mark.parametrize(
    "text, shown",
    [
        ("a\x1b[31mb", r"a\x1b[31mb"),
        ("a\nb\t", r"a\nb\t"),
        ("\udcff", r"\udcff"),
        ("\u202e", r"\u202e"),
    ],
)
def test_what_cannot_is_as_python_writes_it(text, shown):
    assert printable(text) == shown
