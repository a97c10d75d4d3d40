"""Runs a notebook in a kernel of this interpreter. Needs nbclient and ipykernel.

Kernels are other processes, which import what is installed for this interpreter.
"""

from __future__ import annotations

import sys
from pathlib import Path
from typing import Any

TIMEOUT_S = 300  # only against a cell that hangs


def execute(notebook: Any, folder: Path) -> None:
    """Runs all cells, in `folder`; outputs are in the notebook's cells then. What a cell raises is
    an `nbclient.exceptions.CellExecutionError`, with the cell and its traceback."""
    from nbclient import NotebookClient

    client = NotebookClient(
        notebook,
        timeout=TIMEOUT_S,
        kernel_name="python3",
        resources={"metadata": {"path": str(folder)}},
    )
    client.create_kernel_manager().kernel_spec.argv[0] = sys.executable
    client.execute()
