"""Files of an earlier and of a newer version, and what is said of damaged ones."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Annotated, Any, ClassVar, Literal

import pytest
from pydantic import Field, TypeAdapter, ValidationError

from microseg.core.content_problems import problems, told
from microseg.core.errors import InputError
from microseg.core.schemas.bag import PhaseInfo
from microseg.core.schemas.frozen_model import FrozenModel
from microseg.core.schemas.manifest import Manifest
from microseg.core.schemas.reference import Reference
from microseg.core.schemas.run import PretrainSummary, RunRecord, RunSummary
from microseg.core.schemas.versioned import VersionedModel


class Small(VersionedModel):
    schema_name: ClassVar[str] = "small"
    schema_version: ClassVar[tuple[int, int]] = (2, 1)
    version_key: ClassVar[str] = "small_version"

    small_version: int = 2
    threads: int = Field(ge=1, description="Threads.")
    phases: list[PhaseInfo] = Field(default_factory=list, description="Phases.")


def read(content: object) -> Small:
    return Small.checked(content, "a.json", "the file", "copy it again")


def test_a_file_without_its_version_is_the_first() -> None:
    assert read({"threads": 3}).threads == 3
    assert Small.parsed('{"threads": 3, "small_version": 1}', "a.json", "the file", "copy it").threads == 3


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ({"small_version": 3, "threads": 0}, r"a\.json: the file has version 3; this microseg reads up to version 2\."),
        (
            {"threads": 1, "cores": 2},
            r"the file comes from a newer microseg \(unknown key 'cores'; allowed here: phases,",
        ),
        ({"threads": 1, "phases": [{"name": "a", "color": "#000000", "hatch": 1}]}, "unknown key 'phases.0.hatch'"),
        ({"threads": 0, "cores": 2}, r"is damaged \(threads = 0: .*; unknown key .*\)\. Remedy: copy it again\."),
        ({}, "threads is missing"),
        ({"threads": 1, "phases": [{}]}, "phases.0.name is missing; phases.0.color is missing"),
        ([], "is damaged"),
        (None, "is damaged"),
    ],
)
def test_what_is_refused(content: Any, message: str) -> None:
    with pytest.raises(InputError, match=message):
        read(content)


def test_files_that_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "a.json"
    with pytest.raises(InputError, match=r"a\.json: cannot be read"):
        Small.read_json(path, "the file", "copy it again")
    for damage in (b"{", b"\xff\xfe{}", b"[]"):
        path.write_bytes(damage)
        with pytest.raises(InputError, match=r"the file is damaged .*Remedy: copy it again\."):
            Small.read_json(path, "the file", "copy it again")


class Plain(FrozenModel):
    kind: Literal["plain"] = "plain"
    size: int = 1


class Coloured(FrozenModel):
    kind: Literal["coloured"] = "coloured"
    shade: float | str | None = None


class Whole(FrozenModel):
    part: Annotated[Plain | Coloured, Field(discriminator="kind")] = Plain()
    names: str | dict[str, list[str]] | None = None


@pytest.mark.parametrize(
    ("content", "key", "text"),
    [
        ({"part": {"kind": "plain", "size": "x"}}, "part.size", "part.size = 'x': "),
        ({"part": {"kind": "coloured", "size": 1}}, "part.size", "unknown key 'part.size'; allowed here: kind, shade"),
        ({"part": {"kind": "round"}}, "part.kind", "part.kind = 'round': allowed are 'plain', 'coloured'"),
        ({"part": {"size": 1}}, "part.kind", "part.kind is missing"),
        ({"names": 3}, "names", "names = 3: "),
        ({"names": {"a": [1]}}, "names.a.0", "names.a.0 = 1: "),
        ({"sort": 3}, "sort", "unknown key 'sort'; allowed here: names, part"),
    ],
)
def test_keys_are_named_as_the_user_writes_them(content: Any, key: str, text: str) -> None:
    with pytest.raises(ValidationError) as error:
        Whole.model_validate(content)
    found = [problem for problem in problems(error.value, content, Whole) if problem.key == key]
    assert found and any(problem.text.startswith(text) for problem in found)


def test_a_union_of_models_has_the_keys_of_the_one_that_is_meant() -> None:
    content = {"kind": "plain", "shade": 1}
    with pytest.raises(ValidationError) as error:
        TypeAdapter(Annotated[Plain | Coloured, Field(discriminator="kind")]).validate_python(content)
    assert told(problems(error.value, content, Plain, Coloured)) == "unknown key 'shade'; allowed here: kind, size"


def test_long_values_and_long_lists_of_problems_are_cut() -> None:
    content = {"threads": "x" * 500, "phases": [{}] * 9}
    with pytest.raises(ValidationError) as error:
        Small.model_validate(content)
    text = told(problems(error.value, content, Small))
    assert len(text) < 500 and text.endswith("and 14 more")


@pytest.mark.parametrize("model", [Manifest, Reference, RunRecord, RunSummary, PretrainSummary])
def test_published_schemas_describe_every_key(model: type[VersionedModel]) -> None:
    schema = model.published_schema()
    json.dumps(schema)
    assert schema["$id"].startswith(f"urn:microseg:{model.schema_name}:{model.schema_version[0]}.")
    for part in (schema, *schema.get("$defs", {}).values()):
        for key, value in part.get("properties", {}).items():
            assert "description" in value or "$ref" in value, f"{part['title']}.{key}"
