"""Tools to test what tracks dirty pages: your driver, device model or VMM, and this package.

`DirtyTrackerMachine` tries random writes, reads and harvests on a tracker of yours, and shows the
shortest sequence that goes wrong; it needs hypothesis (`pip install 'iovabitmap[hypothesis]'`).
`verify_dirty_log` writes memory from threads while a source is read. `assert_ranges` compares, and
says what differs. The fixtures `iova_buffer` and `write_tracker` come with pytest by themselves.
"""

from typing import TYPE_CHECKING, Any

from ._dirty_log import Report, verify_dirty_log
from ._explain import assert_ranges

if TYPE_CHECKING:
    from ._machine import DirtyTrackerMachine

__all__ = ["DirtyTrackerMachine", "Report", "assert_ranges", "verify_dirty_log"]


def __getattr__(name: str) -> Any:
    """Loads hypothesis when what needs it is first asked for."""
    if name != "DirtyTrackerMachine":
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    from ._machine import DirtyTrackerMachine

    return DirtyTrackerMachine
