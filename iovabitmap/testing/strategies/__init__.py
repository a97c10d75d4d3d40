"""Hypothesis strategies for bitmaps, their geometries, ranges, contents, memory and faults.

For testing what keeps, makes or reads dirty bitmaps: a tracker, a driver, a VMM. Needs hypothesis:
`pip install 'iovabitmap[hypothesis]'`. All follow the same rules, those of `hypothesis.extra`:

* options are keywords, lower and upper bounds come as `min_x` and `max_x`;
* a bad option is an `InvalidArgument` when a value is drawn, and no earlier;
* a `geometry` is a `Geometry`, a tuple of its three numbers, a bitmap, or a strategy of any of
  these;
* values shrink towards few pages from page 0 on, aligned, of 4096 bytes, in a range from 0.

>>> from hypothesis import given
>>> from iovabitmap import Geometry
>>> from iovabitmap.testing.strategies import range_lists
>>> @given(range_lists(Geometry(0, 2**20, 4096)))
... def test_my_tracker(ranges): ...
"""

from .. import _hypothesis  # noqa: F401 - first, so that it says what is missing
from ._faults import FaultPlan, fault_plans
from ._geometries import geometries, page_sizes
from ._memory import bitmaps, buffers
from ._operations import apply_operation, operations
from ._patterns import dirty_patterns, epochs
from ._ranges import iova_ranges, range_lists

__all__ = [
    "FaultPlan",
    "apply_operation",
    "bitmaps",
    "buffers",
    "dirty_patterns",
    "epochs",
    "fault_plans",
    "geometries",
    "iova_ranges",
    "operations",
    "page_sizes",
    "range_lists",
]
