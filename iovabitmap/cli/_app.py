"""The group of subcommands, and what becomes of each error."""

from __future__ import annotations

from importlib import import_module
from pkgutil import iter_modules
from typing import TYPE_CHECKING

import click

from . import commands
from ._output import warn

if TYPE_CHECKING:
    from collections.abc import Sequence

FAILED, INTERRUPTED = 2, 130


class Commands(click.Group):
    """Every file in commands/ is a subcommand, its attribute `command`, loaded when it is used."""

    def list_commands(self, ctx: click.Context) -> list[str]:  # noqa: ARG002
        return sorted(m.name for m in iter_modules(commands.__path__) if m.name[0] != "_")

    def get_command(self, ctx: click.Context, cmd_name: str) -> click.Command | None:
        if cmd_name not in self.list_commands(ctx):
            return None
        found: click.Command = import_module(f".commands.{cmd_name}", __package__).command
        return found


@click.command(cls=Commands, context_settings={"help_option_names": ["-h", "--help"]})
@click.version_option(package_name="iovabitmap")
def app() -> None:
    """Dirty pages: record them, look at them, compare and convert them."""


def run(arguments: Sequence[str] | None) -> int:
    """Runs a command; returns the exit status. Messages go to standard error. Where nobody reads
    the output any more, click and rich exit with 1 themselves."""
    try:
        result = app.main(arguments, prog_name="iovabitmap", standalone_mode=False)
    except click.exceptions.Exit as error:
        return error.exit_code
    except click.ClickException as error:
        error.show()
        return FAILED
    except (click.Abort, KeyboardInterrupt):
        warn("interrupted")
        return INTERRUPTED
    except (OSError, ValueError, ImportError, NotImplementedError, MemoryError) as error:
        warn(str(error) or type(error).__name__)
        return FAILED
    return result if isinstance(result, int) else 0
