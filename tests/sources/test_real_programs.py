"""CommandTracker with the programs that it is for: Redis, SQLite, PostgreSQL and QEMU.

For QEMU the truth is known page by page. For the others a second source looks at the same memory
over the same interval, between two moments at which the program stands still: each page whose
content changed must have been tracked.
"""

from __future__ import annotations

import contextlib
import os
import pwd
import shutil
import signal
import subprocess
from pathlib import Path

import numpy as np
import pytest

import iovabitmap as ib
from iovabitmap.sources import CommandTracker, GuestRam, SnapshotDiff, _preloaded
from support import guest_program, programs
from support.layouts import written
from support.memory import HOST_PAGE

_probe = CommandTracker.probe()
pytestmark = pytest.mark.skipif(not _probe, reason=_probe.reason or "works")


def needs(*names: str):
    missing = [name for name in names if find(name) is None]
    return pytest.mark.skipif(bool(missing), reason=f"not installed: {', '.join(missing)}")


def find(name: str) -> str | None:
    folders = [os.environ.get("PATH", ""), *map(str, Path("/usr/lib/postgresql").glob("*/bin"))]
    return shutil.which(name, path=os.pathsep.join(folders))


def runs(pid: int) -> bool:
    """Whether it is neither stopped nor ended; a zombie stays one while its parent is stopped."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except (FileNotFoundError, ProcessLookupError):
        return False
    return state not in ("T", "t", "Z", "X")


def send(pids, number: int) -> None:
    """Sends a signal to those of these processes that are still there."""
    for pid in pids:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, number)


@contextlib.contextmanager
def standing_still(pids):
    """Each of these processes is stopped inside, if it has not ended."""
    send(pids, signal.SIGSTOP)
    try:
        while any(map(runs, pids)):
            os.sched_yield()
        yield
    finally:
        send(pids, signal.SIGCONT)


def test_a_process_that_ended_stands_still():
    """The children of a stopped parent remain zombies: the wait for them must end."""
    with subprocess.Popen(["true"]) as ended, subprocess.Popen(["sleep", "100"]) as sleeps:
        os.waitid(os.P_PID, ended.pid, os.WEXITED | os.WNOWAIT)  # a zombie from here on
        with standing_still([ended.pid, sleeps.pid]):
            assert not runs(sleeps.pid)
        while not runs(sleeps.pid):
            os.sched_yield()
        sleeps.kill()
        sleeps.wait()
        with standing_still([sleeps.pid]):
            pass


def largest(tracker: CommandTracker):
    """The largest piece of the program's memory, as of a look just now."""
    written(tracker)
    rows = (row for row in tracker.layout() if row.pid == tracker.process.pid)
    return max(rows, key=lambda row: row.length)


def snapshot(row) -> SnapshotDiff:
    """A second source for a row of a layout, by the addresses of the process."""
    memory = f"/proc/{row.pid}/mem"
    return SnapshotDiff(memory, iova=row.address, offset=row.address, length=row.length)


def changed_pages(second: SnapshotDiff) -> set[int]:
    with ib.IOVABitmap(second.iova, second.length) as bm:
        second.collect(bm)
        return set(bm.pages().tolist())


def wait_for(lines, text: str) -> None:
    """Reads until a line holds the text."""
    assert any(text in line for line in lines), f"the program ended and never said {text!r}"


# --- Redis and SQLite -----------------------------------------------------------------------------


@needs("redis-server", "redis-benchmark", "redis-cli")
def test_redis(tmp_path):
    """A benchmark, and a save in the background by a forked child."""
    path = tmp_path / "s"
    argv = ["redis-server", "--port", "0", "--unixsocket", str(path), "--save", ""]
    load = ["redis-benchmark", "-s", str(path), "-q", "-P", "16", "-t", "set", "-d", "100"]
    load += ["-r", "50000", "-n", "50000"]
    save = ["redis-cli", "-s", str(path), "bgsave"]
    with CommandTracker(
        [*argv, "--dir", str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        env=programs.environment(),
    ) as tracker:
        server = tracker.process
        try:
            wait_for(server.stdout, "accept connections")
            subprocess.run(load, check=True, capture_output=True)  # memory grows to its place
            with standing_still([server.pid]):
                second = snapshot(largest(tracker))
                second.start()
            subprocess.run(load, check=True, capture_output=True)
            with standing_still([server.pid]):
                tracked = {address for (_, address) in written(tracker)}
                changed = changed_pages(second)
            assert len(changed) > 500
            assert changed <= tracked
            subprocess.run(save, check=True, capture_output=True)
            wait_for(server.stdout, "Background saving terminated")
            saved = {pid for (pid, _) in written(tracker)} - {server.pid}
            assert len(saved) == 1
            assert tracker.untracked == []
        finally:
            server.terminate()
            server.communicate()
        assert tracker.wait() == 0


@needs("sqlite3")
def test_sqlite():
    """What it answers is right; all that it filled is written, and its last writes are too."""
    fill = (
        "create table t(a, b); with recursive c(x) as (select 1 union all select x + 1 from c "
        "limit 50000) insert into t select x, hex(randomblob(100)) from c; select 1;\n"
    )
    with (
        CommandTracker(["sqlite3", ":memory:"], **programs.PIPES) as tracker,
        tracker.process as shell,
    ):
        shell.stdin.write(fill)
        shell.stdin.flush()
        assert shell.stdout.readline() == "1\n"
        assert len(written(tracker)) * HOST_PAGE > 50000 * 200  # hex of 100 bytes
        out, _ = shell.communicate("update t set a = a + 1; select count(*), sum(a) from t;\n")
        assert out == "50000|1250075000\n"
        assert tracker.wait() == 0
        assert len(written(tracker)) > 0
        assert tracker.untracked == []


# --- PostgreSQL -----------------------------------------------------------------------------------


def as_postgres() -> dict:
    """PostgreSQL refuses to be root."""
    return {} if os.getuid() else {"user": "postgres", "group": "postgres", "extra_groups": []}


@pytest.fixture
def database(monkeypatch):
    """A new database cluster, in a folder that its user can reach, with the library that is loaded
    into it: our folder for temporary files, and the package's, may be for our eyes only."""
    options = {"cwd": "/", **as_postgres()}
    if os.getuid() == 0:
        try:
            pwd.getpwnam("postgres")
        except KeyError:
            pytest.skip("root, and there is no user postgres to become")
    everybodys = {name: value for name, value in os.environ.items() if name != "TMPDIR"}
    made = subprocess.run(
        ["mktemp", "-d"], capture_output=True, text=True, check=False, env=everybodys, **options
    )
    if made.returncode != 0:
        pytest.skip(f"PostgreSQL's user has no folder for temporary files: {made.stderr.strip()}")
    folder = made.stdout.strip()
    try:
        copy = Path(shutil.copy(_preloaded.library(), folder))
        copy.chmod(0o755)
        monkeypatch.setattr(_preloaded, "library", lambda: copy)
        argv = [find("initdb"), "-D", f"{folder}/data", "-A", "trust", "-U", "me", "--no-sync"]
        subprocess.run(argv, check=True, capture_output=True, **options)
        yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def children(pid: int) -> list[int]:
    return [int(task) for task in Path(f"/proc/{pid}/task/{pid}/children").read_text().split()]


@needs("initdb", "postgres", "pgbench")
def test_postgresql(database):
    """Many forked processes that share memory: each page of it that changed was tracked in one."""
    argv = [find("postgres"), "-D", f"{database}/data", "-k", database]
    for setting in ("listen_addresses=", "shared_buffers=32MB", "autovacuum=off", "fsync=off"):
        argv += ["-c", setting]
    bench = [find("pgbench"), "-h", database, "-U", "me", "postgres"]
    options = {"stderr": subprocess.PIPE, "text": True, "cwd": "/", "env": programs.environment()}
    options |= as_postgres()
    with CommandTracker(argv, shared=True, **options) as tracker:
        server = tracker.process
        try:
            wait_for(server.stderr, "ready to accept connections")
            subprocess.run([*bench, "-i", "-q"], check=True, capture_output=True)
            with standing_still([server.pid, *children(server.pid)]):
                second = snapshot(largest(tracker))
                second.start()
            subprocess.run([*bench, "-c", "2", "-t", "200"], check=True, capture_output=True)
            with standing_still([server.pid, *children(server.pid)]):
                tracked = {address for (_, address) in written(tracker)}
                changed = changed_pages(second)
            assert len(changed) > 50
            assert changed <= tracked
            assert len({row.pid for row in tracker.layout()}) > 5
            # One that was forked just now may not have come yet.
            assert [each for each in tracker.untracked if "(yet)" not in each.reason] == []
        finally:
            server.send_signal(signal.SIGINT)
            server.communicate()
        assert tracker.wait() == 0


# --- QEMU -----------------------------------------------------------------------------------------


@pytest.fixture
def image(tmp_path):
    if programs.COMPILER is None:
        pytest.skip("no C compiler")
    return guest_program.build(tmp_path)


@needs("qemu-system-x86_64")
@pytest.mark.parametrize("in_file", [False, True], ids=["anonymous", "shared file"])
def test_qemu(image, tmp_path, in_file):
    """Exactly the pages that the guest wrote, by guest-physical addresses."""
    path = tmp_path / "ram" if in_file else None
    ram = GuestRam(guest_program.RAM_NBYTES, path=str(path) if path else None)
    argv = guest_program.command(image, path)
    pipes = {**programs.PIPES, "text": False}
    with CommandTracker(argv, placement=ram, **pipes) as tracker, tracker.process as qemu:
        try:
            guest = guest_program.Guest(qemu)
            assert tracker.collect(ib.IOVABitmap(0, tracker.length)) > 0  # the firmware's
            (row,) = tracker.layout()
            assert (row.iova, row.length, row.pid) == (0, guest_program.RAM_NBYTES, qemu.pid)
            second = SnapshotDiff(path) if in_file else None
            if second:
                second.start()
            for byte in (1, 2, 255):
                pages = guest.write(byte)
                assert len(pages) > 100
                for source in (tracker, second):
                    if source:
                        with ib.IOVABitmap(0, tracker.length) as bm:
                            assert source.collect(bm) == len(pages)
                            assert np.flatnonzero(bm.to_mask()).tolist() == pages
            assert tracker.untracked == []
        finally:
            qemu.kill()
