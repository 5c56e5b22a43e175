"""What pydantic finds wrong with a file, in words: the key as the user writes it, the value, and what is allowed."""

from __future__ import annotations

import reprlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any, get_args

from pydantic import BaseModel, ValidationError

_MOST = 5
_SHORT = reprlib.Repr()
_SHORT.maxstring = _SHORT.maxother = 60
_SHORT.maxlevel = 2


@dataclass(frozen=True)
class Problem:
    """One thing that is wrong with a file.

    Attributes:
        key: the key with its parents, as in `--set`: `optimiser.learning_rate`; empty for the file as a whole.
        text: the sentence that names the key, the value and what is allowed.
        is_unknown: whether the key is one that the schema does not have.
    """

    key: str
    text: str
    is_unknown: bool = False


def problems(error: ValidationError, content: object, *models: type[BaseModel]) -> list[Problem]:
    """Everything that is wrong with a file's content.

    Args:
        error: what pydantic raises.
        content: what was validated: nested dictionaries and lists, as YAML or JSON gives them.
        models: the schema; more than one where the file is a union of models.
    """
    return [_problem(item, content, models) for item in error.errors(include_url=False)]


def told(found: Sequence[Problem]) -> str:
    """The problems in one line, the first five of them."""
    texts = [problem.text for problem in found[:_MOST]]
    more = [f"and {len(found) - _MOST} more"] if len(found) > _MOST else []
    return "; ".join([*texts, *more])


def _problem(item: Any, content: object, models: Sequence[type[BaseModel]]) -> Problem:
    key = ".".join(_keys(item["loc"], content, is_missing=item["type"] == "missing"))
    given = _SHORT.repr(item["input"])
    match item["type"]:
        case "extra_forbidden":
            allowed = sorted({name for model in _holders(item["loc"], models) for name in model.model_fields})
            return Problem(key, f"unknown key {key!r}; allowed here: {', '.join(allowed)}", is_unknown=True)
        case "missing":
            return Problem(key, f"{key} is missing")
        case "union_tag_not_found":
            where = ".".join([*([key] if key else []), item["ctx"]["discriminator"].strip("'")])
            return Problem(where, f"{where} is missing")
        case "union_tag_invalid":
            where = ".".join([*([key] if key else []), item["ctx"]["discriminator"].strip("'")])
            return Problem(where, f"{where} = {item['ctx']['tag']!r}: allowed are {item['ctx']['expected_tags']}")
        case "model_type" | "model_attributes_type" | "dict_type" if not key:
            return Problem("", "holds no `key: value` pairs")
    message = item["msg"].removeprefix("Value error, ")
    if item["type"] == "string_type" and isinstance(item["input"], int | float | date):
        message += ", in quotes: YAML takes it for a number or a truth value"
        if isinstance(item["input"], bool):
            message += ' (no, yes, on, off). Remedy: write it as "no"'
        elif isinstance(item["input"], date):
            message = message.replace("a number or a truth value", "a date")
    return Problem(key, f"{key} = {given}: {message}" if key else message)


def _keys(location: Sequence[str | int], content: object, is_missing: bool) -> Iterator[str]:
    """The parts of pydantic's location that are keys of the content; the others name the member of a union."""
    for index, part in enumerate(location):
        is_item = isinstance(content, list | tuple) and isinstance(part, int) and part < len(content)
        if is_item or (isinstance(content, dict) and part in content):
            content = content[part]  # type: ignore[index]
        elif not (is_missing and index == len(location) - 1):
            continue
        yield str(part)


def _holders(location: Sequence[str | int], models: Sequence[type[BaseModel]]) -> Sequence[type[BaseModel]]:
    """The models that the last key of a location may belong to."""
    for part in location[:-1]:
        tagged = [model for model in models if part in _tags(model)]
        fields = [model.model_fields[str(part)].annotation for model in models if part in model.model_fields]
        if tagged:
            models = tagged
        elif fields:
            models = [model for annotation in fields for model in _models(annotation)]
    return models


def _tags(model: type[BaseModel]) -> set[object]:
    """What a union may tell a model by: its name, or the one value of a key."""
    values = [get_args(field.annotation) for field in model.model_fields.values()]
    return {model.__name__, *(found[0] for found in values if len(found) == 1 and isinstance(found[0], str))}


def _models(annotation: Any) -> Iterator[type[BaseModel]]:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        yield annotation
    for inner in get_args(annotation):
        yield from _models(inner)
