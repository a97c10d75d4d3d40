"""The command `iovabitmap`. Each subcommand is a file in commands/; what they share is beside this.

Needs click and rich: pip install 'iovabitmap[cli]'.
"""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, NoReturn

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs the command with these arguments, by default those of the process, and exits: 0 when all
    went well, 1 where a command says so, 2 when it could not be done, 130 after Ctrl-C."""
    try:
        import click  # noqa: F401
        import rich  # noqa: F401
    except ImportError as missing:
        needs = f"the command needs {missing.name}: pip install 'iovabitmap[cli]'"
        print(f"iovabitmap: {needs}", file=sys.stderr)
        sys.exit(2)
    from ._app import run

    sys.exit(run(arguments))
