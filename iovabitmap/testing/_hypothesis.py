"""Imported before what imports hypothesis: if that is missing, the error says what to install."""

from __future__ import annotations

from .._base.optional import need

need("hypothesis")
