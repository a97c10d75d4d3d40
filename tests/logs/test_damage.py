"""Damaged, cut off and forged logs: a LogError that names the file, or exactly what was written.

Never another exception, never other data, and never more memory than a log of that size needs.
"""

from __future__ import annotations

import json
import random
import zlib
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import iovabitmap as ib
from support import forge
from support.children import run_child
from support.logs import (
    PAGE,
    content_of,
    make_log,
    measures_memory,
    needs,
    random_epochs,
    times_of,
)

needs("pyarrow")
import pyarrow as pa  # noqa: E402
import pyarrow.parquet as pq  # noqa: E402

GEOMETRY = (0x1000, 70 * PAGE - 5, PAGE)


class Sample:
    """A log, finished or not, whose one file can be replaced by a damaged one."""

    def __init__(self, path, close: bool) -> None:
        make_log(path, random_epochs(random.Random(2), GEOMETRY, 5), GEOMETRY, close=close)
        self.path = path
        self.file = path if close else path.with_name(path.name + ".journal")
        self.data = self.file.read_bytes()
        self.content = content_of(path)

    def outcome(self, data: bytes) -> list | None:
        """What the log says with other bytes in its file; None for a LogError that names it."""
        self.file.write_bytes(data)
        try:
            return content_of(self.path)
        except ib.LogError as error:
            assert str(error).startswith(f"{self.file}: ") and len(str(error)) < 2000
            return None


@pytest.fixture(scope="module")
def finished(tmp_path_factory):
    return Sample(tmp_path_factory.mktemp("finished") / "run.parquet", close=True)


@pytest.fixture(scope="module")
def unfinished(tmp_path_factory):
    return Sample(tmp_path_factory.mktemp("unfinished") / "run.parquet", close=False)


# --- damage --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["finished", "unfinished"])
def test_every_byte_flipped(kind, request):
    sample = request.getfixturevalue(kind)
    noticed = 0
    for n in range(len(sample.data)):
        data = bytearray(sample.data)
        data[n] ^= (0x01, 0x80, 0xFF, 0x10)[n % 4]
        found = sample.outcome(data)
        assert found is None or found == sample.content, f"byte {n}"
        noticed += found is None
    # Parquet's statistics and the like are read by nobody; most of the rest matters.
    assert noticed > len(sample.data) * (0.6 if kind == "finished" else 0.99)


def test_cut_off_anywhere(finished):
    for size in range(len(finished.data)):
        assert finished.outcome(finished.data[:size]) is None, size


def test_an_unfinished_log_cut_off_anywhere_has_the_epochs_before(unfinished):
    """As a kill, or the disk that was full, leaves it. What is missing is said."""
    about = unfinished.content[:9]
    epochs = unfinished.content[9:]
    seen = set()
    for size in range(len(unfinished.data)):
        found = unfinished.outcome(unfinished.data[:size])
        if found is None:
            assert not seen  # only before the metadata are whole
            continue
        assert found[:9] == about and found[9:] == epochs[: len(found) - 9]
        seen.add(len(found) - 9)
        with ib.DirtyLog.open(unfinished.path) as log:
            assert "not closed" in log.unfinished
    assert seen == set(range(len(epochs)))


@settings(max_examples=400)
@given(data=st.data())
def test_any_damage(finished, unfinished, data):
    sample = data.draw(st.sampled_from((finished, unfinished)))
    damaged = bytearray(sample.data)
    for _ in range(data.draw(st.integers(1, 4))):
        at = data.draw(st.integers(0, len(damaged) - 1))
        piece = data.draw(st.binary(max_size=12))
        if data.draw(st.booleans()):
            damaged[at : at + len(piece)] = piece
        else:
            damaged[at:at] = piece
    found = sample.outcome(bytes(damaged))
    whole = found == sample.content
    if sample is unfinished and found is not None and not whole:
        # Damage that made the end look torn: epochs are missing, none is wrong.
        whole = found == sample.content[: len(found)]
    assert found is None or whole


def test_salvage_takes_what_is_before_the_damage(unfinished, tmp_path):
    path = tmp_path / "run.parquet"
    data = bytearray(unfinished.data)
    data[-1] ^= 1
    data[-200:] = bytes(200)  # as a power failure leaves it
    (tmp_path / "run.parquet.journal").write_bytes(data)
    with pytest.raises(ib.LogError, match="damaged at byte"):
        ib.DirtyLog.open(path)
    with ib.DirtyLog.open(path, salvage=True) as log:
        assert 0 < len(log) < 5 and "left out" in log.unfinished
        log.save(tmp_path / "saved.parquet")
        kept = len(log)
    saved = content_of(tmp_path / "saved.parquet")
    assert saved[9:] == unfinished.content[9 : 9 + kept]
    assert "left out" in saved[8]["unfinished"]


@pytest.mark.parametrize(
    "content",
    [b"", b"PAR1", b"PAR1PAR1", b"PAR1" + bytes(4) + b"PAR1", b"text\n" * 100, bytes(5000)],
)
def test_what_is_no_log(tmp_path, content):
    path = tmp_path / "file"
    path.write_bytes(content)
    with pytest.raises(ib.LogError, match="file: "):
        ib.DirtyLog.open(path)


def test_a_folder_and_a_parquet_file_that_are_no_logs(tmp_path):
    with pytest.raises(ib.LogError, match="not a log: it is not a file"):
        ib.DirtyLog.open(tmp_path)
    pq.write_table(pa.table({"a": [1]}), tmp_path / "a.parquet")
    with pytest.raises(ib.LogError, match="no log"):
        ib.DirtyLog.open(tmp_path / "a.parquet")


# --- forged content: every checksum is right -----------------------------------------------------


def forged(path, rows, *, groups=None, row_group_size=None, **about):
    """A file of these rows (epoch, start, end, iova, length) and this index, checksums true."""
    from iovabitmap.logs.storage.parquet import KEY

    make_log(path, [{0}], GEOMETRY)
    document = json.loads(pq.read_metadata(path).metadata[KEY])
    columns = [np.array(c) for c in zip(*rows, strict=True)] if isinstance(rows, list) else rows
    types = (np.int64, np.int64, np.int64, np.uint64, np.uint64)
    arrays = [column.astype(t) for column, t in zip(columns, types, strict=True)]
    crc = 0
    for array in arrays:
        crc = zlib.crc32(array, crc)
    count = len(arrays[0])
    if groups is None:
        groups = [[int(arrays[0][0]), int(arrays[0][-1]), count, crc]]
    document |= {"epochs": groups[-1][1] + 1, "groups": groups} | about
    text = json.dumps(document).encode()
    names = ("epoch", "t_start_ns", "t_end_ns", "iova", "length")
    table = pa.table(dict(zip(names, arrays, strict=True)))
    metadata = {KEY: text, b"iovabitmap.crc32": b"%08x" % zlib.crc32(text)}
    pq.write_table(
        table.replace_schema_metadata(metadata),
        path,
        row_group_size=row_group_size or max(1, count),
    )
    return path


BASE, LAST = GEOMETRY[0], GEOMETRY[0] + GEOMETRY[1]
T = times_of(0)
GOOD = [(0, *T, BASE, PAGE), (0, *T, BASE + 2 * PAGE, PAGE), (1, *T, BASE, 0)]


def test_the_forger_forges_nothing_that_is_good(tmp_path):
    path = forged(tmp_path / "run.parquet", GOOD)
    with ib.DirtyLog.open(path) as log:
        assert [epoch.ranges().tolist() for epoch in log] == [
            [[BASE, PAGE], [BASE + 2 * PAGE, PAGE]],
            [],
        ]


@pytest.mark.parametrize(
    "rows",
    [
        [(0, *T, BASE - PAGE, PAGE)],
        [(0, *T, LAST, 1)],
        [(0, *T, BASE, GEOMETRY[1] + 1)],
        [(0, *T, BASE + PAGE, 2**64 - 1)],
        [(0, *T, 2**64 - PAGE, 2 * PAGE)],
        [(0, *T, BASE + PAGE, 0)],
        [(0, *T, BASE, 0), (0, *T, BASE, 0)],
        [(0, *T, BASE, 0), (0, *T, BASE, PAGE)],
        [(0, *T, BASE, 2 * PAGE), (0, *T, BASE + PAGE, PAGE)],
        [(0, *T, BASE + PAGE, PAGE), (0, *T, BASE, PAGE)],
        [(0, *T, BASE, PAGE), (0, *T, BASE + PAGE, PAGE), (2, *T, BASE, PAGE)],
        [(0, *T, BASE, PAGE), (1, *T, BASE, PAGE), (0, *T, BASE, PAGE), (1, *T, BASE, 0)],
        [(0, T[1], T[0], BASE, PAGE)],
        [(0, *T, BASE, PAGE), (0, T[0] + 1, T[1], BASE + PAGE, PAGE)],
        [(0, *T, BASE, PAGE), (0, T[0], T[1] + 1, BASE + PAGE, PAGE)],
    ],
)
def test_rows_that_no_log_has(tmp_path, rows):
    path = forged(tmp_path / "run.parquet", rows)
    with ib.DirtyLog.open(path) as log:
        for use in (lambda: log.union(), lambda: log[0].ranges(), log.to_pandas):
            with pytest.raises(ib.LogError, match="a row that no log has"):
                use()


@pytest.mark.parametrize(
    "groups",
    [
        [[1, 2, 3, 0]],
        [[0, 1, 2, 0]],
        [[0, 1, 2**63, 0]],
        [[0, 5, 3, 0]],
        [[0, 1, 3]],
        [[0, 1, 3, 0], [1, 1, 3, 0]],
        [["a", 1, 3, 0]],
        [[0, -1, 3, 0]],
    ],
)
def test_an_index_that_is_not_of_the_rows(tmp_path, groups):
    path = forged(tmp_path / "run.parquet", GOOD, groups=groups)
    with pytest.raises(ib.LogError, match="index"):
        ib.DirtyLog.open(path)


def test_an_index_that_lies_about_epochs_or_checksums(tmp_path):
    crc = (
        forged(tmp_path / "a", GOOD)
        and json.loads(pq.read_metadata(tmp_path / "a").metadata[b"iovabitmap"])["groups"][0][3]
    )
    for n, group in enumerate(([0, 2, 3, crc], [0, 0, 3, crc], [0, 1, 3, crc ^ 1])):
        path = forged(tmp_path / f"run{n}", GOOD, groups=[group])
        with ib.DirtyLog.open(path) as log, pytest.raises(ib.LogError, match="row group 0"):
            log.union()


@pytest.mark.parametrize(
    "about",
    [
        {"version": 2},
        {"version": "1"},
        {"iova": -1},
        {"iova": "0"},
        {"length": 0},
        {"length": 2**64},
        {"page_size": 3},
        {"granularity": None},
        {"source": 5},
        {"command": [1]},
        {"notes": []},
        {"epochs": 7},
    ],
)
def test_metadata_that_make_no_sense(tmp_path, about):
    path = forged(tmp_path / "run.parquet", GOOD, **about)
    with pytest.raises(ib.LogError, match=r"metadata|version|index"):
        ib.DirtyLog.open(path)


def test_a_geometry_whose_bitmap_nobody_can_have(tmp_path):
    path = forged(tmp_path / "run.parquet", [(0, *T, 0, 1)], iova=0, length=2**63, page_size=1)
    with ib.DirtyLog.open(path) as log:
        assert log[0].ranges().tolist() == [[0, 1]]
        for use in (log.union, log[0].bitmap):
            with pytest.raises(ib.LogError, match=f"{2**60} bytes"):
                use()


def test_a_row_group_of_any_size_is_not_read(tmp_path):
    """Ten million rows in a few kilobytes."""
    count = 10**7
    columns = tuple(np.full(count, value) for value in (0, *T, BASE, PAGE))
    path = forged(tmp_path / "run.parquet", columns, row_group_size=count)
    assert path.stat().st_size < 200_000
    with pytest.raises(ib.LogError, match="index"):
        ib.DirtyLog.open(path)


# --- forged sizes --------------------------------------------------------------------------------

LARGE = (2**31 - 1, 2**30, 5 << 20, 2**17 + 1, -1, -(2**31))


def forgeries(data: bytes) -> dict[str, bytes]:
    """The file with one number forged, in each page header and in the footer."""
    made = {}
    for column in range(5):
        for n in range(12):
            for value in LARGE:

                def change(header, n=n, value=value):
                    nodes = list(forge.numbers(header))
                    if n < len(nodes):
                        nodes[n][1] = value

                made[f"page of column {column}, number {n} = {value}"] = forge.with_page(
                    data, column, change
                )
    count = len(list(forge.numbers(forge.split(data)[1])))
    for n in range(count):
        for value in (*LARGE, 2**62, -(2**63)):
            body, footer = forge.split(data)
            list(forge.numbers(footer))[n][1] = value
            made[f"footer, number {n} = {value}"] = forge.assemble(body, footer)
    return made


def test_the_codec_of_forgeries_gives_back_what_it_took(finished):
    assert forge.assemble(*forge.split(finished.data)) == finished.data
    for column in range(5):
        assert forge.with_page(finished.data, column, lambda header: None) == finished.data


@measures_memory
def test_forged_sizes_are_errors_and_take_no_memory(finished, tmp_path):
    """In a child, whose memory is measured: all forgeries, one after the other."""
    for n, (name, data) in enumerate(forgeries(finished.data).items()):
        (tmp_path / f"{n}.parquet").write_bytes(data)
        (tmp_path / f"{n}.txt").write_text(name)
    finished.file.write_bytes(finished.data)
    run_child(
        """
        import resource
        from pathlib import Path
        sys.path.insert(0, sys.argv[3])
        import iovabitmap as ib
        from support.logs import content_of

        original = content_of(Path(sys.argv[2]))
        if sys.platform == "linux":  # and a claim that is believed fails at once
            pages = int(Path("/proc/self/statm").read_text().split()[0])
            limit = pages * resource.getpagesize() + (1 << 30)
            resource.setrlimit(resource.RLIMIT_AS, (limit, limit))
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        refused = 0
        for path in sorted(Path(sys.argv[1]).glob("*.parquet")):
            print(path.with_suffix(".txt").read_text(), flush=True)
            try:
                found = content_of(path)
                assert found == original, "other data"
            except ib.LogError:
                refused += 1
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        print(f"{refused} refused, {grown:.0f} MiB", flush=True)
        assert grown < 96, f"grown by {grown} MiB"
        """,
        str(tmp_path),
        str(finished.path),
        str(Path(forge.__file__).parents[1]),
    ).assert_lived("forged sizes")


@measures_memory
def test_a_page_that_really_is_as_large_as_it_says(finished, tmp_path):
    """512 MiB of zeros in 50 KB: right in each checksum and size, and refused all the same."""
    bomb = pa.compress(bytes(512 << 20), codec="zstd", asbytes=True)

    def change(header):
        for number, value in ((2, 512 << 20), (3, len(bomb)), (4, zlib.crc32(bomb) - 2**32)):
            forge.field(header, number)[1] = value if value >= -(2**31) else value + 2**32

    finished.file.write_bytes(finished.data)
    (tmp_path / "bomb.parquet").write_bytes(forge.with_page(finished.data, 3, change, bomb))
    run_child(
        """
        import resource
        import iovabitmap as ib

        with ib.DirtyLog.open(sys.argv[2]) as log:
            log.union()
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        try:
            with ib.DirtyLog.open(sys.argv[1]) as log:
                log.union()
        except ib.LogError as error:
            found = str(error)
        grown = (resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) / 1024
        assert grown < 64, grown
        assert "claims 536870912 bytes" in found, found
        """,
        str(tmp_path / "bomb.parquet"),
        str(finished.path),
    ).assert_lived("a large page")


# --- forged journals -----------------------------------------------------------------------------


def frames_of(data: bytes) -> list[tuple[list, bytes]]:
    """[header fields], payload of each frame."""
    from iovabitmap.logs.storage.journal import HEADER, HEADER_BYTES

    found, at = [], 8
    while at < len(data):
        fields = list(HEADER.unpack_from(data, at))
        at += HEADER_BYTES
        found.append((fields, data[at : at + fields[1]]))
        at += fields[1]
    return found


def journal_of(frames: list[tuple[list, bytes]]) -> bytes:
    from iovabitmap.logs.storage.journal import HEADER, MAGIC

    out = MAGIC
    for fields, payload in frames:
        header = HEADER.pack(*fields)
        out += header + zlib.crc32(header).to_bytes(4, "little") + payload
    return out


def test_the_forger_of_journals_gives_back_what_it_took(unfinished):
    assert journal_of(frames_of(unfinished.data)) == unfinished.data


def test_journals_with_one_number_forged(unfinished):
    """Each field of each header in turn, its checksum right."""
    epochs = unfinished.content[9:]
    for n in range(len(frames_of(unfinished.data))):
        for position in (1, 2, 3, 4):  # payload bytes, crc, rows, epoch
            for value in (0, 1, 2**17 + 1, 2**31, 2**32 - 1):
                frames = frames_of(unfinished.data)
                if frames[n][0][position] == value:
                    continue
                frames[n][0][position] = value
                found = unfinished.outcome(journal_of(frames))
                # A size that reaches behind the end looks torn; all before it is there.
                assert found is None or found[9:] == epochs[: len(found) - 9], (n, position, value)


def test_frames_out_of_order(unfinished):
    frames = frames_of(unfinished.data)
    for wrong in (
        frames[1:],
        [frames[0], frames[2], frames[1]],
        [frames[0], frames[1], frames[1]],
        [frames[0], frames[2]],
    ):
        assert unfinished.outcome(journal_of(wrong)) is None
    kind = [list(frames[1][0]), frames[1][1]]
    kind[0][0] = b"WHAT"
    assert unfinished.outcome(journal_of([frames[0], tuple(kind)])) is None


def test_metadata_of_any_depth_and_size(unfinished):
    for text in (b"[" * 100_000, b'{"version": 1}', b"null", b"\xff", b'{"version":' + b"9" * 5000):
        frame = [b"META", len(text), zlib.crc32(text), 0, 0, 0, 0]
        assert unfinished.outcome(journal_of([(frame, text)])) is None


# --- times, which are read without the rows -----------------------------------------------------


def times_read_elsewhere(path, column, other):
    """The file, in whose first row group one column is where another one is."""
    body, footer = forge.split(path.read_bytes())
    chunks = forge.field(footer, 4, 0, 1)
    wanted, taken = (forge.field(chunks, n, 3)[1] for n in (column, other))
    places = {number: node[1] for number, node in taken if number in (6, 7, 9, 11)}
    for number, node in wanted:
        node[1] = places.get(number, node[1])
    path.write_bytes(forge.assemble(body, footer))


@pytest.mark.parametrize("with_crc", [True, False])
@pytest.mark.parametrize("column, other", [(1, 2), (2, 1), (1, 0), (2, 0)])
def test_times_are_checked_without_the_rows(tmp_path, with_crc, column, other):
    """Also in a file of 0.9, whose index has no checksum of times."""
    path = tmp_path / "a.parquet"
    make_log(path, [{0}, {1}, set()], GEOMETRY)
    if not with_crc:
        without_times_crc(path)
    with ib.DirtyLog.open(path) as log:
        assert list(zip(*(t.tolist() for t in log.times()), strict=True)) == [
            times_of(n) for n in range(3)
        ]
    times_read_elsewhere(path, column, other)
    with ib.DirtyLog.open(path) as log:
        for ask in (log.times, lambda: log[0].t_start_ns, lambda: log.seconds, log.summary):
            with pytest.raises(ib.LogError, match="row group 0 is damaged"):
                ask()


def without_times_crc(path):
    """The file as 0.9 wrote it."""
    from iovabitmap.logs.storage.parquet import KEY

    table = pq.read_table(path)
    document = json.loads(pq.read_metadata(path).metadata[KEY])
    document.pop("times_crcs", None)
    text = json.dumps(document).encode()
    metadata = {KEY: text, b"iovabitmap.crc32": b"%08x" % zlib.crc32(text)}
    pq.write_table(table.replace_schema_metadata(metadata), path, write_page_checksum=True)


@pytest.mark.parametrize("crcs", [[], [1, 2], ["a"], 5, None, [None], [{}], {"a": 1}], ids=str)
def test_checksums_of_times_that_make_no_sense(tmp_path, crcs):
    path = forged(tmp_path / "run.parquet", GOOD, times_crcs=crcs)
    with pytest.raises(ib.LogError, match="index"):
        ib.DirtyLog.open(path)
