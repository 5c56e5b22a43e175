"""Templates of pages: they extend `base.html.j2`, and nothing that they show can become a tag or a script."""

from __future__ import annotations

import base64
import hashlib
import json
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from types import MappingProxyType
from typing import Any

from jinja2 import Environment, FileSystemLoader, StrictUndefined, Template
from markupsafe import Markup

from microseg.core.plain_text import plain, plain_name

_HOME = Path(__file__).parent
_SHARED = ("base.html.j2", "style.css")


def page_template(
    path: Path, filters: Mapping[str, Callable[..., object]] = MappingProxyType({}), parts: Sequence[str] = ()
) -> Template:
    """A template of a page, compiled with all that it extends and includes.

    Every text is escaped, and its control characters and marks of direction become visible. The filter `name` does so with
    line ends, too.

    Args:
        path: the template, which extends `base.html.j2`. It may include files beside it.
        filters: filters of its own, by name.
        parts: the files beside it that it includes or imports.
    """
    environment = Environment(
        loader=FileSystemLoader([path.parent, _HOME]),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
        finalize=_finalize,
        auto_reload=False,
        # Folding constants takes a third of the time to compile, and a page is rendered once.
        optimized=False,
    )
    environment.filters |= {"name": plain_name, **filters}
    for name in (*_SHARED, *parts):
        environment.get_template(name)
    return environment.get_template(path.name)


def inline_json(value: Any) -> Markup:
    """JSON that may stand inside of a `<script>`: no text in it ends the element or begins a comment.

    Args:
        value: what `json` accepts, without NaN and infinity.
    """
    text = json.dumps(value, ensure_ascii=True, allow_nan=False, separators=(",", ":"))
    for character in "<>&":
        text = text.replace(character, f"\\u{ord(character):04x}")
    return Markup(text)


def script_source(script: str) -> str:
    """The source of a content security policy that allows exactly this inline script (CSP level 3, 2.3.1).

    Args:
        script: all that stands between the tags.
    """
    return f"'sha256-{base64.b64encode(hashlib.sha256(script.encode()).digest()).decode('ascii')}'"


def _finalize(value: object) -> object:
    """Every text of a page that is not markup of ours."""
    return plain(value) if isinstance(value, str) and not isinstance(value, Markup) else value
