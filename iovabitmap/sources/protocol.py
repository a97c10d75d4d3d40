"""What a source of dirty pages is, for whoever takes one or makes one."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol, runtime_checkable

if TYPE_CHECKING:
    from .._core import IOVABitmap
    from ..timeline import Memory
    from ._layout import LayoutRow, Untracked
    from .probe import Probe


@runtime_checkable
class Source(Protocol):
    """A source of dirty pages: all of `iovabitmap.sources` are, and what has the same may be one.

    It is made, which checks its arguments and arms nothing, started by `start()`, collected from,
    and stopped by `stop()`; start and stop can be repeated.

    Attributes
    ----------
    iova, length : int
        The range that its pages lie in, in bytes.
    granularity : int
        Bytes that one write is seen as: a power of two.
    untracked : list of Untracked
        Rows (pid, what, reason) of what should be tracked and is not; after `stop` as last known.
    """

    @property
    def iova(self) -> int: ...
    @property
    def length(self) -> int: ...
    @property
    def granularity(self) -> int: ...
    @property
    def untracked(self) -> list[Untracked]: ...

    def start(self) -> None:
        """From here on writes are seen. Nothing if it is started. OSError: the system cannot."""

    def stop(self) -> None:
        """Ends it. Nothing if it is stopped. Writes that were not collected are forgotten."""

    def collect(self, bm: IOVABitmap, /) -> int:
        """Marks in `bm` the pages written since the last time: how many of them were clean."""

    def layout(self) -> list[LayoutRow]:
        """Rows (iova, length, address, pid, name), ascending; after `stop` as last known."""

    @classmethod
    def probe(cls) -> Probe:
        """Whether this machine can. Never raises."""


@runtime_checkable
class Measured(Protocol):
    """A source that also knows how much memory it tracks."""

    def memory(self) -> Memory | None:
        """The most that was seen; None if nothing is known."""


@runtime_checkable
class OfProcesses(Protocol):
    """A source of processes that come and go."""

    @property
    def tracked(self) -> list[int]: ...
