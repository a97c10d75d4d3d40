"""Epochs as values: what was dirty when, on which axis of addresses, in short. Knows no files."""

from .axis import Axis
from .epoch import Epoch
from .summary import Summary, summarize

__all__ = ["Axis", "Epoch", "Summary", "summarize"]
