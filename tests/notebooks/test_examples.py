"""The notebooks among the examples run from the first cell to the last, and each of them asserts
its own figures. Each has a kernel and a folder of its own; that they are stored without what they
printed is tested with the manual."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from iovabitmap.sources import ProcessTracker
from support.logs import needs
from support.notebooks import execute

needs("IPython", "hypothesis", "ipykernel", "matplotlib", "nbclient", "pandas", "pyarrow")

EXAMPLES = Path(__file__).parents[2] / "examples"

if not EXAMPLES.exists():
    pytest.skip("examples/ is not beside this copy of the tests", allow_module_level=True)

NOTEBOOKS = sorted(EXAMPLES.glob("*.ipynb"))
CAN = ProcessTracker.probe()
# What a notebook says it needs, by a word that only such a notebook has.
LACKING = {
    "%%dirty": "" if CAN else CAN.reason,
    "toy_device.c": "" if shutil.which("cc") else "there is no C compiler, cc",
}


def test_there_are_notebooks():
    assert NOTEBOOKS


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_runs_and_its_figures_hold(path, tmp_path, monkeypatch):
    import nbformat

    text = path.read_text(encoding="utf-8")
    for word, reason in LACKING.items():
        if word in text and reason:
            pytest.skip(reason)
    for source in EXAMPLES.glob("*.c"):
        shutil.copy(source, tmp_path)
    monkeypatch.setenv("IPYTHONDIR", str(tmp_path / "ipython"))  # nobody's start-up files
    monkeypatch.delenv("MPLBACKEND", raising=False)  # pictures go into the notebook
    notebook = nbformat.reads(text, as_version=4)
    nbformat.validate(notebook)
    execute(notebook, tmp_path)
    outputs = [each for cell in notebook.cells for each in cell.get("outputs", [])]
    assert any("image/png" in each.get("data", {}) for each in outputs)
    # A warning is no error, but nothing that an example should show.
    assert not [each.text for each in outputs if each.get("name") == "stderr"]
