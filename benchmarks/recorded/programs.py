"""The real programs, each with a load that is the same amount of work each time."""

from __future__ import annotations

import os
import pwd
import random
import shutil
import signal
import subprocess
import time
from abc import ABC, abstractmethod
from pathlib import Path

PATIENCE_S = 60
BINARIES = os.pathsep.join(
    [os.environ.get("PATH", ""), *map(str, Path("/usr/lib/postgresql").glob("*/bin"))]
)
ROWS = 200_000
FILL = (
    "create table t(a integer primary key, b); with recursive c(x) as (select 1 union all "
    f"select x + 1 from c limit {ROWS}) insert into t select x, hex(randomblob(100)) from c;"
)
UPDATE = "update t set b = hex(randomblob(100)) where a between {} and {};"


class Program(ABC):
    """A program to be run, loaded and stopped, in a folder of its own.

    `options` are those of `iovabitmap record` that it needs, `signal` is what ends it well.
    """

    name: str
    needs: tuple[str, ...]
    options: tuple[str, ...] = ()
    signal = signal.SIGTERM

    def __init__(self, folder: Path, scale: int) -> None:
        self.folder = folder
        self.scale = scale
        self.process: subprocess.Popen[str] | None = None

    @classmethod
    def why_not(cls) -> str:
        """Why it cannot be run here; "" where it can."""
        missing = [name for name in cls.needs if find(name) is None]
        return f"not installed: {', '.join(missing)}" if missing else ""

    def start(self, before: list[str]) -> None:
        """Runs it, with the words of another command before its own, until it serves."""
        with (self.folder / "output").open("a") as output:
            self.process = subprocess.Popen(
                [*before, *self.argv()],
                stdin=subprocess.PIPE,
                stdout=self.stdout(),
                stderr=output,
                text=True,
                start_new_session=True,
            )
        self.wait_until_ready()

    def stdout(self) -> int:
        return subprocess.DEVNULL

    def stop(self) -> None:
        """Ends it as an administrator would."""
        assert self.process is not None
        self.process.send_signal(self.signal)
        self.process.communicate(timeout=PATIENCE_S)
        if self.process.returncode:
            raise RuntimeError(f"{self.name} ended with {self.process.returncode}: {self.said()}")

    def said(self) -> str:
        return (self.folder / "output").read_text(errors="replace")[-2000:]

    def wait_until(self, argv: list[str]) -> None:
        """Until this command succeeds."""
        deadline = time.monotonic() + PATIENCE_S
        while subprocess.run(argv, capture_output=True, check=False).returncode:
            if time.monotonic() > deadline or self.process is None or self.process.poll():
                raise RuntimeError(f"{self.name} does not serve: {self.said()}")
            time.sleep(0.02)

    @abstractmethod
    def argv(self) -> list[str]:
        """Its command."""

    @abstractmethod
    def wait_until_ready(self) -> None: ...

    @abstractmethod
    def fill(self) -> None:
        """Brings it to a state that `load` does not change."""

    @abstractmethod
    def load(self) -> None:
        """The work."""


class Redis(Program):
    """redis-server, under redis-benchmark: values of 400 bytes set at random keys."""

    name = "redis-server"
    needs = ("redis-server", "redis-benchmark", "redis-cli")

    def argv(self) -> list[str]:
        words = ["redis-server", "--port", "0", "--save", "", "--dir", str(self.folder)]
        return [*words, "--unixsocket", self.socket]

    @property
    def socket(self) -> str:
        return str(self.folder / "socket")

    def wait_until_ready(self) -> None:
        self.wait_until(["redis-cli", "-s", self.socket, "ping"])

    def fill(self) -> None:
        self.load()

    def load(self) -> None:
        number = str(100_000 * self.scale)
        argv = ["redis-benchmark", "-s", self.socket, "-q", "-P", "8", "-t", "set", "-d", "400"]
        run([*argv, "-r", "50000", "-n", number])


class PostgreSQL(Program):
    """postgres, under pgbench: its transactions, by two clients."""

    name = "postgres"
    needs = ("initdb", "postgres", "pgbench", "pg_isready")
    options = ("--shared",)
    signal = signal.SIGINT

    @classmethod
    def why_not(cls) -> str:
        if os.getuid() == 0:  # which PostgreSQL refuses to be
            try:
                pwd.getpwnam("postgres")
            except KeyError:
                return "root, and there is no user postgres to become"
            if shutil.which("setpriv") is None:
                return "not installed: setpriv"
        return super().why_not()

    def as_user(self) -> list[str]:
        if os.getuid():
            return []
        return ["setpriv", "--reuid=postgres", "--regid=postgres", "--clear-groups"]

    @property
    def data(self) -> str:
        return str(self.folder / "data")

    def argv(self) -> list[str]:
        words = [*self.as_user(), found("postgres"), "-D", self.data, "-k", str(self.folder)]
        for setting in ("listen_addresses=", "shared_buffers=64MB", "autovacuum=off", "fsync=off"):
            words += ["-c", setting]
        return words

    def start(self, before: list[str]) -> None:
        if not Path(self.data).exists():
            if os.getuid() == 0:
                shutil.chown(self.folder, "postgres", "postgres")
            words = ["-D", self.data, "-A", "trust", "-U", "me", "--no-sync"]
            run([*self.as_user(), found("initdb"), *words])
        super().start(before)

    def wait_until_ready(self) -> None:
        self.wait_until([found("pg_isready"), "-h", str(self.folder)])

    def bench(self, *words: str) -> None:
        run([found("pgbench"), "-h", str(self.folder), "-U", "me", *words, "postgres"])

    def fill(self) -> None:
        self.bench("-i", "-q", "-s", "2")
        self.load()

    def load(self) -> None:
        self.bench("-n", "-c", "2", "-t", str(500 * self.scale))


class SQLite(Program):
    """SQLite's shell, with a table in memory: each load updates four
    twentieths of it, eight times.
    """

    name = "sqlite3"
    needs = ("sqlite3",)

    def __init__(self, folder: Path, scale: int) -> None:
        super().__init__(folder, scale)
        self.random = random.Random(1)

    def argv(self) -> list[str]:
        return ["sqlite3", ":memory:"]

    def stdout(self) -> int:
        return subprocess.PIPE

    def stop(self) -> None:
        assert self.process is not None
        self.process.communicate("", timeout=PATIENCE_S)

    def ask(self, statements: str) -> None:
        assert self.process and self.process.stdin and self.process.stdout
        self.process.stdin.write(f"{statements} select 'done';\n")
        self.process.stdin.flush()
        if self.process.stdout.readline() != "done\n":
            raise RuntimeError(f"{self.name}: {self.said()}")

    def wait_until_ready(self) -> None:
        self.ask("")

    def fill(self) -> None:
        self.ask(FILL)
        self.load()

    def load(self) -> None:
        for _ in range(4 * self.scale):
            first = self.random.randrange(ROWS * 19 // 20)
            self.ask(UPDATE.format(first, first + ROWS // 20) * 8)


PROGRAMS: tuple[type[Program], ...] = (Redis, PostgreSQL, SQLite)


def find(name: str) -> str | None:
    return shutil.which(name, path=BINARIES)


def found(name: str) -> str:
    path = find(name)
    assert path is not None, name
    return path


def run(argv: list[str]) -> None:
    """Runs a client. What it said is in the error."""
    done = subprocess.run(argv, capture_output=True, text=True, check=False, cwd="/")
    if done.returncode:
        raise RuntimeError(f"{' '.join(argv)}: {done.stderr or done.stdout}")
