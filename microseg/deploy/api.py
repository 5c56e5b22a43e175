"""The station's half of the Python API: measure fields and folders, read reports, score engines. It needs no torch."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from os import PathLike
from pathlib import Path
from typing import Any, TypedDict, Unpack

from microseg.core.errors import InputError
from microseg.core.schemas.preparation import Crop
from microseg.deploy.evaluate import evaluate_engine as evaluate_file
from microseg.deploy.evaluate import evaluate_opened
from microseg.deploy.inference.loaded_engine import LoadedEngine, checked_crop
from microseg.deploy.inference.result import FieldResult
from microseg.deploy.pipeline.tile_memory import served_limits
from microseg.deploy.report.reader import Report, read_report
from microseg.deploy.segment import segment
from microseg.deploy.segment_options import SegmentOptions
from microseg.deploy.tuning.profile import segment_config
from microseg.runtime import Device, EngineFile, Runtime, open_configured

__all__ = [
    "FieldResult",
    "LoadedEngine",
    "Report",
    "connect",
    "evaluate_engine",
    "load_engine",
    "read_report",
    "segment_folder",
]


class FolderOptions(TypedDict, total=False):
    """Options of `segment_folder`, which describes them."""

    domain: str | None
    pixel_size_um: float | None
    invert: bool | None
    allow_coloured: float | None
    crop: Crop | Mapping[str, int] | None
    roi: str | PathLike[str] | None
    page: int | None
    channel: int | None
    keep_data_bar: bool | None
    keep_padding: bool | None
    batch: int | None
    threads: int | None
    memory_mb: int | None
    device: Device | None
    runtime: Runtime | None
    use_profile: bool
    decimal_comma: bool | None
    assume_engine_scale: bool
    require_scale: bool
    force_scale: bool
    sections: str | None
    xlsx: bool


def load_engine(
    path: str | PathLike[str],
    *,
    threads: int | None = None,
    runtime: Runtime | None = None,
    device: Device | None = None,
    memory_mb: int | None = None,
    batch: int | None = None,
    use_profile: bool = True,
) -> LoadedEngine:
    """Open an engine to measure fields in this process. Use it as a context manager, or call its `close`.

    The process stays as it is: threads of other libraries, warning filters, signals and environment do not change.

    Args:
        path: the `.onnx` or `.plan` file that `microseg export` wrote.
        threads: CPU threads; None for one per physical core.
        runtime: "onnxruntime", "openvino" or "tensorrt"; None for the one that suits file, precision and hardware.
        device: "cpu", "cuda" or "tensorrt"; None for a GPU that can be used, else "cpu".
        memory_mb: memory to stay within, in 10**6 bytes; larger fields are cut into more tiles. None for 1900, or what a
            heavy engine needs. Results come on top: 2 + F bytes a pixel with F folds.
        batch: tiles under way at once; None for the default of `microseg segment`.
        use_profile: whether to use what `microseg tune` measured on this machine.

    Returns:
        The open engine.

    Raises:
        InputError: no engine of microseg, damaged, changed, of a newer version, or not to be run as asked.
        MissingExtraError: the runtime is not installed.
    """
    with EngineFile(Path(path)).unchanged() as file:
        file.require_intact()
        config = segment_config(
            file,
            runtime=runtime,
            device=device,
            threads=threads,
            batch=batch,
            use_profile=use_profile,
            memory_mb=memory_mb,
        )
        limits = config.limits(file.manifest, file.size_bytes, memory_mb)
        runtime_config = config.runtime_config
        engine = open_configured(file, runtime_config)
    return LoadedEngine(file.path, engine, limits, file.size_bytes)


def connect(
    url: str,
    *,
    timeout_s: float = 60.0,
    headers: Mapping[str, str] | None = None,
    batch: int | None = None,
    streams: int = 2,
    memory_mb: int | None = None,
) -> LoadedEngine:
    """Use an engine that a Triton Inference Server computes, as if it were here. Use it as a context manager, or call `close`.

    Reading, preparation, tiling, stitching and counting stay in this process; tiles go to the server by KServe's v2 protocol,
    and labels come back. Fields are cut as `load_engine` cuts them with the same `memory_mb`. The server's model comes from
    `microseg export ENGINE --triton REPOSITORY`, which puts the manifest into its configuration. Its version stays the same
    while the connection is open.

    Args:
        url: `triton://host:8000/model`, the server's HTTP port; `tritons://` for TLS. Passwords are refused.
        timeout_s: longest wait for a connection and for an answer, in seconds.
        headers: sent with each request, for example `{"Authorization": "Bearer ..."}`. No message shows them.
        batch: tiles under way at once; None for 8 in each of the streams, or as many as a plan is best at.
        streams: requests under way at once.
        memory_mb: memory of one tile on the server, in 10**6 bytes, as in `load_engine`.

    Returns:
        The engine, with the same `predict` and `predict_many` as a local one.

    Raises:
        InputError: the server is not reached, does not serve the model, or its configuration has no manifest; or an argument is
            below its least value.
        MissingExtraError: `tritonclient` is not installed: `pip install 'microseg[triton]'`.
    """
    from microseg.runtime.triton.address import parsed_address
    from microseg.runtime.triton.engine import TritonEngine

    address = parsed_address(url)
    for name, value in (("streams", streams), ("batch", batch), ("timeout_s", timeout_s)):
        least = 0.001 if name == "timeout_s" else 1
        if value is not None and not value >= least:
            raise InputError(f"{name}={value!r}: is below {least}. Remedy: {least} or more, or leave it out.")
    engine = TritonEngine(address, timeout_s=timeout_s, headers=headers or {}, streams=streams)
    try:
        limits = served_limits(engine.manifest, engine.engine_bytes, memory_mb, batch, streams)
    except BaseException:
        engine.close()
        raise
    return LoadedEngine(str(address), engine, limits, engine.engine_bytes)


def segment_folder(
    input: str | PathLike[str],
    *,
    engine: str | PathLike[str],
    out: str | PathLike[str] | None = None,
    progress: Callable[[float], None] | None = None,
    **options: Unpack[FolderOptions],
) -> Report:
    """Measure micrographs and write a report, as `microseg segment` does. The same call again continues the report.

    Args:
        input: an image, a folder of images with its sub-folders, a domain folder, or a domain's YAML file.
        engine: the `.onnx` or `.plan` file that `microseg export` wrote.
        out: the report's folder; None for `<input>-report` beside the input.
        progress: gets the number of fields that are finished since its last call, as fractions of a field.
        options: any of the following.
        domain: name of the engine's domain to measure as; None for its default.
        pixel_size_um: native pixel size in micrometres, instead of what files or domain.yaml say.
        invert: whether grey values are inverted (bright field); None for what domain.yaml or the engine says.
        allow_coloured: share of coloured pixels, in percent, up to which a field is measured without them.
        crop: native pixels to leave out, for instance {"bottom_px": 60}; None for what domain.yaml or the engine says.
        roi: region of interest: a mask image, GeoJSON or a region of ImageJ for all fields, or a folder with one for each.
        page: number of the page, from 1, of files that hold several; None for what the file says.
        channel: number of the channel, from 1, of files that hold several; None for what the file says.
        keep_data_bar: whether the microscope's data bar is measured; None for what domain.yaml or the engine says, which is no
            by default.
        keep_padding: whether one-valued margins of stitched or turned pictures are measured as material; None for what
            domain.yaml or the engine says, which is no by default.
        batch: tiles under way at once; None for the default.
        threads: CPU threads; None for one per physical core.
        memory_mb: memory to stay within, in 10**6 bytes; None for the default.
        device: as in `load_engine`.
        runtime: as in `load_engine`.
        use_profile: whether to use what `microseg tune` measured on this machine.
        decimal_comma: whether numbers in fields.csv have a decimal comma, with semicolons between columns; None for a
            decimal point, or as the report has that is continued.
        assume_engine_scale: accept, without a notice, the pixel size of the training images for files that state none.
        require_scale: fail fields whose pixel size nothing states.
        force_scale: measure also fields whose pixel size is more than 6 times beyond those of the training.
        sections: the section of each field: a regular expression with one group, searched in the field's path without suffix,
            or a CSV file with the columns field and section; None for the field's folder.
        xlsx: write the figures as report.xlsx, too; it needs `pip install 'microseg[xlsx]'`.

    Returns:
        The report. Fields that fail are in it with the reason (`report.summary.failed`) and raise nothing.

    Raises:
        InputError: wrong input, engine or settings, a report of other settings, or a full disk.
        MissingExtraError: the runtime is not installed, or what writes report.xlsx.
    """
    values: dict[str, Any] = {**options}
    crop, roi = values.pop("crop", None), values.pop("roi", None)
    given = SegmentOptions(
        input=Path(input),
        engine=Path(engine),
        out=None if out is None else Path(out),
        crop=None if crop is None else checked_crop(crop),
        roi=None if roi is None else Path(roi),
        **values,
    )
    return read_report(segment(given, on_advance=progress or (lambda amount: None)).report)


def evaluate_engine(
    engine: LoadedEngine | str | PathLike[str],
    domain: str | PathLike[str],
    *,
    domain_name: str | None = None,
    progress: Callable[[str], None] | None = None,
) -> dict[str, Any]:
    """Score an engine on a labelled domain, as `microseg evaluate ENGINE DOMAIN` does.

    Args:
        engine: an open engine, or an engine's file.
        domain: the labelled domain: its folder or YAML file.
        domain_name: name of the engine's domain to measure as; None for its default.
        progress: gets the name of each field before it is computed.

    Returns:
        The content of the command's JSON, with `miou`, `iou` and `fractions` (true, predicted, error; 0-1) of the bag,
        `fields`, `folds`, `baseline` (Otsu) and `spread` (central 95 % of a bootstrap over fields).

    Raises:
        InputError: no labels, phases that the engine does not know, an unreadable field, or a closed engine.
    """
    on_field = progress or (lambda name: None)
    if isinstance(engine, LoadedEngine):
        return evaluate_opened(engine.shared, engine.engine_bytes, Path(domain), domain_name, on_field)
    return evaluate_file(Path(engine), Path(domain), domain_name, on_field)
