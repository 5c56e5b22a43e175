"""What the user of `segment` asks for."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from microseg.core.schemas.preparation import Crop
from microseg.runtime import Device, Runtime


@dataclass(frozen=True)
class RayOptions:
    """What the user asks of Ray, which measures a field list on many machines.

    Attributes:
        address: the cluster's, such as "auto"; None for the one that RAY_ADDRESS names, else a new one on this machine.
        actors: processes that measure, at most; None for as many as the cluster has room for.
        cpus_per_actor: processors of each, which are its threads; None for 4, or as many as a node has.
        gpus_per_actor: cards of each, or a share of one.
    """

    address: str | None = None
    actors: int | None = None
    cpus_per_actor: int | None = None
    gpus_per_actor: float = 0.0


@dataclass(frozen=True)
class SegmentOptions:
    """What the user asks for. None stands for the default of `microseg segment`.

    Attributes:
        input: an image, a folder, a domain folder, or a domain's YAML file.
        engine: the engine's file.
        out: the report's folder.
        domain: name of the engine's domain to measure as.
        pixel_size_um: native pixel size in micrometres.
        invert: whether grey values are inverted.
        allow_coloured: share of coloured pixels up to which a field is measured without them, %.
        crop: native pixels that are cut off each side.
        roi: file or folder of regions of interest: pixels outside are not measured.
        page: number of the page, from 1, of files that hold several.
        channel: number of the channel, from 1, of files that hold several.
        keep_data_bar: whether data bars are measured.
        keep_padding: whether padding is measured.
        batch: tiles under way at once.
        threads: CPU threads.
        memory_mb: memory to stay within, in 10**6 bytes.
        device: what computes.
        runtime: the library that computes.
        use_profile: whether to use what `tune` measured.
        decimal_comma: whether numbers in fields.csv have a decimal comma; None for as the report has.
        assume_engine_scale: whether the pixel size of the training images is accepted where nothing states one.
        require_scale: whether fields fail whose pixel size nothing states.
        sections: a regular expression or a CSV file that gives each field its section; None: its folder.
        force_scale: whether fields far beyond the pixel sizes of the training are measured.
        xlsx: whether the report gets a workbook; one that it has is written again in any case.
        shard: of a field list, the part to measure: "3/64".
        masks: of a field list, the masks to write: "none", "all" or "flagged".
        measure_changed: of a field list, whether files that changed since are measured.
        ray: of a field list, what is asked of Ray; None: this process measures.
    """

    input: Path
    engine: Path
    out: Path | None = None
    domain: str | None = None
    pixel_size_um: float | None = None
    invert: bool | None = None
    allow_coloured: float | None = None
    crop: Crop | None = None
    roi: Path | None = None
    page: int | None = None
    channel: int | None = None
    keep_data_bar: bool | None = None
    keep_padding: bool | None = None
    batch: int | None = None
    threads: int | None = None
    memory_mb: int | None = None
    device: Device | None = None
    runtime: Runtime | None = None
    use_profile: bool = True
    decimal_comma: bool | None = None
    assume_engine_scale: bool = False
    require_scale: bool = False
    force_scale: bool = False
    sections: str | None = None
    xlsx: bool = False
    shard: str | None = None
    masks: str | None = None
    measure_changed: bool = False
    ray: RayOptions | None = None

    @property
    def preparation(self) -> dict[str, object]:
        """The values of `Preparation` that the user gives, by key."""
        given = {
            "invert": self.invert,
            "allow_coloured_percent": self.allow_coloured,
            "crop": self.crop,
            "page": self.page,
            "channel": self.channel,
            "keep_data_bar": self.keep_data_bar,
            "keep_padding": self.keep_padding,
        }
        return {key: value for key, value in given.items() if value is not None}
