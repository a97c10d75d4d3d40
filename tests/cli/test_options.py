"""Options of all commands: whatever text they are given ends in a message, never in a traceback,
and one that would do nothing is an error that names it and says when it applies."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path

import pytest

from support.command import answer, start
from support.logs import PAGE, make_log, needs

needs("pyarrow", "click", "rich", "matplotlib")
import click  # noqa: E402

from iovabitmap.cli import _running, _types  # noqa: E402
from iovabitmap.cli._app import app  # noqa: E402
from iovabitmap.recording import life as life_module  # noqa: E402
from iovabitmap.sources import CommandTracker  # noqa: E402

_probe = CommandTracker.probe()
tracks = pytest.mark.skipif(not _probe, reason=_probe.reason or "works")
alone = pytest.mark.skipif(
    "asan" in os.environ.get("LD_PRELOAD", ""), reason="commands would run under ASan too"
)

TEXTS = [
    *("", " ", "nan", "inf", "-inf", "-1", "0", "-0", "1e30", "5 s", "5  s", "s", "ms", "1.5.5"),
    *("600h", "999999999999h", "1" + "0" * 400, "0." + "0" * 400 + "1", "1,5", "٣", "1_000", "+1"),
    *(
        "0x",
        "0xg",
        "0x1p3",
        "-0x1",
        "4X",
        "16E",
        "1:2:3",
        ":",
        "-:-",
        "1" + "0" * 30,
        "None",
        "[b]",
    ),
    *("18446744073709551615", "18446744073709551616", "9223372036854775808", "\x00", "1\n"),
]
# What makes each command run to its end, and soon.
REST = {
    "record": ["--", "true"],
    "top": ["--", "true"],
    "report": ["log"],
    "plot": ["log", "-o", "new.png"],
    "diff": ["log", "log"],
    "convert": ["--from", "raw", "bits", "-o", "new"],
}
ALONE = {("top", "--pid"): [], ("top", "--copies"): ["--pid", "1"]}
READS_A_LOG = {("convert", "--epochs"): ["log", "-o", "new.csv"]}
OTHER_FORMATS = {
    ("convert", "--region"): ["--from", "firecracker", "bits", "-o", "new"],
    ("convert", "--target"): ["--from", "damo", "bits", "-o", "new"],
}
INSTEAD = ALONE | READS_A_LOG | OTHER_FORMATS


def options_with_values() -> list[tuple[str, str]]:
    """(command, option) of each option whose value is a number, a size, a time or a window."""
    context = click.Context(app)
    return [
        (name, max(option.opts, key=len))
        for name in app.list_commands(context)
        for option in app.get_command(context, name).params
        if isinstance(option, click.Option)
        and not option.is_flag
        and not isinstance(option.type, click.Path | click.Choice)
    ]


@pytest.fixture
def here(tmp_path, monkeypatch) -> Path:
    """A working directory with a log and a raw bitmap."""
    make_log(tmp_path / "log", [{1, 2}, {2}, set()], (0x1000, 64 * PAGE, PAGE))
    (tmp_path / "bits").write_bytes(b"\x05")
    monkeypatch.chdir(tmp_path)
    return tmp_path


def test_the_table_knows_all_options():
    found = options_with_values()
    assert {name for name, _ in found} == set(REST)
    assert ("record", "--interval") in found and ("plot", "--columns") in found
    assert len(found) >= 18


@pytest.mark.parametrize("name, option", options_with_values())
def test_no_text_is_a_traceback(command, here, monkeypatch, name, option):
    """What a command does is run, except programs: these come to the point where they would."""
    ran = []

    class Stop(OSError):
        pass

    def make(*args, **kwargs):
        ran.append(kwargs)
        raise Stop("here it would run")

    monkeypatch.setattr(_running.CommandTracker, "start", make)
    monkeypatch.setattr("iovabitmap.cli.commands.top.watch_process", make)
    for text in TEXTS:
        arguments = INSTEAD.get((name, option), REST[name])
        status, out, err = command(name, f"{option}={text}", *arguments)
        assert status in (0, 2), (text, err)
        assert "Traceback" not in err
        if status == 2:
            assert out == "" and len(err.strip().splitlines()) <= 6, err
        for new in ("new", "new.png", "new.csv"):
            (here / new).unlink(missing_ok=True)
        assert sorted(path.name for path in here.iterdir()) == ["bits", "log"], text


TIMES = [("record", "--interval"), ("record", "--duration"), ("top", "--interval")]


@pytest.mark.parametrize("name, option", TIMES)
@pytest.mark.parametrize(
    "text",
    [
        "",
        "nan",
        "inf",
        "-1",
        "1e30",
        "0",
        "0s",
        "0.0",
        "5 s s",
        "soon",
        "999999999h",
        "0.00000000001",
    ],
)
def test_times_that_are_none(command, here, name, option, text):
    """The error names the option, the value, and what is right."""
    status, out, err = command(name, f"{option}={text}", "--", "true")
    assert status == 2 and out == "" and option in err
    assert (text or "''") in err or " ns" in err or "0 s" in err, err


def test_times():
    for text, ns in (
        *(("100ms", 10**8), ("2s", 2 * 10**9), ("2 s", 2 * 10**9), ("0.25", 25 * 10**7)),
        *(("600h", 600 * 3600 * 10**9), ("1.5m", 9 * 10**10), ("7us", 7000), ("1ns", 1)),
        *(("0.1", 10**8), ("0.0000000005", 1), ("0.0000000004", 0), ("123456789.000000001", None)),
    ):
        if ns is None:
            with pytest.raises(click.BadParameter, match="longer than 366 days"):
                _types.duration(text)
        else:
            assert _types.duration(text) == ns
    assert _types.duration("1234567.123456789") == 1234567123456789  # a float has not so many


@tracks
@alone
def test_an_interval_longer_than_a_poll_can_wait(tmp_path):
    """The kernel takes milliseconds in 31 bits."""
    recorder = start("record", "--interval", "600h", "-o", tmp_path / "log", "--", "true")
    _, said = recorder.communicate()
    assert recorder.returncode == 0 and "1 epochs" in said, said
    top = start("top", "--interval", "600h", "--json", "--", "true")
    out, said = top.communicate()
    assert top.returncode == 0 and len(out.splitlines()) == 1, said


def test_waiting_goes_on_behind_what_a_poll_can_wait(monkeypatch):
    """Not before the moment has come, however often it must be asked."""
    monkeypatch.setattr(life_module, "LONGEST_POLL_MS", 0.5)
    life = life_module.Life(os.getpid())
    try:
        until = time.monotonic_ns() + 20_000_000
        assert life.over(until) is False and time.monotonic_ns() >= until
    finally:
        life.close()


# --- options that would do nothing ----------------------------------------------------------------

NOTHING = [
    # (arguments, the option, when it applies)
    ("record --shared --guest-ram 1M -- true", "--shared", "--guest-ram"),
    ("record --guest-ram-file x -- true", "--guest-ram-file", "--guest-ram"),
    ("record --guest-ram-file= -- true", "--guest-ram-file", "--guest-ram"),
    ("record --below-4g 0 -- true", "--below-4g", "--guest-ram"),
    ("top --shared --guest-ram 1M -- true", "--shared", "--guest-ram"),
    ("top --below-4g 4K -- true", "--below-4g", "--guest-ram"),
    ("top --copies 1G -- true", "--copies", "--pid"),
    ("top --pid 1 --output x", "--output", "COMMAND"),
    ("top --pid 1 --python", "--python", "COMMAND"),
    ("top --pid 1 --shared", "--shared", "COMMAND"),
    ("top --pid 1 --guest-ram 1M", "--guest-ram", "COMMAND"),
    ("top --pid 1 --guest-ram-file x", "--guest-ram-file", "COMMAND"),
    ("top --pid 1 --below-4g 1M", "--below-4g", "COMMAND"),
    ("top --json --lines 3 --pid 1", "--lines", "--json"),
    ("plot log -o a.html --rows 3", "--rows", ".html"),
    ("plot log -o a.html --columns 3", "--columns", ".html"),
    ("convert log -o new --iova 5", "--iova", "--from"),
    ("convert log -o new --length 5", "--length", "--from"),
    ("convert log -o new --page-size 4K", "--page-size", "--from"),
    ("convert log -o new --interval 1s", "--interval", "--from"),
    ("convert log -o new --region 0:4K", "--region", "--from"),
    ("convert log -o new --target 1", "--target", "--from"),
    ("convert log --iova 5", "--iova", "--from"),
    ("convert log -o new.csv --iova 5", "--iova", "--from"),
    ("convert log --epochs 1", "--epochs", "csv and raw"),
    ("convert log -o new --epochs 1", "--epochs", "csv and raw"),
    ("convert log -o new --epochs :", "--epochs", "csv and raw"),
    ("convert log --salvage", "--salvage", "--out"),
    ("convert --from raw bits -o new --epochs 1", "--epochs", "--from"),
    ("convert --from raw bits -o new --salvage", "--salvage", "--from"),
    ("convert --from raw bits -o new --region 0:4K", "--region", "firecracker"),
    ("convert --from raw bits -o new --target 1", "--target", "damo"),
    ("convert --from damo bits -o new --interval 1s", "--interval", "damo"),
]


@pytest.mark.parametrize("line, option, applies", NOTHING)
def test_an_option_that_would_do_nothing(command, here, line, option, applies):
    status, out, err = command(*line.split())
    error = err.strip().splitlines()[-1]
    assert status == 2 and out == "", err
    assert option in error and applies in error.replace(option, "", 1), err
    assert sorted(path.name for path in here.iterdir()) == ["bits", "log"]


def test_defaults_are_not_given(command, here):
    """The same commands without those options work."""
    assert command("convert", "log", "-o", "new.csv", "--epochs", "1")[0] == 0
    assert command("convert", "log", "-o", "copy")[0] == 0
    assert command("convert", "--from", "raw", "bits", "-o", "new", "--interval", "1s")[0] == 0
    assert command("plot", "log", "-o", "a.png", "--rows", "3", "--columns", "3")[0] == 0
    assert command("convert", "log")[0] == 0


@pytest.mark.parametrize(
    "kind, options, message",
    [
        ("raw", {"regions": [(0, 4096)]}, "regions: only for firecracker, not for raw"),
        ("damo", {"regions": [(0, 4096)]}, "regions: only for firecracker"),
        ("qemu", {"target": 0}, "target: only for damo, not for qemu"),
        ("damo", {"interval_ns": 5}, "interval_ns: only for raw, .*, not for damo"),
    ],
)
def test_the_library_refuses_them_too(here, kind, options, message):
    from iovabitmap.logs import import_log

    with pytest.raises(ValueError, match=message):
        import_log(kind, ["bits"], "new", **options)
    assert not (here / "new").exists()


def test_a_length_of_nothing_is_none(here):
    from iovabitmap.logs import import_log

    (here / "map").write_text(json.dumps([{"start": 0, "length": 4096, "data": False}]))
    for kind, file in (("qemu", "map"), ("raw", "bits")):
        with pytest.raises(ValueError):
            import_log(kind, [file], "new", length=0)


# --- what is run ----------------------------------------------------------------------------------


@pytest.mark.parametrize("name", ["record", "top"])
def test_no_command(command, name):
    """The error is about the command that was called."""
    for arguments in ((), ("--python",), ("--",), ("--interval", "2s")):
        status, out, err = command(name, *arguments)
        other = {"record": "top", "top": "record"}[name]
        assert status == 2 and out == "" and f"iovabitmap {name} -- COMMAND" in err
        assert f"iovabitmap {other}" not in err and "Usage: iovabitmap " + name in err
        assert ("--pid" in err) is (name == "top")


@pytest.mark.parametrize("text", ["0", "5", "4097"])
def test_a_guests_memory_of_parts_of_pages(command, text):
    status, _, err = command("record", "--guest-ram", text, "--", "true")
    assert status == 2 and "--guest-ram" in err and "whole pages" in err
    status, _, err = command("record", "--guest-ram", "8K", "--below-4g", text, "--", "true")
    assert status == 2 and "below" in err and "whole pages" in err


@tracks
@pytest.mark.parametrize("name", ["record", "top"])
@pytest.mark.parametrize(
    "script, status",
    [("exit 0", 0), ("exit 3", 3), ("exit 200", 200), ("kill -9 $$", 137), ("kill -2 $$", 130)],
)
@alone
def test_the_exit_status_is_the_commands(tmp_path, name, script, status):
    more = ("-o", tmp_path / "log") if name == "record" else ()
    process = start(name, *more, "--", "sh", "-c", script)
    process.communicate()
    assert process.returncode == status


@tracks
@pytest.mark.parametrize("name", ["record", "top"])
@alone
def test_a_program_that_cannot_be_run(command, here, name):
    """As a shell says it: 127 for what is not there, its interpreter included, else 126."""
    (here / "script").write_text("#!/no/such/interpreter\n")
    (here / "words").write_text("exit 0\n")
    (here / "locked").write_text("#!/bin/sh\n")
    (here / "script").chmod(0o755)
    (here / "words").chmod(0o755)
    before = sorted(path.name for path in here.iterdir())
    for program, status in (
        *(("./script", 127), ("./none", 127), ("no-such-command", 127), ("", 127)),
        *(("./words", 126), ("./locked", 126), ("/", 126)),
    ):
        found, out, said = command(name, "--", program)
        assert (found, out) == (status, ""), (program, said)
        assert f"iovabitmap: {program}: " in said and "Traceback" not in said
    assert sorted(path.name for path in here.iterdir()) == before


@tracks
@pytest.mark.parametrize(
    "arguments, stem",
    [
        (["--", "sh", "-c", "exit 0"], "sh"),
        (["--", "/bin/sh", "-c", "exit 0"], "sh"),
        (["--", "./-a b[c].sh"], "a_b_c_"),
        (["--python", "--", "-c", "pass"], "python"),
        (["--python", "--", "-m", "this"], "this"),
        (["--python", "--", "./x.y.py"], "x.y"),
    ],
)
@alone
def test_a_log_without_a_name_is_named_after_the_command_and_the_time(
    command, here, arguments, stem
):
    for script in ("./-a b[c].sh", "./x.y.py"):
        Path(script).write_text("#!/bin/sh\n" if "sh" in script else "")
        Path(script).chmod(0o755)
    # More than one in a second.
    names = [answer(command("record", "--json", *arguments))["log"] for _ in range(2)]
    assert len(set(names)) == 2
    for name in names:
        assert Path(name).is_file() and Path(name).suffix == ".parquet"
        before, _, when = name.removesuffix(".parquet").partition("-2")
        assert before == stem and when.replace("-", "").isdigit(), name
    assert f"the log is {stem}-2" in command("record", *arguments)[2]
