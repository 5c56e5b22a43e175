"""Label files to Python values, bounded and without entities."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING, Any

from microseg.core.errors import InputError
from microseg.core.system.files import read_at_most

if TYPE_CHECKING:
    from xml.etree.ElementTree import Element

_MAX_BYTES = 256 << 20


def read_json(path: Path) -> Any:
    """The content of a JSON file in any Unicode encoding.

    Args:
        path: the file.

    Raises:
        InputError: it cannot be read, is larger than 256 MiB, or is no JSON.
    """
    try:
        return json.loads(_content(path))
    except (ValueError, RecursionError) as error:
        raise InputError(f"{path}: is no valid JSON ({error}). Remedy: export the labels again.") from error


def read_xml(path: Path) -> Element:
    """The root of an XML file.

    Args:
        path: the file.

    Raises:
        InputError: it cannot be read, is larger than 256 MiB, is no XML, or declares entities or a document type.
    """
    from defusedxml import DefusedXmlException, ElementTree

    try:
        return ElementTree.fromstring(_content(path), forbid_dtd=True)
    except DefusedXmlException as error:
        raise InputError(
            f"{path}: declares a document type or entities, which are not read. Remedy: export the labels again."
        ) from error
    except (ElementTree.ParseError, ValueError, LookupError) as error:
        raise InputError(f"{path}: is no valid XML ({error}). Remedy: export the labels again.") from error


def _content(path: Path) -> bytes:
    return read_at_most(path, _MAX_BYTES, "export masks, or labels in parts")
