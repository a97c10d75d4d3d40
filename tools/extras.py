"""Proves that each extra of pyproject.toml brings all that it is for.

    python tools/extras.py [EXTRA...]

Builds the wheel; then, for each EXTRA, or for all in USES, makes an environment with nothing but
the wheel and that extra, and runs a small use of what the extra serves there. A package that only
another extra brings is missed here, and in no other test.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import tomllib
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent

LOG = """
from pathlib import Path
import iovabitmap as ib
Path("run.parquet").unlink(missing_ok=True)  # of the use before this one, with `all`
second = 1_000_000_000
with ib.LogWriter("run.parquet", ib.Geometry(0, 1 << 30, 4096)) as log:
    for epoch in range(10):
        log.append_ranges([[0, 1 << 20]], epoch * second, (epoch + 1) * second)
"""

# What each extra is for, as a program; {root} is the source tree, which must not be imported from.
USES = {
    "plot": """
import iovabitmap as ib
from iovabitmap import plot
bm = ib.IOVABitmap(0, 1 << 30)
bm.set(0, 1 << 20)
plot.bitmap(bm).figure.savefig("bitmap.png")
""",
    "view": LOG
    + """
from iovabitmap import plot
with ib.DirtyLog.open("run.parquet") as log:
    plot.view(log).save("view.html")
assert "bokeh" in open("view.html").read().lower()
""",
    "jupyter": """
from IPython.core.interactiveshell import InteractiveShell
from iovabitmap.sources import ProcessTracker
shell = InteractiveShell.instance()
shell.run_line_magic("load_ext", "iovabitmap")
if ProcessTracker.probe():
    assert shell.run_cell_magic("dirty", "", "numbers = list(range(1_000_000))") is None
    assert len(shell.user_ns["numbers"]) == 1_000_000
""",
    "demo": """
import runpy, sys
sys.path.insert(0, "{root}/examples")
sys.argv = ["demo", "--mib", "16", "--source", "snapshot", "--out", "picture.png"]
try:
    runpy.run_path("{root}/examples/demo.py", run_name="__main__")
except SystemExit as ended:
    assert not ended.code, ended.code
""",
    "logs": LOG
    + """
import iovabitmap.analysis as an
with ib.DirtyLog.open("run.parquet") as log:
    assert len(log) == 10 and log.union().count() == 256
    assert an.dirty_rate(log)
""",
    "pandas": LOG
    + """
import iovabitmap.analysis as an
with ib.DirtyLog.open("run.parquet") as log:
    assert len(log.to_pandas()) == 10
    assert len(an.reuse(log)) == 10
""",
    "xarray": LOG
    + """
with ib.DirtyLog.open("run.parquet") as log:
    assert log.to_xarray(bins=4).shape == (10, 4)
""",
    "cli": LOG
    + """
from iovabitmap.cli._app import Commands, app, run
for name in Commands(name="all", commands=app.commands).list_commands(None):
    assert run([name, "--help"]) == 0, name
assert run(["probe"]) in (0, 1)
assert run(["report", "run.parquet"]) == 0
assert run(["convert", "run.parquet", "-o", "run.csv"]) == 0
""",
    "qemu": """
from iovabitmap.qemu import Monitor
try:
    Monitor("nobody-listens", timeout=20)
except OSError as error:  # not ImportError
    assert "nobody-listens" in str(error), error
else:
    raise AssertionError("who is there?")
""",
    "bench": "import bitarray, matplotlib, numpy, pyroaring, iovabitmap",
    "hypothesis": """
import iovabitmap as ib
from hypothesis import given, settings
from hypothesis import strategies as st
from iovabitmap.testing.strategies import bitmaps
from iovabitmap.testing import DirtyTrackerMachine

@given(bitmaps(), st.from_type(ib.IOVABitmap))
def check(a, b):
    a.validate()
    b.validate()

check()

class Machine(DirtyTrackerMachine):
    def start(self, iova, length, page_size):
        self.bm = ib.IOVABitmap(iova, length, page_size)
    def write(self, iova, length):
        self.bm.set(iova, length)
    def read_and_clear(self):
        return self.bm.read_and_clear()

Machine.TestCase.settings = settings(Machine.TestCase.settings, max_examples=10)
Machine.TestCase("runTest").runTest()
""",
    "fleet": LOG
    + """
from iovabitmap import fleet
machines = fleet.open(".")
assert machines.logs == ["run.parquet"], machines.logs
assert machines.rates().mib_per_s.tolist() == [0.1]
""",
    "docs": """
import subprocess, sys
command = "-m sphinx --fail-on-warning --keep-going -q -b html {root}/docs html -d doctrees".split()
subprocess.run([sys.executable, "-P", *command], check=True)
""",
}
FOR_USERS = ("plot", "view", "jupyter", "pandas", "cli", "qemu", "hypothesis", "fleet")
USES["all"] = "\n".join(USES[name] for name in FOR_USERS)
# Those of contributors, which `make` installs for the command that needs them, and which it tests
# by running that.
NOT_USED = {"browser", "dist", "lint", "notebooks", "proof", "test"}


def unnamed() -> set[str]:
    """Extras of pyproject.toml that have neither a use here nor a reason to have none."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return set(project["optional-dependencies"]) ^ (USES.keys() | NOT_USED)


def build(folder: Path) -> Path:
    """The wheel of this tree."""
    pip = [sys.executable, "-m", "pip", "wheel", "--quiet", "--no-deps", "--no-build-isolation"]
    subprocess.run([*pip, "--wheel-dir", folder, ROOT], check=True)
    (wheel,) = folder.glob("*.whl")
    return wheel


def works(extra: str, wheel: Path) -> bool:
    """Whether the extra's use does, in an environment of its own."""
    with tempfile.TemporaryDirectory(prefix="iovabitmap-") as temporary:
        python = Path(temporary, "venv", "bin", "python")
        empty = Path(temporary, "empty")
        empty.mkdir()
        use = USES[extra].replace("{root}", str(ROOT))
        environment = {k: v for k, v in os.environ.items() if not k.startswith("PYTHON")}
        for command in (
            [sys.executable, "-m", "venv", Path(temporary, "venv")],
            [python, "-m", "pip", "install", "--quiet", f"iovabitmap[{extra}] @ {wheel.as_uri()}"],
            [python, "-P", "-c", use],
        ):
            done = subprocess.run(
                command,
                cwd=empty,
                env=environment,
                stdout=subprocess.PIPE,
                stderr=subprocess.STDOUT,
                text=True,
                check=False,
            )
            if done.returncode != 0:
                print(f"{extra}: FAILED\n{done.stdout}", flush=True)
                return False
    print(f"{extra}: passed", flush=True)
    return True


def main() -> None:
    if unnamed():
        sys.exit(f"extras that tools/extras.py or pyproject.toml does not have: {unnamed()}")
    with tempfile.TemporaryDirectory(prefix="iovabitmap-") as temporary:
        wheel = build(Path(temporary))
        chosen = sys.argv[1:] or list(USES)
        failed = [extra for extra in chosen if not works(extra, wheel)]
    print(f"{len(chosen) - len(failed)} passed, {len(failed)} failed", *failed)
    sys.exit(bool(failed))


if __name__ == "__main__":
    main()
