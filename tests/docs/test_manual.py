"""The examples of the README and of the manual run as they stand, page by page, and print what the
pages say they print. Pages whose blocks are files are in test_pages.py.

A page's Python blocks are run one after another, as a reader pastes them. A text block that follows
one is what it prints.
"""

from __future__ import annotations

import re
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
OF_FILES = "hypothesis.md"
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]
EXAMPLE = re.compile(r"```python\n(.*?)```\n(?:\n```text\n(.*?)```\n)?", re.DOTALL)

EXAMPLES = {
    page.relative_to(ROOT).as_posix(): found
    for page in PAGES
    if page.exists()
    and page.name != OF_FILES
    and (found := EXAMPLE.findall(page.read_text(encoding="utf-8")))
}


@pytest.mark.skipif(not PAGES[0].exists(), reason="the manual is not beside this copy of the tests")
def test_the_pages_for_beginners_have_examples_with_output():
    for page in ("README.md", "docs/tutorial.md"):
        assert any(output for _, output in EXAMPLES[page])


@pytest.mark.parametrize("page", EXAMPLES)
def test_examples(page, capsys, tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("MPLBACKEND", "agg")
    namespace = {"__name__": "__main__"}
    for number, (code, output) in enumerate(EXAMPLES[page], 1):
        try:
            exec(compile(code, f"{page}, block {number}", "exec"), namespace)
        except ImportError as missing:
            if "pip install 'iovabitmap[" not in str(missing):
                raise
            pytest.skip(f"{page}, block {number}, and what follows: {missing}")
        assert capsys.readouterr().out == output
