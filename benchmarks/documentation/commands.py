"""The reference of commands, from the signatures that the command line is made of."""

from __future__ import annotations

import inspect
import types
from collections.abc import Callable, Iterator
from enum import Enum
from pathlib import Path
from typing import Annotated, Any, NamedTuple, Union, get_args, get_origin, get_type_hints

import typer
from typer.models import ArgumentInfo, OptionInfo, ParameterInfo

from microseg.cli.main import COMMANDS, command_line

_INTRODUCTION = """# Commands

`microseg COMMAND --help` prints the same. Options mean the same in every command.
"""
_VALUES = {Path: "PATH", int: "INTEGER", float: "NUMBER", str: "TEXT"}


class Parameter(NamedTuple):
    """An argument or option of a command.

    names: As they are typed; of an argument its metavariable. value: What follows an option, empty for a switch.
    default: Where nothing is given; None if there is no value then.
    """

    names: tuple[str, ...]
    is_option: bool
    value: str
    is_required: bool
    default: Any
    help: str


def commands() -> Iterator[tuple[str, Callable[..., Any]]]:
    """(name such as `train uda`, function) of every command, in the order of the help."""
    yield from sorted(_below(command_line(), ""), key=lambda command: list(COMMANDS).index(command[0].split()[0]))


def _below(app: typer.Typer, prefix: str) -> Iterator[tuple[str, Callable[..., Any]]]:
    for command in app.registered_commands:
        assert command.callback is not None
        yield f"{prefix}{command.name or command.callback.__name__.replace('_', '-')}", command.callback
    for group in app.registered_groups:
        assert group.typer_instance is not None
        yield from _below(group.typer_instance, f"{prefix}{group.name} ")


def parameters(command: Callable[..., Any]) -> list[Parameter]:
    """The arguments and options of a command's function."""
    hints = get_type_hints(command, include_extras=True)
    found = []
    for name, parameter in inspect.signature(command).parameters.items():
        if get_origin(hints[name]) is not Annotated:
            continue
        kind, *notes = get_args(hints[name])
        info = next((note for note in notes if isinstance(note, ParameterInfo)), None)
        if info is not None and not info.hidden:
            found.append(_parameter(name, kind, info, parameter.default))
    return sorted(found, key=lambda parameter: parameter.is_option)


def _parameter(name: str, kind: Any, info: ParameterInfo, default: Any) -> Parameter:
    help_text = " ".join(str(info.help or "").split())
    is_required = default is inspect.Parameter.empty
    if isinstance(info, ArgumentInfo):
        metavar = info.metavar or name.upper()
        return Parameter((metavar,), False, "", is_required, default, help_text)
    assert isinstance(info, OptionInfo)
    kind = _without_none(kind)
    dashed = name.replace("_", "-")
    # Within `Annotated` typer's first positional argument is a name, not a default.
    stated = tuple(text for text in (info.default, *(info.param_decls or ())) if str(text).startswith("-"))
    stated = stated or ((f"--{dashed}/--no-{dashed}",) if kind is bool else (f"--{dashed}",))
    names = tuple(part for text in stated for part in str(text).split("/") if part.startswith("-"))
    value = "" if kind is bool else str(info.metavar or _value(kind))
    return Parameter(names, True, value, is_required, default, help_text)


def _without_none(kind: Any) -> Any:
    if get_origin(kind) in (Union, types.UnionType):
        return next(member for member in get_args(kind) if member is not type(None))
    return kind


def _value(kind: Any) -> str:
    if get_origin(kind) is tuple:
        return " ".join(_value(member) for member in get_args(kind))
    if get_origin(kind) is list:
        return f"{_value(get_args(kind)[0])} ..."
    if isinstance(kind, type) and issubclass(kind, Enum):
        return "|".join(str(member.value) for member in kind)
    return _VALUES.get(kind, "TEXT")


def command_reference() -> str:
    """The Markdown page of all commands, in the order of the help's panels."""
    parts = [_INTRODUCTION]
    panel = None
    for name, command in commands():
        if COMMANDS[name.split()[0]] != panel:
            panel = COMMANDS[name.split()[0]]
            parts.append(f"## {panel}\n")
        parts.append(_section(name, command))
    return "\n".join(parts)


def _section(name: str, command: Callable[..., Any]) -> str:
    shown = parameters(command)
    arguments = [item.names[0] for item in shown if not item.is_option]
    usage = " ".join(["microseg", name, *arguments, "[OPTIONS]"])
    rows = [_row(item) for item in shown]
    table = ["| argument or option | value | meaning |", "| --- | --- | --- |", *rows]
    return "\n".join([f"### {name}\n", f"```text\n{usage}\n```\n", inspect.getdoc(command) or "", "", *table, ""])


def _row(item: Parameter) -> str:
    meaning = item.help
    if item.is_option and item.is_required:
        meaning += " Required."
    elif item.value and item.default not in (None, (), []) and "Default" not in meaning:
        meaning += f" Default: {getattr(item.default, 'value', item.default)}."
    cells = (", ".join(f"`{name}`" for name in item.names), f"`{item.value}`" if item.value else "", meaning)
    return f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |"
