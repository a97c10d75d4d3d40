"""Timelines: the dirty pages of many epochs as one value, which every analysis reads."""

from .axis import Axis
from .epoch import Epoch
from .regions import Dirtied, Memory, Region, mapped
from .rows import Rows, Store
from .summary import Summary
from .timeline import Timeline
from .union import Union

__all__ = [
    "Axis",
    "Dirtied",
    "Epoch",
    "Memory",
    "Region",
    "Rows",
    "Store",
    "Summary",
    "Timeline",
    "Union",
    "mapped",
]
