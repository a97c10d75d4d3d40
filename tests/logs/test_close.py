"""From the folder to the one file: in one step, and nothing lost when a step fails."""

from __future__ import annotations

import random
import shutil
from itertools import product

import pytest

import iovabitmap as ib
from support.children import run_child
from support.logs import (
    PAGE,
    assert_holds,
    bitmap_of,
    fill,
    make_log,
    measures_memory,
    needs,
    random_epochs,
    times_of,
)

needs("pyarrow")
from iovabitmap.logs.storage import parquet, replace  # noqa: E402

GEOMETRY = (0x1000, 70 * PAGE - 5, PAGE)
EPOCHS = random_epochs(random.Random(6), GEOMETRY, 12)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.parquet"


def names(path) -> list[str]:
    return sorted(entry.name for entry in path.parent.iterdir())


@pytest.fixture(params=["exchange", "two renames"])
def way(request, monkeypatch):
    """Both ways in which a file takes a folder's place."""
    if request.param == "two renames":
        monkeypatch.setattr(replace, "_exchange", lambda a, b: False)
    return request.param


def test_closing(path, way):
    make_log(path, EPOCHS, GEOMETRY)
    assert names(path) == ["run.parquet"] and path.is_file()
    with ib.DirtyLog.open(path) as log:
        assert_holds(log, EPOCHS, GEOMETRY)


@pytest.mark.parametrize("name", ["s3:run.parquet", "file:run.parquet", "run%00.parquet"])
def test_a_name_is_a_name(tmp_path, monkeypatch, name):
    """And no URL, also where it is relative."""
    monkeypatch.chdir(tmp_path)
    make_log(name, EPOCHS, GEOMETRY)
    assert [entry.name for entry in tmp_path.iterdir()] == [name]
    with ib.DirtyLog.open(name) as log:
        assert_holds(log, EPOCHS, GEOMETRY)


def test_finishing_what_a_kill_left(path, way):
    make_log(path, EPOCHS, GEOMETRY, close=False)
    (path.parent / "run.parquet.closing").write_bytes(b"of a close that was killed")
    ib.DirtyLog.finish(path)
    assert names(path) == ["run.parquet"] and path.is_file()
    with ib.DirtyLog.open(path) as log:
        assert not log.unfinished
        assert_holds(log, EPOCHS, GEOMETRY)
    ib.DirtyLog.finish(path)  # of a finished one: nothing to do
    with ib.DirtyLog.open(path) as log:
        assert_holds(log, EPOCHS, GEOMETRY)


def test_killed_between_two_renames(path, way):
    """Where the system cannot exchange, there is an instant without the path itself."""
    make_log(path, EPOCHS, GEOMETRY, close=False)
    path.rename(replace.aside(path))
    with ib.DirtyLog.open(path) as log:
        assert_holds(log, EPOCHS, GEOMETRY)
    ib.DirtyLog.finish(path)
    assert names(path) == ["run.parquet"] and path.is_file()
    with ib.DirtyLog.open(path) as log:
        assert_holds(log, EPOCHS, GEOMETRY)


CLOSE_AND_DIE = """
import os, shutil, signal
from pathlib import Path
import iovabitmap as ib
from iovabitmap.logs.storage import replace

folder, way = Path(sys.argv[1]), sys.argv[2]
if way != "exchange":
    replace._exchange = lambda a, b: False

def finish(path, last):
    "Makes a file of the log, but for a kill at the line of that number; returns the lines."
    lines = 0

    def step(frame, event, argument):
        nonlocal lines
        if frame.f_code.co_name not in ("_seal", "replace_folder", "_exchange", "sync_folder"):
            return None
        if event == "line":
            if lines == last:
                os.kill(os.getpid(), signal.SIGKILL)
            lines += 1
        return step

    sys.settrace(step)
    ib.DirtyLog.finish(path)
    sys.settrace(None)
    return lines

shutil.copytree(folder / "unfinished", folder / "whole")
lines = finish(folder / "whole", -1)
for last in range(lines):
    path = folder / str(last) / "run.parquet"
    shutil.copytree(folder / "unfinished", path)
    child = os.fork()
    if child == 0:
        finish(path, last)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL, last
print(lines)
"""


@pytest.mark.parametrize("kind", ["exchange", "two renames"])
def test_killed_at_every_line_of_closing(tmp_path, kind):
    """Whatever the instant: the log is there, whole, and can be finished."""
    make_log(tmp_path / "unfinished", EPOCHS, GEOMETRY, close=False)
    result = run_child(CLOSE_AND_DIE, str(tmp_path), kind)
    result.assert_lived("killing a child at each line")
    assert int(result.stdout) > 10
    for last in range(int(result.stdout)):
        path = tmp_path / f"{last}" / "run.parquet"
        with ib.DirtyLog.open(path) as log:
            assert_holds(log, EPOCHS, GEOMETRY)
        ib.DirtyLog.finish(path)
        assert path.is_file()
        with ib.DirtyLog.open(path) as log:
            assert_holds(log, EPOCHS, GEOMETRY)


def test_an_interrupt_while_closing_keeps_the_folder(path, monkeypatch):
    log = ib.DirtyLog.create(path, *GEOMETRY)
    fill(log, EPOCHS, GEOMETRY)

    def interrupt(epochs):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        log.close(progress=interrupt)
    assert names(path) == ["run.parquet"] and path.is_dir()
    assert_holds(log, EPOCHS, GEOMETRY)  # still as it was
    log.append(bitmap_of({4}, GEOMETRY), *times_of(len(EPOCHS)))
    seen = []
    log.close(progress=seen.append)
    assert seen == [13] and path.is_file()
    with ib.DirtyLog.open(path) as log:
        assert_holds(log, [*EPOCHS, {4}], GEOMETRY)


def test_closing_holds_a_few_blocks_only(path, monkeypatch):
    """Whatever the length of the recording: never more than a block is asked for ahead."""
    monkeypatch.setattr(parquet, "regroup", lambda blocks: regrouped(blocks))
    ahead = []

    def regrouped(blocks):
        from iovabitmap.logs.storage.blocks import regroup

        taken = 0

        def counted():
            nonlocal taken
            for block in blocks:
                taken += len(block.epoch)
                yield block

        given = 0
        for block in regroup(counted(), 16):
            given += len(block.epoch)
            ahead.append(taken - given)
            yield block

    epochs = random_epochs(random.Random(7), GEOMETRY, 100)
    make_log(path, epochs, GEOMETRY)
    assert len(ahead) > 10 and max(ahead) <= 70  # rows of one epoch at most
    with ib.DirtyLog.open(path) as log:
        assert len(log._file._groups) == len(ahead)
        assert_holds(log, epochs, GEOMETRY)
        for i in range(0, 100, 7):
            for j in range(i, 100, 9):
                assert log[i:j].union() == bitmap_of(set().union(*epochs[i:j]), GEOMETRY)


def test_a_window_reads_its_own_row_groups_only(path, monkeypatch):
    monkeypatch.setattr(parquet, "regroup", lambda blocks: regroup(blocks, 12))
    from iovabitmap.logs.storage.blocks import regroup

    epochs = random_epochs(random.Random(9), GEOMETRY, 200)
    make_log(path, epochs, GEOMETRY)
    read = []
    original = parquet.ParquetLog._columns
    monkeypatch.setattr(
        parquet.ParquetLog,
        "_columns",
        lambda self, k, *names: read.append(k) or original(self, k, *names),
    )
    with ib.DirtyLog.open(path) as log:
        assert read == [] and len(log) == 200  # opening reads no rows
        groups = log._file._groups
        edges = [g.first for g in groups[::9]] + [g.last + 1 for g in groups[::9]]
        for i, j in ((0, 1), (50, 60), (199, 200), (10, 10), *product(edges, edges)):
            read.clear()
            log._file._cached = log._file._cached_rows = None
            log[i:j].union()
            assert read == [
                k for k, g in enumerate(groups) if g.first < j and g.last >= i and i < j
            ]


def test_a_log_that_is_being_written_is_not_finished(path):
    with ib.DirtyLog.create(path, *GEOMETRY) as log:
        fill(log, EPOCHS, GEOMETRY)
        with pytest.raises(ib.LogError, match="still being written"):
            ib.DirtyLog.finish(path)
        assert path.is_dir()
    assert path.is_file()


def test_saving_elsewhere(path, tmp_path):
    make_log(path, EPOCHS, GEOMETRY, close=False)
    with ib.DirtyLog.open(path) as log:
        log.save(tmp_path / "copy.parquet")
    with ib.DirtyLog.open(tmp_path / "copy.parquet") as log:
        assert_holds(log, EPOCHS, GEOMETRY)
        assert "not closed" in log.notes["unfinished"]
    assert names(path) == ["copy.parquet", "run.parquet"] and path.is_dir()


# --- appending that fails ------------------------------------------------------------------------


class Interrupted:
    """A bitmap whose second batch of rows never comes."""

    iova, length, page_size = GEOMETRY

    def iter_ranges(self, batch):
        yield bitmap_of({1, 5, 9}, GEOMETRY).ranges()
        yield bitmap_of({20}, GEOMETRY).ranges()
        raise KeyboardInterrupt


def test_an_interrupt_while_appending_leaves_nothing_of_the_epoch(path):
    with ib.DirtyLog.create(path, *GEOMETRY) as log:
        log.append(bitmap_of({3}, GEOMETRY), *times_of(0))
        size = (path / "journal").stat().st_size
        with pytest.raises(KeyboardInterrupt):
            log.append(Interrupted(), *times_of(1))
        assert (path / "journal").stat().st_size == size and len(log) == 1
        log.append(bitmap_of({4}, GEOMETRY), *times_of(1))
    with ib.DirtyLog.open(path) as log:
        assert_holds(log, [{3}, {4}], GEOMETRY)


def test_a_full_disk_leaves_nothing_of_the_epoch(path):
    """A limit on the size of files stands for the disk: the write is cut in the middle."""
    pytest.importorskip("resource", reason="limits are those of POSIX")
    run_child(
        """
        import resource
        import iovabitmap as ib

        log = ib.DirtyLog.create(sys.argv[1], 0, 1 << 30, 4096)
        bm = ib.IOVABitmap(0, 1 << 30)
        bm.set_pages([n * n % (1 << 18) * 4096 for n in range(50_000)])
        log.append(bm, 0, 1)
        size = (log.path / "journal").stat().st_size
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 1000, limits[1]))
        for _ in range(3):
            try:
                log.append(bm, 1, 2)
            except OSError:
                pass
            else:
                raise AssertionError("the limit is none")
            assert len(log) == 1 and (log.path / "journal").stat().st_size == size
            assert log[0].bitmap() == bm
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
            log.close()
        except OSError:
            assert log.path.is_dir()
        else:
            raise AssertionError("a file larger than the limit")
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
        log.append(bm, 1, 2)
        log.close()
        with ib.DirtyLog.open(sys.argv[1]) as log:
            assert len(log) == 2 and log[1].bitmap() == bm
        """,
        str(path),
    ).assert_lived("a full disk")


def test_nothing_is_left_where_creating_fails(path, monkeypatch):
    path.parent.joinpath("file").write_bytes(b"")
    with pytest.raises(NotADirectoryError):
        ib.DirtyLog.create(path.parent / "file" / "run.parquet", *GEOMETRY)
    with pytest.raises(FileNotFoundError):
        ib.DirtyLog.create(path.parent / "none" / "run.parquet", *GEOMETRY)
    assert names(path) == ["file"]


def test_the_log_can_be_moved_while_unfinished(path, tmp_path):
    make_log(path, EPOCHS, GEOMETRY, close=False)
    shutil.move(path, tmp_path / "moved")
    with ib.DirtyLog.open(tmp_path / "moved") as log:
        assert_holds(log, EPOCHS, GEOMETRY)


@measures_memory
def test_memory_does_not_grow_with_the_recording(path):
    """7 million rows, 120 MB as ranges and 300 MB as columns: neither while it is recorded nor when
    it is closed is more than a few blocks of them held."""
    run_child(
        """
        import resource
        import iovabitmap as ib

        def peak():
            return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss / 1024

        log = ib.DirtyLog.create(sys.argv[1], 0, 1 << 30, 4096)
        bm = ib.IOVABitmap(0, 1 << 30)
        for epoch in range(240):
            bm.reset()
            bm.set_pages([(page * 8 + epoch % 7) * 4096 for page in range(1 << 15)])
            if epoch == 10:
                before = peak()
            log.append(bm, epoch, epoch + 1)
        recorded = peak()
        log.close()
        print(f"{recorded - before:.0f} MiB, then {peak() - recorded:.0f} MiB", flush=True)
        assert recorded - before < 32 and peak() - recorded < 160
        with ib.DirtyLog.open(sys.argv[1]) as log:
            assert len(log) == 240 and log[239].count() == 1 << 15
        """,
        str(path),
    ).assert_lived("a long recording")
