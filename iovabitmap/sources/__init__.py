"""Where dirty pages come from: sources that mark what was written in an `IOVABitmap`.

A source is made, which checks its arguments and arms nothing, then started by `start()` or `with`,
and stopped by `stop()`. It has `probe()`, which says whether this machine can, and `collect(bm)`.
"""

from ._probe import Probe
from .write_tracker import LayoutRow, WriteTracker

__all__ = ["LayoutRow", "Probe", "WriteTracker"]
