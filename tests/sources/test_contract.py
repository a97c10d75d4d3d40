"""What all sources have, of which types, before they are started, while they are, and after; and
that what their constructors are given is used or refused."""

from __future__ import annotations

import mmap
import os
import subprocess
import sys
from pathlib import Path

import pytest

import iovabitmap as ib
from iovabitmap import sources
from iovabitmap.sources import (
    CommandTracker,
    GuestRam,
    LayoutRow,
    Probe,
    ProcessTracker,
    SnapshotDiff,
    SoftDirty,
    Source,
    Untracked,
    WriteTracker,
)
from iovabitmap.sources._source import BaseSource
from support.children import run_child

LENGTH = 1 << 30
GEOMETRY = {"iova", "length", "granularity"}  # of what was made
SCRIPT = "import threading; threading.Thread(target=input).start()"


class Made:
    """A source that is not started, and how to end what it runs or looks at."""

    def __init__(self, source, end=lambda: None, again=lambda: None) -> None:
        self.source = source
        self.end = end  # at the end of the test
        self.again = again  # what must be done before it can be started once more


def of_buffer(kind):
    memory = mmap.mmap(-1, 8 * mmap.PAGESIZE)
    return Made(kind(memory, iova=1 << 40))


def of_file(tmp_path):
    path = tmp_path / "memory"
    path.write_bytes(bytes(5 * mmap.PAGESIZE + 7))
    return Made(SnapshotDiff(path, iova=1 << 40))


def of_other():
    process = subprocess.Popen(["sleep", "1000"])

    def end() -> None:
        process.kill()
        process.wait()

    return Made(SoftDirty(process.pid, iova=1 << 40, length=LENGTH), end)


def of_command(**placed):
    argv = [sys.executable, "-c", SCRIPT]
    source = CommandTracker(argv, stdin=subprocess.PIPE, stdout=subprocess.DEVNULL, **placed)

    def end() -> None:
        if source.process is not None:
            source.process.stdin.close()
            source.process.wait()

    return Made(source, end, end)


MAKE = {
    "WriteTracker": lambda _: of_buffer(WriteTracker),
    "ProcessTracker": lambda _: Made(ProcessTracker(iova=1 << 40, length=LENGTH)),
    "ProcessTracker without room": lambda _: Made(ProcessTracker(iova=1 << 40, length=1 << 24)),
    "SnapshotDiff": lambda _: of_buffer(SnapshotDiff),
    "SnapshotDiff of a file": of_file,
    "SoftDirty": lambda _: of_other(),
    "CommandTracker": lambda _: of_command(iova=1 << 40, length=LENGTH),
    "CommandTracker without room": lambda _: of_command(iova=1 << 40, length=1 << 21),
    "CommandTracker of a guest": lambda _: of_command(placement=GuestRam(1 << 30)),
}
KINDS = [
    getattr(sources, name)
    for name in sources.__all__
    if hasattr(getattr(sources, name), "probe") and name != "Source"
]


@pytest.fixture(params=MAKE)
def made(request, tmp_path):
    name = request.param.partition(" ")[0]
    probe = getattr(sources, name).probe()
    if not probe and name != "SoftDirty":  # which sees nothing then, and answers all the same
        pytest.skip(probe.reason)
    found = MAKE[request.param](tmp_path)
    yield found
    found.source.stop()
    found.end()


def check(source) -> None:
    """The types and relations of everything that can be asked at any time."""
    for name in ("iova", "length", "granularity"):
        assert type(getattr(source, name)) is int, name
    assert source.granularity >= 1 and source.granularity & (source.granularity - 1) == 0
    assert 0 <= source.iova < source.iova + source.length <= 1 << 64
    assert type(source.started) is bool
    assert type(source.probe()) is Probe
    layout, untracked = source.layout(), source.untracked
    assert type(layout) is list and type(untracked) is list
    for row in layout:
        assert type(row) is LayoutRow and [type(each) for each in row] == [int] * 4 + [str]
        assert row.length > 0 and row.name and row.pid > 0
        assert source.iova <= row.iova and row.iova + row.length <= source.iova + source.length
    assert [row.iova for row in layout] == sorted(row.iova for row in layout)
    for row in untracked:
        assert type(row) is Untracked and [type(each) for each in row] == [int, str, str]
        assert row.pid > 0 and row.what and row.reason
    layout.clear()  # the caller's own
    untracked.clear()


def facts(source):
    return source.layout(), source.untracked


def geometry(source):
    return source.iova, source.length, source.granularity


def test_every_source_is_in_the_table():
    assert {name.partition(" ")[0] for name in MAKE} == {kind.__name__ for kind in KINDS}


@pytest.mark.parametrize("kind", KINDS)
def test_all_have_the_same_names(kind):
    public = {name for name in dir(BaseSource) if name[0] != "_"}
    assert {name for name in dir(Source) if name[0] != "_"} <= set(dir(kind)) | GEOMETRY
    assert public <= set(dir(kind))
    assert {"start", "stop", "collect", "layout", "untracked", "probe", "started"} <= public
    assert {"__enter__", "__exit__"} <= set(dir(kind))


def test_at_any_time(made):
    source = made.source
    assert isinstance(source, Source)
    before = geometry(source)
    check(source)
    assert not source.started
    bm = ib.IOVABitmap(source.iova, source.length, source.granularity)
    for _ in range(2):
        assert source.start() is None
        check(source)
        assert source.started
        collected = source.collect(bm)
        assert type(collected) is int and collected == bm.count()
        bm.reset()
        check(source)
        assert source.stop() is None
        check(source)
        assert not source.started and geometry(source) == before
        made.again()
    with source as entered:
        assert entered is source and source.started
    check(source)


def test_layout_and_untracked_stay_as_last_known(made):
    """After stop, and what was there once is there too while it is started again."""
    source = made.source
    source.start()
    source.collect(ib.IOVABitmap(source.iova, source.length, source.granularity))
    rows, missed = facts(source)
    source.stop()
    kept = facts(source)
    if not isinstance(source, ProcessTracker):  # its memory changes as it is looked at
        assert kept == (rows, missed)
    assert {(row.iova, row.address) for row in rows} <= {(r.iova, r.address) for r in kept[0]}
    assert len(kept[0]) >= bool(rows) and {each.reason for each in missed} == {
        each.reason for each in kept[1]
    }
    assert facts(source) == kept  # and does not change any more
    source.stop()
    assert facts(source) == kept
    made.again()
    source.start()
    known = [
        (row.iova, row.iova + row.length, row.pid, row.address - row.iova)
        for row in source.layout()
    ]
    for row in kept[0]:
        assert any(
            start <= row.iova and row.iova + row.length <= end and row.address - row.iova == skip
            for start, end, pid, skip in known
            if pid == row.pid
        ), row


def test_what_finds_no_room_is_untracked_everywhere():
    probe = ProcessTracker.probe()
    if not probe:
        pytest.skip(probe.reason)
    with ProcessTracker(length=1 << 22) as source:
        assert source.untracked
    assert {each.reason for each in source.untracked} == {"no room left in the IOVA space"}
    assert {each.pid for each in source.untracked} == {os.getpid()}


def test_stacks_of_threads_keep_their_names():
    probe = CommandTracker.probe()
    if not probe:
        pytest.skip(probe.reason)
    made = of_command()
    with made.source as source:
        source.process.stdin.write(b"")
        while not (names := {row.name for row in source.layout() if "stack:" in row.name}):
            source.collect(ib.IOVABitmap(0, 4096))
    made.end()
    assert names <= {row.name for row in source.layout()}


def test_soft_dirty_names_what_found_no_room():
    """As rows of the kind that all sources have; the kernel need not have soft-dirty bits."""
    source = SoftDirty(os.getpid(), length=1 << 21)
    source._mappings()
    assert source.untracked
    for row in source.untracked:
        assert type(row) is Untracked and row.pid == os.getpid() and " at 0x" in row.what


def test_the_layout_of_a_parent_is_not_its_childs():
    """Before the child starts anew it has what was last known; then its own memory, by its pid."""
    probe = ProcessTracker.probe()
    if not probe:
        pytest.skip(probe.reason)
    run_child(
        """
        import os
        from iovabitmap.sources import ProcessTracker
        tracker = ProcessTracker()
        tracker.start()
        parent = os.getpid()
        if os.fork() == 0:
            if {row.pid for row in tracker.layout()} != {parent}:
                os._exit(1)
            tracker.start()
            if {row.pid for row in tracker.layout()} != {os.getpid()}:
                os._exit(2)
            tracker.stop()
            os._exit(0 if {row.pid for row in tracker.layout()} == {os.getpid()} else 3)
        assert os.waitstatus_to_exitcode(os.wait()[1]) == 0
        assert {row.pid for row in tracker.layout()} == {parent}
        """
    ).assert_lived("a forked child")


def test_a_command_runs_again_when_it_has_ended(tmp_path):
    probe = CommandTracker.probe()
    if not probe:
        pytest.skip(probe.reason)
    source = CommandTracker([sys.executable, "-c", "pass"])
    pids = []
    for _ in range(3):
        with source:
            assert source.wait() == 0
            pids.append(source.process.pid)
            bm = ib.IOVABitmap(source.iova, source.length)
            assert source.collect(bm) > 0
            seen = {row.pid for row in source.layout() if bm.any(row.iova, row.length)}
            assert seen == {pids[-1]}
    assert len(set(pids)) == 3 and set(pids) <= {row.pid for row in source.layout()}


# --- what constructors are given ------------------------------------------------------------------


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"iova": 0}, "iova do not go with placement"),
        ({"length": 1 << 38}, "length"),
        ({"iova": 4096, "length": 1 << 30}, "iova and length"),
        ({"shared": True}, "shared"),
    ],
)
def test_what_a_placement_decides(arguments, message):
    with pytest.raises(ValueError, match=message):
        CommandTracker(["true"], placement=GuestRam(1 << 30), **arguments)


@pytest.mark.parametrize(
    "arguments, message",
    [
        ({"stdot": -3}, "no argument stdot: stdout\\?"),
        ({"placment": None}, "placement\\?"),
        ({"cdw": "/", "x": 1}, "cdw, x"),
        ({"args": ["true"]}, "no argument args"),
    ],
)
def test_arguments_that_popen_does_not_take(arguments, message):
    with pytest.raises(TypeError, match=message):
        CommandTracker(["true"], **arguments)


@pytest.mark.parametrize("argv", ["ls -l", b"ls"])
def test_a_command_in_one_text(argv):
    with pytest.raises(TypeError, match="argv must be a sequence of words"):
        CommandTracker(argv)


def test_an_empty_environment_is_one():
    probe = CommandTracker.probe()
    if not probe:
        pytest.skip(probe.reason)
    os.environ["IOVABITMAP_TEST_OF_CONTRACT"] = "1"
    try:
        argv = [sys.executable, "-c", "import os; print(sorted(os.environ))"]
        with CommandTracker(argv, env={}, stdout=subprocess.PIPE, text=True) as source:
            said = source.process.communicate()[0]
    finally:
        del os.environ["IOVABITMAP_TEST_OF_CONTRACT"]
    assert "IOVABITMAP_TEST_OF_CONTRACT" not in said and "LD_PRELOAD" in said


def test_a_program_that_is_named_by_executable(tmp_path):
    """It is what is run, whatever argv begins with."""
    static = tmp_path / "static"
    static.write_bytes(b"\x7fELF\x02\x01" + bytes(100))
    static.chmod(0o755)
    assert "static" in CommandTracker(["sleep"], executable=str(static)).why_not()


def test_a_relative_path_of_a_guests_memory(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    for path in ("ram", Path("ram"), tmp_path / "ram"):
        assert GuestRam(1 << 30, path=path)._path == str(tmp_path.resolve() / "ram")
    with pytest.raises(ValueError, match="path is empty"):
        GuestRam(1 << 30, path="")


def test_this_process_cannot_be_frozen():
    with pytest.raises(ValueError, match="freeze=True is for other processes"):
        SoftDirty(os.getpid(), freeze=True)
    assert not SoftDirty(os.getpid())._freeze and SoftDirty(1)._freeze
    assert not SoftDirty(1, freeze=False)._freeze


@pytest.mark.parametrize("pid", [0, -1])
def test_processes_that_do_not_exist(pid):
    """A signal to them would reach others."""
    with pytest.raises(ValueError, match="pid must be above 0"):
        SoftDirty(pid)


@pytest.mark.parametrize("part", [{"offset": 1}, {"length": 1}, {"length": 0}])
def test_parts_are_of_files(part):
    with pytest.raises(ValueError, match="for files"):
        SnapshotDiff(bytearray(4096), **part)


@pytest.mark.parametrize("part", [{"offset": -1}, {"offset": -1, "length": 5}, {"length": -1}])
def test_parts_that_do_not_exist(tmp_path, part):
    (tmp_path / "memory").write_bytes(bytes(4096))
    with pytest.raises(ValueError):
        SnapshotDiff(tmp_path / "memory", **part)
