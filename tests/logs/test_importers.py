"""Logs made of other programs' files: exactly the pages that the file names, and clear refusals.

The files in data/ come from the programs themselves where its README says so.
"""

from __future__ import annotations

import json
import random
import struct
import zlib
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

import iovabitmap as ib
from support.logs import PAGE, bitmap_of, needs

needs("pyarrow")
from iovabitmap.logs import FORMATS, import_log  # noqa: E402
from iovabitmap.logs.importers import firecracker, load, qemu  # noqa: E402
from iovabitmap.logs.importers._common import Options  # noqa: E402

DATA = Path(__file__).with_name("data")
KIB, MIB, GIB = 1 << 10, 1 << 20, 1 << 30


@pytest.fixture
def out(tmp_path):
    return tmp_path / "out.parquet"


def epochs_of(out: Path) -> list:
    with ib.DirtyLog.open(out) as log:
        return [(e.t_start_ns, e.t_end_ns, e.ranges().tolist()) for e in log]


def ranges_of(out: Path) -> list:
    return [rows for _, _, rows in epochs_of(out)]


# --- raw -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("nbits", [1, 63, 64, 65, 1000])
def test_raw_there_and_back(tmp_path, out, nbits):
    geometry = (0x7000, nbits * PAGE - 1, PAGE)
    epochs = [{0}, set(), {n for n in range(nbits) if n % 3}, {nbits - 1}]
    log = ib.LogWriter(tmp_path / "log", ib.Geometry(*geometry))
    for n, pages in enumerate(epochs):
        log.append(bitmap_of(pages, geometry), n, n)
    log.close()
    with ib.DirtyLog.open(tmp_path / "log") as original:
        for n in range(4):
            original[n].to_raw(tmp_path / f"{n}.raw")
    files = [tmp_path / f"{n}.raw" for n in range(4)]
    import_log("raw", files, out, iova=0x7000, length=geometry[1], interval_ns=10**8)
    with ib.DirtyLog.open(out) as log, ib.DirtyLog.open(tmp_path / "log") as original:
        assert (log.iova, log.length, log.page_size) == geometry
        assert [e.bitmap() == o.bitmap() for e, o in zip(log, original, strict=True)] == [True] * 4
        assert [(e.t_start_ns, e.t_end_ns) for e in log] == [
            (n * 10**8, (n + 1) * 10**8) for n in range(4)
        ]


def test_raw_as_kvm_writes_it(tmp_path, out):
    """100 pages: 128 bits, of which the last 28 are 0."""
    words = struct.pack("<2Q", 1 | 1 << 63, 0b11 | 1 << 35)
    (tmp_path / "slot").write_bytes(words)
    import_log("raw", [tmp_path / "slot"], out, iova=4 * GIB, length=100 * PAGE)
    rows = [[4 * GIB, PAGE], [4 * GIB + 63 * PAGE, 3 * PAGE], [4 * GIB + 99 * PAGE, PAGE]]
    assert epochs_of(out) == [(0, 0, rows)]
    with ib.DirtyLog.open(out) as log:
        assert log.notes["times"] == "unknown"


def test_raw_takes_its_length_from_the_file(tmp_path, out):
    (tmp_path / "a").write_bytes(b"\x80" + bytes(6) + b"\x80")
    import_log("raw", [tmp_path / "a"], out, page_size=2 * MIB)
    with ib.DirtyLog.open(out) as log:
        assert (log.iova, log.length, log.page_size) == (0, 64 * 2 * MIB, 2 * MIB)
        assert log[0].ranges().tolist() == [[14 * MIB, 2 * MIB], [126 * MIB, 2 * MIB]]


@pytest.mark.parametrize(
    "size,options,what",
    [
        (0, {}, "empty"),
        (7, {"length": 100 * PAGE}, "13, or 16"),
        (17, {"length": 100 * PAGE}, "17 bytes"),
        (16, {"length": 90 * PAGE}, "behind the last"),
        (13, {"length": 99 * PAGE}, "behind the last"),
    ],
)
def test_raw_that_does_not_fit(tmp_path, out, size, options, what):
    (tmp_path / "a").write_bytes(b"\xff" * size)
    with pytest.raises(ib.LogError, match=f"a: .*{what}"):
        import_log("raw", [tmp_path / "a"], out, **options)
    assert not out.exists()


# --- Firecracker ---------------------------------------------------------------------------------


def sparse(path: Path, size: int, written: list[tuple[int, bytes]]) -> None:
    """A file of holes but for what is written."""
    with path.open("wb") as file:
        file.truncate(size)
        for offset, data in written:
            file.seek(offset)
            file.write(data)
    if not path.stat().st_size or firecracker.data_extents(path) == [(0, size)]:
        pytest.skip("this file system has no holes")


def test_firecracker_data_is_dirty_and_holes_are_clean(tmp_path, out):
    """As its manual says; a page of zeros that was written is data."""
    first, second = tmp_path / "0.mem", tmp_path / "1.mem"
    sparse(first, 64 * MIB, [(0, b"x" * PAGE), (5 * MIB, bytes(2 * PAGE))])
    sparse(second, 64 * MIB, [(64 * MIB - PAGE, b"y" * PAGE)])
    import_log("firecracker", [first, second], out)
    assert ranges_of(out) == [[[0, PAGE], [5 * MIB, 2 * PAGE]], [[64 * MIB - PAGE, PAGE]]]


def test_firecracker_memory_on_both_sides_of_the_gap(tmp_path, out):
    regions = [(0, 3 * MIB), (4 * GIB, 2 * MIB)]
    sparse(tmp_path / "mem", 5 * MIB, [(3 * MIB - PAGE, b"x" * 2 * PAGE)])
    import_log("firecracker", [tmp_path / "mem"], out, regions=regions)
    assert ranges_of(out) == [[[3 * MIB - PAGE, PAGE], [4 * GIB, PAGE]]]
    with ib.DirtyLog.open(out) as log:
        assert (log.iova, log.length) == (0, 4 * GIB + 2 * MIB)


def test_firecracker_nothing_dirty(tmp_path, out):
    sparse(tmp_path / "mem", 5 * MIB, [])
    import_log("firecracker", [tmp_path / "mem"], out)
    assert ranges_of(out) == [[]]


def test_firecracker_files_of_other_sizes(tmp_path, out):
    sparse(tmp_path / "0", 5 * MIB, [])
    sparse(tmp_path / "1", 6 * MIB, [])
    with pytest.raises(ib.LogError, match="1: 6291456 bytes"):
        import_log("firecracker", [tmp_path / "0", tmp_path / "1"], out)
    assert not out.exists()


# --- Cloud Hypervisor ----------------------------------------------------------------------------

TABLE = [{"gpa": 0x100000, "length": 0x3000}, {"gpa": 4 * GIB, "length": 0x1000}]
TABLE_ROWS = [[0x100000, 0x3000], [4 * GIB, 0x1000]]


@pytest.mark.parametrize(
    "document",
    [
        {"data": TABLE},
        TABLE,
        {"snapshots": [{"memory-manager": {"memory_ranges": {"data": TABLE}}}]},
        {"memory_ranges": TABLE},
    ],
)
def test_cloud_hypervisor_json(tmp_path, out, document):
    (tmp_path / "a.json").write_text(json.dumps(document))
    import_log("cloud-hypervisor", [tmp_path / "a.json"], out)
    assert ranges_of(out) == [TABLE_ROWS]
    with ib.DirtyLog.open(out) as log:
        assert (log.iova, log.length) == (0x100000, 4 * GIB + 0x1000 - 0x100000)


def test_cloud_hypervisor_binary(tmp_path, out):
    files = [tmp_path / "0", tmp_path / "1", tmp_path / "2"]
    files[0].write_bytes(struct.pack("<4Q", *TABLE_ROWS[1], *TABLE_ROWS[0]))
    files[1].write_bytes(b"")
    files[2].write_bytes(struct.pack("<4Q", 0x100800, 0x1000, 0x102000, 0x1000))
    import_log("cloud-hypervisor", files, out)
    assert ranges_of(out) == [TABLE_ROWS, [], [[0x100000, 0x3000]]]


@pytest.mark.parametrize(
    "content,what",
    [
        (bytes(15), "16 bytes"),
        (struct.pack("<2Q", 2**64 - 1, 2), "beyond"),
        (b"", "no range at all"),
        (b"{}", "without a table"),
        (b"[1, 2", "no JSON"),
        (b'[{"gpa": 0}]', "length"),
        (b'[{"gpa": -1, "length": 1}]', "gpa"),
        (b'{"memory_ranges": [7]}', "no object"),
        (b'[{"gpa": true, "length": 1}]', "gpa"),
        (b"[" * 100_000, "JSON"),
    ],
)
def test_cloud_hypervisor_tables_that_are_none(tmp_path, out, content, what):
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(ib.LogError, match=what):
        import_log("cloud-hypervisor", [tmp_path / "a"], out)
    assert not out.exists()


# --- QEMU ----------------------------------------------------------------------------------------


def test_qemu_dirty_bitmap_of_a_disk(out):
    """What qemu-io wrote is dirty, in blocks of the bitmap's 64 KiB, and nothing else."""
    block = 64 * KIB
    pages = set()
    for start, length in ((1 * MIB, 100 * KIB), (5000 * KIB, 4 * KIB), (63 * MIB, 1 * MIB)):
        pages |= set(range(start // block, (start + length - 1) // block + 1))
    import_log("qemu", [DATA / "qemu-img-map.json"], out, page_size=block)
    with ib.DirtyLog.open(out) as log:
        assert (log.iova, log.length, log.page_size) == (0, 64 * MIB, block)
        assert log[0].bitmap() == bitmap_of(pages, (0, 64 * MIB, block))


def test_qemu_a_rate_is_no_log(out):
    file = DATA / "query-dirty-rate.json"
    with pytest.raises(ib.LogError, match=r"a dirty rate, 2 MiB/s in 1 s by page-sampling"):
        import_log("qemu", [file], out)
    assert not out.exists()
    assert qemu.rates(file) == [qemu.Rate(2, 1.0, "page-sampling")]


def test_qemu_rates_in_milliseconds_and_without_envelope(tmp_path):
    """As versions since 8.2 say it."""
    (tmp_path / "a").write_text(
        '{"return": {"status": "unstarted"}}\n'
        '{"dirty-rate": 7, "calc-time": 250, "calc-time-unit": "millisecond", "mode": "dirty-ring"}'
    )
    assert qemu.rates(tmp_path / "a") == [qemu.Rate(7, 0.25, "dirty-ring")]


@pytest.mark.parametrize(
    "content",
    [
        "{}",
        "null",
        "7",
        "[7]",
        '[{"start": 0, "length": 1}]',
        '[{"start": -1, "data": false}]',
        "[",
    ],
)
def test_qemu_what_is_no_map(tmp_path, out, content):
    (tmp_path / "a").write_text(content)
    with pytest.raises(ib.LogError):
        import_log("qemu", [tmp_path / "a"], out)


# --- CRIU ----------------------------------------------------------------------------------------


def test_criu_pages_that_are_not_in_the_parent(out):
    import_log("criu", [DATA / "pagemap-1.img"], out)
    rows = [[0x400000, 3 * PAGE], [0x7FFD00010000, 7 * PAGE]]
    assert ranges_of(out) == [rows]
    with ib.DirtyLog.open(out) as log:
        assert log.iova == 0x400000 and log.iova + log.length == 0x7FFD00010000 + 7 * PAGE
        assert log.union().count() == 10


@pytest.mark.parametrize(
    "content,what",
    [
        (b"", "no pagemap"),
        (bytes(100), "no pagemap"),
        (b"\x19CVT%@\x08V", "before its head"),
        (b"\x19CVT%@\x08V\x05\0\0\0\x08", "cut off"),
        (b"\x19CVT%@\x08V\xff\xff\xff\xff", "4294967295 bytes"),
        (b"\x19CVT%@\x08V\x02\0\0\0\x08\x01\x02\0\0\0\x08\x01", "without address"),
        (b"\x19CVT%@\x08V\x02\0\0\0\x0b\x01", "kind"),
        (b"\x19CVT%@\x08V\x02\0\0\0\x08\x81", "does not end"),
        (b"\x19CVT%@\x08V\x02\0\0\0\x0a\x09", "behind its entry"),
    ],
)
def test_criu_images_that_are_none(tmp_path, out, content, what):
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(ib.LogError, match=what):
        import_log("criu", [tmp_path / "a"], out)
    assert not out.exists()


# --- damo ----------------------------------------------------------------------------------------

HEAP = [94827419009024, 94827452162048 - 94827419009024]
MIDDLE = [140271510761472, 6410240]  # it ends inside a page, which is dirty whole
STACK = [140734916239360, 140734916927488 - 140734916239360]


@pytest.mark.parametrize("name", ["damo-record.json", "damo-record.json.z", "damo-perf-script.txt"])
def test_damo_records(out, name):
    import_log("damo", [DATA / name], out)
    start = 79357_742_179_000
    assert epochs_of(out) == [
        (start, start + 10**8, [HEAP]),
        (start + 10**8, start + 2 * 10**8, [MIDDLE, STACK]),
        (start + 2 * 10**8, start + 3 * 10**8, []),
    ]
    with ib.DirtyLog.open(out) as log:
        assert "accessed" in log.notes["meaning"] and "times" not in log.notes


def test_damo_raw_report(out):
    import_log("damo", [DATA / "damo-raw.txt"], out)
    heap = [0x563EBAA00000, 0x563EBC99E000 - 0x563EBAA00000]
    stack = [0x7FFF66B0A000, 0x7FFF66BB2000 - 0x7FFF66B0A000]
    assert epochs_of(out) == [
        (0, 104_599_000, [heap]),
        (104_599_000, 208_590_000, [heap, stack]),
    ]


def test_damo_one_of_several_targets(tmp_path, out):
    line = "k 1 [0] 5.000000: damon:damon_aggregated: target_id={} nr_regions=1 {}-{}: 1 0\n"
    (tmp_path / "a").write_text(line.format(0, 4096, 8192) + line.format(3, 8192, 16384))
    with pytest.raises(ib.LogError, match=r"several targets.*\[0, 3\]"):
        import_log("damo", [tmp_path / "a"], out)
    with pytest.raises(ib.LogError, match=r"no target 1"):
        import_log("damo", [tmp_path / "a"], out, target=1)
    import_log("damo", [tmp_path / "a"], out, target=3)
    assert ranges_of(out) == [[[8192, 8192]]]


@pytest.mark.parametrize(
    "content,what",
    [
        (b"", "no record"),
        (b"\xff\xfe", "neither JSON nor text"),
        (b"hello\n", "no record"),
        (b"[]", "without snapshots"),
        (b"[{}]", "without snapshots"),
        (b'[{"target_id": 0, "snapshots": [{}]}]', "without regions"),
        (zlib.compress(b"[]" * 1000)[:-5], "cut off"),
        (b"\x78\x9cgarbage", "decompressed"),
        (zlib.compress(bytes(300 * MIB), 9), "MiB once decompressed"),
        (b"1.0: damon:damon_aggregated: target_id=0 nr_regions=2 1-2: 1 0", "fewer regions"),
        (b"1.0: damon:damon_aggregated: target_id=0 nr_regions=1 2-1: 1 0", "a region from"),
        (b"damon_aggregated but not really", "no damon_aggregated"),
        (b"monitoring_start: soon\n", "no time"),
        (b"monitoring_start: 0 ns\ntarget_id: 0\nnr_regions: 1\n", "cut off"),
        (b"monitoring_start: 0 ns\ntarget_id: 0\nnr_regions: 1\nx: 1\n", "missing before"),
        (b"monitoring_start: 0 ns\n???\n", "no raw report"),
    ],
)
def test_damo_records_that_are_none(tmp_path, out, content, what):
    (tmp_path / "a").write_bytes(content)
    with pytest.raises(ib.LogError, match=what):
        import_log("damo", [tmp_path / "a"], out)
    assert not out.exists()


def test_damo_times_that_go_backwards(tmp_path, out):
    record = json.loads((DATA / "damo-record.json").read_text())
    record[0]["snapshots"].reverse()
    (tmp_path / "a").write_text(json.dumps(record))
    with pytest.raises(ib.LogError, match=r"a: epoch 1: .*before the last"):
        import_log("damo", [tmp_path / "a"], out)
    assert not out.exists()


# --- all -----------------------------------------------------------------------------------------

SAMPLES = {
    "criu": "pagemap-1.img",
    "damo": "damo-record.json.z",
    "qemu": "qemu-img-map.json",
}


@pytest.mark.parametrize("kind,name", [*SAMPLES.items(), ("damo", "damo-perf-script.txt")])
def test_any_byte_flipped_and_any_length(tmp_path, kind, name):
    """A LogError or ranges, never another exception: these formats have no checksums."""
    data = (DATA / name).read_bytes()
    path = tmp_path / "sample"
    rng = random.Random(name)

    def look(content: bytes) -> None:
        path.write_bytes(content)
        try:
            found = load(kind, [path], Options())
            for _, rows, _, _ in found.epochs:
                assert rows.shape[1] == 2
        except ib.LogError as error:
            assert str(error).startswith(f"{path}: ")

    for n in range(len(data)):
        flipped = bytearray(data)
        flipped[n] ^= rng.randint(1, 255)
        look(bytes(flipped))
        look(data[:n])


@settings(max_examples=200)
@given(content=st.binary(max_size=200), kind=st.sampled_from(sorted(FORMATS)))
def test_any_content(tmp_path_factory, content, kind):
    path = tmp_path_factory.getbasetemp() / "any"
    path.write_bytes(content)
    try:
        list(load(kind, [path], Options()).epochs)
    except ib.LogError as error:
        assert str(error).startswith(f"{path}: ")


def test_formats_and_files_that_are_not_there(tmp_path, out):
    with pytest.raises(ValueError, match="no format 'vhd'; there are raw, "):
        import_log("vhd", [tmp_path], out)
    with pytest.raises(ValueError, match="no file"):
        import_log("raw", [], out)
    for kind in FORMATS:
        with pytest.raises(FileNotFoundError):
            import_log(kind, [tmp_path / "none"], out)
    assert list(tmp_path.iterdir()) == []


def test_an_import_that_is_interrupted_leaves_nothing(tmp_path, out):
    (tmp_path / "a").write_bytes(bytes(16))

    def interrupt(epochs):
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        import_log("raw", [tmp_path / "a"], out, progress=interrupt)
    assert not out.exists()
