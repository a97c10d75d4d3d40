"""The command: what each subcommand prints, writes and ends with."""

from __future__ import annotations

import csv
import os
import random
import subprocess
import sys
from pathlib import Path

import pytest

import iovabitmap as ib
from support.children import run_child
from support.command import answer, environment
from support.logs import (
    PAGE,
    assert_holds,
    bitmap_of,
    make_log,
    needs,
    random_epochs,
    rows_of,
    times_of,
)

needs("pyarrow", "click", "rich")
from iovabitmap.cli._app import app  # noqa: E402
from iovabitmap.cli._output import bar, shade  # noqa: E402

GEOMETRY = (0x1000, 700 * PAGE - 5, PAGE)
EPOCHS = random_epochs(random.Random(3), GEOMETRY, 30)


@pytest.fixture
def log(tmp_path) -> Path:
    make_log(tmp_path / "run.parquet", EPOCHS, GEOMETRY)
    return tmp_path / "run.parquet"


@pytest.fixture
def killed(tmp_path) -> Path:
    make_log(tmp_path / "killed.parquet", EPOCHS, GEOMETRY, close=False)
    return tmp_path / "killed.parquet"


# --- report --------------------------------------------------------------------------------------


def test_report_json(command, log):
    found = answer(command("report", log, "--json"))
    assert (found["iova"], found["length"], found["page_size"]) == GEOMETRY
    assert found["epochs"] == 30 and found["command"] == ["a", "b c"]
    assert found["pages_ever_dirty"] == len(set().union(*EPOCHS))
    assert found["pages_max"] == max(map(len, EPOCHS))
    assert found["clean_epochs"] == sum(not pages for pages in EPOCHS)
    assert found["seconds"] == pytest.approx(3) and found["interval_seconds"] == 0.1
    assert found["bytes_per_s"] == pytest.approx(sum(map(len, EPOCHS)) * PAGE / 3)
    assert [entry["pages"] for entry in found["series"]] == [len(pages) for pages in EPOCHS]
    assert [entry["t_end_ns"] for entry in found["series"]] == [times_of(n)[1] for n in range(30)]
    rows, columns = len(found["heatmap"]["addresses"]), len(found["heatmap"]["first_epochs"])
    assert [len(row) for row in found["heatmap"]["density"]] == [columns] * rows


def test_report_for_people(command, log):
    status, out, err = command("report", log)
    assert status == 0 and err == ""
    union = len(set().union(*EPOCHS))
    assert f"{union:,} pages" in out and "a b c" in out and "test" in out
    assert "30, " in out and "█" in out and "0x1000 │" in out
    status, few, _ = command("report", log, "--rows", "2")
    assert few.count("│\n") == 2 * out.count("│\n") // 16


def test_report_says_that_a_log_is_not_finished(command, killed):
    status, out, err = command("report", killed)
    assert status == 0 and "not closed" in err and "not closed" not in out
    assert "not closed" in answer(command("report", killed, "--json"))["unfinished"]


def test_report_by_memory(command, tmp_path):
    """By the recording's own layout; rows that make no sense are left out, whatever they are."""
    layout = [
        [0x1000, 10 * PAGE, 0x7000, 12, "[heap]"],
        [0x1000 + 10 * PAGE, 20 * PAGE, 0x70000, 12, "[red]x"],
        [0x1000 + 30 * PAGE, 20 * PAGE, 0x90000, 13, "[red]x"],
        [0x1000 + 50 * PAGE, 20 * PAGE, 0xF0000, 12, "[red]x"],
        *([0, PAGE, 0, 1, "before"], [0x1000, 10**30, 0, 1, "beyond"], [0x1000, 0, 0, 1, "empty"]),
        *([0x1000, -PAGE, 0, 1, "x"], [0x1000, PAGE, 0, 1], [0x1000, PAGE, 0, True, 1], None, 7),
        *([0x1000, PAGE, 0, "1", "x"], [0x1000, 1.5, 0, 1, "x"], {}, "rows"),
    ]
    with ib.LogWriter(tmp_path / "a", ib.Geometry(*GEOMETRY), notes={"layout": layout}) as log:
        log.append(bitmap_of({0, 1, 2, 10, 69}, GEOMETRY), 0, 1)
        log.append(bitmap_of({2, 11, 12, 13}, GEOMETRY), 1, 2)
    assert answer(command("report", tmp_path / "a", "--json"))["memory"] == [
        {"pid": 12, "name": "[red]x", "nbytes": 40 * PAGE, "count": 5},
        {"pid": 12, "name": "[heap]", "nbytes": 10 * PAGE, "count": 3},
    ]
    lines = [line.split() for line in command("report", tmp_path / "a")[1].splitlines()]
    assert ["12", "5", "40", "[red]x"] in lines and ["12", "3", "10", "[heap]"] in lines


@pytest.mark.parametrize("layout", [None, 5, "text", {"a": 1}, []])
def test_report_of_a_layout_that_is_none(command, tmp_path, layout):
    with ib.LogWriter(tmp_path / "a", ib.Geometry(*GEOMETRY), notes={"layout": layout}) as log:
        log.append(bitmap_of({1}, GEOMETRY), 0, 1)
    assert answer(command("report", tmp_path / "a", "--json"))["memory"] == []
    assert "by memory" not in command("report", tmp_path / "a")[1]


def test_report_of_words_that_look_like_markup(command, tmp_path):
    with ib.LogWriter(
        tmp_path / "a", ib.Geometry(*GEOMETRY), source="[red]x[/]", command="[b]"
    ) as log:
        log.append(bitmap_of({1}, GEOMETRY), 0, 1)
    assert "[red]x[/]" in command("report", tmp_path / "a")[1]


def test_report_of_nothing(command, tmp_path):
    make_log(tmp_path / "none", [], GEOMETRY)
    make_log(tmp_path / "clean", [set()], GEOMETRY)
    assert "epochs" in command("report", tmp_path / "none")[1]
    assert answer(command("report", tmp_path / "none", "--json"))["bytes_per_s"] is None
    assert answer(command("report", tmp_path / "clean", "--json"))["pages_ever_dirty"] == 0


# --- plot ----------------------------------------------------------------------------------------


def test_plot(command, log, tmp_path):
    needs("matplotlib")
    from matplotlib import image

    assert command("plot", log)[:2] == (0, f"{tmp_path / 'run.png'}\n")
    picture = image.imread(tmp_path / "run.png")
    colours = {tuple(pixel) for row in picture[::7, ::7] for pixel in row.tolist()}
    assert picture.shape[0] > 500 and len(colours) > 20
    out = tmp_path / "other.svg"
    assert answer(command("plot", log, "-o", out, "--json")) == {"log": str(log), "out": str(out)}
    assert out.read_text().lstrip().startswith("<?xml")


def test_plot_of_epochs_without_times(command, tmp_path):
    needs("matplotlib")
    (tmp_path / "a").write_bytes(b"\x01" * 16)
    command("convert", "--from", "raw", tmp_path / "a", tmp_path / "a", "-o", tmp_path / "log")
    assert command("plot", tmp_path / "log")[0] == 0 and (tmp_path / "log.png").stat().st_size


def test_plot_of_nothing(command, tmp_path):
    needs("matplotlib")
    make_log(tmp_path / "clean", [set()], GEOMETRY)
    status, _, err = command("plot", tmp_path / "clean")
    assert status == 2 and "nothing to draw" in err and not (tmp_path / "clean.png").exists()


# --- diff ----------------------------------------------------------------------------------------

A, B = [{1, 2, 3, 50}, {7}], [{2, 3, 4}, set(), {699}]


@pytest.fixture
def two(tmp_path):
    make_log(tmp_path / "a", A, GEOMETRY)
    make_log(tmp_path / "b", B, GEOMETRY)
    return tmp_path / "a", tmp_path / "b"


def test_diff(command, two):
    found = answer(command("diff", *two, "--json"), status=1)
    a, b = set().union(*A), set().union(*B)
    assert (found["only_a"], found["only_b"], found["both"]) == (3, 2, 2)
    assert found["only_a_ranges"] == rows_of(a - b, GEOMETRY)
    assert found["only_b_ranges"] == rows_of(b - a, GEOMETRY)
    status, out, _ = command("diff", *two, "--limit", 1)
    assert status == 1 and "3 pages only in" in out and "0x2000 + 0x1000" in out
    assert "and 2 ranges more" in out and "and 1 ranges more" in out


def test_diff_of_a_window(command, two):
    found = answer(command("diff", *two, "--epochs", "0", "--json"), status=1)
    assert (found["only_a"], found["only_b"], found["both"]) == (2, 1, 2)
    found = answer(command("diff", *two, "--epochs", "1:2", "--json"), status=1)
    assert (found["only_a"], found["only_b"], found["both"]) == (1, 0, 0)


def test_diff_of_the_same(command, two):
    assert command("diff", two[0], two[0])[0] == 0


def test_diff_of_logs_of_other_ranges(command, tmp_path):
    make_log(tmp_path / "a", [{0, 5}], (0x10000, 10 * PAGE, PAGE))
    make_log(tmp_path / "b", [{0, 1}], (0x15000, 20 * PAGE, PAGE))
    found = answer(command("diff", tmp_path / "a", tmp_path / "b", "--json"), status=1)
    assert found["only_a_ranges"] == [[0x10000, PAGE]]
    assert found["only_b_ranges"] == [[0x16000, PAGE]] and found["both"] == 1
    make_log(tmp_path / "c", [{0}], (0x10800, 10 * PAGE, PAGE))
    make_log(tmp_path / "d", [{0}], (0x10000, 10 * PAGE, 2 * PAGE))
    for other, what in (("c", "same addresses"), ("d", "8192")):
        status, _, err = command("diff", tmp_path / "a", tmp_path / other)
        assert status == 2 and what in err


# --- convert -------------------------------------------------------------------------------------


def test_convert_finishes_in_place(command, killed):
    assert answer(command("convert", killed, "--json")) == {
        "inputs": [str(killed)],
        "out": str(killed),
    }
    assert killed.is_file()
    with ib.DirtyLog.open(killed) as log:
        assert not log.unfinished
        assert_holds(log, EPOCHS, GEOMETRY)


def test_convert_takes_the_journal_by_its_own_name(command, killed):
    journal = killed.with_name(killed.name + ".journal")
    status, out, _ = command("convert", journal)
    assert (status, out) == (0, f"{killed}\n")
    assert killed.is_file() and not journal.exists()


def test_convert_to_another_log(command, killed, tmp_path):
    status, out, err = command("convert", killed, "-o", tmp_path / "new.parquet")
    assert (status, out) == (0, f"{tmp_path / 'new.parquet'}\n") and "not closed" in err
    with ib.DirtyLog.open(tmp_path / "new.parquet") as log:
        assert_holds(log, EPOCHS, GEOMETRY)
    assert not killed.exists() and killed.with_name(killed.name + ".journal").is_file()


@pytest.mark.parametrize(
    "window,epochs", [(":", slice(None)), ("3:9", slice(3, 9)), ("-1", slice(29, 30))]
)
def test_convert_to_csv(command, log, tmp_path, window, epochs):
    out = tmp_path / "out.csv"
    assert command("convert", log, "-o", out, "--epochs", window)[0] == 0
    with out.open(newline="") as file:
        found = list(csv.reader(file))
    assert found[0] == ["epoch", "t_start_ns", "t_end_ns", "iova", "length"]
    expected = [
        [n, *times_of(n), *row]
        for n in range(30)[epochs]
        for row in rows_of(EPOCHS[n], GEOMETRY) or [[GEOMETRY[0], 0]]
    ]
    assert [[int(cell) for cell in row] for row in found[1:]] == expected


def test_convert_to_raw(command, log, tmp_path):
    out = tmp_path / "out.raw"
    assert command("convert", log, "-o", out, "--epochs", "2:5")[0] == 0
    bits = int.from_bytes(out.read_bytes(), "little")
    assert out.stat().st_size == 88
    assert {n for n in range(704) if bits >> n & 1} == EPOCHS[2] | EPOCHS[3] | EPOCHS[4]
    back = tmp_path / "back.parquet"
    length = str(GEOMETRY[1])
    arguments = ("--from", "raw", out, "-o", back, "--iova", "0x1000", "--length", length)
    assert command("convert", *arguments)[0] == 0
    with ib.DirtyLog.open(back) as found:
        assert found[0].bitmap() == bitmap_of(EPOCHS[2] | EPOCHS[3] | EPOCHS[4], GEOMETRY)


def test_convert_imports(command, tmp_path):
    for n in range(3):
        (tmp_path / f"{n}").write_bytes(bytes([1 << n]) + bytes(7))
    files = [tmp_path / f"{n}" for n in range(3)]
    out = tmp_path / "out"
    options = ("--iova", "4G", "--page-size", "2M", "--interval", "100ms")
    assert command("convert", "--from", "raw", *files, "-o", out, *options)[0] == 0
    with ib.DirtyLog.open(out) as log:
        assert [epoch.ranges().tolist() for epoch in log] == [
            [[(1 << 32) + (n << 21), 1 << 21]] for n in range(3)
        ]
        assert log[2].t_start_ns == 200_000_000 and log[2].t_end_ns == 300_000_000


def test_convert_salvages(command, killed, tmp_path):
    journal = killed.with_name(killed.name + ".journal")
    journal.write_bytes(journal.read_bytes()[:-1000] + bytes(1000))
    status, _, err = command("convert", killed, "-o", tmp_path / "a")
    assert status == 2 and "damaged at byte" in err and not (tmp_path / "a").exists()
    assert command("convert", killed, "-o", tmp_path / "a", "--salvage")[0] == 0
    with ib.DirtyLog.open(tmp_path / "a") as log:
        assert 0 < len(log) < 30
        assert_holds(log, EPOCHS[: len(log)], GEOMETRY)


@pytest.mark.parametrize("suffix", ["", ".csv", ".raw"])
def test_convert_replaces_nothing(command, log, tmp_path, suffix):
    out = tmp_path / f"precious{suffix}"
    out.write_text("precious")
    status, _, err = command("convert", log, "-o", out)
    assert status == 2 and "exists" in err and out.read_text() == "precious"


@pytest.mark.parametrize("suffix", [".csv", ".raw"])
def test_convert_of_a_damaged_log_leaves_nothing(command, log, tmp_path, suffix):
    data = bytearray(log.read_bytes())
    data[len(data) // 4] ^= 1
    log.write_bytes(data)
    status, _, err = command("convert", log, "-o", tmp_path / f"out{suffix}")
    assert status == 2 and "run.parquet: " in err
    assert [entry.name for entry in tmp_path.iterdir()] == ["run.parquet"]


@pytest.mark.parametrize(
    "arguments",
    [
        ("a", "b"),
        ("--from", "raw", "a"),
        ("--from", "raw", "a", "-o", "b.csv"),
        ("a", "--to", "csv"),
        ("a", "--salvage"),
        ("--from", "vhd", "a", "-o", "b"),
        ("a", "-o", "b", "--epochs", "x"),
        ("--from", "raw", "a", "-o", "b", "--interval", "soon"),
        ("--from", "raw", "a", "-o", "b", "--iova", "4X"),
        ("--from", "raw", "a", "-o", "b", "--region", "4"),
        (),
    ],
)
def test_convert_asked_for_nonsense(command, arguments, monkeypatch, tmp_path):
    monkeypatch.chdir(tmp_path)
    status, out, err = command("convert", *arguments)
    assert status == 2 and out == "" and "Usage: " in err


# --- all -----------------------------------------------------------------------------------------


def subcommands() -> list[str]:
    import click

    return app.list_commands(click.Context(app))


def test_every_subcommand_has_help_and_json(command):
    import click

    for name in subcommands():
        found = app.get_command(click.Context(app), name)
        assert found is not None and found.help and found.short_help
        assert any("--json" in option.opts for option in found.params), name
        status, out, _ = command(name, "--help")
        assert status == 0 and out.startswith(f"Usage: iovabitmap {name} ")


@pytest.mark.parametrize("arguments", [("report",), ("plot",), ("convert",), ("diff", "same")])
def test_what_is_not_there_or_no_log(command, tmp_path, monkeypatch, arguments):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "same").write_text("no log")
    status, out, err = command(*arguments, "none")
    assert status == 2 and out == "" and err.startswith("iovabitmap: ")
    status, out, err = command(*arguments, "same")
    assert status == 2 and out == "" and "same: no log" in err


def test_an_unknown_subcommand(command):
    status, out, err = command("rekord")
    assert status == 2 and out == "" and "No such command 'rekord'" in err


def test_ctrl_c(command, log, tmp_path, monkeypatch):
    """Where it comes in the middle of reading and writing: status 130, and no half file."""
    from iovabitmap.logs.epochs import Epochs

    def interrupt(self, i, j):
        yield from ()
        raise KeyboardInterrupt

    for name in ("blocks", "rows"):
        monkeypatch.setattr(Epochs, name, interrupt)
    for arguments in (("report", log), ("convert", log, "-o", tmp_path / "a.csv")):
        status, out, err = command(*arguments)
        assert (status, out) == (130, "") and "interrupted" in err
    assert [entry.name for entry in tmp_path.iterdir()] == ["run.parquet"]


def test_completion(command):
    status, out, _ = command("completion", "zsh")
    assert status == 0 and "_IOVABITMAP_COMPLETE" in out
    assert answer(command("completion", "fish", "--json"))["shell"] == "fish"


def test_completion_completes():
    """What the shell asks for while a word is typed."""
    words = environment(
        _IOVABITMAP_COMPLETE="bash_complete", COMP_WORDS="iovabitmap re", COMP_CWORD="1"
    )
    done = subprocess.run(
        [sys.executable, "-m", "iovabitmap"], env=words, capture_output=True, text=True, check=False
    )
    offered = [line.split(",")[1] for line in done.stdout.splitlines()]
    assert "report" in offered and "convert" not in offered


def test_as_a_module_and_its_exit_status(log, two):
    for arguments, status in (((two[0], two[0]), 0), (two, 1), ((log, "none"), 2)):
        command = [sys.executable, "-m", "iovabitmap", "diff", *map(str, arguments)]
        done = subprocess.run(command, env=environment(), capture_output=True, check=False)
        assert done.returncode == status, done.stderr


def test_a_reader_that_has_seen_enough(log):
    command = [sys.executable, "-m", "iovabitmap", "report", "--json", str(log)]
    reading, writing = os.pipe()
    os.close(reading)
    done = subprocess.run(
        command, env=environment(), stdout=writing, stderr=subprocess.PIPE, text=True, check=False
    )
    os.close(writing)
    assert done.returncode == 1 and done.stderr == ""


def test_without_click_it_says_what_to_install():
    run_child(
        """
        sys.modules["click"] = None
        from iovabitmap.cli import main
        try:
            main(["report", "x"])
        except SystemExit as exit:
            assert exit.code == 2
        """
    ).assert_lived("the command without click")


def test_the_command_is_installed():
    from importlib.metadata import PackageNotFoundError, entry_points, version

    try:
        version("iovabitmap")
    except PackageNotFoundError:
        pytest.skip("the package is not installed, only importable")
    (point,) = entry_points(group="console_scripts", name="iovabitmap")
    from iovabitmap.cli import main

    assert point.load() is main


# --- words ---------------------------------------------------------------------------------------


def test_sizes_and_durations():
    from iovabitmap.cli import _types

    for text, number in (
        ("4096", 4096),
        ("0x10", 16),
        ("4K", 4096),
        ("2MiB", 2 << 20),
        ("1gb", 1 << 30),
    ):
        assert _types.size(text) == number
    for text, number in (
        ("100ms", 10**8),
        ("2s", 2 * 10**9),
        ("0.25", 25 * 10**7),
        ("1m", 6 * 10**10),
    ):
        assert _types.duration(text) == number
    for text, found in (
        ("5", slice(5, 6)),
        ("-1", slice(-1, None)),
        (":", slice(None)),
        ("-3:7", slice(-3, 7)),
    ):
        assert _types.epochs(text) == found
    assert _types.region("4G:0x1000") == (1 << 32, 4096)


def test_bars_and_shades():
    assert bar(0, 3) == "   " and bar(1, 3) == "███" and bar(0.5, 1) == "▌" and bar(7, 2) == "██"
    assert shade(0) == " " and shade(1) == "█" and shade(1e-9) == "░"
    assert [shade(n / 100) for n in range(101)] == sorted(
        (shade(n / 100) for n in range(101)), key=" ░▒▓█".index
    )
