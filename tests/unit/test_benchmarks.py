"""The bench runs, tiny: answers agree, files are written. Nothing here depends on times."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

BENCH = Path(__file__).parents[2] / "benchmarks" / "run.py"
TOOLS = {"iovabitmap", "NumPy", "bitarray"}

pytestmark = [
    pytest.mark.skipif(
        not BENCH.exists(), reason="benchmarks/ is not beside this copy of the tests"
    ),
    pytest.mark.skipif(not find_spec("bitarray"), reason="needs bitarray"),
    pytest.mark.skipif(not hasattr(np, "bitwise_count"), reason="needs NumPy 2"),
]


def run(*arguments: str, **environment: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, str(BENCH), "--quick", "--kib", "8,16,32", *arguments],
        env=dict(
            os.environ,
            PYTHONPATH=os.pathsep.join(path for path in sys.path if path),
            PYTHONIOENCODING="utf-8",
            **environment,
        ),
        capture_output=True,
        encoding="utf-8",
        timeout=300,
        check=False,
    )


def test_one_question(tmp_path):
    out = tmp_path / "new"
    done = run("--only", "ranges", "--out", str(out), IOVABITMAP_CPU="portable")
    assert done.returncode == 0, done.stderr
    assert "35x bitarray's best loop" in done.stdout
    assert "These are not the sizes that the bars are about" in done.stdout
    found = json.loads((out / "results.json").read_text())
    assert found["machine"]["inner loops"] == "portable"
    assert {case["question"] for case in found["cases"]} == {"ranges"}
    for case in found["cases"]:
        assert {entry["name"].partition(":")[0] for entry in case["times_ns"]} >= TOOLS
        for entry in case["times_ns"]:
            assert 0 < entry["least"] <= entry["median"]
    for bar in (bar for case in found["cases"] for bar in case["bars"]):
        assert bar["verdict"] in {"met", "not met"}
        assert bar["text"] in done.stdout
    assert (out / "bench.png").exists() == (find_spec("matplotlib") is not None)


def test_a_wrong_answer_is_not_timed(tmp_path):
    """With a peer that is made to err: the bench names it and stops."""
    (tmp_path / "sitecustomize.py").write_text(
        "import sys\n"
        f"sys.path.insert(0, {str(BENCH.parent)!r})\n"
        "from bench import peers\n"
        "peers.numpy_histogram = lambda words, bins: words[:bins].astype('i8')\n"
    )
    sys.path.insert(0, str(tmp_path))
    try:
        done = run("--only", "histogram", "--out", str(tmp_path / "out"))
    finally:
        sys.path.remove(str(tmp_path))
    assert done.returncode != 0
    assert "NumPy: bitwise_count" in done.stderr
    assert not (tmp_path / "out" / "results.json").exists()


def test_bad_options():
    for options in (["--only", "nothing"], ["--kib", "8,16"], ["--kib", "8,24,32"]):
        done = run(*options)
        assert done.returncode == 2
        assert "usage" in done.stderr
