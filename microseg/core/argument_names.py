"""Messages that name options of the command line, for callers from Python, whose functions have arguments."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from functools import wraps
from inspect import signature
from typing import ParamSpec, TypeVar

from microseg.core.errors import MicrosegError

P = ParamSpec("P")
R = TypeVar("R")

_OPTION = re.compile(r"--(?P<no>no-)?(?P<name>[a-z][a-z-]*)")


def argument_names(function: Callable[..., object], **others: str) -> dict[str, str]:
    """What each option of the command line is called in a function: `pixel-size-um` is `pixel_size_um`.

    Args:
        function: the function.
        others: arguments whose options have other names, by option.
    """
    names = {}
    for name, parameter in signature(function).parameters.items():
        names[name.replace("_", "-")] = f"{name}=True" if parameter.default is False else name
    return names | others


def in_arguments(text: str, names: Mapping[str, str]) -> str:
    """A message with arguments in place of options. Options that are not among `names` stay as they are."""

    def argument(found: re.Match[str]) -> str:
        name = names.get(found["name"])
        if name is None:
            return found[0]
        return f"{name.partition('=')[0]}=False" if found["no"] else name

    return _OPTION.sub(argument, text)


def naming_arguments(**others: str) -> Callable[[Callable[P, R]], Callable[P, R]]:
    """A decorator for functions of the Python API: errors name arguments in place of options.

    Args:
        others: as for `argument_names`.
    """

    def decorate(function: Callable[P, R]) -> Callable[P, R]:
        names = argument_names(function, **others)

        @wraps(function)
        def call(*arguments: P.args, **keywords: P.kwargs) -> R:
            try:
                return function(*arguments, **keywords)
            except MicrosegError as error:
                error.args = tuple(in_arguments(str(each), names) for each in error.args)
                raise

        return call

    return decorate
