"""The answer of a source's `probe()`."""

from __future__ import annotations

from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from collections.abc import Callable


class Probe(NamedTuple):
    """Whether a source works on this machine; its truth value is `ok`.

    Attributes
    ----------
    ok : bool
        A round trip on memory of its own gave just what was written.
    reason : str
        What is missing where it did not, "" where it did.

    Examples
    --------
    >>> bool(Probe(False, "this kernel has no userfaultfd"))
    False
    """

    ok: bool
    reason: str

    def __bool__(self) -> bool:
        return self.ok


def probed(round_trip: Callable[[], Probe]) -> Probe:
    """What a round trip says, or in words what it failed with. Never raises."""
    try:
        return round_trip()
    except Exception as error:
        reason = error.strerror if isinstance(error, OSError) else None
        return Probe(False, reason or repr(error))
