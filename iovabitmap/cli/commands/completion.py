"""iovabitmap completion SHELL: what a shell needs to complete the command's words."""

from __future__ import annotations

import click
from click.shell_completion import get_completion_class

from .._output import json_option, print_json

SHELLS = ("bash", "fish", "zsh")
VARIABLE = "_IOVABITMAP_COMPLETE"


@click.command(short_help="Completion of commands and options in a shell.")
@click.argument("shell", type=click.Choice(SHELLS))
@json_option
@click.pass_context
def command(ctx: click.Context, shell: str, as_json: bool) -> None:
    """Prints the script that makes SHELL complete the commands and options of iovabitmap.

    \b
    bash, zsh:  eval "$(iovabitmap completion bash)"
    fish:       iovabitmap completion fish | source
    """
    kind = get_completion_class(shell)
    assert kind is not None  # all of SHELLS are click's own
    script = kind(ctx.find_root().command, {}, "iovabitmap", VARIABLE).source()
    if as_json:
        print_json({"shell": shell, "script": script})
    else:
        click.echo(script)
