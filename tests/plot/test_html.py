"""What notebooks show of logs and of what the analysis answers."""

from __future__ import annotations

import math
from xml.etree import ElementTree

import numpy as np
import pytest

import iovabitmap as ib
from iovabitmap import analysis
from iovabitmap.model import ModelBitmap
from support.children import run_child
from support.logs import needs

SECOND = 1_000_000_000
CURVE = analysis.VolumeCurve([1, 2, 4], [1 << 30, 2 << 30, 3 << 30], total_bytes=8 << 30)


def shown(thing) -> str:
    """The text of what is shown, which is well-formed and short."""
    html = thing._repr_html_()
    assert len(html) < 20_000 and "<script" not in html and "http" not in html
    return " ".join(" ".join(ElementTree.fromstring(html).itertext()).split())


def test_a_rate():
    text = shown(analysis.DirtyRate(25600, 4096, 0.5))
    assert "200 MiB/s" in text and "25,600 pages of 4 KiB" in text and "500 ms" in text


def test_a_rate_within_no_time():
    assert "none within 0 s" in shown(analysis.DirtyRate(1, 4096, 0.0))


def test_a_rate_that_cannot_be_one():
    assert analysis.DirtyRate(1, 4096, "x")._repr_html_() == "<code>&lt;DirtyRate&gt;</code>"


def test_a_working_set():
    found = analysis.WorkingSet(3 << 20, 1 << 20, 0.0, 0.5, 1.25e9, 10.0)
    text = shown(found)
    assert "union: 3 MiB" in text and "50 % of epochs: 1 MiB" in text
    assert "10 Gbit/s: 0 bytes" in text


def test_a_curve():
    text = shown(CURVE)
    assert "within 1 s: 1 GiB" in text and "within 4 s: 3 GiB" in text and "memory: 8 GiB" in text


@pytest.mark.parametrize("rate", [1e8, 0.99e9, 2e9])
def test_a_prediction(rate):
    found = analysis.predict_precopy(
        analysis.VolumeCurve.constant(rate, total_bytes=1 << 34), bandwidth=1e9, downtime_limit=0.1
    )
    text = shown(found)
    assert f"converges: {'yes' if found.converges else 'no'}" in text and "8 Gbit/s" in text
    html = found._repr_html_()
    assert html.count("<tr") == 1 + min(len(found.rounds), 13)
    if len(found.rounds) > 12:
        assert f"{len(found.rounds) - 12} more" in text and f"> {len(found.rounds) - 1} <" in (
            html.replace(">", "> ").replace("<", " <")
        )


def test_what_is_written_by_others_is_escaped():
    found = analysis.Prediction(
        False, "<img src=x onerror=alert(1)>" * 100, (analysis.Round(1, math.inf, 1),), 1.0, 1.0
    )
    assert "<img" not in found._repr_html_() and "&lt;img" in found._repr_html_()


@pytest.fixture
def log(tmp_path):
    needs("pyarrow")
    with ib.LogWriter(
        tmp_path / "<b>log", ib.Geometry(0, 1 << 30, 4096), source="<i>me</i>"
    ) as made:
        for n in range(200):
            rows = np.array([[4096 * (n % 50), 4096], [1 << 29, 4096]], np.uint64)
            made.append_ranges(rows[: n % 3], n * SECOND, (n + 1) * SECOND)
    with ib.DirtyLog.open(tmp_path / "<b>log") as opened:
        yield opened


def test_a_log(log):
    text = shown(log)
    assert "epochs: 200" in text and "<i>me</i>" in text and "in 200 s" in text
    assert f"ever dirty: {log.union().count()} pages" in text
    assert "<b>" not in log._repr_html_() and log._repr_html_().count("<svg") == 2


def test_a_log_that_takes_long_to_read_is_not_read(log, monkeypatch):
    monkeypatch.setattr("iovabitmap.logs.log.SHOWN_ROWS", 10)
    monkeypatch.setattr(type(log._epochs), "blocks", lambda *_: pytest.fail("read"))
    assert "epochs: 200" in shown(log) and "<svg" not in log._repr_html_()


def test_logs_in_any_state(log, tmp_path):
    path = log.path
    log.close()
    assert "closed" in shown(log)
    ib.LogWriter(tmp_path / "new", ib.Geometry(0, 4096, 4096)).close()
    with ib.DirtyLog.open(tmp_path / "new") as none:
        assert "epochs: 0" in shown(none)
    data = bytearray(path.read_bytes())
    data[10] ^= 0xFF
    path.write_bytes(data)
    with ib.DirtyLog.open(path) as damaged:
        assert "DirtyLog" in shown(damaged)


def test_the_model_needs_no_numpy():
    run_child(
        """
        sys.modules["numpy"] = None
        from iovabitmap.model import ModelBitmap
        bm = ModelBitmap.from_text("3", 0, 1 << 20, 4096)
        assert "1 page in 1 range" in bm._repr_html_().replace("</span>", "")
        """
    ).assert_lived("HTML without NumPy")
    bm = ib.IOVABitmap.from_text("3,9-20", 0, 1 << 20, 4096)
    twin = ModelBitmap.from_text("3,9-20", 0, 1 << 20, 4096)
    assert twin._repr_html_() == bm._repr_html_().replace("IOVABitmap", "ModelBitmap")
