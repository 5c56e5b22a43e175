"""Options of `microseg segment`, of which other commands take some."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from microseg.core.schemas.preparation import Crop
    from microseg.deploy.segment_options import RayOptions
# Panels of their own: beside the longest pair of options, long names would be cut at 80 columns.
_LEAST_UM, _MOST_UM = 1e-6, 1e6
_SCALE, _NOT_MEASURED, _LISTS = "Pixel size", "What is not measured", "Field lists"


class DeviceName(StrEnum):
    """Devices that compute; `tensorrt` is ONNX Runtime's TensorRT execution provider."""

    cpu = "cpu"
    cuda = "cuda"
    tensorrt = "tensorrt"


class RuntimeName(StrEnum):
    """Libraries that run an engine."""

    onnxruntime = "onnxruntime"
    openvino = "openvino"
    tensorrt = "tensorrt"


RuntimeOption = Annotated[
    RuntimeName | None,
    typer.Option("--runtime", help="Library that runs the engine. Default: by file, precision and hardware."),
]
DeviceOption = Annotated[
    DeviceName | None,
    typer.Option(
        "--device", help="Device that computes. One that does not load is an error. Default: a usable GPU, else cpu."
    ),
]
ThreadsOption = Annotated[
    int | None,
    typer.Option("--threads", min=1, help="CPU threads. Default: one for each physical core that the process may use."),
]
InputArgument = Annotated[
    Path,
    typer.Argument(
        metavar="INPUT",
        help="A micrograph, a folder of micrographs with its sub-folders, a domain folder or its YAML file, or a field list "
        "(.parquet) of `microseg list`.",
    ),
]
EngineOption = Annotated[Path, typer.Option(help="Engine file that `microseg export` wrote.")]
ReportOption = Annotated[
    Path | None, typer.Option(help="Folder of the report. Default: INPUT-report beside the input.")
]
DomainOption = Annotated[
    str | None,
    typer.Option("--as", help="Domain of the engine to measure as. Default: the engine's default domain."),
]


def micrometres(text: str) -> float:
    """A pixel size in um as people write it: also with decimal comma, or with a unit. Raises typer.BadParameter."""
    from microseg.core.domains.domain_file import micrometres as read

    try:
        value = float(read(text))
    except ValueError as error:
        raise typer.BadParameter(str(error)) from error
    if not _LEAST_UM <= value <= _MOST_UM:
        raise typer.BadParameter(f"{text!r} is not in the range {_LEAST_UM:g} to {_MOST_UM:g} um")
    return value


PixelSizeOption = Annotated[
    float | None,
    typer.Option(
        parser=micrometres,
        metavar="UM",
        help="Native pixel size in µm. It wins over domain.yaml and the files.",
        rich_help_panel=_SCALE,
    ),
]
InvertOption = Annotated[
    bool | None,
    typer.Option("--invert/--no-invert", help="Invert grey values (bright field) or not. Default: as the domain says."),
]
AllowColouredOption = Annotated[
    float | None,
    typer.Option(
        "--allow-coloured",
        min=0,
        max=100,
        metavar="PERCENT",
        help="Measure fields of which at most so many percent of the pixels are coloured, without these pixels.",
    ),
]
CropOption = Annotated[
    str | None,
    typer.Option(
        "--crop",
        metavar="SIDE=N,...",
        help="Native pixels to cut off, such as bottom=60,left=4. It wins over domain.yaml and the engine.",
        rich_help_panel=_NOT_MEASURED,
    ),
]
RegionOption = Annotated[
    Path | None,
    typer.Option(
        "--roi",
        help="Region to measure: a mask image, GeoJSON of QuPath or regions of ImageJ for all fields, or a folder with a file "
        "for each stem.",
        rich_help_panel=_NOT_MEASURED,
    ),
]
PageOption = Annotated[
    int | None,
    typer.Option(min=1, help="Page to measure, from 1, of files that hold several. Default: what the file says."),
]
ChannelOption = Annotated[
    int | None,
    typer.Option(min=1, help="Channel to measure, from 1, of files that hold several. Default: what the file says."),
]
KeepDataBarOption = Annotated[
    bool | None,
    typer.Option(
        "--keep-data-bar/--no-keep-data-bar",
        help="Measure data bars of microscopes, which the file states or the picture shows. Default: they are left out.",
        rich_help_panel=_NOT_MEASURED,
    ),
]
KeepPaddingOption = Annotated[
    bool | None,
    typer.Option(
        "--keep-padding/--no-keep-padding",
        help="Measure the one-valued margins of stitched or turned pictures as material. Default: they are left out.",
        rich_help_panel=_NOT_MEASURED,
    ),
]
BatchOption = Annotated[
    int | None, typer.Option(min=1, help="Tiles under way at once. Default: 1 or 2 on a CPU, 8 on a GPU.")
]
MemoryOption = Annotated[
    int | None,
    typer.Option(min=1, help="Memory to stay within, in MB. Default: 1900, or more where the engine needs it."),
]
ProfileOption = Annotated[
    bool,
    typer.Option("--profile/--no-profile", help="Use the profile of `microseg tune` for this machine, or ignore it."),
]
JsonOption = Annotated[Path | None, typer.Option("--json", help="Write the summary to this file.")]
DecimalCommaOption = Annotated[
    bool | None,
    typer.Option(
        "--decimal-comma/--decimal-point",
        help="Write fields.csv with decimal commas and semicolons. Default: point and comma, or as the report has.",
    ),
]
WorkbookOption = Annotated[
    bool,
    typer.Option("--xlsx", help="Write report.xlsx, too. Needs the extra xlsx."),
]
AssumeScaleOption = Annotated[
    bool,
    typer.Option(
        "--assume-engine-scale",
        help="Accept, without a notice, the pixel size of the training images for files that state none.",
        rich_help_panel=_SCALE,
    ),
]
RequireScaleOption = Annotated[
    bool,
    typer.Option("--require-scale", help="Fail fields whose pixel size nothing states.", rich_help_panel=_SCALE),
]
ForceScaleOption = Annotated[
    bool,
    typer.Option(
        "--force-scale",
        help="Measure fields also where their pixel size is more than 6 times beyond those of the training.",
        rich_help_panel=_SCALE,
    ),
]

SectionsOption = Annotated[
    str | None,
    typer.Option(
        metavar="PATTERN|CSV",
        help="The section of each field: a regular expression with one group, searched in the field's path without suffix, or "
        "a CSV file with the columns field and section. Default: the field's folder.",
    ),
]

ShardOption = Annotated[
    str | None,
    typer.Option(
        "--shard",
        metavar="K/N",
        help="Of a field list, measure the part K of N alone, K from 1. `microseg merge` joins the parts.",
        rich_help_panel=_LISTS,
    ),
]
MasksOption = Annotated[
    str | None,
    typer.Option(
        "--masks",
        metavar="none|all|flagged",
        help="Of a field list, the fields whose mask and overlay are written. Default: all.",
        rich_help_panel=_LISTS,
    ),
]
MeasureChangedOption = Annotated[
    bool,
    typer.Option(
        "--measure-changed",
        help="Of a field list, measure files that changed since they were listed. Default: they fail.",
        rich_help_panel=_LISTS,
    ),
]

RayOption = Annotated[
    str | None,
    typer.Option(
        "--on",
        metavar="ray",
        help="Measure a field list on a Ray cluster (extra ray), or on all processors of this machine through Ray.",
        rich_help_panel=_LISTS,
    ),
]
AddressOption = Annotated[
    str | None,
    typer.Option(
        metavar="HOST:PORT|auto",
        help="Of --on ray, the cluster. Default: RAY_ADDRESS, else this machine alone.",
        rich_help_panel=_LISTS,
    ),
]
ActorsOption = Annotated[
    int | None,
    typer.Option(
        help="Of --on ray, processes that measure, at most. Default: as many as the cluster has room for.",
        rich_help_panel=_LISTS,
    ),
]
CpusPerActorOption = Annotated[
    int | None,
    typer.Option(
        help="Of --on ray, processors of each process, which are its threads. Default: 4, or as many as a node has.",
        rich_help_panel=_LISTS,
    ),
]
GpusPerActorOption = Annotated[
    float | None,
    typer.Option(
        help="Of --on ray, cards of each process, or a share of one. Default: 0.",
        rich_help_panel=_LISTS,
    ),
]


def ray_of(
    on: str | None, address: str | None, actors: int | None, cpus_per_actor: int | None, gpus_per_actor: float | None
) -> RayOptions | None:
    """What is asked of Ray; None without `--on ray`. Raises InputError.

    Args:
        on: the value of `--on`.
        address: the value of `--address`.
        actors: the value of `--actors`.
        cpus_per_actor: the value of `--cpus-per-actor`.
        gpus_per_actor: the value of `--gpus-per-actor`.
    """
    from microseg.core.errors import InputError

    if on not in (None, "ray"):
        raise InputError(f"--on {on}: is unknown. Remedy: --on ray, or leave it out.")
    if on is None:
        for name, value in (
            ("--address", address),
            ("--actors", actors),
            ("--cpus-per-actor", cpus_per_actor),
            ("--gpus-per-actor", gpus_per_actor),
        ):
            if value is not None:
                raise InputError(f"{name}: needs --on ray.")
        return None
    from microseg.deploy.segment_options import RayOptions

    return RayOptions(address, actors, cpus_per_actor, gpus_per_actor or 0.0)


def crop_of(text: str | None) -> Crop | None:
    """The crop of `--crop`.

    Args:
        text: sides with native pixels, such as "bottom=60,left=4"; None without the option.

    Raises:
        InputError: it names no side, a side twice, or no whole number of pixels.
    """
    if text is None:
        return None
    from microseg.core.errors import InputError
    from microseg.core.schemas.preparation import Crop

    sides: dict[str, int] = {}
    for part in text.split(","):
        side, _, pixels = (word.strip() for word in part.partition("="))
        if (
            side not in ("top", "bottom", "left", "right")
            or side in sides
            or not (pixels.isascii() and pixels.isdigit())
        ):
            raise InputError(
                f"--crop {text}: {part.strip()!r} is no side with its pixels. Remedy: top, bottom, left or right, each at most "
                "once, with native pixels, for instance --crop bottom=60,left=4."
            )
        sides[side] = int(pixels)
    return Crop(**{f"{side}_px": pixels for side, pixels in sides.items()})
