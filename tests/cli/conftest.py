"""The command, run in the test's process; a program, and where its log goes."""

from __future__ import annotations

from pathlib import Path

import pytest

from support import programs
from support.command import end_started


@pytest.fixture(autouse=True)
def nothing_left():
    yield
    end_started()


@pytest.fixture
def command(capfd):
    """Runs the command in this process: (status, standard output, standard error)."""
    from iovabitmap.cli._app import run

    def call(*arguments) -> tuple[int, str, str]:
        status = run([str(argument) for argument in arguments])
        return status, *capfd.readouterr()

    return call


@pytest.fixture(scope="module")
def program(tmp_path_factory) -> str:
    if programs.COMPILER is None:
        pytest.skip("no C compiler")
    return str(programs.build(tmp_path_factory.mktemp("program")))


@pytest.fixture
def out(tmp_path) -> Path:
    return tmp_path / "run.parquet"
