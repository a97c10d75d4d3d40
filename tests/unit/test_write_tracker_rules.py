"""WriteTracker's rules: how one is made, what is armed when, and who may have it."""

from __future__ import annotations

import errno
import gc
import mmap
import weakref

import pytest

import iovabitmap as ib
from iovabitmap.sources import Probe, WriteTracker, _page_size
from support.children import run_child
from support.memory import HOST_PAGE, address_of
from support.tracked import KINDS, collected, needs_tracker, open_descriptors

NPAGES = 16


@pytest.fixture
def memory():
    return KINDS["anonymous"](NPAGES * HOST_PAGE)


def write(memory, *pages: int) -> None:
    for page in pages:
        memory[page * HOST_PAGE] = 1


# --- probe ----------------------------------------------------------------------------------------


def test_probe():
    probe = WriteTracker.probe()
    assert isinstance(probe, Probe)
    assert probe.ok is bool(probe)
    assert (probe.reason == "") is probe.ok


def test_probe_says_what_the_system_says(monkeypatch):
    def start(self):
        raise PermissionError(errno.EPERM, "forbidden")

    monkeypatch.setattr(WriteTracker, "start", start)
    assert WriteTracker.probe() == Probe(False, "forbidden")


def test_probe_does_not_raise(monkeypatch):
    def start(self):
        raise RuntimeError("broken")

    monkeypatch.setattr(WriteTracker, "start", start)
    assert WriteTracker.probe() == Probe(False, "RuntimeError('broken')")


@pytest.mark.parametrize("seen", [0, 4 * HOST_PAGE], ids=["nothing", "everything"])
def test_probe_is_a_round_trip(monkeypatch, seen):
    """A kernel that accepts every call and then sees nothing, or everything, does not do."""
    monkeypatch.setattr(WriteTracker, "start", lambda self: None)
    monkeypatch.setattr(WriteTracker, "collect", lambda self, bm: bm.test_and_set(0, seen))
    probe = WriteTracker.probe()
    assert not probe
    assert "the kernel saw" in probe.reason


# --- making one -----------------------------------------------------------------------------------


def test_attributes(memory):
    tracker = WriteTracker(memory, iova=0x1234)
    assert (tracker.iova, tracker.length) == (0x1234, len(memory))
    assert tracker.granularity == HOST_PAGE
    assert tracker.address == address_of(memory)
    assert not tracker.started
    (row,) = tracker.layout()
    assert row[:3] == (0x1234, len(memory), address_of(memory))
    assert row.pid > 0 and row.name
    assert (
        repr(tracker)
        == f"<WriteTracker 0x1234-{0x1234 + len(memory):#x} granularity 4096, stopped>"
    )
    assert weakref.ref(tracker)() is tracker


@pytest.mark.parametrize(
    "arguments, iova, error",
    [
        (b"", 0, ValueError),
        (b"1234", 2**64 - 3, ValueError),
        (b"1234", 2**64, ValueError),
        (b"1234", -1, ValueError),
        (b"1234", 1.0, TypeError),
        ("1234", 0, TypeError),
        (None, 0, TypeError),
        (memoryview(b"12345678")[::2], 0, BufferError),
    ],
)
def test_bad_arguments(arguments, iova, error):
    with pytest.raises(error):
        WriteTracker(arguments, iova=iova)


def test_iova_is_given_by_name(memory):
    with pytest.raises(TypeError):
        WriteTracker(memory, 0x1000)


def test_the_buffer_is_held(memory):
    content = bytearray(10)
    tracker = WriteTracker(content)
    with pytest.raises(BufferError):
        content.append(1)
    other = WriteTracker(memory)
    with pytest.raises(BufferError):
        memory.close()
    del tracker, other
    content.append(1)
    memory.close()


def test_page_size_of_mappings(monkeypatch, tmp_path):
    """The largest of the mappings that the buffer overlaps; smaps is read only where it may pay."""
    smaps = tmp_path / "smaps"
    sizes = [(0x10000, 4), (0x20000, 2048), (0x30000, 64)]
    smaps.write_text(
        "".join(
            f"{start:x}-{start + 0x10000:x} rw-p 00000000 00:00 0   [a name: b]\n"
            f"Size:                 64 kB\nKernelPageSize:     {size:4} kB\nVmFlags: rd wr \n"
            for start, size in sizes
        )
    )
    monkeypatch.setattr(_page_size.sys, "platform", "linux")
    monkeypatch.setattr(_page_size, "SMAPS", smaps)
    monkeypatch.setattr(_page_size, "_has_huge_pages", lambda: True)
    assert _page_size.page_size_at(0x10000, 0x10000) == 4096
    assert _page_size.page_size_at(0x1FFFF, 2) == 2 << 20
    assert _page_size.page_size_at(0x30000, 1) == 65536
    assert _page_size.page_size_at(0x40000, 1) == mmap.PAGESIZE
    monkeypatch.setattr(_page_size, "_has_huge_pages", lambda: False)
    assert _page_size.page_size_at(0x1FFFF, 2) == mmap.PAGESIZE
    monkeypatch.setattr(_page_size, "_has_huge_pages", lambda: True)
    monkeypatch.setattr(_page_size, "SMAPS", tmp_path / "missing")
    assert _page_size.page_size_at(0x1FFFF, 2) == mmap.PAGESIZE


# --- start and stop -------------------------------------------------------------------------------


@needs_tracker
def test_nothing_is_armed_before_start(memory):
    before = open_descriptors()
    first, second = WriteTracker(memory), WriteTracker(memory)
    assert open_descriptors() == before
    with pytest.raises(RuntimeError, match="not started"), ib.IOVABitmap(0, 4096) as bm:
        first.collect(bm)
    first.stop()
    write(memory, 1)
    with second:
        assert collected(second) == []


@needs_tracker
def test_start_and_stop_repeat(memory):
    tracker = WriteTracker(memory)
    tracker.start()
    write(memory, 1)
    tracker.start()  # is started: arms nothing anew
    assert collected(tracker) == [1]
    tracker.stop()
    tracker.stop()
    assert not tracker.started
    write(memory, 2)
    with tracker as entered:
        assert entered is tracker and tracker.started
        write(memory, 3)
        assert collected(tracker) == [3]
    with pytest.raises(ZeroDivisionError), tracker:
        _ = 1 // 0
    assert not tracker.started
    with pytest.raises(RuntimeError, match="not started"):
        collected(tracker)


@needs_tracker
@pytest.mark.parametrize("end", ["stop", "lose"])
def test_leaves_the_memory_as_it_was(memory, end):
    before = open_descriptors()
    tracker = WriteTracker(memory)
    tracker.start()
    write(memory, 1)
    if end == "stop":
        tracker.stop()
    else:
        del tracker
        gc.collect()
    assert open_descriptors() == before
    write(memory, 0, 2)
    with WriteTracker(memory) as other:  # a page still registered would be EBUSY
        write(memory, 3)
        assert collected(other) == [3]


@needs_tracker
def test_second_tracker_of_the_same_pages(memory):
    half = len(memory) // 2
    with WriteTracker(memoryview(memory)[:half]) as first:
        with pytest.raises(OSError, match="tracked already") as raised, WriteTracker(memory):
            pass
        assert raised.value.errno == errno.EBUSY
        with WriteTracker(memoryview(memory)[half:]) as second:
            write(memory, 1, NPAGES - 1)
            assert collected(first) == [1]
            assert collected(second) == [NPAGES // 2 - 1]


@needs_tracker
def test_forked_child():
    run_child(
        """
        import mmap, os
        import iovabitmap as ib
        from iovabitmap.sources import WriteTracker
        page = mmap.PAGESIZE
        memory = mmap.mmap(-1, 4 * page, flags=mmap.MAP_PRIVATE | mmap.MAP_ANONYMOUS)
        def pages(tracker):
            with ib.IOVABitmap(0, len(memory)) as bm:
                tracker.collect(bm)
                return [i for i in range(4) if bm.test(i * page)]
        tracker = WriteTracker(memory)
        tracker.start()
        memory[0] = 1
        pid = os.fork()
        if pid == 0:
            assert not tracker.started
            memory[page] = 1
            try:
                pages(tracker)
                os._exit(2)
            except ChildProcessError:
                pass
            descriptors = len(os.listdir("/proc/self/fd"))
            tracker.start()  # in place of those that came with the fork
            assert len(os.listdir("/proc/self/fd")) == descriptors
            memory[2 * page] = 1
            os._exit(0 if pages(tracker) == [2] else 3)
        assert os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]) == 0
        memory[3 * page] = 1
        assert pages(tracker) == [0, 3]
        pid = os.fork()
        if pid == 0:
            tracker.stop()  # leaves the parent's protection alone
            os._exit(0)
        os.waitpid(pid, 0)
        memory[page] = 1
        assert pages(tracker) == [1]
        pid = os.fork()
        if pid == 0:
            os.read(os.pipe()[0], 1)  # holds the descriptors until it is killed
        try:
            tracker.stop()
            with WriteTracker(memory) as other:
                memory[0] = 1
                assert pages(other) == [0]
        finally:
            os.kill(pid, 9)
            os.waitpid(pid, 0)
        """
    ).assert_lived("a forked child")
