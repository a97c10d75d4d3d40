"""What the page of an interactive view holds: each dirty page, or blocks where it is bounded.
How it is drawn is tested in a browser."""

from __future__ import annotations

import random

import numpy as np
import pytest

import iovabitmap as ib
from support.logs import PAGE, make_log, needs, random_epochs, times_of

needs("bokeh", "pyarrow")
from iovabitmap import plot  # noqa: E402
from iovabitmap.plot.view import Rows  # noqa: E402

GEOMETRY = (0x1000, 997 * PAGE - 5, PAGE)


def cells(rows: Rows) -> set[tuple[int, int]]:
    """Each (group of epochs, block) that is dirty; runs must be ascending and apart."""
    found = set()
    before = (-1, 0)
    for group, first, count in zip(
        rows.group.tolist(), rows.first.tolist(), rows.count.tolist(), strict=True
    ):
        assert count > 0 and (group, first) > before
        before = (group, first + count)
        found |= {(group, first + n) for n in range(count)}
    return found


@pytest.mark.parametrize("most", [1, 3, 10, 60, 500, 5000, 1 << 20])
@pytest.mark.parametrize("rows_of_a_block", [7, 1 << 17])
def test_bounded_and_nothing_lost(tmp_path, monkeypatch, most, rows_of_a_block):
    """Against the epochs' page numbers; blocks of the file end within epochs."""
    rng = random.Random(most)
    epochs = random_epochs(rng, GEOMETRY, 40)
    make_log(tmp_path / "log", epochs, GEOMETRY)
    with ib.DirtyLog.open(tmp_path / "log") as log:
        whole = list(log._blocks(0, len(log)))
        parts = [
            block.part(n, n + rows_of_a_block)
            for block in whole
            for n in range(0, len(block.epoch), rows_of_a_block)
        ]
        monkeypatch.setattr(log, "_blocks", lambda i, j: iter(parts))
        rows = Rows.of(log, most)
        assert len(rows.first) <= most and len(rows.start) <= most
        assert len(rows.start) == -(-len(log) // rows.epochs_each)
        for group in range(len(rows.start)):
            first = group * rows.epochs_each
            last = min(first + rows.epochs_each, len(epochs)) - 1
            assert (rows.start[group], rows.end[group]) == (times_of(first)[0], times_of(last)[1])
    expected = {
        (epoch // rows.epochs_each, page >> rows.shift)
        for epoch, pages in enumerate(epochs)
        for page in pages
    }
    assert cells(rows) == expected
    if most >= 1 << 20:
        assert (rows.shift, rows.epochs_each) == (0, 1)


def log_of(path, rows, *, times=lambda n: (n * 10**9, (n + 1) * 10**9), source=""):
    with ib.LogWriter(path, ib.Geometry(0, 1 << 30, PAGE), source=source) as log:
        for n, each in enumerate(rows):
            log.append_ranges(np.array(each, np.uint64).reshape(-1, 2), *times(n))
    return ib.DirtyLog.open(path)


def test_the_title_says_what_was_taken_together(tmp_path):
    rows = [[[n * 3 * PAGE, PAGE] for n in range(20)]] * 9
    with log_of(tmp_path / "x", rows, source="<me>") as log:
        assert plot.view(log).figure.title.text == "<me>: 9 epochs"
        title = plot.view(log, max_rows=4).figure.title.text
        assert "in blocks of" in title and "8 epochs together" in title


@pytest.mark.parametrize("rows", [[], [[]], [[], []]])
def test_nothing_to_draw(tmp_path, rows):
    with log_of(tmp_path / "x", rows) as log, pytest.raises(ValueError, match="no page is ever"):
        plot.view(log)


def test_most_must_be_something(tmp_path):
    with log_of(tmp_path / "x", [[[0, PAGE]]]) as log, pytest.raises(ValueError, match="1 or more"):
        plot.view(log, max_rows=0)


def test_without_times_it_is_by_epoch(tmp_path):
    with log_of(tmp_path / "x", [[[0, PAGE]]] * 3, times=lambda n: (0, 0)) as log:
        figure = plot.view(log).figure
    assert figure.xaxis.axis_label == "epoch" and figure.x_range.end == 3


def test_a_page_that_stands_for_itself(tmp_path):
    """All is in it: what a browser would load has no address."""
    with log_of(tmp_path / "x", [[[0, PAGE]]]) as log:
        view = plot.view(log)
    view.save(tmp_path / "view.html")
    html = (tmp_path / "view.html").read_text(encoding="utf-8")
    assert "<script src" not in html and "<link" not in html and "rowAbove" in html
    shown = view._repr_html_()
    assert shown.startswith("<iframe srcdoc=") and shown.count('"') == 4


def test_the_command_writes_one(tmp_path):
    needs("click")
    from iovabitmap.cli import main

    log_of(tmp_path / "x", [[[0, PAGE]]]).close()
    with pytest.raises(SystemExit) as ended:
        main(["plot", str(tmp_path / "x"), "-o", str(tmp_path / "x.html")])
    assert not ended.value.code
    assert "rowAbove" in (tmp_path / "x.html").read_text(encoding="utf-8")
