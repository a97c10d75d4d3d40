"""Timelines: the dirty pages of many epochs as one value, which every analysis reads."""

from .axis import Axis
from .epoch import Epoch
from .rows import Rows, Store
from .summary import Summary
from .timeline import Memory, Region, Timeline

__all__ = ["Axis", "Epoch", "Memory", "Region", "Rows", "Store", "Summary", "Timeline"]
