"""What others wrote, a path, a command, a process's or memory's name, an error, is shown as it is:
nothing in it is markup, a colour for the terminal, or a reason not to answer."""

from __future__ import annotations

from html import escape
from types import SimpleNamespace

import pytest

import iovabitmap as ib
from support.logs import PAGE, bitmap_of, needs

needs("pyarrow", "click", "rich")
from iovabitmap.cli._abilities import Ability  # noqa: E402
from iovabitmap.cli._watching import Written  # noqa: E402
from iovabitmap.cli.commands import probe, top  # noqa: E402

GEOMETRY = (0x1000, 40 * PAGE, PAGE)
NAMES = [
    "a[/]b",
    "[red]x[/red]",
    "[link=http://example.org]",
    r"back\[slash]",
    "[",
    r"end\\",
    "x:bug:y",
    "colour\x1b[31m",
    "two\nlines\r",
    "not UTF-8: \udcff",
    "$x_$ and $\\nonsense$",
]
each_name = pytest.mark.parametrize("name", NAMES, ids=range(len(NAMES)))


def shown(name: str) -> str:
    return "".join(c if c.isprintable() else c.encode("unicode_escape").decode() for c in name)


@pytest.fixture(autouse=True)
def wide(monkeypatch):
    monkeypatch.setenv("COLUMNS", "1000")


def log_named(folder, name):
    """A log of that name whose every text is the name."""
    path = folder / name.replace("/", "_") / "log"
    path.parent.mkdir()
    with ib.LogWriter(path, ib.Geometry(*GEOMETRY), source=name, host=name, command=[name]) as log:
        log.note("layout", [[0x1000, 4 * PAGE, 0, 7, name]])
        log.append(bitmap_of({1, 3}, GEOMETRY), 0, 1)
    return path


@each_name
def test_report(command, tmp_path, name):
    path = log_named(tmp_path, name)
    status, out, said = command("report", path)
    assert (status, said) == (0, "")
    assert shown(str(path)) in out and out.count(shown(name)) >= 4


@each_name
def test_diff(command, tmp_path, name):
    path = log_named(tmp_path, name)
    status, out, said = command("diff", path, path)
    assert (status, said) == (0, "") and shown(f"only in {path}, 0 bytes") in out


@each_name
def test_top(capfd, name):
    watch = SimpleNamespace(page_size=PAGE, remarks=[f"remark: {name}"])
    with top.Shown(5, False) as screen:
        screen.show(watch, [Written(1, f"<{name}>", PAGE, 1)], 1.0, 1.0)
    out, _ = capfd.readouterr()
    assert f"<{shown(name)}>" in out and f"remark: {shown(name)}" in out


@each_name
def test_probe(command, monkeypatch, name):
    found = [Ability(f"<{name}>", f"what: {name}", False, f"why: {name}")]
    monkeypatch.setattr(probe, "of_sources", lambda: found)
    status, out, said = command("probe")
    assert (status, said) == (0, "")
    assert all(text in out for text in map(shown, (f"<{name}>", f"what: {name}", f"why: {name}")))


@each_name
def test_errors(command, tmp_path, name):
    status, out, said = command("report", tmp_path / name.replace("/", "_"))
    assert (status, out) == (2, "") and "No such file" in said
    assert said.endswith("\n") and said[:-1].isprintable()


@each_name
def test_the_name_of_what_was_made(command, tmp_path, name):
    """For a program that reads it: byte by byte."""
    out = tmp_path / (name.replace("/", "_") + ".csv")
    status, printed, said = command("convert", log_named(tmp_path, name), "--out", out)
    assert (status, said) == (0, "") and out.exists()
    assert printed == str(out).encode(errors="surrogateescape").decode(errors="replace") + "\n"


@each_name
def test_pictures(command, tmp_path, name):
    needs("matplotlib")
    path = log_named(tmp_path, name)
    status, printed, said = command("plot", path, "--out", tmp_path / "picture.png")
    assert (status, said) == (0, "") and printed == f"{tmp_path / 'picture.png'}\n"


@each_name
def test_notebooks(tmp_path, name):
    with ib.DirtyLog.open(log_named(tmp_path, name)) as log:
        html = log._repr_html_()
    assert escape(shown(name)) in html and html.isprintable()
