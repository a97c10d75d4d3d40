"""Coverage-guided fuzzing of the Python type: a byte string becomes a bitmap and operations on it.

The bytes are the random numbers of `support.scripts`, which draws geometries, faults and operations
for the seeded tests; `support.driver` compares the engine with the model after each. What guides
the fuzzer is the coverage of the model, whose branches are the rules, and of the driver.

    python tests/fuzz/fuzz_python.py FOLDER... [options of libFuzzer]    fuzz; needs atheris
    python tests/fuzz/fuzz_python.py --replay FILE...                    run inputs; needs nothing
"""

from __future__ import annotations

import importlib
import random
import sys
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1]))

MAX_BYTES = 300  # of a bitmap; placed so that it often crosses host pages
MOST_OPERATIONS = 30
SAY_EVERY = 50  # inputs
inputs = operations = 0


class Bytes(random.Random):
    """Random numbers from a string of bytes; zeros follow behind its end."""

    def __init__(self, data: bytes) -> None:
        super().__init__(0)
        self.data = data
        self.at = 0

    @property
    def left(self) -> bool:
        return self.at < len(self.data)

    def getrandbits(self, k: int) -> int:
        size = (k + 7) // 8
        taken = self.data[self.at : self.at + size].ljust(size, b"\0")
        self.at += size
        return int.from_bytes(taken, "little") >> (8 * size - k)

    def random(self) -> float:
        return self.getrandbits(8) / 256


def run(data: bytes) -> None:
    """One input."""
    global inputs, operations  # noqa: PLW0603
    from support import scripts
    from support.driver import Pair
    from support.memory import HOST_PAGE

    rng = Bytes(data)
    pgoff = rng.choice((0, 1, HOST_PAGE - 1, HOST_PAGE - MAX_BYTES // 2, HOST_PAGE - 8))
    pair = Pair(
        *scripts.geometry(rng, MAX_BYTES),
        pgoff=pgoff,
        window_pages=rng.choice((1, 2, None)),
        pin=rng.choice(("none", "fault", "fault")),
        seed=rng.getrandbits(8),
    )
    for _ in range(MOST_OPERATIONS):
        if not rng.left:
            break
        scripts.step(rng, pair)
        operations += 1
    pair.finish()
    inputs += 1
    if inputs % SAY_EVERY == 0:  # the fuzzer never comes back to say it at the end
        print(f"operations: {operations}", file=sys.stderr)


def replay(paths: list[str]) -> None:
    for path in paths:
        print(path, flush=True)
        run(Path(path).read_bytes())
    print(f"{inputs} inputs, {operations} operations, no find")


def fuzz() -> None:
    import atheris

    with atheris.instrument_imports(include=["iovabitmap.model", "support"]):
        importlib.import_module("support.scripts")  # and all that it imports
    atheris.Setup(sys.argv, run)
    atheris.Fuzz()


if __name__ == "__main__":
    if sys.argv[1:2] == ["--replay"]:
        replay(sys.argv[2:])
    else:
        fuzz()
