"""The reference of files: JSON Schema and tables of keys, from the models that read and write them."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import TypeAdapter

from microseg.core.domains.domain_file import DomainFile
from microseg.core.labelling.suggestions import Suggestions
from microseg.core.schemas.automatic import AutomaticRecipe
from microseg.core.schemas.fingerprint import DatasetFingerprint
from microseg.core.schemas.manifest import Manifest
from microseg.core.schemas.reference import Reference
from microseg.core.schemas.run import PretrainSummary, RunRecord, RunSummary
from microseg.core.schemas.validation import Validation
from microseg.core.schemas.versioned import VersionedModel
from microseg.deploy.acceptance.verify_record import VerifyRecord
from microseg.deploy.archive.archive_file import Archive
from microseg.deploy.archive.lists.field_list import FieldListInfo
from microseg.deploy.audit.files import Audit, Draw
from microseg.deploy.report.records import StoredRecord
from microseg.deploy.report.settings_file import ReportSettings
from microseg.deploy.report.summary_file import ReportSummary
from microseg.deploy.tuning.profile_file import TuningProfile
from microseg.export.tensorrt.plan_profile import PlanProfile
from microseg.train.analysis.study import Study
from microseg.train.common.recipe import Recipe
from microseg.train.distillation.recipe import DistillRecipe
from microseg.train.pretraining.recipe import PretrainRecipe
from microseg.train.uda.recipe import UdaRecipe


class File(NamedTuple):
    """A file that a user writes or that microseg writes. model: What reads it."""

    name: str
    title: str
    model: Any
    about: str


FILES = (
    File("domain", "domain.yaml", DomainFile, "Describes a domain folder."),
    File("recipe", "Recipe of `train supervised`", Recipe, "A YAML file of `train/`."),
    File("recipe-pretrain", "Recipe of `train pretrain`", PretrainRecipe, "A YAML file of `train/`."),
    File("recipe-uda", "Recipe of `train uda`", UdaRecipe, "A YAML file of `train/`."),
    File("recipe-distill", "Recipe of `distill`", DistillRecipe, "A YAML file of `train/`."),
    File("study", "Study of `microseg study`", Study, "A YAML file of `train/studies/`."),
    File("plan-profile", "Plan profile of `export --profile`", PlanProfile, "A YAML file of `export/`."),
    File("run", "run.yaml of a run folder", RunRecord, "All that decides the weights of a run."),
    File(
        "run-summary",
        "summary.json of a run folder",
        RunSummary,
        "Scores of the folds, and of an adapted run its verdict.",
    ),
    File("fingerprint", "fingerprint.json of a run folder", DatasetFingerprint, "What the labelled domain is like."),
    File("automatic", "automatic.json of a run folder", AutomaticRecipe, "How `--recipe auto` came to its recipe."),
    File("pretrain-summary", "summary.json of a pre-training run", PretrainSummary, "Accuracy of the encoder."),
    File(
        "manifest",
        "Manifest of an engine",
        Manifest,
        "The metadata entry `microseg.manifest` of an ONNX file, or `ENGINE.plan.json` beside a plan.",
    ),
    File(
        "reference",
        "Reference tiles of an engine",
        Reference,
        "The metadata entry `microseg.reference`, for `microseg verify`.",
    ),
    File(
        "validation",
        "ENGINE.validation.json beside an engine",
        Validation,
        "What `microseg validate` found, and each of `validations` in a manifest.",
    ),
    File("report-settings", "settings.json of a report", ReportSettings, "All that decides the figures of a report."),
    File("field-record", "records/NAME.json of a report", StoredRecord, "One measured field."),
    File("report-summary", "summary.json of a report", ReportSummary, "The figures of a report."),
    File(
        "field-list",
        "Field list of `microseg list`",
        FieldListInfo,
        "The metadata entry `microseg.list` of the Parquet file.",
    ),
    File("archive", "archive.json beside the tables of a field list", Archive, "The list that the results belong to."),
    File("audit-draw", "audit/draw.json of a report", Draw, "The fields that `microseg audit draw` drew."),
    File("audit", "audit/audit.json of a report", Audit, "What was found on them."),
    File("suggest", "suggest.json of a folder to label", Suggestions, "What `microseg suggest` chose, and why."),
    File("verify-record", "Record of `verify --out`", VerifyRecord, "What an acceptance test found."),
    File(
        "tuning-profile",
        "Tuning profile of `tune`",
        TuningProfile,
        "A file of the user's configuration folder (`MICROSEG_CONFIG`).",
    ),
)


def write_schemas(page: Path, folder: Path) -> None:
    """Write one JSON Schema for each file, and the page with their tables of keys.

    Args:
        page: Markdown file to write.
        folder: Folder for the schemas, beside the pages' folder.

    Raises:
        SystemExit: A key of a file has no description.
    """
    folder.mkdir(parents=True, exist_ok=True)
    unexplained: list[str] = []
    parts = [
        "# Files\n",
        "Every file that microseg writes has a version and a JSON Schema. A key that a later version adds makes a minor "
        "version: files of earlier versions stay readable.\n",
    ]
    for file in FILES:
        schema = json_schema(file)
        path = folder / f"{file.name}.schema.json"
        path.write_text(json.dumps(schema, indent=2, ensure_ascii=False) + "\n", encoding="utf-8")
        parts.append(f"## {file.title}\n\n{file.about} JSON Schema: [`{path.name}`](../schemas/{path.name})\n")
        parts.append(_tables(schema))
        unexplained += [f"{file.title}: {key}" for key in _without_meaning(schema)]
    if unexplained:
        raise SystemExit("keys without Field(description=...):\n" + "\n".join(unexplained))
    page.write_text("\n".join(parts), encoding="utf-8")


def json_schema(file: File) -> dict[str, Any]:
    """The JSON Schema (draft 2020-12) of a file; its `$id` holds the version of what microseg writes."""
    title = {"title": file.title.replace("`", "")}
    if isinstance(file.model, type) and issubclass(file.model, VersionedModel):
        return file.model.published_schema() | title
    schema = TypeAdapter(file.model).json_schema()
    return {"$schema": "https://json-schema.org/draft/2020-12/schema"} | schema | title


def _tables(schema: dict[str, Any]) -> str:
    """A table of keys for the file itself and for each part of it."""
    definitions = schema.get("$defs", {})
    parts = [_table(schema, definitions)] if "properties" in schema else [f"One of: {_type(schema)}\n"]
    for name, part in definitions.items():
        if "properties" in part:
            parts.append(f"### {name.strip('_')}\n\n{_table(part, definitions)}")
    return "\n".join(parts)


def _table(part: dict[str, Any], definitions: dict[str, Any]) -> str:
    rows = ["| key | type | default | meaning |", "| --- | --- | --- | --- |"]
    required = part.get("required", ())
    for key, value in part["properties"].items():
        default = "required" if key in required else f"`{json.dumps(value['default'])}`" if "default" in value else ""
        cells = (f"`{key}`", _type(value), default, _meaning(value, definitions))
        rows.append(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in cells)} |")
    return "\n".join(rows) + "\n"


def _without_meaning(schema: dict[str, Any]) -> list[str]:
    """Keys that no text describes. A constant, such as a version or a kind, describes itself."""
    definitions = schema.get("$defs", {})
    return [
        f"{name}.{key}"
        for name, part in {"file": schema, **definitions}.items()
        for key, value in part.get("properties", {}).items()
        if not _meaning(value, definitions) and "const" not in value
    ]


def _meaning(value: dict[str, Any], definitions: dict[str, Any]) -> str:
    """What a key means; of a part without words of its own the first line of the part's."""
    if "description" in value:
        return " ".join(value["description"].split())
    part = definitions.get(str(value.get("$ref", "")).rpartition("/")[2], {})
    return str(part.get("description", "")).partition("\n")[0]


def _type(value: dict[str, Any]) -> str:
    """The type of a value in words."""
    if "$ref" in value:
        return str(value["$ref"]).rpartition("/")[2].strip("_")
    if "const" in value:
        return f"`{json.dumps(value['const'])}`"
    if "enum" in value:
        return ", ".join(f"`{json.dumps(item)}`" for item in value["enum"])
    for key in ("anyOf", "oneOf"):
        if key in value:
            return " or ".join(dict.fromkeys(_type(item) for item in value[key]))
    if value.get("type") == "array":
        if "prefixItems" in value:
            return f"list of {', '.join(_type(item) for item in value['prefixItems'])}"
        return f"list of {_type(value.get('items', {}))}"
    if value.get("type") == "object":
        of = value.get("additionalProperties")
        return f"mapping to {_type(of)}" if isinstance(of, dict) else "mapping"
    return f"{value.get('type', 'any')}{_limits(value)}"


def _limits(value: dict[str, Any]) -> str:
    signs = {"minimum": "≥", "exclusiveMinimum": ">", "maximum": "≤", "exclusiveMaximum": "<"}
    limits = [f"{sign} {value[key]:g}" for key, sign in signs.items() if key in value]
    return f" {', '.join(limits)}" if limits else ""
