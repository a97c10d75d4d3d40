"""DirtyLog and Epoch: what is appended is read back, and what each error says."""

from __future__ import annotations

import platform
import random
import re
import struct
import time
from datetime import datetime
from pathlib import Path

import numpy as np
import pytest

import iovabitmap as ib
from support.children import run_child
from support.logs import (
    PAGE,
    assert_holds,
    bitmap_of,
    fill,
    make_log,
    needs,
    random_epochs,
    rows_of,
    times_of,
)

needs("pyarrow")

GEOMETRIES = [
    (0, 300 * PAGE, PAGE),
    (0x1234_5000, 70 * PAGE - 5, PAGE),
    (2**64 - 64 * PAGE, 64 * PAGE, PAGE),
    (7, 100, 1),
    (2**63, 2**63, 2**57),
    (2**31 - 3, 2**32 + 1, 2**26),
]
SMALL = GEOMETRIES[1]


@pytest.fixture
def path(tmp_path):
    return tmp_path / "run.parquet"


# --- what goes in comes out ----------------------------------------------------------------------


@pytest.mark.parametrize("close", [True, False], ids=["finished", "killed"])
@pytest.mark.parametrize("geometry", GEOMETRIES, ids=[f"{g[0]:#x}" for g in GEOMETRIES])
def test_what_is_appended_is_read_back(path, geometry, close):
    epochs = random_epochs(random.Random(5), geometry, 40)
    make_log(path, epochs, geometry, close=close)
    with ib.DirtyLog.open(path) as log:
        assert bool(log.unfinished) is not close
        assert (log.iova, log.length, log.page_size) == geometry
        assert_holds(log, epochs, geometry)
        for n in (0, 7, 39):
            assert log[n].bitmap() == bitmap_of(epochs[n], geometry)


def test_while_it_is_written(path):
    epochs = random_epochs(random.Random(1), SMALL, 9)
    with ib.LogWriter(path, ib.Geometry(*SMALL)) as log:
        assert len(log) == 0 and not path.exists()
        assert [entry.name for entry in path.parent.iterdir()] == ["run.parquet.journal"]
        fill(log, epochs[:4], SMALL)
        assert len(log) == 4 and "writing" in repr(log)
        with ib.DirtyLog.open(path) as other:  # another program looks
            assert_holds(other, epochs[:4], SMALL)
        log.append(bitmap_of(epochs[4], SMALL), *times_of(4))
        with ib.DirtyLog.open(path.with_name("run.parquet.journal")) as other:
            assert_holds(other, epochs[:5], SMALL)
    assert path.is_file() and [entry.name for entry in path.parent.iterdir()] == ["run.parquet"]


@pytest.mark.parametrize("close", [True, False], ids=["finished", "killed"])
def test_more_rows_than_a_block_holds(path, close):
    """Epochs that span blocks, and blocks that span epochs."""
    geometry = (0x1000, 600_001 * PAGE, PAGE)
    every_second = np.arange(0, 600_001, 2)
    few = {5, 6, 7, 600_000}
    with ib.LogWriter(path, ib.Geometry(*geometry)) as log:
        for n in range(3):
            bm = ib.IOVABitmap(*geometry)
            bm.set_pages((every_second * PAGE + 0x1000).astype("u8"))
            log.append(bm, *times_of(2 * n))
            log.append(bitmap_of(few, geometry), *times_of(2 * n + 1))
        if not close:
            log.abort()
    expected = np.column_stack((every_second * PAGE + 0x1000, np.full(len(every_second), PAGE)))
    with ib.DirtyLog.open(path) as log:
        assert len(log) == 6
        for n in range(3):
            assert np.array_equal(log[2 * n].ranges(), expected.astype("u8"))
            assert log[2 * n + 1].ranges().tolist() == rows_of(few, geometry)
        assert log[1:3].union().count() == len(set(every_second.tolist()) | few)
        assert log[3:4].union().count() == 4


def test_a_log_without_epochs(path):
    make_log(path, [], SMALL)
    with ib.DirtyLog.open(path) as log:
        assert len(log) == 0 and list(log) == []
        assert log.union().count() == 0
        with pytest.raises(IndexError, match="epoch 0 of a Timeline of 0"):
            log[0]


def test_indexing_is_that_of_a_sequence(path):
    epochs = random_epochs(random.Random(3), SMALL, 6)
    make_log(path, epochs, SMALL)
    with ib.DirtyLog.open(path) as log:
        assert log[-1].index == 5 and log[-6].index == 0 and log[np.int64(2)].index == 2
        for bad in (6, -7, 10**30):
            with pytest.raises(IndexError, match="of a Timeline of 6"):
                log[bad]
        assert [epoch.index for epoch in log[1:-1]] == [0, 1, 2, 3]
        assert [epoch.t_start_ns for epoch in log[1:-1]] == [times_of(n)[0] for n in range(1, 5)]
        with pytest.raises(TypeError):
            log["0"]


@pytest.mark.parametrize("close", [True, False], ids=["finished", "killed"])
def test_unions_of_every_window(path, close):
    epochs = random_epochs(random.Random(4), SMALL, 7)
    make_log(path, epochs, SMALL, close=close)
    with ib.DirtyLog.open(path) as log:
        for i in (None, *range(-9, 10)):
            for j in (None, *range(-9, 10)):
                expected = set().union(*epochs[i:j])
                assert log[i:j].union().ranges().tolist() == rows_of(expected, SMALL), (i, j)


def test_the_file_has_the_columns_and_types_that_are_promised(path):
    import pyarrow.parquet as pq

    make_log(path, [{1, 2, 9}, set(), {69}], SMALL)
    table = pq.read_table(path)
    types = {field.name: str(field.type) for field in table.schema}
    assert types == {
        "epoch": "int64",
        "t_start_ns": "int64",
        "t_end_ns": "int64",
        "iova": "uint64",
        "length": "uint64",
    }
    base = SMALL[0]
    assert table.to_pylist() == [
        dict(zip(types, row, strict=True))
        for row in (
            (0, *times_of(0), base + PAGE, 2 * PAGE),
            (0, *times_of(0), base + 9 * PAGE, PAGE),
            (1, *times_of(1), base, 0),  # clean
            (2, *times_of(2), base + 69 * PAGE, PAGE - 5),
        )
    ]


def test_page_checksums_are_on(path):
    """Parquet's own: a reader that knows nothing of ours notices a flipped bit in a page."""
    import pyarrow.parquet as pq

    make_log(path, random_epochs(random.Random(8), SMALL, 20), SMALL)
    chunk = pq.ParquetFile(path).metadata.row_group(0).column(3)
    data = bytearray(path.read_bytes())
    data[chunk.data_page_offset + chunk.total_compressed_size - 1] ^= 1
    path.write_bytes(data)
    with pytest.raises(OSError, match="CRC"):
        pq.read_table(path, page_checksum_verification=True)


# --- metadata ------------------------------------------------------------------------------------


def test_metadata(path):
    before = time.time()
    command = ["redis-server", "--port", "0", "ü\n"]
    with ib.LogWriter(
        path,
        ib.Geometry(*SMALL),
        granularity=2**21,
        source="WriteTracker",
        command=command,
        notes={"a": [1]},
    ) as log:
        log.note("layout", [[0, 4096, 2**63, "heap"]])
        log.append(ib.IOVABitmap(*SMALL), 0, 1)
        log.note("a", None)
        assert log.notes == {"a": None, "layout": [[0, 4096, 2**63, "heap"]]}
    after = time.time()
    with ib.DirtyLog.open(path) as log:
        assert log.granularity == 2**21 and log.source == "WriteTracker"
        assert log.host == platform.node() and log.command == command
        assert log.notes == {"a": None, "layout": [[0, 4096, 2**63, "heap"]]}
        started = datetime.fromisoformat(log.started)
        assert started.tzinfo is not None and before - 1 <= started.timestamp() <= after + 1


def test_defaults_and_a_command_of_one_word(path):
    with ib.LogWriter(path, ib.Geometry(*SMALL), host="elsewhere", command="sh -c true"):
        pass
    with ib.DirtyLog.open(path) as log:
        assert (log.granularity, log.source, log.notes) == (PAGE, "", {})
        assert (log.host, log.command) == ("elsewhere", "sh -c true")


@pytest.mark.parametrize(
    "wrong",
    [
        {"iova": -1},
        {"iova": 2**64 - 1},
        {"length": 0},
        {"length": 2**64},
        {"page_size": 0},
        {"page_size": 3000},
        {"granularity": 0},
    ],
)
def test_what_is_no_geometry(path, wrong):
    given = {"iova": 0x1000, "length": 0x10000, "page_size": 4096, "granularity": None, **wrong}
    granularity = given.pop("granularity")
    with pytest.raises(ValueError):
        ib.LogWriter(path, ib.Geometry(**given), granularity=granularity)
    assert not any(path.parent.iterdir())


def test_notes_that_json_cannot_hold(path):
    for notes in ({"a": object()}, {"a": float("nan")}):
        with pytest.raises((TypeError, ValueError)):
            ib.LogWriter(path, ib.Geometry(*SMALL), notes=notes)
        assert not any(path.parent.iterdir())
    with ib.LogWriter(path, ib.Geometry(*SMALL), notes={"kept": 1}) as log:
        with pytest.raises(TypeError):
            log.note("b", object())
        assert log.notes == {"kept": 1}
    with ib.DirtyLog.open(path) as log:
        assert log.notes == {"kept": 1}


# --- a single epoch as a raw bitmap --------------------------------------------------------------


@pytest.mark.parametrize("nbits", [1, 63, 64, 65, 300])
def test_to_raw_is_whole_little_endian_words(path, tmp_path, nbits):
    geometry = (0x5000, nbits * PAGE, PAGE)
    pages = {n for n in range(nbits) if n % 7 in (0, 3)} | {nbits - 1}
    make_log(path, [set(), pages], geometry)
    raw = tmp_path / "epoch.raw"
    raw.write_bytes(b"old" * 1000)
    with ib.DirtyLog.open(path) as log:
        log[1].to_raw(raw)
    words = [0] * ((nbits + 63) // 64)
    for n in pages:
        words[n // 64] |= 1 << n % 64
    assert raw.read_bytes() == struct.pack(f"<{len(words)}Q", *words)


# --- ranges that are no bitmap's -----------------------------------------------------------------


def test_append_ranges_marks_the_pages_that_are_touched(path):
    rng = random.Random(11)
    expected = []
    with ib.LogWriter(path, ib.Geometry(*SMALL)) as log:
        for n in range(200):
            rows = []
            for _ in range(rng.randint(0, 6)):
                start = rng.randrange(SMALL[1])
                rows.append([SMALL[0] + start, rng.randint(0, min(9 * PAGE, SMALL[1] - start))])
            bm = ib.IOVABitmap(*SMALL)
            pages = set()
            for iova, length in rows:
                if length:
                    first = (iova - SMALL[0]) // PAGE
                    pages |= set(range(first, (iova + length - 1 - SMALL[0]) // PAGE + 1))
            bm.set_ranges(rows)
            log.append_ranges(rows, *times_of(n))
            expected.append((pages, bm))
    with ib.DirtyLog.open(path) as log:
        assert_holds(log, [pages for pages, _ in expected], SMALL)
        assert all(epoch.bitmap() == bm for epoch, (_, bm) in zip(log, expected, strict=True))


@pytest.mark.parametrize("geometry", GEOMETRIES, ids=[f"{g[0]:#x}" for g in GEOMETRIES])
def test_append_ranges_of_all_and_of_the_ends(path, geometry):
    base, total, _ = geometry
    whole = np.array([[base, total]], np.uint64)
    ends = np.array([[base + total - 1, 1], [base, 1]], np.uint64)
    with ib.LogWriter(path, ib.Geometry(*geometry)) as log:
        log.append_ranges(whole, 0, 0)
        log.append_ranges(ends, 0, 0)
    bm = ib.IOVABitmap(*geometry)
    bm.set_ranges(ends)
    with ib.DirtyLog.open(path) as log:
        assert log[0].ranges().tolist() == whole.tolist()
        assert log[1].ranges().tolist() == bm.ranges().tolist()


@pytest.mark.parametrize(
    "rows,what",
    [
        ([[0, 1]], "row 0"),
        ([[SMALL[0], 1], [SMALL[0] + SMALL[1], 1]], "row 1"),
        ([[SMALL[0], 1], [SMALL[0] - 1, 2]], "row 1"),
        ([[SMALL[0], SMALL[1] + 1]], "row 0"),
        ([[-1, 1]], "row 0"),
        (np.array([[SMALL[0] + 1, 2**64 - 1]], np.uint64), "row 0"),
    ],
)
def test_append_ranges_refuses_what_is_not_inside(path, rows, what):
    with ib.LogWriter(path, ib.Geometry(*SMALL)) as log:
        with pytest.raises(ValueError, match=what):
            log.append_ranges(rows, 0, 1)
        assert len(log) == 0


# --- errors --------------------------------------------------------------------------------------


def test_a_path_that_exists(path, tmp_path):
    path.write_bytes(b"precious")
    with pytest.raises(FileExistsError):
        ib.LogWriter(path, ib.Geometry(*SMALL))
    assert path.read_bytes() == b"precious"
    make_log(tmp_path / "a.parquet", [{1}], SMALL)
    with ib.DirtyLog.open(tmp_path / "a.parquet") as log, pytest.raises(FileExistsError):
        log.save(path)
    assert path.read_bytes() == b"precious"


def test_a_log_that_is_written_or_was_killed_is_not_replaced(path, tmp_path):
    make_log(path, [{1}], SMALL, close=False)
    make_log(tmp_path / "a.parquet", [{2}], SMALL)
    with pytest.raises(FileExistsError, match=r"run.parquet.journal exists"):
        ib.LogWriter(path, ib.Geometry(*SMALL))
    with (
        ib.DirtyLog.open(tmp_path / "a.parquet") as log,
        pytest.raises(FileExistsError, match="journal exists"),
    ):
        log.save(path)
    with ib.DirtyLog.open(path) as log:
        assert_holds(log, [{1}], SMALL)


def test_nothing_at_the_path(path):
    with pytest.raises(FileNotFoundError):
        ib.DirtyLog.open(path)


def test_another_geometry(path):
    with ib.LogWriter(path, ib.Geometry(*SMALL)) as log:
        for other in ((0, *SMALL[1:]), (SMALL[0], PAGE, PAGE), (*SMALL[:2], 2 * PAGE)):
            with pytest.raises(ValueError, match=re.escape(str(other[2]))):
                log.append(ib.IOVABitmap(*other), 0, 1)
        assert len(log) == 0


@pytest.mark.parametrize("times", [(1, 0), (-(2**63) - 1, 0), (0, 2**63), (5, 2**70)])
def test_times_that_are_none(path, times):
    with ib.LogWriter(path, ib.Geometry(*SMALL)) as log:
        with pytest.raises(ValueError, match="epoch from"):
            log.append(ib.IOVABitmap(*SMALL), *times)
        assert len(log) == 0


def test_epochs_that_go_back_in_time(path):
    with ib.LogWriter(path, ib.Geometry(*SMALL)) as log:
        log.append(ib.IOVABitmap(*SMALL), 100, 300)
        log.append(ib.IOVABitmap(*SMALL), 100, 200)  # may overlap: sources can
        with pytest.raises(ValueError, match="before the last"):
            log.append(ib.IOVABitmap(*SMALL), 99, 300)
        with pytest.raises(TypeError):
            log.append(ib.IOVABitmap(*SMALL), 1.5, 300)
        log.append(ib.IOVABitmap(*SMALL), 2**63 - 1, 2**63 - 1)
    with ib.DirtyLog.open(path) as log:
        assert len(log) == 3 and log[2].t_end_ns == 2**63 - 1 and log[2].seconds == 0


def test_a_log_that_is_closed_or_only_read(path):
    bm = ib.IOVABitmap(*SMALL)
    log = ib.LogWriter(path, ib.Geometry(*SMALL))
    log.append(bm, 0, 1)
    log.close()
    log.close()
    log.abort()  # of a log that was closed, nothing
    log.discard()
    for use in (lambda: log.append(bm, 1, 2), lambda: log.note("a", 1), log.__enter__):
        with pytest.raises(ValueError, match="the log is closed"):
            use()
    assert len(log) == 1 and "closed" in repr(log) and path.is_file()
    log = ib.DirtyLog.open(path)
    epoch = log[0]
    log.close()
    log.close()
    for use in (
        lambda: log[0].count(),
        lambda: log[0].t_start_ns,
        lambda: log[:1].union_ranges(),
        lambda: log.union(),
        lambda: epoch.ranges(),
        log.__enter__,
    ):
        with pytest.raises(ValueError, match="closed"):
            use()
    assert len(log) == 1 and "closed" in repr(log)
    assert not hasattr(log, "append") and not hasattr(log, "note")  # a LogWriter writes


def test_a_log_that_was_aborted(path):
    log = ib.LogWriter(path, ib.Geometry(*SMALL))
    log.append(bitmap_of({3}, SMALL), *times_of(0))
    log.abort()
    log.abort()
    log.close()  # nothing: the log stays unfinished
    with pytest.raises(ValueError, match="the log is aborted"):
        log.append(bitmap_of({4}, SMALL), *times_of(1))
    assert not path.exists()
    with ib.DirtyLog.open(path) as log:
        assert "not closed" in log.unfinished
        assert_holds(log, [{3}], SMALL)


def test_a_log_that_was_discarded(path):
    log = ib.LogWriter(path, ib.Geometry(*SMALL))
    log.discard()
    log.close()
    assert not any(path.parent.iterdir())


def test_what_has_a_geometry(path, tmp_path):
    """A Geometry, a bitmap, a log; nothing else."""
    bm = ib.IOVABitmap(*SMALL)
    make_log(path, [{1}], SMALL)
    with ib.DirtyLog.open(path) as log:
        for n, like in enumerate((bm, log, ib.Geometry(*SMALL), log[0:1])):
            with ib.LogWriter(tmp_path / f"{n}.parquet", like) as written:
                written.append(bm, 0, 1)
                assert written.geometry == ib.Geometry(*SMALL)
    for wrong in (SMALL, None, 4096):
        with pytest.raises(TypeError, match="geometry must be a Geometry, or have iova"):
            ib.LogWriter(tmp_path / "none", wrong)
    assert not (tmp_path / "none").exists()


def test_an_exception_in_with_leaves_an_unfinished_log(path):
    def record():
        with ib.LogWriter(path, ib.Geometry(*SMALL)) as log:
            log.append(bitmap_of({3}, SMALL), *times_of(0))
            raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        record()
    assert [each.name for each in path.parent.iterdir()] == [path.name + ".journal"]
    with ib.DirtyLog.open(path) as log:
        assert "not closed" in log.unfinished
        assert_holds(log, [{3}], SMALL)
    assert ib.LogWriter.finish(path) == path and path.is_file()


def test_reading_holds_no_file_after_close(path):
    mine = Path("/proc/self/fd")
    if not mine.is_dir():
        pytest.skip("open files are counted in /proc")
    make_log(path, [{1}], SMALL)
    before = len(list(mine.iterdir()))
    for _ in range(20):
        with ib.DirtyLog.open(path) as log:
            log.union()
    assert len(list(mine.iterdir())) == before


# --- loading -------------------------------------------------------------------------------------


def test_logs_are_loaded_when_asked_for():
    run_child(
        """
        import iovabitmap as ib
        assert "iovabitmap.logs" not in sys.modules and "numpy" not in sys.modules
        assert {"DirtyLog", "LogError", "LogWriter"} <= set(dir(ib)) & set(ib.__all__)
        assert issubclass(ib.LogError, ValueError)
        from iovabitmap import DirtyLog
        assert DirtyLog is ib.DirtyLog
        assert "pyarrow" not in sys.modules
        try:
            ib.no_such_name
        except AttributeError as error:
            assert "no_such_name" in str(error)
        """
    ).assert_lived("importing logs late")


def test_without_pyarrow_the_error_says_what_to_install(path):
    run_child(
        """
        sys.modules["pyarrow"] = None
        import os
        import iovabitmap as ib
        for use in (lambda: ib.LogWriter(sys.argv[1], ib.Geometry(0, 4096, 4096)),
                    lambda: ib.DirtyLog.open(__file__ if "__file__" in dir() else sys.executable)):
            try:
                use()
            except ImportError as error:
                assert "pip install 'iovabitmap[logs]'" in str(error), error
            else:
                raise AssertionError("no ImportError")
        assert not os.path.exists(sys.argv[1])
        """,
        str(path),
    ).assert_lived("working without pyarrow")
