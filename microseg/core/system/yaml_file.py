"""YAML files that people write: any Unicode encoding, no key twice, and no more of them than memory holds."""

from __future__ import annotations

import codecs
import functools
import re
from collections.abc import Hashable
from pathlib import Path
from typing import Any

from microseg.core.errors import InputError
from microseg.core.system.files import read_at_most

_MAX_BYTES = 4 << 20
# Values with every alias written out: a few hundred bytes can stand for billions.
_MAX_VALUES = 1_000_000
_MARKS = {
    codecs.BOM_UTF8: "utf-8-sig",
    codecs.BOM_UTF32_LE: "utf-32",  # before that of UTF-16, which it begins with
    codecs.BOM_UTF32_BE: "utf-32",
    codecs.BOM_UTF16_LE: "utf-16",
    codecs.BOM_UTF16_BE: "utf-16",
}
_COLOUR_AS_COMMENT = re.compile(r"[:,\[]\s+#[0-9a-fA-F]{6}\b")


def read_yaml(path: Path) -> Any:
    """The content of a YAML file.

    Args:
        path: the file, in UTF-8, UTF-16 or UTF-32.

    Raises:
        InputError: as `read_text` and `parse_yaml`.
    """
    return parse_yaml(read_text(path), path)


def read_text(path: Path) -> str:
    """The text of a small file that a person writes.

    Args:
        path: the file, in UTF-8, UTF-16 or UTF-32, with or without byte order mark.

    Raises:
        InputError: it cannot be read, is too large, or is written in a code page, which no file states.
    """
    data = read_at_most(path, _MAX_BYTES, "check that it is the file you mean")
    encoding = next((name for mark, name in _MARKS.items() if data.startswith(mark)), None) or _without_mark(data)
    try:
        return data.decode(encoding)
    except UnicodeDecodeError as error:
        if encoding != "utf-8":
            raise InputError(
                f"{path}: is no valid {encoding.upper()} ({error.reason} at byte {error.start}). Remedy: save it as UTF-8."
            ) from error
        line = data.count(b"\n", 0, error.start) + 1
        raise InputError(
            f"{path}: is not UTF-8: byte 0x{data[error.start]:02X} in line {line} belongs to a code page, and which one is "
            "unknown. Remedy: save it as UTF-8 (Notepad: Save as, Encoding)."
        ) from error


def _without_mark(data: bytes) -> str:
    """UTF-16 without a mark has a zero byte beside its first letter: YAML begins with ASCII."""
    zeros = [byte == 0 for byte in data[:2]]
    return "utf-16-be" if zeros == [True, False] else "utf-16-le" if zeros == [False, True] else "utf-8"


def parse_yaml(text: str, path: Path) -> Any:
    """The content of a YAML text.

    Args:
        text: the text.
        path: its file, for messages.

    Raises:
        InputError: it is no YAML, has a key twice, refers to itself or stands for more values than a file of settings has. The
            message names the line.
    """
    import yaml  # imported here: `segment` starts sooner without it

    try:
        loader = _loader()(text)
        try:
            node = loader.get_single_node()
            if node is None:
                return None
            _refuse_too_many(node, path)
            return loader.construct_document(node)
        finally:
            loader.dispose()
    except RecursionError as error:
        raise InputError(f"{path}: is nested too deeply. Remedy: check that it is the file you mean.") from error
    except (yaml.YAMLError, ValueError) as error:  # ValueError: a date that does not exist
        hint = ""
        if _COLOUR_AS_COMMENT.search(text):
            hint = ' In YAML, # begins a comment: a colour is written in quotes, "#0000ff".'
        elif "'\\t'" in str(error):
            hint = " YAML is indented with spaces, not with tabs."
        raise InputError(f"{path}: is not valid YAML: {error}.{hint} Remedy: correct that line.") from error


@functools.cache
def _loader() -> Any:
    """A safe loader that refuses a key that is given twice: plain YAML keeps the last one without a word."""
    import yaml

    class Loader(yaml.SafeLoader):
        def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
            lines: dict[Any, int] = {}
            for key_node, _ in node.value if isinstance(node, yaml.MappingNode) else ():
                if not isinstance(key_node, yaml.ScalarNode) or key_node.tag == "tag:yaml.org,2002:merge":
                    continue
                key, line = self.construct_object(key_node), key_node.start_mark.line + 1
                if not isinstance(key, Hashable):  # refused below
                    continue
                if key in lines:
                    text = f"the key {key!r} is given twice, in lines {lines[key]} and {line}"
                    raise yaml.constructor.ConstructorError(None, None, text, None)
                lines[key] = line
            return super().construct_mapping(node, deep)

    return Loader


def _refuse_too_many(node: Any, path: Path) -> None:
    """Count the values with every alias written out. Raises InputError, and RecursionError for deep nesting."""
    sizes: dict[int, int] = {}

    def size(node: Any) -> int:
        known = sizes.get(id(node))
        if known is not None:
            if known == 0:
                line = node.start_mark.line + 1
                raise InputError(f"{path}: the value in line {line} contains itself (an alias). Remedy: write it out.")
            return known
        sizes[id(node)] = 0
        parts = node.value if isinstance(node.value, list) else []
        sizes[id(node)] = 1 + sum(
            size(part) for item in parts for part in (item if isinstance(item, tuple) else (item,))
        )
        return sizes[id(node)]

    if (found := size(node)) > _MAX_VALUES:
        raise InputError(
            f"{path}: its aliases stand for {found:.3g} values, and {_MAX_VALUES} are the most. Remedy: write them out."
        )
