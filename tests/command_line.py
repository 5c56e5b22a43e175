"""Commands written down in files, held against the real command line; nothing of them runs."""

from __future__ import annotations

from collections.abc import Sequence
from functools import cache
from typing import Any

from typer.main import get_command

from microseg.cli.main import command_line


@cache
def _command() -> Any:
    return get_command(command_line())


def parsed(arguments: Sequence[str]) -> tuple[str, dict[str, Any]]:
    """(command, values of its parameters) of what follows `microseg`. Raises where there is no such command or option."""
    command = _command()
    context = command.make_context("microseg", list(arguments))
    while hasattr(command, "resolve_command"):
        name, command, rest = command.resolve_command(context, [*context._protected_args, *context.args])
        context = command.make_context(name, rest, parent=context)
    return context.command_path.removeprefix("microseg "), context.params
