"""What takes long runs only when it is asked for: `make faults-long`."""

from __future__ import annotations

import os

import pytest

LONG = os.environ.get("IOVABITMAP_TESTS") == "long"
only_long = pytest.mark.skipif(not LONG, reason="takes long: make faults-long runs it")
