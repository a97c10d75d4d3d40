"""The blocks of the manual's pages do what the pages say.

On the pages listed here each block of Python that starts with the name of a file, as in
`# test_ring.py`, is written to that file, and each that does not runs in the names of those before
it. A block `console` holds commands, `$ command`, that run in a shell in the folder of the files; a
block of text behind it is what it prints, where `...` stands for anything. A block in
another language is written to the file that its first line names.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

DOCS = Path(__file__).parents[2] / "docs"
PAGES = ["hypothesis.md"]
# What a page shows is what hypothesis finds with this seed: with others it may show other steps.
SEED = {"PYTEST_ADDOPTS": "--hypothesis-seed=1"}
BLOCK = re.compile(r"^```(\w+)\n(.*?)^```$", re.DOTALL | re.MULTILINE)
FILE = re.compile(r"(?:#|//) (\S+\.\w+)$")


def assert_prints(printed: str, shown: str) -> None:
    """That a text is as shown; `...` is anything, and on a line of its own any lines."""
    lines = [re.escape(line.rstrip()) for line in shown.strip().splitlines()]
    parts = [r"(?:.*\n)*?.*" if line == r"\.\.\." else line for line in lines]
    pattern = r"\n".join(part.replace(r"\.\.\.", ".*") for part in parts)
    text = "\n".join(line.rstrip() for line in printed.strip().splitlines())
    if not re.fullmatch(pattern, text):
        pytest.fail(f"the page shows\n{shown}\nand this is printed\n{printed}", pytrace=False)


def run_commands(code: str, folder: Path) -> str:
    """What the commands of a block print; one may fail, as a failing test does."""
    path = os.pathsep.join([str(Path(sys.executable).parent), os.environ.get("PATH", "")])
    packages = os.pathsep.join(filter(None, sys.path))
    printed = []
    for command in re.findall(r"^\$ (.*)$", code, re.MULTILINE):
        done = subprocess.run(
            command,
            shell=True,
            cwd=folder,
            env=os.environ | {"PATH": path, "PYTHONPATH": packages, "COLUMNS": "100"} | SEED,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
            check=False,
        )
        printed.append(done.stdout)
    return "".join(printed)


@pytest.mark.parametrize("page", PAGES)
def test_page(page, tmp_path):
    path = DOCS / page
    if not path.exists():
        pytest.skip("the manual is not there: an installed package")
    text = path.read_text(encoding="utf-8")
    if "$ cc " in text and not shutil.which("cc"):
        pytest.skip("the page compiles C, and there is no cc")
    (tmp_path / "pytest.ini").write_text("[pytest]\n", encoding="utf-8")
    names: dict[str, object] = {"__name__": page}
    printed = ""
    blocks = BLOCK.findall(text)
    assert blocks, "a page without blocks is not tested by this"
    for language, code in blocks:
        file = FILE.match(code.splitlines()[0])
        if language == "console":
            printed = run_commands(code, tmp_path)
        elif language == "text":
            assert_prints(printed, code)
        elif file:
            (tmp_path / file[1]).write_text(code, encoding="utf-8")
        elif language == "python":
            exec(compile(code, page, "exec"), names)
        else:
            pytest.fail(f"nobody tests this block of {language}:\n{code}")
