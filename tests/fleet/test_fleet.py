"""Fleets in this process: what is found in a folder or bucket, what is asked, what is damaged."""

from __future__ import annotations

import doctest
import importlib
import math
import os
import pickle
import pkgutil
import random
import zipfile
from pathlib import Path

import pytest

import iovabitmap as ib
import iovabitmap.analysis as an
from support.children import run_child
from support.fleets import GEOMETRY, LINK, MEMORY, alone, assert_says, make_fleet, of_fleet
from support.logs import make_log, needs, random_epochs

needs("dask", "fsspec", "pandas", "pyarrow")
import dask  # noqa: E402
import fsspec  # noqa: E402
import pyarrow as pa  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402

import iovabitmap.fleet  # noqa: E402
from iovabitmap import fleet  # noqa: E402

LOST = {
    "cut.parquet": "cut off or damaged",
    "empty.parquet": "ValueError: no epoch",
    "flipped.parquet": "row group 0 cannot be read",
    "foreign.parquet": "no log of this program",
    "gone.parquet": "FileNotFoundError",
    "rack 1/journal.parquet": "none of this program's",
    "timeless.parquet": "ValueError: ",
}


def flip_in_rows(path) -> None:
    """Changes the last stored byte of the lengths: what opening a log does not read."""
    chunk = pq.ParquetFile(path).metadata.row_group(0).column(4)
    data = bytearray(path.read_bytes())
    data[chunk.data_page_offset + chunk.total_compressed_size - 1] ^= 1
    path.write_bytes(data)


@pytest.fixture
def folder(tmp_path):
    """Five logs, one of them of a recording that was killed, and seven of which nothing is to be
    had, each for another reason."""
    make_fleet(tmp_path, 5)
    epochs = random_epochs(random.Random(5), GEOMETRY, 3)
    killed = tmp_path / "rack 1" / "machine-001.parquet"
    killed.unlink()
    make_log(killed, epochs, GEOMETRY, close=False)
    for name in ("cut", "flipped"):
        make_log(tmp_path / f"{name}.parquet", epochs, GEOMETRY)
    cut = tmp_path / "cut.parquet"
    cut.write_bytes(cut.read_bytes()[:-1])
    flip_in_rows(tmp_path / "flipped.parquet")
    make_log(tmp_path / "empty.parquet", [], GEOMETRY)
    pq.write_table(pa.table({"a": [1]}), tmp_path / "foreign.parquet")
    (tmp_path / "gone.parquet").symlink_to(tmp_path / "nowhere")
    (tmp_path / "rack 1" / "journal.parquet.journal").write_bytes(b"not one")
    with ib.LogWriter(tmp_path / "timeless.parquet", ib.Geometry(*GEOMETRY)) as log:
        log.append_ranges([[0x1000, 1]], 0, 0)
    return tmp_path


GOOD = [f"rack {n % 3}/machine-{n:03}.parquet" for n in (0, 3, 1, 4, 2)]


@pytest.mark.parametrize("scheduler, each", [("threads", 1), ("sync", 1), ("threads", 5)])
def test_a_fleet_says_what_its_logs_say(tmp_path, scheduler, each):
    names = make_fleet(tmp_path, 12)
    with dask.config.set(scheduler=scheduler):
        machines = fleet.open(tmp_path, logs_per_task=each)
        assert machines.logs == names and machines.others == []
        frames = of_fleet(machines)
    for frame in frames.values():
        assert frame.index.tolist() == names and frame.index.name == "log"
        assert frame.columns[0] == "host" and [*frame.columns[-2:]] == ["unfinished", "error"]
    assert_says(frames, tmp_path, names)


def test_some_epochs_and_other_arguments_are_the_analysis_own(tmp_path):
    name = "a.parquet"
    make_log(tmp_path / name, random_epochs(random.Random(1), GEOMETRY, 6), GEOMETRY)
    with ib.DirtyLog.open(tmp_path / name) as log:
        rate = an.dirty_rate(log[1:-1])
        working = an.working_set(log[1:], at_least=0.9, bandwidth=2e5)
        how = {
            "bandwidth": 3e6,
            "downtime_limit": 0.01,
            "page_header": 100,
            "max_total_seconds": 1.0,
        }
        found = an.predict_precopy(an.volume_curve(log[0:-1], **MEMORY), **how)
    machines = fleet.open(tmp_path)
    assert machines.rates(epochs=slice(1, -1)).loc[name, "bytes_per_s"] == rate.bytes_per_s
    row = machines.working_sets(epochs=slice(1, None), at_least=0.9, bandwidth=2e5).loc[name]
    assert (row["union_bytes"], row["hot_bytes"]) == (working.union, working.hot)
    assert row["plateau_bytes"] == working.plateau > 0
    assert row["seconds"] == working.seconds == pytest.approx(0.5)
    row = machines.precopy(epochs=slice(0, -1), **how, **MEMORY).loc[name]
    assert (row["why"], row["total_bytes"]) == (found.why, found.total_bytes)


def test_what_cannot_be_read_is_named_and_sinks_nothing(folder):
    machines = fleet.open(folder)
    assert machines.logs == sorted([*GOOD, *LOST])
    frames = of_fleet(machines)
    for question, frame in frames.items():
        if question != "about":
            assert set(frame.index[frame["error"] != ""]) == set(LOST)
            for name, why in LOST.items():
                assert why in frame.loc[name, "error"]
                assert str(folder) not in frame.loc[name, "error"] or name == "gone.parquet"
            answers = frame.drop(columns=["host", "unfinished", "error"])
            assert answers.loc[[*LOST]].isna().all(axis=None)
    about = frames["about"]  # which reads no rows
    assert about.loc["flipped.parquet", "error"] == about.loc["empty.parquet", "error"] == ""
    assert about.loc["empty.parquet", "epochs"] == 0

    whole = [name for name in GOOD if name != "rack 1/machine-001.parquet"]
    assert_says(frames, folder, whole)
    killed = frames["rates"].loc["rack 1/machine-001.parquet"]
    assert killed["error"] == "" and "not closed" in killed["unfinished"]
    assert killed["pages"] == alone(folder / killed.name)["rates"]["pages"]


def test_strange_logs_sink_nothing(tmp_path):
    """A pipe, names that are no Unicode, a page as large as half of all addresses."""
    make_log(tmp_path / "good.parquet", [{1}], GEOMETRY)
    os.mkfifo(tmp_path / "pipe.parquet")
    os.mkfifo(tmp_path / "killed.parquet.journal")
    with ib.LogWriter(
        tmp_path / "big\udcff.parquet", ib.Geometry(0, 2**64 - 1, 2**63), host="\udcfe"
    ) as log:
        log.append_ranges([[0, 1]], 0, 10**9)
    machines = fleet.open(tmp_path)
    for frame in of_fleet(machines).values():
        bad = frame.index[frame["error"] != ""].tolist()
        assert bad == ["killed.parquet", "pipe.parquet"]
        assert frame.loc["big\udcff.parquet", "host"] == "\udcfe"
    assert machines.working_sets().loc["big\udcff.parquet", "union_bytes"] == 2**63


def test_an_object_that_cannot_be_fetched_sinks_nothing(tmp_path):
    """zipfile says so by an exception that is neither an OSError nor a ValueError."""
    for name in ("a.parquet", "b.parquet"):
        make_log(tmp_path / name, [{1}], GEOMETRY)
    with zipfile.ZipFile(tmp_path / "fleet.zip", "w") as file:
        for name in ("a.parquet", "b.parquet"):
            file.write(tmp_path / name, name)
    data = bytearray((tmp_path / "fleet.zip").read_bytes())
    data[data.index(b"b.parquet") + 200] ^= 1
    (tmp_path / "fleet.zip").write_bytes(data)
    found = fleet.open("zip://", storage_options={"fo": str(tmp_path / "fleet.zip")}).rates()
    assert found["error"].iloc[0] == "" and "Bad CRC-32" in found["error"].iloc[1]


@pytest.mark.parametrize("name", ["a::b", "file:c", "s3:d"])
def test_a_folder_may_be_called_like_a_url(tmp_path, monkeypatch, name):
    monkeypatch.chdir(tmp_path)
    (tmp_path / name).mkdir()
    make_log(tmp_path / name / "a.parquet", [{1}], GEOMETRY)
    for path in (name, Path(name), tmp_path / name):
        assert fleet.open(path).rates()["pages"].tolist() == [1]


def test_numbers_keep_their_types_whatever_is_missing(folder):
    """And large ones their digits."""

    def large(log):
        return {"a": 2**53 + 1, "b": len(log) > 1, "c": 0.5, "d": "text", "e": 2**64, "f": [1]}

    frame = fleet.open(folder).map(large)
    assert frame.dtypes.astype(str).to_dict() | {"d": "string"} == {
        "host": "string",
        "a": "Int64",
        "b": "boolean",
        "c": "float64",
        "d": "string",
        "e": "object",
        "f": "object",
        "unfinished": "string",
        "error": "string",
    }
    assert frame.loc[GOOD[0], ["a", "e"]].tolist() == [2**53 + 1, 2**64]
    assert frame.loc["cut.parquet", ["a", "b", "c", "d", "e", "f"]].isna().all()


def test_the_total_is_the_sum_and_says_what_is_not_in_it(folder):
    machines = fleet.open(folder)
    total = machines.total_rate()
    rates = []
    for name in GOOD:
        with ib.DirtyLog.open(folder / name) as log:
            rates.append(an.dirty_rate(log))
    assert total.logs == len(GOOD) and set(total.missing) == set(LOST)
    assert total.nbytes == sum(rate.nbytes for rate in rates) and type(total.nbytes) is int
    assert total.bytes_per_s == math.fsum(rate.bytes_per_s for rate in rates)
    assert total.mib_per_s == total.bytes_per_s / 2**20
    assert total.shortest_seconds == min(rate.seconds for rate in rates)
    assert total.longest_seconds == max(rate.seconds for rate in rates)
    assert total.shortest_seconds < total.longest_seconds
    text = repr(total)
    assert "5 logs within 100 ms to 500 ms; without 7 logs: cut.parquet, empty.parquet, " in text


def test_memory_is_each_logs_own_or_unknown(tmp_path):
    """The range of addresses is not memory: 70 pages, of which logs note 40, or nothing."""
    for name, notes in {"a": {"memory": {"resident_bytes": 40 * 4096}}, "b": {}}.items():
        with ib.LogWriter(tmp_path / f"{name}.parquet", ib.Geometry(*GEOMETRY), notes=notes) as log:
            log.append_ranges([[0x1000, 1]], 0, 10**9)
    found = fleet.open(tmp_path).precopy(**LINK, page_header=0)
    assert found.loc["a.parquet", "converges"]
    assert found.loc["a.parquet", "total_bytes"] == pytest.approx(40 * 4096, rel=0.05)
    assert "give memory_bytes" in found.loc["b.parquet", "error"]
    left = fleet.open(tmp_path).would_not_converge(**LINK)
    assert left.index.tolist() == ["b.parquet"]


def test_who_would_not_converge(folder):
    """And those that nobody knows about."""
    machines = fleet.open(folder)
    left = machines.would_not_converge(**LINK, **MEMORY)
    stays = [name for name in GOOD if not alone(folder / name)["precopy"]["converges"]]
    assert 0 < len(stays) < len(GOOD)
    assert left.index.tolist() == sorted([*stays, *LOST])
    assert not left.loc[stays, "converges"].any() and left.loc[[*LOST], "converges"].isna().all()
    assert left.equals(machines.precopy(**LINK, **MEMORY).loc[left.index])


# --- places ------------------------------------------------------------------------------------


def test_an_empty_folder(tmp_path):
    machines = fleet.open(tmp_path)
    assert machines.logs == machines.others == [] and len(machines) == 0
    (tmp_path / "full").mkdir()
    make_fleet(tmp_path / "full", 1)
    for question, frame in of_fleet(machines).items():
        full = of_fleet(fleet.open(tmp_path / "full"))[question]
        assert len(frame) == 0 and frame.dtypes.equals(full.dtypes)
    assert len(machines.would_not_converge(**LINK, **MEMORY)) == 0
    assert machines.total_rate() == fleet.FleetRate(0, 0, 0.0, 0.0, 0.0, ())
    assert [*machines.map(lambda log: {"a": 1}).columns] == ["host", "unfinished", "error"]


def test_what_is_no_folder_of_logs(tmp_path):
    with pytest.raises(FileNotFoundError, match="nowhere: there is no such folder"):
        fleet.open(tmp_path / "nowhere")
    make_log(tmp_path / "one.parquet", [{1}], GEOMETRY)
    make_log(tmp_path / "killed.parquet", [{1}], GEOMETRY, close=False)
    for name in ("one.parquet", "killed.parquet"):
        with pytest.raises(NotADirectoryError, match=r"DirtyLog\.open"):
            fleet.open(tmp_path / name)


def test_each_file_is_in_a_log_or_among_the_others(tmp_path):
    for name in ("a.parquet", "b.parquet", "c.log"):
        make_log(tmp_path / name, [{1}], GEOMETRY)
    make_log(tmp_path / "d", [{1}], GEOMETRY)
    for name in ("e.parquet", "f.log"):
        make_log(tmp_path / name, [{1}], GEOMETRY, close=False)
    make_log(tmp_path / "d.parquet", [{1}], GEOMETRY, close=False)
    (tmp_path / "d").rename(tmp_path / "d.parquet")  # killed while it was closed: both are there
    (tmp_path / "b.parquet.closing").write_bytes(b"")
    (tmp_path / "sub").mkdir()
    make_log(tmp_path / "sub" / "g.parquet", [{1}], GEOMETRY)
    machines = fleet.open(tmp_path)
    assert machines.logs == ["a.parquet", "b.parquet", "d.parquet", "e.parquet", "sub/g.parquet"]
    assert machines.others == ["b.parquet.closing", "c.log", "f.log.journal"]
    assert (machines.rates()["error"] == "").all()
    assert fleet.open(tmp_path, pattern="*.log").logs == ["c.log", "f.log"]
    assert fleet.open(tmp_path, pattern="sub*").logs == []  # of names, not of paths
    assert repr(machines) == f"<Fleet {tmp_path}: 5 logs, 3 other files>"


def test_a_folder_that_cannot_be_listed_is_an_error(tmp_path, monkeypatch):
    make_fleet(tmp_path, 3)
    ls = fsspec.implementations.local.LocalFileSystem.ls

    def refuse(self, path, *arguments, **more):
        if path.endswith("rack 1"):
            raise PermissionError(path)
        return ls(self, path, *arguments, **more)

    monkeypatch.setattr(fsspec.implementations.local.LocalFileSystem, "ls", refuse)
    with pytest.raises(PermissionError, match="rack 1"):
        fleet.open(tmp_path)


@pytest.fixture
def memory(folder):
    """The folder as a bucket that is in memory; the link that leads nowhere is no object."""
    (folder / "gone.parquet").unlink()
    bucket = fsspec.filesystem("memory")
    bucket.put(str(folder), "memory://fleet/logs", recursive=True)
    yield "memory://fleet/logs", {}
    bucket.rm("memory://fleet", recursive=True)


@pytest.fixture
def zipped(folder):
    """The same in an archive, which says nothing of folders."""
    (folder / "gone.parquet").unlink()
    archive = folder.parent / "fleet.zip"
    with zipfile.ZipFile(archive, "w") as file:
        for path in folder.rglob("*"):
            if path.is_file():
                file.write(path, path.relative_to(folder))
    return "zip://", {"fo": str(archive)}


@pytest.mark.parametrize("bucket", ["memory", "zipped"])
def test_a_bucket(folder, bucket, request):
    url, options = request.getfixturevalue(bucket)
    here, there = fleet.open(folder), fleet.open(url, storage_options=options)
    assert there.logs == here.logs and len(here) == len(GOOD) + len(LOST) - 1
    expected = of_fleet(here)
    for question, frame in of_fleet(there).items():
        assert frame.equals(expected[question]), question


def test_workers_find_the_place(zipped):
    url, options = zipped
    machines = fleet.open(url, storage_options=options)
    twin = pickle.loads(pickle.dumps(machines))
    assert twin.rates().equals(machines.rates())


# --- mistakes ----------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "method, arguments",
    [
        ("working_sets", {"at_least": 0}),
        ("working_sets", {"bandwidth": 0}),
        ("precopy", LINK | {"bandwidth": 0}),
        ("precopy", LINK | {"downtime_limit": -1}),
        ("would_not_converge", LINK | {"max_total_seconds": -1}),
        ("precopy", LINK | {"memory_bytes": 0}),
        ("working_sets", {"memory_bytes": 1, "zero_bytes": 2}),
    ],
)
def test_arguments_that_make_no_sense_are_no_logs_fault(tmp_path, method, arguments):
    make_log(tmp_path / "a.parquet", [{1}], GEOMETRY)
    with pytest.raises(ValueError, match="logs_per_task"):
        fleet.open(tmp_path, logs_per_task=0)
    with pytest.raises(ValueError, match=r"at_least|bandwidth|max_total_seconds|memory_bytes"):
        getattr(fleet.open(tmp_path), method)(**arguments)


def test_what_a_question_raises(tmp_path):
    """What is about a log is in its row; a mistake in the question is raised."""
    make_log(tmp_path / "a.parquet", [{1}], GEOMETRY)
    make_log(tmp_path / "b.parquet", [{1}, {2}], GEOMETRY)
    machines = fleet.open(tmp_path)
    frame = machines.map(lambda log: {"x": 1 // (len(log) - 1)})
    assert frame["error"].iloc[0].startswith("ZeroDivisionError: ")
    assert (frame["x"].iloc[1], frame["error"].iloc[1]) == (1, "")

    def too_large(log):
        raise MemoryError

    assert machines.map(too_large)["error"].tolist() == ["MemoryError"] * 2
    with pytest.raises(NameError):
        machines.map(lambda log: {"x": unknown})  # noqa: F821
    with pytest.raises(TypeError, match="error, host"):
        machines.map(lambda log: {"host": "", "error": "", "x": 1})


def test_a_call_reads_again(tmp_path):
    """No answer of before is taken for one of now."""
    make_log(tmp_path / "a.parquet", [{1}], GEOMETRY)
    machines = fleet.open(tmp_path)
    assert machines.rates()["pages"].tolist() == [1]
    (tmp_path / "a.parquet").unlink()
    make_log(tmp_path / "a.parquet", [{1, 2}], GEOMETRY)
    assert machines.rates()["pages"].tolist() == [2]


@pytest.mark.parametrize("each, tasks", [(1, 5), (2, 3), (9, 1)])
def test_tasks_are_named_after_their_logs_and_are_of_one_call(tmp_path, each, tasks):
    """So a worker that dies says with which log, and no call gets the answers of another."""
    firsts = make_fleet(tmp_path, 5)[::each]
    machines = fleet.open(tmp_path, logs_per_task=each)
    calls = []
    for _ in range(2):
        keys = []
        with dask.callbacks.Callback(pretask=lambda key, *_, keys=keys: keys.append(key)):
            machines.rates()
        assert len(keys) == len(firsts) == tasks
        assert all(name in key for name, key in zip(firsts, sorted(keys), strict=True))
        calls.append(keys)
    assert not {*calls[0]} & {*calls[1]}


def test_without_dask():
    run_child(
        """
        sys.modules["dask"] = None
        from iovabitmap import fleet
        try:
            fleet.open(".")
        except ImportError as error:
            assert "needs dask: pip install 'iovabitmap[fleet]'" in str(error), error
        else:
            raise AssertionError("it needs no dask?")
        """
    ).assert_lived("a fleet without Dask")


def test_the_package_loads_no_dask_by_itself():
    run_child(
        """
        import iovabitmap.fleet
        assert "dask" not in sys.modules and "pandas" not in sys.modules
        """
    ).assert_lived("importing fleets")


def modules():
    return [module.name for module in pkgutil.iter_modules(iovabitmap.fleet.__path__)]


@pytest.mark.parametrize("name", modules())
def test_docstrings(name):
    module = importlib.import_module(f"iovabitmap.fleet.{name}")
    assert doctest.testmod(module).failed == 0
