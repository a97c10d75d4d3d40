"""Runs a piece of Python in a child process, for what may kill a process or must change its rights.

The child sees the same packages as the parent. Its source is a function's body or a script's text,
so a test stays in one place. It runs over the implementation that the test runs over.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import textwrap

from . import under_test

TIMEOUT_S = 300  # only against a child that hangs

PREAMBLE = """\
import faulthandler, sys
faulthandler.enable()
try:
    import resource
    resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
except ImportError:
    pass
"""


class Result:
    def __init__(self, done: subprocess.CompletedProcess) -> None:
        self.returncode = done.returncode
        self.stdout, self.stderr = done.stdout, done.stderr

    def assert_lived(self, what: str) -> None:
        """The child ended by itself and reported no failure."""
        code = self.returncode
        if code == 0:
            return
        how = f"was killed by {signal.Signals(-code).name}" if code < 0 else f"exited with {code}"
        steps = self.stdout.strip().splitlines()
        last = steps[-1] if steps else "(nothing)"
        raise AssertionError(
            f"{what}: the child {how}; its last step was: {last}\n{self.stderr[-3000:]}"
        )


def run_child(source: str, *arguments: str, **variables: str) -> Result:
    """Runs `source` (dedented) with `arguments` in sys.argv[1:], and more environment `variables`.
    Nothing is imported from the folder that the tests are run in: it may hold another build.
    Print a line before each step that may kill, flushed: the last one names the culprit."""
    path = os.pathsep.join(p for p in sys.path if p)
    environment = dict(os.environ, PYTHONPATH=path, **variables)
    if under_test.ib.name != under_test.NAMES[0]:
        environment[under_test.VARIABLE] = under_test.ib.name
        source = source.replace("import iovabitmap as ib", "from support.under_test import ib")
    done = subprocess.run(
        [sys.executable, "-P", "-c", PREAMBLE + textwrap.dedent(source), *arguments],
        env=environment,
        capture_output=True,
        text=True,
        timeout=TIMEOUT_S,
        check=False,
    )
    return Result(done)
