"""The demonstration runs, small, with both of its sources, and shows what it promises."""

from __future__ import annotations

import os
import re
import struct
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import pytest

from iovabitmap.sources import WriteTracker

DEMO = Path(__file__).parents[2] / "examples" / "demo.py"
MIB = 8
ROW = re.compile(r" *(\d+\.\d\d)  (sort|updates|sweep) +(\d+) +(\d+) +(\d+\.\d) +(\d+) +(\d+) ")

pytestmark = [
    pytest.mark.skipif(not DEMO.exists(), reason="examples/ is not beside this copy of the tests"),
    pytest.mark.skipif(
        not (find_spec("matplotlib") and find_spec("rich")), reason="needs matplotlib and rich"
    ),
]


def run(*arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(DEMO), "--mib", str(MIB), "--interval", "0.1", *arguments],
        env=dict(
            os.environ,
            PYTHONPATH=os.pathsep.join(path for path in sys.path if path),
            PYTHONIOENCODING="utf-8",
        ),
        capture_output=True,
        encoding="utf-8",
        timeout=300,
        check=False,
    )


@pytest.mark.parametrize("source", ["tracker", "snapshot"])
def test_table_and_picture(source, tmp_path):
    probe = WriteTracker.probe()
    if source == "tracker" and not probe:
        pytest.skip(probe.reason)
    picture = tmp_path / "new" / "heatmap.png"
    done = run("--source", source, "--out", str(picture))
    assert done.returncode == 0, done.stderr
    rows = ROW.findall(done.stdout)
    assert len(rows) >= 20, done.stdout
    assert list(dict.fromkeys(row[1] for row in rows)) == ["sort", "updates", "sweep"]
    times = [float(row[0]) for row in rows]
    assert times == sorted(times)
    for _, _, dirty, ranges, _, newly, again in rows:
        assert int(newly) + int(again) == int(dirty)
        assert min(1, int(dirty)) <= int(ranges) <= int(dirty)
    # The sweep writes each page of the array once; the one at the edge of two epochs twice.
    swept = [int(row[2]) for row in rows if row[1] == "sweep"]
    array_pages = (MIB << 20) * 7 // 8 // os.sysconf("SC_PAGESIZE")
    assert array_pages <= sum(swept) <= array_pages + len(swept)
    assert "the numbers are sorted and the sum is right" in done.stdout
    assert f"{MIB * 7 / 8:.1f} of {MIB} MiB" in done.stdout
    assert str(picture) in done.stdout
    content = picture.read_bytes()
    assert content.startswith(b"\x89PNG\r\n\x1a\n")
    width, height = struct.unpack(">II", content[16:24])
    assert width > 1000 and height > 700


def test_bad_options():
    for options in (
        ["--mib", "0"],
        ["--interval", "0"],
        ["--interval", "nan"],
        ["--interval", "inf"],
    ):
        done = run(*options)
        assert done.returncode == 2
        assert "must be" in done.stderr


def test_says_why_it_cannot_track(tmp_path):
    """On a machine that cannot, and so with a probe that fails: it says so and goes on."""
    (tmp_path / "sitecustomize.py").write_text(
        "from iovabitmap.sources import Probe, WriteTracker\n"
        "WriteTracker.probe = lambda: Probe(False, 'no such kernel')\n"
    )
    sys.path.insert(0, str(tmp_path))
    try:
        done = run("--out", str(tmp_path / "heatmap.png"))
        refused = run("--source", "tracker")
    finally:
        sys.path.remove(str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert "cannot track writes: no such kernel" in done.stdout
    assert len(ROW.findall(done.stdout)) >= 20
    assert refused.returncode == 1
    assert "cannot track writes: no such kernel" in refused.stderr
