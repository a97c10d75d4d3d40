"""Where dirty pages come from: sources that mark what was written in an `IOVABitmap`.

A source is made, which checks its arguments and arms nothing, then started by `start()` or `with`,
and stopped by `stop()`. It has `probe()`, which says whether this machine can, `collect(bm)`, its
range `iova` and `length`, the `granularity` that it really delivers, and `layout()`, which maps its
range back to memory.
"""

from ._layout import LayoutRow, Untracked
from ._placement import GuestRam
from .command_tracker import CommandTracker
from .probe import Probe
from .process_tracker import ProcessTracker
from .protocol import Source
from .snapshot_diff import SnapshotDiff
from .soft_dirty import SoftDirty
from .write_tracker import WriteTracker

__all__ = [
    "CommandTracker",
    "GuestRam",
    "LayoutRow",
    "Probe",
    "ProcessTracker",
    "SnapshotDiff",
    "SoftDirty",
    "Source",
    "Untracked",
    "WriteTracker",
]
