"""What CPython's limited API costs a call of a bitmap's methods.

The extension is built twice, for the limited API (one binary for every CPython) and for this
interpreter's full API. Both are loaded in one process, each with a bitmap of its own, and timed in
turns, so that what the machine does meanwhile hits both alike. Several processes, which load them
in alternating order, even out how the two happen to lie in memory.

How to read it: nanoseconds are those of one call, less the loop around it. The ratio of the medians
is taken in each process; the table shows the median of these ratios and their extremes. A ratio
says something only where the extremes agree. Nothing here says how long work takes, only how long
it takes to get there.

    python benchmarks/call_overhead.py
"""

from __future__ import annotations

import importlib.machinery
import importlib.util
import json
import os
import subprocess
import sys
import tempfile
from itertools import chain
from pathlib import Path
from statistics import median
from timeit import Timer
from types import ModuleType

ROOT = Path(__file__).resolve().parents[1]
VARIANTS = ("limited", "full")
PROCESSES = 6
ROUNDS = 80
CALLS = 20_000

SETUP = """
iova = 0x1_0000_0000
bm = core.IOVABitmap(iova, 1 << 30, 4096)
freed = core.IOVABitmap(iova, 4096, 4096)
freed.free()
"""
LOOP = "pass"
CALLED = {
    "empty method, bm.free() again": "freed.free()",
    "bm.set(iova, 0)": "bm.set(iova, 0)",
    "bm.set(iova, 4096)": "bm.set(iova, 4096)",
    "bm.test(iova)": "bm.test(iova)",
}


def build(variant: str, folder: Path) -> Path:
    """Builds the extension in one way, as a user's build would, and returns its file."""
    environment = os.environ | {"IOVABITMAP_LIMITED_API": "1" if variant == "limited" else "0"}
    command = [sys.executable, "setup.py", "--quiet", "build_ext"]
    command += [f"--build-lib={folder / variant}", f"--build-temp={folder / variant}.temp"]
    subprocess.run(command, cwd=ROOT, env=environment, check=True)
    (binary,) = (folder / variant / "iovabitmap").glob("_core*")
    return binary


def load(variant: str, binary: str) -> ModuleType:
    """The extension under a name that tells the variants apart."""
    loader = importlib.machinery.ExtensionFileLoader(f"{variant}._core", binary)
    spec = importlib.util.spec_from_loader(loader.name, loader)
    assert spec is not None
    module = importlib.util.module_from_spec(spec)
    loader.exec_module(module)
    return module


def measure(binaries: dict[str, str]) -> dict[str, dict[str, float]]:
    """In this process: for each call and variant, the median of nanoseconds."""
    modules = {variant: load(variant, binary) for variant, binary in binaries.items()}
    statements = {"": LOOP} | CALLED
    timers = [
        (name, variant, Timer(statement, SETUP, globals={"core": module}))
        for name, statement in statements.items()
        for variant, module in modules.items()
    ]
    times: dict[str, dict[str, list[float]]] = {name: {} for name in statements}
    for _ in range(ROUNDS):
        for name, variant, timer in timers:
            times[name].setdefault(variant, []).append(timer.timeit(CALLS) / CALLS * 1e9)
        timers.reverse()
    loop = median(chain.from_iterable(times.pop("").values()))
    return {
        name: {variant: median(found) - loop for variant, found in by_variant.items()}
        for name, by_variant in times.items()
    }


def main() -> None:
    with tempfile.TemporaryDirectory(prefix="iovabitmap-") as temporary:
        binaries = {variant: str(build(variant, Path(temporary))) for variant in VARIANTS}
        if Path(binaries["limited"]).name == Path(binaries["full"]).name:
            sys.exit("This interpreter has no limited API: there is nothing to compare.")
        runs = []
        for n in range(PROCESSES):
            order = dict(list(binaries.items())[:: 1 if n % 2 == 0 else -1])
            command = [sys.executable, __file__, json.dumps(order)]
            runs.append(json.loads(subprocess.check_output(command)))

    version = sys.version.split()[0]
    print(f"The limited API against the full API of Python {version}, nanoseconds a call;")
    print(f"{PROCESSES} processes, {ROUNDS} x {CALLS} calls of each in each")
    print(f"{'':30} {'limited':>8} {'full':>8} {'ratio':>7}   extremes")
    for name in CALLED:
        limited, full = (median(run[name][variant] for run in runs) for variant in VARIANTS)
        ratios = sorted(run[name]["limited"] / run[name]["full"] for run in runs)
        print(
            f"{name:30} {limited:8.1f} {full:8.1f} {median(ratios):7.3f}"
            f"   {ratios[0]:.3f} to {ratios[-1]:.3f}"
        )


if __name__ == "__main__":
    if len(sys.argv) > 1:
        print(json.dumps(measure(json.loads(sys.argv[1]))))
    else:
        main()
