"""`settings.json` of a report: everything that decides its figures."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, ClassVar

from pydantic import Field

from microseg.core.errors import InputError
from microseg.core.schemas.preparation import Preparation
from microseg.core.schemas.versioned import VersionedModel
from microseg.core.system.files import final_name, is_abandoned, is_temporary, make_folder, write_json, writing
from microseg.core.system.targets import resolved

REPORT_VERSION = 1
_SETTINGS = "settings.json"
WORKBOOK = "report.xlsx"
_FILES = (_SETTINGS, "fields.csv", "report.html", WORKBOOK, "summary.json")
_FOLDERS = ("masks", "overlays", "pictures", "thumbnails", "records")
_LATER = {"created", "runtime_version", "decimal_comma"}
# Where things lie decides no figure, and they may be moved between two runs.
_PLACES = {"input_path", "engine_path"}
_TUNED = {"runtime", "device", "max_tile_pixels"}


class ReportSettings(VersionedModel):
    """`settings.json`. A report is continued with equal settings only; `created` is not compared."""

    schema_name: ClassVar[str] = "report-settings"
    schema_version: ClassVar[tuple[int, int]] = (REPORT_VERSION, 2)
    version_key: ClassVar[str] = "report_version"

    report_version: int = Field(REPORT_VERSION, description="Major version of the report's files.")
    microseg: str = Field(description="Version of microseg that began the report.")
    input: str = Field(description="Name of the input.")
    engine: str = Field(description="File name of the engine.")
    engine_sha256: str = Field(description="SHA-256 of the engine's file.")
    domain: str = Field(description="Domain of the engine that the fields are measured as.")
    preparation: Preparation = Field(description="How the fields are prepared.")
    nearby: dict[str, Preparation] = Field(
        default_factory=dict,
        description="How fields are prepared that have the settings of a domain.yaml near them, by its path.",
    )
    regions: dict[str, str] = Field(
        default_factory=dict,
        description='SHA-256 of the files of regions of interest by name of the field; "" stands for all fields.',
    )
    pixel_size_um: float | None = Field(description="Native pixel size given on the command line, µm.")
    fallback_pixel_size_um: float | None = Field(description="Pixel size for files that state none, µm.")
    pixel_sizes: dict[str, float] = Field(
        default_factory=dict, description="Native pixel sizes that the domain.yaml states for single fields, µm."
    )
    assume_engine_scale: bool = Field(
        False, description="Whether the pixel size of the training images is accepted for files that state none."
    )
    require_scale: bool = Field(False, description="Whether fields fail whose pixel size nothing states.")
    force_scale: bool = Field(
        False, description="Whether fields far beyond the pixel sizes of the training are measured all the same."
    )
    max_tile_pixels: int = Field(
        description="Largest tile that the memory limit allows, pixels. It decides the tile plan."
    )
    runtime: str = Field(description="Library that computes: onnxruntime, openvino or tensorrt.")
    device: str = Field(description="Device that computes: cpu, cuda or tensorrt.")
    runtime_version: str | None = Field(
        None, description="Version of the library; known, and compared, once the engine is open."
    )
    decimal_comma: bool = Field(
        False, description="Whether numbers in fields.csv have a decimal comma, and semicolons separate its columns."
    )
    created: str = Field(description="Day of the first run, ISO 8601.")
    input_path: str | None = Field(
        None,
        description="Where the input was in the last run; null in reports of earlier versions. It is not compared.",
    )
    engine_path: str | None = Field(None, description="Where the engine was in the last run; the same.")


def check_report(report: Path, settings: ReportSettings, decimal_comma: bool | None = None) -> ReportSettings:
    """Make sure that `report` is absent, empty, or a report with these settings.

    Args:
        report: the report's folder.
        settings: the settings of this run.
        decimal_comma: how this run writes numbers in `fields.csv`; None for as the report does.

    Returns:
        The settings, with the day and the runtime's version of a report that is continued.

    Raises:
        InputError: `report` is something else, or has other settings. Results of different engines or settings are never
            mixed.
    """
    if report.is_symlink() and resolved(report).is_symlink():
        raise InputError(f"{report}: its links lead in a circle. Remedy: another --out.")
    if report.exists() and not report.is_dir():
        raise InputError(f"{report}: is a file. Remedy: another --out.")
    if not report.is_dir() or all(_is_ours(entry.name) for entry in report.iterdir()):
        return settings.model_copy(update={"decimal_comma": bool(decimal_comma)})
    if not (report / _SETTINGS).is_file():
        raise InputError(f"{report}: is not empty and no report of `microseg segment`. Remedy: another --out.")
    return continued(_content(report / _SETTINGS), settings, str(report), decimal_comma)


def continued(
    content: dict[str, Any], settings: ReportSettings, report: str, decimal_comma: bool | None = None
) -> ReportSettings:
    """The settings with the day and the runtime's version of a report that is continued.

    Args:
        content: what its `settings.json` holds.
        settings: the settings of this run.
        report: where it is, for messages.
        decimal_comma: as in `check_report`.

    Raises:
        InputError: it has other settings.
    """
    wanted = settings.model_dump(mode="json")
    if content.get("report_version") != REPORT_VERSION:
        raise InputError(
            f"{report}: is a report of version {content.get('report_version')}, and this microseg writes version "
            f"{REPORT_VERSION}. A report is continued by the version that began it. Remedy: another --out; the report stays "
            "readable."
        )
    if differing := sorted(key for key in wanted.keys() - _LATER - _PLACES if content.get(key) != wanted[key]):
        # These three may follow from a profile that `tune` wrote since.
        tuned = "--no-profile if the report is older than a profile, " if set(differing) <= _TUNED else ""
        raise InputError(
            f"{report}: has other settings, and a report never mixes them:\n"
            + "".join(f"  {key}: {_shown(content.get(key))} there, {_shown(wanted[key])} now\n" for key in differing)
            + f"Remedy: {tuned}the options of its first run, another --out, or delete that report."
        )
    kept = {key: content.get(key) for key in _LATER}
    kept["decimal_comma"] = bool(content.get("decimal_comma")) if decimal_comma is None else decimal_comma
    return settings.model_copy(update=kept)


def opened_by(settings: ReportSettings, version: str, report: Path) -> ReportSettings:
    """The settings with the runtime's version, once the engine is open.

    Args:
        settings: the report's settings.
        version: the version of the runtime that opened the engine.
        report: the report's folder.

    Returns:
        The settings. They name no version where the report has results of an unknown one.

    Raises:
        InputError: another version began the report.
    """
    if settings.runtime_version is None and any((report / "records").rglob("*.json")):
        return settings
    return with_version(settings, version, str(report))


def with_version(settings: ReportSettings, version: str, report: str) -> ReportSettings:
    """The settings with the runtime's version. Raises InputError where another version began the report at `report`."""
    if settings.runtime_version not in (None, version):
        raise InputError(
            f"{report}: was begun by {settings.runtime} {settings.runtime_version}, this is {version}. A report never mixes "
            "versions. Remedy: another --out, or delete that report."
        )
    return settings.model_copy(update={"runtime_version": version})


def begin_report(report: Path, settings: ReportSettings) -> None:
    """Create the folder or continue in it. Temporary files of a killed run are removed. Raises InputError."""
    with writing(report):
        make_folder(report)
        left = [path for path in report.glob("*.part") if _is_ours(path.name)]
        left += [path for folder in _FOLDERS for path in (report / folder).rglob("*.part")]
        for path in left:
            if is_abandoned(path):
                path.unlink(missing_ok=True)
        content = settings.model_dump(mode="json")
        if not (report / _SETTINGS).is_file() or json.loads((report / _SETTINGS).read_text("utf-8")) != content:
            write_json(report / _SETTINGS, content)


def _content(path: Path) -> dict[str, Any]:
    try:
        content = json.loads(path.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{path}: cannot be read ({error}). Remedy: another --out.") from error
    if not isinstance(content, dict):
        raise InputError(f"{path}: holds no settings. Remedy: another --out.")
    return content


def _is_ours(name: str) -> bool:
    """Whether a file at the top of a folder is a temporary file of a report: another program's may end in .part, too."""
    return is_temporary(name) and final_name(name) in _FILES


def _shown(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value)
    return text if len(text) <= 100 else f"{text[:97]}..."
