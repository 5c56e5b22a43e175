"""The reference of the Python API, from its names and docstrings."""

from __future__ import annotations

import inspect

import microseg

_INTRODUCTION = """# Python

`import microseg` loads no framework. Each name below loads what it needs when it is used first. The half that measures
needs no torch.
"""


def api_reference() -> str:
    """The page of the public names of `microseg`, for Sphinx's autodoc."""
    parts = [_INTRODUCTION]
    for name in sorted(microseg.__all__, key=_place):
        kind, options = ("autoclass", ":members:") if inspect.isclass(getattr(microseg, name)) else ("autofunction", "")
        directive = f"{kind}:: microseg.{name}\n   {options}"
        parts.append(f"## {name}\n\n```{{eval-rst}}\n.. {directive}\n```\n")
    return "\n".join(parts)


def _place(name: str) -> tuple[int, str]:
    """Functions come first, then what they return, then errors."""
    value = getattr(microseg, name)
    return (inspect.isclass(value) + (inspect.isclass(value) and issubclass(value, Exception)), name)
