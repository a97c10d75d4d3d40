"""iovabitmap top and probe: real programs, running processes, and what this machine says it can."""

from __future__ import annotations

import contextlib
import errno
import json
import os
import subprocess
from pathlib import Path

import pytest

from support import programs
from support.command import start
from support.layouts import pages
from support.logs import needs
from support.memory import HOST_PAGE

needs("click", "rich")
from iovabitmap.cli import _abilities, _watching  # noqa: E402
from iovabitmap.cli._watching import CopyWatch, Written, by_name  # noqa: E402
from iovabitmap.sources import CommandTracker, Probe, SoftDirty  # noqa: E402

_probe = CommandTracker.probe()
tracks = pytest.mark.skipif(not _probe, reason=_probe.reason or "works")
alone = pytest.mark.skipif(
    "asan" in os.environ.get("LD_PRELOAD", ""), reason="commands would run under ASan too"
)
# It ends with its memory still there: what was unmapped before the last look is not told.
SCRIPT = """
import os
memory = bytearray(64 << 20)
for n in range(0, len(memory), 4096):
    memory[n] = 1
os._exit(5)
"""


@pytest.fixture
def writer(program):
    with subprocess.Popen([program], **programs.PIPES) as process:
        yield programs.Writer(process)
        process.stdin.close()


# --- top of a command -----------------------------------------------------------------------------


@tracks
@alone
def test_top_of_a_command(tmp_path):
    """Each look is a line; together they hold what it wrote, and it ends with its status."""
    output = tmp_path / "output"
    argv = ("--output", output, "--python", "--", "-c", f"print('hi', flush=True){SCRIPT}")
    top = start("top", "--json", "--interval", "50ms", *argv)
    lines, said = top.communicate()
    assert top.returncode == 5 and said == ""
    looks = [json.loads(line) for line in lines.splitlines()]
    written = [each for look in looks for each in look["mappings"]]
    assert sum(each["pages"] for each in written) >= 64 << 8
    assert {each["pid"] for each in written if each["pages"] > 1000}
    assert all(look["pages"] == sum(m["pages"] for m in look["mappings"]) for look in looks)
    assert [look["at_seconds"] for look in looks] == sorted(look["at_seconds"] for look in looks)
    assert output.read_text() == "hi\n"


@tracks
@alone
def test_top_for_people(program):
    top = start("top", "--interval", "50ms", "--lines", "2", "--python", "--", "-c", SCRIPT)
    out, _ = top.communicate()
    assert top.returncode == 5
    assert "MiB/s" in out and "anonymous" in out and "█" in out
    title, *rows = out.splitlines()[:5]
    assert " pages in " in title and "process" in rows[0]
    assert len([row for row in rows[1:] if "B/s" in row and " pages in " not in row]) <= 2


@tracks
@alone
def test_a_count_of_looks(program):
    """Then the program goes on, untracked, and its status is waited for."""
    top = start("top", "--json", "--interval", "20ms", "-n", "3", "--", program)
    lines = [json.loads(top.stdout.readline()) for _ in range(3)]
    assert top.poll() is None
    rest, _ = top.communicate("q\n")
    assert top.returncode == 7 and rest == "" and len(lines) == 3


# --- top of a process -----------------------------------------------------------------------------


def pages_written(watch) -> int:
    """Of the heap: the kernel writes to none of it, as it does to a thread's own data (rseq)."""
    return sum(each.pages for each in watch.look() if each.name == "[heap]")


def grow(writer, npages: int) -> int:
    """The first of so many new pages of the heap."""
    return -(-writer.ask("b", (npages + 1) * HOST_PAGE) // HOST_PAGE) * HOST_PAGE


def test_copies_of_a_running_process(writer):
    """What was there, what grew, and what is given back, which is no failure."""
    address = grow(writer, 5000)
    writer.increment(*pages(address, 1, 2))
    watch = CopyWatch(writer.pid, 1 << 30)
    writer.increment(*pages(address, 2, 77, 4999))
    assert pages_written(watch) == 3
    assert pages_written(watch) == 0
    new = grow(writer, 3000)
    writer.increment(*pages(address, 5))
    assert pages_written(watch) == 1
    writer.increment(*pages(new, 0, 2999), *pages(address, 8))
    assert pages_written(watch) == 3
    assert watch.remarks == ["by comparing copies: a rewrite of equal content is not seen"]
    writer.ask("b", (1 << 64) - 3001 * HOST_PAGE)
    writer.increment(address)
    assert pages_written(watch) == 1
    assert pages_written(watch) == 0
    watch.close()


def test_copies_have_a_limit(writer):
    """The largest is not looked at, and that is said."""
    address = writer.map(5000 * HOST_PAGE)
    watch = CopyWatch(writer.pid, 4000 * HOST_PAGE)
    writer.increment(address)
    assert all(each.nbytes < 4000 * HOST_PAGE for each in watch.look())
    assert watch.remarks[1].startswith("not looked at: 1 mappings, 19.54 MiB")
    watch.close()


def test_the_end_of_the_process(writer):
    watch = CopyWatch(writer.pid, 1 << 30)
    writer.process.stdin.close()
    writer.process.wait()
    with pytest.raises(ProcessLookupError, match=f"process {writer.pid} is gone"):
        watch.look()


@alone
def test_top_of_a_pid(writer):
    """Until the process ends, or Ctrl-C: that is no failure."""
    for end in ("ctrl-c", "end"):
        top = start("top", "--json", "--interval", "20ms", "--pid", writer.pid)
        look = json.loads(top.stdout.readline())
        assert look["page_size"] == HOST_PAGE
        if not SoftDirty.probe():
            assert "comparing copies" in look["remarks"][0]
        if end == "ctrl-c":
            top.send_signal(2)
        else:
            writer.say("q")
            writer.process.wait()
        top.communicate()
        assert top.returncode == 0


def test_no_such_process(command, monkeypatch):
    status, out, said = command("top", "--pid", 2**22 + 1)
    assert (status, out) == (2, "") and "there is no process 4194305" in said

    def refused(path, flags, *rest):
        raise PermissionError(errno.EACCES, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refused)
        with pytest.raises(PermissionError, match="by its own user only"):
            _watching.watch_process(os.getpid(), 1)


def test_one_entry_for_each_name():
    found = [Written(1, "a", 10, 2), Written(1, "b", 10, 0), Written(2, "a", 5, 7)]
    found += [Written(1, "a", 30, 4)]
    assert by_name(found) == [Written(2, "a", 5, 7), Written(1, "a", 40, 6)]


@pytest.mark.parametrize(
    "arguments",
    [(), ("--pid", "1", "true"), ("--interval", "1ms", "true"), ("-n", "0", "true")],
)
def test_top_asked_for_nonsense(command, arguments):
    status, out, said = command("top", *arguments)
    assert status == 2 and out == "" and "Usage: " in said


# --- probe ----------------------------------------------------------------------------------------


def test_probe_says_what_the_sources_say(command):
    status, out, _ = command("probe", "--json")
    found = json.loads(out)
    assert status == 0 and found["page_size"] == HOST_PAGE
    by = {each["name"]: each for each in found["sources"]}
    for kind in (CommandTracker, SoftDirty):
        probe = kind.probe()
        assert (by[kind.__name__]["ok"], by[kind.__name__]["reason"]) == probe
    for each in found["sources"] + found["interfaces"] + found["libraries"]:
        assert each["ok"] == (each["reason"] == ""), each
    assert {"name": "click", "what": "the command", "ok": True, "reason": ""} in found["libraries"]


def test_probe_for_people(command):
    status, out, said = command("probe")
    assert status == 0 and said == ""
    for text in ("sources", "interfaces", "libraries", "CommandTracker", "PAGEMAP_SCAN", "iommufd"):
        assert text in out


def test_interfaces_that_are_not_there(monkeypatch):
    """Each says which device is missing, or may not be opened."""

    def missing(path, flags, *rest):
        raise FileNotFoundError(errno.ENOENT, "No such file or directory")

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", missing)
        found = {each.name: each for each in _abilities.of_interfaces()}
    for name, path in (("KVM", "/dev/kvm"), ("VFIO type1", "/dev/vfio/vfio")):
        assert not found[name].ok and found[name].reason == f"{path} is not there"

    def refused(path, flags, *rest):
        raise PermissionError(errno.EACCES, "Permission denied")

    with monkeypatch.context() as patch:
        patch.setattr(os, "open", refused)
        found = {each.name: each for each in _abilities.of_interfaces()}
    assert found["iommufd"].reason == "/dev/iommu cannot be opened: Permission denied"


@pytest.mark.parametrize("version,rings,reason", [(11, 1, "version 11"), (12, 0, "has it not")])
def test_what_kvm_answers(monkeypatch, version, rings, reason):
    answers = {_abilities.KVM_GET_API_VERSION: version, _abilities.KVM_CHECK_EXTENSION: rings}
    monkeypatch.setattr(_abilities, "_ask", lambda fd, request, argument=0: answers[request])
    monkeypatch.setattr(_abilities, "_opened", lambda path: contextlib.nullcontext(-1))
    assert reason in _abilities._kvm(_abilities.KVM_CAP_DIRTY_LOG_RING).reason
    answers |= {_abilities.KVM_GET_API_VERSION: 12, _abilities.KVM_CHECK_EXTENSION: 4096}
    assert _abilities._kvm(_abilities.KVM_CAP_DIRTY_LOG_RING) == Probe(True, "")


def test_the_numbers_of_the_headers(tmp_path):
    """What is asked of KVM and VFIO has the numbers of linux/kvm.h and linux/vfio.h."""
    if programs.COMPILER is None or not Path("/usr/include/linux/vfio.h").exists():
        pytest.skip("no C compiler, or no kernel headers")
    names = ("KVM_GET_API_VERSION", "KVM_CHECK_EXTENSION", "KVM_CAP_MANUAL_DIRTY_LOG_PROTECT2")
    names += ("KVM_CAP_DIRTY_LOG_RING", "KVM_API_VERSION", "VFIO_GET_API_VERSION")
    names += ("VFIO_CHECK_EXTENSION", "VFIO_API_VERSION", "VFIO_TYPE1v2_IOMMU")
    lines = "".join(f'printf("%lu\\n", (unsigned long){name});' for name in names)
    includes = "#include <stdio.h>\n#include <linux/kvm.h>\n#include <linux/vfio.h>\n"
    source = f"{includes}int main(void) {{ {lines} return 0; }}"
    program = tmp_path / "numbers"
    argv = [programs.COMPILER, "-xc", "-", "-o", program]
    done = subprocess.run(argv, input=source, text=True, capture_output=True, check=False)
    if done.returncode:
        pytest.skip(f"the headers here lack some: {done.stderr[:200]}")
    out = subprocess.run([program], capture_output=True, text=True, check=True).stdout
    ours = [getattr(_abilities, name.upper()) for name in names]
    assert [int(line) for line in out.split()] == ours


def test_a_library_that_is_missing(monkeypatch):
    monkeypatch.setattr(_abilities, "find_spec", lambda name: None)
    assert {(each.ok, each.reason) for each in _abilities.of_libraries()} == {
        (False, "not installed")
    }
