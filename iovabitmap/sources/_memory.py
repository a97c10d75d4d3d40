"""How much memory a source tracks: the most that was seen at once.

A process that ends takes its memory with it, and would leave nothing to say at the end of a
recording. So each is measured while it lives, what was last seen of each that lives is added up,
and the largest sum is kept.
"""

from __future__ import annotations

import contextlib
from typing import TYPE_CHECKING

from ..timeline import Memory

if TYPE_CHECKING:
    from collections.abc import Iterable

    from ._address_space import AddressSpace


class MostMemory:
    """The most that was mapped and resident at once in address spaces that come and go.

    Attributes
    ----------
    found : Memory or None
        Its `mapped_bytes` are those of the moment at which most was resident; None before anything
        was measured.
    """

    def __init__(self) -> None:
        self.found: Memory | None = None
        self._last: dict[AddressSpace, tuple[int, int]] = {}  # resident and mapped bytes

    def measure(self, spaces: Iterable[AddressSpace]) -> None:
        """Measures these, and adds up all that were and are not forgotten. One whose memory is gone
        counts as last seen."""
        for space in spaces:
            with contextlib.suppress(OSError):
                self._last[space] = space.resident_bytes(), space.mapped_bytes()
        if self._last:
            resident, mapped = (sum(column) for column in zip(*self._last.values(), strict=True))
            before = self.found
            if before is None or (resident, mapped) > (before.resident_bytes, before.mapped_bytes):
                self.found = Memory(mapped, resident)

    def forget(self, space: AddressSpace) -> None:
        """It is tracked no more."""
        self._last.pop(space, None)
