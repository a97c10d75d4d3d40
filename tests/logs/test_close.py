"""From the journal to the finished file: in one step, and nothing lost when a step fails."""

from __future__ import annotations

import os
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
from iovabitmap.logs.storage import files, parquet  # noqa: E402

GEOMETRY = (0x1000, 70 * PAGE - 5, PAGE)
EPOCHS = random_epochs(random.Random(6), GEOMETRY, 12)


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.parquet"


def names(path) -> list[str]:
    return sorted(entry.name for entry in path.parent.iterdir())


def journal_of(path):
    return path.with_name(path.name + ".journal")


def test_closing(path):
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


def test_finishing_what_a_kill_left(path):
    make_log(path, EPOCHS, GEOMETRY, close=False)
    assert names(path) == ["run.parquet.journal"]
    (path.parent / "run.parquet.closing").write_bytes(b"of a close that was killed")
    assert ib.LogWriter.finish(path) == path
    assert names(path) == ["run.parquet"] and path.is_file()
    with ib.DirtyLog.open(path) as log:
        assert not log.unfinished
        assert_holds(log, EPOCHS, GEOMETRY)
    assert ib.LogWriter.finish(path) == path  # of a finished one: nothing to do
    with ib.DirtyLog.open(path) as log:
        assert_holds(log, EPOCHS, GEOMETRY)


@pytest.mark.parametrize("by", ["run.parquet", "run.parquet.journal"])
def test_killed_between_the_rename_and_the_end_of_the_journal(path, by):
    """Both are there: the finished one is read, and the journal is removed."""
    make_log(path, EPOCHS, GEOMETRY, close=False)
    shutil.copy(journal_of(path), path.parent / "kept")
    ib.LogWriter.finish(path)
    (path.parent / "kept").rename(journal_of(path))
    inode = path.stat().st_ino
    with ib.DirtyLog.open(path) as log:
        assert not log.unfinished
        assert_holds(log, EPOCHS, GEOMETRY)
    assert ib.LogWriter.finish(path.with_name(by)) == path
    assert names(path) == ["run.parquet"] and path.stat().st_ino == inode
    with ib.DirtyLog.open(path) as log:
        assert_holds(log, EPOCHS, GEOMETRY)


def test_a_journal_that_went_on_after_it_was_closed_counts(path):
    """As Ctrl-C just behind the rename may leave it."""
    log = ib.LogWriter(path, ib.Geometry(*GEOMETRY))
    fill(log, EPOCHS[:5], GEOMETRY)
    shutil.copy(journal_of(path), path.parent / "copy.parquet.journal")
    ib.LogWriter.finish(path.parent / "copy.parquet")
    (path.parent / "copy.parquet").rename(path)
    for n in range(5, len(EPOCHS)):
        log.append(bitmap_of(EPOCHS[n], GEOMETRY), *times_of(n))
    log.close()
    assert names(path) == ["run.parquet"]
    with ib.DirtyLog.open(path) as log:
        assert_holds(log, EPOCHS, GEOMETRY)


@pytest.mark.parametrize("what", ["text", "another log", "a folder", "a log of less"])
def test_what_came_to_the_place_meanwhile_is_not_replaced(path, what):
    """Nor is the recording lost."""
    log = ib.LogWriter(path, ib.Geometry(*GEOMETRY))
    fill(log, EPOCHS, GEOMETRY)
    if what == "text":
        path.write_text("precious")
    elif what == "a folder":
        path.mkdir()
    elif what == "another log":
        make_log(path.parent / "other.parquet", EPOCHS, GEOMETRY)
        (path.parent / "other.parquet").rename(path)
    else:  # more than the journal holds
        shutil.copy(journal_of(path), path.parent / "cut")
        ib.LogWriter.finish(path.parent / "cut")
        (path.parent / "cut").rename(path)
        os.truncate(journal_of(path), journal_of(path).stat().st_size - 1)
        log.abort()
    before = path.read_bytes() if path.is_file() else None
    for end in (log.close, lambda: ib.LogWriter.finish(journal_of(path))):
        if what == "a log of less" and end == log.close:
            continue
        with pytest.raises(FileExistsError, match=r"which is kept"):
            end()
        log.abort()
    assert (path.read_bytes() if path.is_file() else None) == before
    with ib.DirtyLog.open(journal_of(path)) as log:
        assert len(log) >= len(EPOCHS) - 1
        log.save(path.parent / "saved.parquet")


CLOSE_AND_DIE = """
import os, shutil, signal
from pathlib import Path
import iovabitmap as ib

folder, as_what = Path(sys.argv[1]), sys.argv[2]
FUNCTIONS = ("_seal", "put_whole", "_sync_folder", "<lambda>", "finish", "close", "_end")

def finish(path, last):
    "Makes a file of the log, but for a kill at the line of that number; returns the lines."
    lines = 0

    def step(frame, event, argument):
        nonlocal lines
        if frame.f_code.co_name not in FUNCTIONS or "logs" not in frame.f_code.co_filename:
            return None
        if event == "line":
            if lines == last:
                if as_what == "kill":
                    os.kill(os.getpid(), signal.SIGKILL)
                raise KeyboardInterrupt
            lines += 1
        return step

    sys.settrace(step)
    try:
        ib.LogWriter.finish(path)
    except KeyboardInterrupt:
        assert as_what == "interrupt"
        os.kill(os.getpid(), signal.SIGKILL)
    finally:
        sys.settrace(None)
    return lines

shutil.copytree(folder / "unfinished", folder / "whole")
lines = finish(folder / "whole" / "run.parquet", -1)
for last in range(lines):
    shutil.copytree(folder / "unfinished", folder / str(last))
    child = os.fork()
    if child == 0:
        finish(folder / str(last) / "run.parquet", last)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == signal.SIGKILL, last
print(lines)
"""


@pytest.mark.parametrize("kind", ["kill", "interrupt"])
def test_ended_at_every_line_of_closing(tmp_path, kind):
    """Whatever the instant: the log is there, whole, and can be finished."""
    (tmp_path / "unfinished").mkdir()
    make_log(tmp_path / "unfinished" / "run.parquet", EPOCHS, GEOMETRY, close=False)
    result = run_child(CLOSE_AND_DIE, str(tmp_path), kind)
    result.assert_lived("ending a child at each line")
    assert int(result.stdout) > 20
    both = 0
    for last in range(int(result.stdout)):
        path = tmp_path / f"{last}" / "run.parquet"
        both += path.exists() and journal_of(path).exists()
        with ib.DirtyLog.open(path) as log:
            assert_holds(log, EPOCHS, GEOMETRY)
        ib.LogWriter.finish(path)
        assert names(path) == ["run.parquet"]
        with ib.DirtyLog.open(path) as log:
            assert_holds(log, EPOCHS, GEOMETRY)
    assert both > 0


def test_opening_while_it_is_closed(path, monkeypatch):
    """Between the two names that may be there: each question is asked just before the answer
    changes."""
    make_log(path, EPOCHS, GEOMETRY, close=False)
    mode, asked = files._mode, []

    def changing(name):
        found = mode(name)
        asked.append(name)
        if len(asked) == 1:
            ib.LogWriter.finish(path)
        return found

    monkeypatch.setattr(files, "_mode", changing)
    with ib.DirtyLog.open(path) as log:
        assert asked[0] == path and not log.unfinished
        assert_holds(log, EPOCHS, GEOMETRY)


def test_an_interrupt_while_closing_keeps_the_journal(path):
    log = ib.LogWriter(path, ib.Geometry(*GEOMETRY))
    fill(log, EPOCHS, GEOMETRY)

    def interrupt(epochs):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        log.close(progress=interrupt)
    assert names(path) == ["run.parquet.journal"]
    log.append(bitmap_of({4}, GEOMETRY), *times_of(len(EPOCHS)))  # still as it was
    seen = []
    log.close(progress=seen.append)
    assert seen == [13] and path.is_file()
    with ib.DirtyLog.open(path) as log:
        assert_holds(log, [*EPOCHS, {4}], GEOMETRY)


def test_a_close_that_fails_at_the_end_of_with_lets_go(path, monkeypatch):
    """So that the log can be finished by others."""

    def record():
        with ib.LogWriter(path, ib.Geometry(*GEOMETRY)) as log:
            fill(log, EPOCHS, GEOMETRY)

    with monkeypatch.context() as patched:
        patched.setattr(parquet, "write", full)
        with pytest.raises(OSError, match="full"):
            record()
    ib.LogWriter.finish(path)
    with ib.DirtyLog.open(path) as log:
        assert_holds(log, EPOCHS, GEOMETRY)


def full(*arguments):
    raise OSError(28, "the disk is full")


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
    with ib.LogWriter(path, ib.Geometry(*GEOMETRY)) as log:
        fill(log, EPOCHS, GEOMETRY)
        with pytest.raises(ib.LogError, match="still being written"):
            ib.LogWriter.finish(path)
        assert names(path) == ["run.parquet.journal"]
    assert path.is_file()


def test_saving_elsewhere(path, tmp_path):
    make_log(path, EPOCHS, GEOMETRY, close=False)
    with ib.DirtyLog.open(path) as log:
        log.save(tmp_path / "copy.parquet")
    with ib.DirtyLog.open(tmp_path / "copy.parquet") as log:
        assert_holds(log, EPOCHS, GEOMETRY)
        assert "not closed" in log.notes["unfinished"]
    assert names(path) == ["copy.parquet", "run.parquet.journal"]


# --- appending that fails ------------------------------------------------------------------------


class Interrupted:
    """A bitmap whose second batch of rows never comes."""

    iova, length, page_size = GEOMETRY

    def iter_ranges(self, batch):
        yield bitmap_of({1, 5, 9}, GEOMETRY).ranges()
        yield bitmap_of({20}, GEOMETRY).ranges()
        raise KeyboardInterrupt


def test_an_interrupt_while_appending_leaves_nothing_of_the_epoch(path):
    with ib.LogWriter(path, ib.Geometry(*GEOMETRY)) as log:
        log.append(bitmap_of({3}, GEOMETRY), *times_of(0))
        size = journal_of(path).stat().st_size
        with pytest.raises(KeyboardInterrupt):
            log.append(Interrupted(), *times_of(1))
        assert journal_of(path).stat().st_size == size and len(log) == 1
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

        log = ib.LogWriter(sys.argv[1], ib.Geometry(0, 1 << 30, 4096))
        bm = ib.IOVABitmap(0, 1 << 30)
        bm.set_pages([n * n % (1 << 18) * 4096 for n in range(50_000)])
        log.append(bm, 0, 1)
        journal = log.path.with_name(log.path.name + ".journal")
        size = journal.stat().st_size
        limits = resource.getrlimit(resource.RLIMIT_FSIZE)
        resource.setrlimit(resource.RLIMIT_FSIZE, (size + 1000, limits[1]))
        for _ in range(3):
            try:
                log.append(bm, 1, 2)
            except OSError:
                pass
            else:
                raise AssertionError("the limit is none")
            assert len(log) == 1 and journal.stat().st_size == size
            with ib.DirtyLog.open(log.path) as read:
                assert read[0].bitmap() == bm
        try:
            resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
            log.close()
        except OSError:
            assert journal.is_file() and not log.path.exists()
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
        ib.LogWriter(path.parent / "file" / "run.parquet", ib.Geometry(*GEOMETRY))
    with pytest.raises(FileNotFoundError):
        ib.LogWriter(path.parent / "none" / "run.parquet", ib.Geometry(*GEOMETRY))
    assert names(path) == ["file"]


def test_the_log_can_be_moved_while_unfinished(path, tmp_path):
    """Under any name: the file says what it is."""
    make_log(path, EPOCHS, GEOMETRY, close=False)
    shutil.move(journal_of(path), tmp_path / "moved")
    with ib.DirtyLog.open(tmp_path / "moved") as log:
        assert "not closed" in log.unfinished
        assert_holds(log, EPOCHS, GEOMETRY)
    assert ib.LogWriter.finish(tmp_path / "moved") == tmp_path / "moved"
    with ib.DirtyLog.open(tmp_path / "moved") as log:
        assert not log.unfinished
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

        log = ib.LogWriter(sys.argv[1], ib.Geometry(0, 1 << 30, 4096))
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
