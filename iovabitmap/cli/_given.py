"""Options that would do nothing beside others are errors, which say when they apply."""

from __future__ import annotations

import click
from click.core import ParameterSource

DEFAULTS = (ParameterSource.DEFAULT, ParameterSource.DEFAULT_MAP)


def refuse(applies: str, *names: str) -> None:
    """UsageError for the first of these parameters of the command that was given: its option, and
    when it applies."""
    context = click.get_current_context()
    for parameter in context.command.params:
        if parameter.name in names and context.get_parameter_source(parameter.name) not in DEFAULTS:
            raise click.UsageError(f"{max(parameter.opts, key=len)} {applies}")
