"""Pieces of HTML that notebooks show: facts, tables, maps of cells, bars.

Each piece stands for itself, without scripts, style sheets or links, and is of a size that does not
grow with what it shows. Text and lines have the colour of the page around, so it can be read on a
light and a dark one. What a class shows lies beside the class, is `never_raising`, and raises only
for want of memory, whatever the object's state is: if it fails, what is shown is the `repr`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from functools import wraps
from html import escape
from typing import TypeVar

from .text import printable

Shown = TypeVar("Shown")
Fact = tuple[str, str]

CELLS_ACROSS = 64  # of a map, and bars beside each other
CELL_PIXELS = 8
LONGEST_TEXT = 200

FILL = "#2585c7"  # seen on white and on black, and by the colour-blind
LEVELS = ("0.4", "0.6", "0.8", "1")


def never_raising(show: Callable[[Shown], str]) -> Callable[[Shown], str]:
    """What it shows; where that fails, the object's `repr`, or its type's name."""

    @wraps(show)
    def shown(thing: Shown) -> str:
        try:
            return show(thing)
        except MemoryError:
            raise
        except Exception:
            try:
                return f"<code>{_text(repr(thing))}</code>"
            except Exception:
                return f"<code>&lt;{_text(type(thing).__name__)}&gt;</code>"

    return shown


def piece(thing: object, facts: Iterable[Fact], *parts: str) -> str:
    """The name of the thing's type, facts below it, then parts that are HTML already."""
    lines = "".join(
        f'<div><span style="opacity:.7">{_text(name)}:</span> {_text(value)}</div>'
        for name, value in facts
    )
    return (
        '<div style="color:inherit;font:13px/1.5 system-ui,sans-serif;overflow-wrap:anywhere">'
        f"<strong>{_text(type(thing).__name__)}</strong>{lines}{''.join(parts)}</div>"
    )


def table(head: Sequence[str], rows: Iterable[Sequence[str]]) -> str:
    """A table of text."""
    style = "text-align:right;padding:0 .8em 0 0;background:none;color:inherit;border:0"

    def line(tag: str, cells: Iterable[str]) -> str:
        return "".join(f'<{tag} style="{style}">{_text(cell)}</{tag}>' for cell in cells)

    body = "".join(f'<tr style="background:none">{line("td", cells)}</tr>' for cells in rows)
    return (
        '<table style="border-collapse:collapse;color:inherit;font:inherit;margin:.3em 0">'
        f'<tr style="background:none">{line("th", head)}</tr>{body}</table>'
    )


def _text(text: str) -> str:
    """Printable, escaped, and of a bounded length."""
    text = printable(text)
    return escape(text if len(text) <= LONGEST_TEXT else text[: LONGEST_TEXT - 1] + "\u2026")


def grid(lines: Sequence[Sequence[float]], label: str) -> str:
    """Cells of which a part is dirty, 0 to 1, from the top: empty where it is 0."""
    paths: list[list[str]] = [[] for _ in LEVELS]
    for y, line in enumerate(lines):
        levels = [_level(part) for part in line]
        x = 0
        while x < len(levels):
            end = x + 1
            while end < len(levels) and levels[end] == levels[x]:
                end += 1
            if levels[x] >= 0:
                paths[levels[x]].append(f"M{x} {y}h{end - x}v1h{x - end}z")
            x = end
    drawn = "".join(
        f'<path d="{"".join(path)}" fill="{FILL}" fill-opacity="{opacity}"/>'
        for path, opacity in zip(paths, LEVELS, strict=True)
        if path
    )
    return _svg(max(map(len, lines)), len(lines), drawn, label)


def _level(part: float) -> int:
    """Which of the levels, by the root of the part; -1 where nothing is dirty."""
    return -1 if part <= 0 else min(int(part**0.5 * len(LEVELS)), len(LEVELS) - 1)


def bars(values: Sequence[float], label: str) -> str:
    """A bar for each value, over the largest one."""
    high, top = 6, max(values) or 1
    path = "".join(
        f"M{x} {high}v-{high * value / top:.2f}h1V{high}z"
        for x, value in enumerate(values)
        if value > 0
    )
    return _svg(len(values), high, f'<path d="{path}" fill="{FILL}"/>', label)


def _svg(width: int, height: int, drawn: str, label: str) -> str:
    return (
        f'<div style="margin:.3em 0"><svg role="img" aria-label="{_text(label)}" '
        f'viewBox="0 0 {width} {height}" width="{width * CELL_PIXELS}" '
        f'height="{height * CELL_PIXELS}" preserveAspectRatio="none" '
        'style="max-width:100%;outline:1px solid currentColor">'
        f'{drawn}</svg><div style="font-size:11px;opacity:.7">{_text(label)}</div></div>'
    )
