"""What an operation does when nothing fails, and what must hold when something did."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from .operations import Operation
from .world import BASE, PAGE, World, assert_between, plain


def dirty(world: World) -> set[int]:
    """The bits that are 1, read without the engine."""
    where = np.flatnonzero(world.memory)
    bits = np.unpackbits(world.memory[where].reshape(-1, 1), axis=1, bitorder="little")
    found = (where[:, None] * 8 + np.arange(8))[bits.astype(bool)]
    return set(found[found < world.nbits].tolist())


def handed_out(error: BaseException | None) -> set[int]:
    """The pages of a harvest that could not be put back, as bits."""
    rows = getattr(error, "harvested", np.empty((0, 2), np.uint64)).tolist()
    bits = set()
    for iova, length in rows:
        bits.update(range((iova - BASE) // PAGE, (iova + length - 1 - BASE) // PAGE + 1))
    return bits


class Reference:
    """`operation` on a world of `make`, with nothing failing."""

    def __init__(self, operation: Operation, make: Callable[[], World]) -> None:
        self.operation = operation
        operation_error(operation, make())  # what is cached from now on is cached
        world = make()
        self.before = world.content
        self.dirty_before = dirty(world)
        result, error = operation_error(operation, world)
        expected = operation.raises or type(None)
        assert isinstance(error, expected), f"{operation.name}: {error!r}"
        self.result, self.raises = plain(result), type(error)
        self.after = world.content
        world.close()

    def check_success(self, world: World, result, error) -> None:
        """What came out is what comes out anyway."""
        assert type(error) is self.raises, f"{error!r} instead of {self.raises}"
        assert plain(result) == self.result, f"{result!r} is not {self.result!r}"
        assert (world.content == self.after).all(), "the content is another one"

    def check_failure(self, world: World, error, *, lossless: bool = True) -> None:
        """Nothing changed, or a part of what should, and no page of a harvest is lost."""
        if self.operation.harvests:
            known = dirty(world) | world.moved | handed_out(error)
            assert known <= self.dirty_before, "pages are made up"
            assert not lossless or known == self.dirty_before, "pages are lost"
        elif self.operation.changes:
            assert_between(world.content, self.before, self.after)
        else:
            assert (world.content == self.before).all(), "the content changed"

    def check_again(self, world: World, failed: BaseException | None) -> None:
        """The same call does its work when the fault is gone."""
        if world.bm.freed:
            return
        whole = dirty(world) | world.moved == self.dirty_before
        _, error = operation_error(self.operation, world)
        assert type(error) is self.raises, f"again: {error!r}"
        if self.operation.name == "^=" or (self.operation.harvests and not whole):
            return  # does not come to the same when it is repeated
        assert (world.content == self.after).all(), "again: another content"


def operation_error(operation: Operation, world: World):
    """(result, exception) of one call."""
    try:
        return operation.call(world), None
    except Exception as error:
        return None, error.with_traceback(None)
