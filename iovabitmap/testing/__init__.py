"""Tools to test what tracks dirty pages: your driver, device model or VMM, and this package.

`DirtyTrackerMachine` tries random writes, reads and harvests on a tracker of yours, and shows the
shortest sequence that goes wrong; `strategies` draws bitmaps and what belongs to them. Both need
hypothesis (`pip install 'iovabitmap[hypothesis]'`). `verify_dirty_log` writes memory from threads
while a source is read. `assert_ranges` compares, and says what differs. The fixtures `iova_buffer`
and `write_tracker` come with pytest by themselves.
"""

from typing import TYPE_CHECKING, Any

from .._base.lazy import loader
from .._base.optional import need

if TYPE_CHECKING:
    from . import strategies
    from ._dirty_log import Report, verify_dirty_log
    from ._explain import assert_ranges
    from ._machine import DirtyTrackerMachine

__all__ = ["DirtyTrackerMachine", "Report", "assert_ranges", "strategies", "verify_dirty_log"]

# All is loaded when it is first asked for: pytest imports the plugin beside this in every run, and
# not everyone has hypothesis.
_load = loader(
    globals(),
    {
        "DirtyTrackerMachine": "_machine",
        "Report": "_dirty_log",
        "assert_ranges": "_explain",
        "verify_dirty_log": "_dirty_log",
    },
    modules=["_explain", "_fixtures", "strategies"],
)


def __getattr__(name: str) -> Any:
    if name == "DirtyTrackerMachine":
        need("hypothesis")
    return _load(name)


def __dir__() -> list[str]:
    return sorted({*globals(), *__all__})
