"""The command `iovabitmap`. Each subcommand is a file in commands/; what they share is beside this.

Needs click and rich: pip install 'iovabitmap[cli]'.
"""

from __future__ import annotations

import sys
from importlib import import_module
from typing import TYPE_CHECKING, NoReturn

from .._base.optional import need

if TYPE_CHECKING:
    from collections.abc import Sequence


def main(arguments: Sequence[str] | None = None) -> NoReturn:
    """Runs the command with these arguments, by default those of the process, and exits: 0 when all
    went well, 1 where a command says so, 2 when it could not be done, 130 after Ctrl-C."""
    try:
        for library in ("click", "rich"):
            need(library)
    except ImportError as missing:
        print(f"iovabitmap: {missing}", file=sys.stderr)
        sys.exit(2)
    run = import_module("._app", __name__).run  # not before it is known that it can be imported
    sys.exit(run(arguments))
