"""The README's examples run as they stand, and print what it says they print."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

README = Path(__file__).parents[2] / "README.md"
# A Python block, and the output block that may follow it.
EXAMPLE = re.compile(r"```python\n(.*?)```\n(?:\n```text\n(.*?)```\n)?", re.DOTALL)


def examples() -> list[tuple[str, str]]:
    return EXAMPLE.findall(README.read_text(encoding="utf-8")) if README.exists() else []


@pytest.mark.skipif(not README.exists(), reason="the README is not beside this copy of the tests")
def test_the_readme_has_examples():
    assert len(examples()) >= 1
    assert examples()[0][1], "the first example shows what it prints"


@pytest.mark.parametrize("code, output", examples())
def test_example(code, output, capsys):
    exec(compile(code, README.name, "exec"), {"__name__": "__main__"})
    assert capsys.readouterr().out == output
