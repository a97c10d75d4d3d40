"""Fails every allocation of every operation, one after the other. A child process does this.

Each operation runs on a world of its own for each allocation that it makes: once with that one
failing, once with all from it on. Then either the result is right, or the exception is MemoryError
(or what the operation raises anyway); the memory holds what it did, or a part of the change; no
page of a harvest is lost; pins balance; and the same call, made again, does its work.

A line is printed before each operation, and the sums at the end.
"""

from __future__ import annotations

import errno
import gc
import sys

from .failing import FOREVER, Failing
from .operations import ALL, Operation
from .reference import Reference
from .world import World

# Each way to make a world: what a pin is, and how large the bitmap. In the large one answers
# outgrow the heap, and walks look for holes.
KINDS = {
    "none": {},
    "populate": {"pin": "populate"},
    "mlock": {"pin": "mlock"},
    "object": {"pin": None},
    "large": {"npages": 4500, "window_pages": None, "sparse": True},
}
# What a large bitmap is asked only: the others do not depend on its size.
LARGE = (
    "count", "find_dirty", "count_ranges", "histogram", "ranges", "clean ranges", "pages",
    "to_text", "merge of another", "read_and_clear", "read_and_clear into", "^", "diff", "copy",
)  # fmt: skip


class Plain:
    """A pin object that needs no memory of its own."""

    def pin(self, address, npages):
        return npages

    def unpin(self, address, npages):
        return None


def make(operation: Operation, kind: str) -> World:
    options = dict(KINDS[kind])
    if kind == "object":
        options["pin"] = Plain()
    return operation.world(**options)


def is_full(error) -> bool:
    """Without memory for its list, mlock pins nothing; a tracker needs descriptors too."""
    return isinstance(error, OSError) and error.errno in (errno.ENOMEM, errno.EMFILE)


def sweep(operation: Operation, kind: str, failing: Failing) -> tuple[int, int]:
    """How many allocations there were, and how many failures came through as such."""
    reference = Reference(operation, lambda: make(operation, kind))
    world = make(operation, kind)
    failing.call(operation.call, world, 0, 0)
    world.close()
    points, failures = failing.plan.count, 0
    for n in range(1, points + 1):
        for last in (n, FOREVER):
            world = make(operation, kind)
            result, error = failing.call(operation.call, world, n, last)
            failed = isinstance(error, MemoryError) or is_full(error)
            try:
                if failed:
                    # Two faults at once: nothing to pin with, nothing to return.
                    lossless = last == n or kind in ("none", "populate", "large")
                    reference.check_failure(world, error, lossless=lossless)
                else:
                    reference.check_success(world, result, error)
                reference.check_again(world, error)
                failures += failed
                del result, error
                world.close()
            except AssertionError as wrong:
                how = "alone" if last == n else "and all after it"
                raise AssertionError(
                    f"{operation.name} ({kind}): allocation {n} of {points}, {how}: {wrong}"
                ) from wrong
    return points, failures


def run(kind: str, *names: str) -> int:
    failing = Failing()
    sys.unraisablehook = lambda info: None
    gc.disable()
    points = failures = wrong = 0
    for operation in ALL:
        if operation.raises is LookupError:  # raised by Python code: the interpreter's affair
            continue
        if (names and operation.name not in names) or (
            kind == "large" and operation.name not in LARGE
        ):
            continue
        print(operation.name, flush=True)
        try:
            found = sweep(operation, kind, failing)
        except AssertionError as error:
            print(error, file=sys.stderr)
            wrong += 1
        else:
            points, failures = points + found[0], failures + found[1]
        gc.collect()
    print(f"{kind}: {points} allocations, {failing.plan.native} native calls, {failures} failures")
    return wrong
