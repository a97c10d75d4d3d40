"""What people said of mutants is still said of lines that are there: see docs/quality.md."""

from __future__ import annotations

import sys
from pathlib import Path

import pytest

ROOT = Path(__file__).resolve().parents[2]

pytestmark = pytest.mark.skipif(
    not (ROOT / "csrc").is_dir(), reason="there is no source beside the tests"
)


def test_what_was_reviewed_is_there(monkeypatch):
    monkeypatch.setattr(sys, "path", [str(ROOT / "tools"), *sys.path])
    from mutate import Reviewed, all_mutants

    reviewed = Reviewed.load(all_mutants())  # ends the program where something is not
    assert reviewed.equivalent and reviewed.speed_only
