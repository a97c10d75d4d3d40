"""The bench runs, tiny: answers agree, files are written. Nothing here depends on times."""

from __future__ import annotations

import json
import os
import platform
import shutil
import subprocess
import sys
from importlib import import_module
from importlib.util import find_spec
from pathlib import Path

import numpy as np
import pytest

import iovabitmap

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
    assert "touching as much new memory once" in done.stdout
    head = (out / "report.txt").read_text().partition("--- medians")[0]
    assert platform.release() in head
    assert "at the start and" in head
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


def test_against_another_build(tmp_path):
    """A copy of this very package: every row has an old and a new time, or says what is missing."""
    old = tmp_path / "before"
    package = Path(iovabitmap.__file__).parent
    shutil.copytree(package, old / "iovabitmap", ignore=shutil.ignore_patterns("__pycache__"))
    # A revision that has no clear_ranges.
    (old / "iovabitmap" / "__init__.py").write_text(
        "from . import _core\n"
        "alloc = _core.alloc\n"
        "class IOVABitmap(_core.IOVABitmap):\n"
        "    clear_ranges = None\n"
    )
    out = tmp_path / "out"
    only = [word for name in ("set", "ior", "clear_ranges") for word in ("--only", name)]
    done = run("--against", str(old), "--ours", "--clock", "cpu", *only, "--out", str(out))
    assert done.returncode == 0, done.stderr
    assert "against before" in done.stdout
    assert "bitarray" not in (out / "report.txt").read_text()
    found = json.loads((out / "results.json").read_text())
    assert found["against"]["revision"] == "before"
    rows = {(row["question"], row["where"]): row for row in found["against"]["rows"]}
    assert {question for question, _ in rows} == {"set", "|=", "clear_ranges"}
    for (question, _), row in rows.items():
        if question == "clear_ranges":
            assert row["absent"]
            assert row["verdict"] == "not there"
        else:
            assert row["rounds"]
            assert row["verdict"] in {"slower", "faster", "the same"}


def test_nothing_to_compare_with(tmp_path):
    done = run("--against", "no-such-revision", "--only", "set", "--out", str(tmp_path))
    assert done.returncode == 1
    assert "nothing to compare with" in done.stderr


def test_bad_options():
    for options in (["--only", "nothing"], ["--kib", "8,16"], ["--kib", "8,24,32"]):
        done = run(*options)
        assert done.returncode == 2
        assert "usage" in done.stderr


# --- the parts that measure nothing --------------------------------------------------------------


@pytest.fixture
def bench(monkeypatch):
    """Imports a module of the bench."""
    monkeypatch.syspath_prepend(str(BENCH.parent))
    return lambda name: import_module(f"bench.{name}")


def row(bench, *rounds: tuple[float, float], scatter: float = 1.0):
    """Of rounds (new/old, the old one against itself)."""
    compare = bench("compare")
    made = compare.Row("q", "w", "iovabitmap")
    made.rounds = [compare.Round(100, 100 * new, new, again, scatter) for new, again in rounds]
    return made


def test_verdicts_of_rows(bench):
    judge = bench("compare").judge
    rows = {
        "the same": row(bench, (1.01, 1.0)),
        "slower": row(bench, (1.5, 1.01), (1.3, 1.0)),
        "faster": row(bench, (0.5, 1.01)),
        "once": row(bench, (1.5, 1.0), (1.01, 1.0)),
        "noisy": row(bench, (1.5, 0.6), (1.5, 1.0)),
        "scattered": row(bench, (1.5, 1.0), (1.5, 1.0), scatter=1.6),
    }
    many = [row(bench, (1.0, 1.0)) for _ in range(100)]  # so that one noisy row is one of many
    judge([*rows.values(), *many])
    expected = dict.fromkeys(rows, "the same") | {"slower": "slower", "faster": "faster"}
    assert {name: found.verdict for name, found in rows.items()} == expected


def test_the_noise_band(bench):
    compare = bench("compare")
    quiet = [row(bench, (1.0, 1.0)) for _ in range(99)]
    assert compare.band([]) == compare.LEAST_BAND
    assert compare.band(quiet) == compare.LEAST_BAND
    assert compare.band([*quiet, row(bench, (1.0, 2.0))]) == compare.LEAST_BAND
    noisy = [row(bench, (1.0, 0.8)) for _ in range(20)]
    assert compare.band(quiet + noisy) == pytest.approx(1.25)


def test_rows_of_a_case(bench):
    compare, timing = bench("compare"), bench("timing")

    def candidate(name: str, absent: str = ""):
        return timing.Candidate(name, lambda: None, absent=absent)

    names = ["iovabitmap", "iovabitmap @old", "iovabitmap @old again", "C: loop"]
    case = timing.Case("q", "w", [candidate(name) for name in names])
    case.candidates += [candidate("iovabitmap x"), candidate("iovabitmap x @old", "no x")]
    times = [
        timing.Times(name, median, median, median, median, 9)
        for name, median in zip(names, (300.0, 200.0, 210.0, 1.0), strict=True)
    ]
    first, second = compare.rows_of(case, times, "old")
    assert first.rounds == [compare.Round(200, 300, 1.5, 1.05, 1.0)]
    assert first.seems_slower()
    assert (second.name, second.absent, second.rounds) == ("iovabitmap x", "no x", [])
    compare.join([first, second], compare.rows_of(case, times, "old"))
    assert len(first.rounds) == 2
    limit = compare.judge([first, second])
    assert (limit, first.verdict, second.verdict) == (1.05, "slower", "not there")
    text = "\n".join(compare.show([first, second], "old", limit, str))
    assert "1.500" in text
    assert "no x" in text


def test_bars(bench):
    report, timing = bench("report"), bench("timing")

    def verdict(bar, **medians: float):
        times = [
            timing.Times(name, found, found, found, found, 9) for name, found in medians.items()
        ]
        case = timing.Case("q", "w", [], [bar])
        return report.judge(case, times).verdicts[0]

    bar = timing.Bar("3x C, or as the limit", ("C",), 3, limit="limit", of_limit=0.5)
    assert verdict(bar, iovabitmap=10.0, C=30.0, limit=5.0).verdict == "met"
    assert verdict(bar, iovabitmap=11.0, C=30.0, limit=5.0).verdict == "not met"
    found = verdict(bar, iovabitmap=20.0, C=30.0, limit=10.0)  # which has 3x, and half of that
    assert (found.verdict, found.needed) == ("met", 1.5)
    assert verdict(bar, iovabitmap=21.0, C=30.0, limit=10.0).verdict == "not met"
    assert verdict(bar, iovabitmap=21.0, limit=10.0).verdict == "not measurable here"
    both = timing.Bar("the sum", ("a", "b"), 0.5)
    assert verdict(both, iovabitmap=20.0, a=4.0, b=6.0).verdict == "met"
    case = timing.Case("q", "w", [timing.Candidate("iovabitmap", min, absent="no x")], [bar])
    assert report.judge(case, []).verdicts[0].verdict == "not there yet"


def test_what_a_library_has(bench):
    library = bench("library")
    here = library.present()
    here.needs("set")
    here.needs("ranges", "out", "dirty")
    for needs in (("no_such_method",), ("ranges", "no_such_keyword")):
        with pytest.raises(library.AbsentError, match="no_such"):
            here.needs(*needs)


def test_how_busy_the_machine_was(bench):
    machine = bench("machine")
    busy, stolen, total = machine.parse_stat("cpu  100 100 100 1000 100 50 50 100 7 7", 100)
    assert (busy, stolen, total) == (4.0, 1.0, 16.0)

    def between(load: float, busy: float, stolen: float, own: float):
        start = machine.Moment(load, 10, 10, 100, 5)
        return machine.between(start, machine.Moment(9, 10 + busy, 10 + stolen, 300, 5 + own))

    quiet = between(0.1, 101, 0, 100)
    assert not quiet.warnings
    assert (quiet.load_at_start, quiet.load_at_end, quiet.others) == (0.1, 9, 0.005)
    loud = between(3, 160, 20, 100)
    assert len(loud.warnings) == 3
    about = {"cpu": "x", "cpus": 2, "kernel": "y", "time": "z"}
    assert sum("WARNING" in line for line in machine.statement(about, loud)) == 4
