"""Schemas with a version: every file that microseg writes has one."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar, Self

from pydantic import ValidationError

from microseg.core.content_problems import problems, told
from microseg.core.errors import InputError
from microseg.core.schemas.frozen_model import FrozenModel
from microseg.core.system.files import unreadable
from microseg.core.system.yaml_file import read_yaml

UPGRADE = "pip install --upgrade microseg"


class VersionedModel(FrozenModel):
    """The schema of a file that microseg writes.

    A new key is a minor version: files without it stay readable, and an earlier microseg refuses the file as newer. A
    change of meaning is a major version, which the file states under `version_key`. A file without that key is of
    version 1.

    Attributes:
        schema_name: the name of the published JSON Schema.
        schema_version: major and minor number.
        version_key: the key of the file that holds the major number.
    """

    schema_name: ClassVar[str]
    schema_version: ClassVar[tuple[int, int]]
    version_key: ClassVar[str]

    @classmethod
    def published_schema(cls) -> dict[str, Any]:
        """The JSON Schema (draft 2020-12) with its version in `$id`."""
        major, minor = cls.schema_version
        schema = cls.model_json_schema()
        return {
            "$schema": "https://json-schema.org/draft/2020-12/schema",
            "$id": f"urn:microseg:{cls.schema_name}:{major}.{minor}",
        } | schema

    @classmethod
    def checked(cls, content: object, source: Path | str, what: str, remedy: str) -> Self:
        """The content of a file as this model.

        Args:
            content: nested dictionaries and lists, as YAML or JSON gives them.
            source: the file, for messages.
            what: the part of the file, for messages: "its manifest".
            remedy: what to do where the file is damaged: "copy the engine again".

        Raises:
            InputError: a newer microseg wrote the file, or the file is damaged.
        """
        major = cls.schema_version[0]
        version = content.get(cls.version_key, 1) if isinstance(content, dict) else None
        if isinstance(version, int) and version > major:
            raise InputError(
                f"{source}: {what} has version {version}; this microseg reads up to version {major}. Remedy: {UPGRADE}."
            )
        try:
            return cls.model_validate(content)
        except ValidationError as error:
            found = problems(error, content, cls)
            if all(problem.is_unknown for problem in found):
                raise InputError(
                    f"{source}: {what} comes from a newer microseg ({told(found)}). Remedy: {UPGRADE}."
                ) from error
            raise InputError(f"{source}: {what} is damaged ({told(found)}). Remedy: {remedy}.") from error

    @classmethod
    def read_json(cls, path: Path, what: str, remedy: str) -> Self:
        """The model in a JSON file. Arguments and errors as for `checked`; InputError also where it cannot be read."""
        try:
            data = path.read_bytes()
        except OSError as error:
            raise unreadable(path, error) from error
        return cls.parsed(data, path, what, remedy)

    @classmethod
    def parsed(cls, text: str | bytes, source: Path | str, what: str, remedy: str) -> Self:
        """The model in a JSON text. Arguments and errors as for `checked`."""
        try:
            content = json.loads(text)
        except ValueError as error:
            raise InputError(f"{source}: {what} is damaged ({error}). Remedy: {remedy}.") from error
        return cls.checked(content, source, what, remedy)

    @classmethod
    def read_yaml(cls, path: Path, what: str, remedy: str) -> Self:
        """The model in a YAML file. Arguments and errors as for `checked`; InputError also where it cannot be read."""
        return cls.checked(read_yaml(path), path, what, remedy)
