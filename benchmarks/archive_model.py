"""How long an archive takes, what limits it and how much it writes: arithmetic on measured costs of a field.

The model of a worker is that of `segment`: one thread reads, one calls the engine, one writes results, side by side. A node has
as many workers as cores, of one thread each. What is not in the model: caches and memory that workers share, failed nodes, a
queue.
"""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from microseg.core.preparation.tiling import plan_tiles

# A difference between a predicted and a measured rate that the tables state, as a share.
STATED = 0.15
# As `microseg.deploy.archive.parts` has it: rows of a file of results, least seconds between two writings, and how many times
# the duration of the last writing.
PART_ROWS, PART_PERIOD_S, PART_PERIODS = 2048, 1.0, 50
# As `microseg.core.storage.objects` has it: bytes of an object that one request reads.
REQUEST_BYTES = 16 << 20
# As `microseg.deploy.archive.sink` has it: small pictures of a list that its tables hold, where no field is flagged.
PICTURES = 400


@dataclass(frozen=True)
class Line:
    """A cost that grows by the megapixel, or by the row: a fixed part, and one for each of them."""

    fixed: float
    each: float

    @classmethod
    def through(cls, small: tuple[float, float], large: tuple[float, float]) -> Line:
        """The line through two costs; neither part is negative.

        Args:
            small: megapixels or rows, and what they cost.
            large: the same of more of them.
        """
        slope = max(0.0, (large[1] - small[1]) / (large[0] - small[0]))
        return cls(max(0.0, small[1] - slope * small[0]), slope)

    def at(self, number: float) -> float:
        """The cost of so many megapixels or rows."""
        return self.fixed + self.each * number


@dataclass(frozen=True)
class EngineCosts:
    """What a field costs a worker with one thread.

    Attributes:
        reading: processor seconds of hashing, decoding and cutting a field.
        network_s: processor seconds of the engine for a computed megapixel.
        writing: processor seconds of joining tiles, counting, masks and overlays.
        written: bytes of masks and overlays.
        start_s: seconds of a worker until its first tile is computed.
        peak_mb: peak resident memory of a worker, 10**6 bytes.
        stride, halo_px, max_tile_pixels: the plan of tiles.
    """

    reading: Line
    network_s: float
    writing: Line
    written: Line
    start_s: float
    peak_mb: float
    stride: int
    halo_px: int
    max_tile_pixels: int

    def computed_megapixels(self, width: int, height: int) -> float:
        """Megapixels that the engine computes for a field, with halos and mirrored borders."""
        tiles = plan_tiles(height, width, self.stride, self.halo_px, self.max_tile_pixels)
        return sum(tile.height * tile.width for tile in tiles) / 1e6


@dataclass(frozen=True)
class TableCosts:
    """What the tables of results cost.

    Attributes:
        row_bytes: bytes of a field in the merged table.
        part_row_bytes: bytes of a field in the file of a shard that runs.
        picture_bytes: bytes of a small picture of the page.
        part_row_s: processor seconds of one writing of a file of results for each of its rows.
        list_row_s: seconds of `list` for a file.
        scan_row_s: seconds that a shard takes for a row of the whole list before it begins.
        scan_row_bytes: memory of the same.
        merge_row_s: seconds of `merge` for a row.
        merge_row_bytes: memory of the same.
        requests_of_start: requests to object storage of a shard, whatever its fields.
        requests_read, requests_written: requests of a field, without tables.
    """

    row_bytes: float
    part_row_bytes: float
    picture_bytes: float
    part_row_s: float
    list_row_s: float
    scan_row_s: float
    scan_row_bytes: float
    merge_row_s: float
    merge_row_bytes: float
    requests_of_start: float
    requests_read: float
    requests_written: float


@dataclass(frozen=True)
class Site:
    """Nodes, storage and fields. The defaults are assumptions and no measurements; `--model` has an option for each.

    Attributes:
        nodes: number of nodes.
        cores: cores of a node, each with a worker of one thread.
        network_gbit: network of a node, 10**9 bits a second.
        storage_gb: what the storage gives and takes in all, 10**9 bytes a second.
        storage_requests: requests that it answers in all, each second.
        latency_s: seconds until it answers a request.
        width, height: of a field, px.
        bytes_per_pixel: of a field's file.
        shard_fields: fields of a shard.
        list_rows: rows of a field list, each with its own merge.
        masks: whether masks and overlays are written.
    """

    nodes: int = 16
    cores: int = 64
    network_gbit: float = 25.0
    storage_gb: float = 5.0
    storage_requests: float = 5000.0
    latency_s: float = 0.03
    width: int = 1024
    height: int = 717
    bytes_per_pixel: float = 1.0
    shard_fields: int = 1000
    list_rows: int = 1_000_000
    masks: bool = True

    @property
    def megapixels(self) -> float:
        """Megapixels of a field."""
        return self.width * self.height / 1e6


@dataclass(frozen=True)
class Stages:
    """Processor seconds of a field in the three threads of a worker, and what they wait for."""

    reading: float
    network: float
    writing: float
    waits_read: float = 0.0
    waits_written: float = 0.0

    @property
    def processor_s(self) -> float:
        """Processor seconds of a field in all."""
        return self.reading + self.network + self.writing

    def seconds(self, workers: int, cores: int) -> dict[str, float]:
        """Seconds between two fields of a worker, as each of its threads allows, and as the processors allow.

        Args:
            workers: workers of one thread on the node.
            cores: cores of the node.
        """
        return {
            "decoding": self.reading + self.waits_read,
            "engine": self.network,
            "results": self.writing + self.waits_written,
            "processors": self.processor_s * workers / cores,
        }

    def largest(self) -> str:
        """The stage that takes the most of the processors."""
        return max(
            ("decoding", self.reading), ("engine", self.network), ("results", self.writing), key=lambda at: at[1]
        )[0]


def stages(costs: EngineCosts, width: int, height: int) -> Stages:
    """What a field of a size costs, without waiting and tables."""
    megapixels = width * height / 1e6
    return Stages(
        reading=costs.reading.at(megapixels),
        network=costs.network_s * costs.computed_megapixels(width, height),
        writing=costs.writing.at(megapixels),
    )


def predicted_seconds(costs: EngineCosts, size: tuple[int, int], fields: int, workers: int, cores: int) -> float:
    """Seconds of a run on files of this machine.

    Args:
        costs: measured on fields of other sizes.
        size: width and height of a field, px.
        fields: of the worker that has most of them.
        workers: that run at once, each with one thread.
        cores: of the machine.
    """
    return costs.start_s + fields * max(stages(costs, *size).seconds(workers, cores).values())


def compared(predicted: float, measured: float) -> dict[str, Any]:
    """Both rates, their difference as a share of the measured one, and what a table says where it is large."""
    difference = predicted / measured - 1
    return {
        "predicted_fields_per_second": predicted,
        "measured_fields_per_second": measured,
        "difference": difference,
        "stated": f"differs by more than {100 * STATED:.0f} %" if abs(difference) > STATED else "",
    }


def part_writings(tables: TableCosts, shard_fields: int, field_s: float) -> tuple[float, float, float]:
    """Writings of files of results for a field, their bytes, and the share of a worker's time that they take.

    A file grows to its full number of rows, and is written anew after a period.

    Args:
        tables: costs.
        shard_fields: fields of a shard.
        field_s: seconds between two fields of a worker.
    """
    rows = min(PART_ROWS, shard_fields) / 2
    seconds = tables.part_row_s * rows
    period = max(PART_PERIOD_S, PART_PERIODS * seconds, field_s)
    return field_s / period, field_s / period * rows * tables.part_row_bytes, seconds / period


def plan(costs: EngineCosts, tables: TableCosts, site: Site, fields: int) -> dict[str, Any]:
    """Rate, node hours, what limits them, requests and bytes of an archive.

    Args:
        costs: of the engine.
        tables: of the tables.
        site: nodes, storage and fields.
        fields: number of fields.

    Returns:
        Figures by name; hours and rates are those of all nodes together unless they say node.
    """
    image_bytes = site.megapixels * 1e6 * site.bytes_per_pixel
    requests_read = tables.requests_read - 1 + math.ceil(image_bytes / REQUEST_BYTES)
    requests_written = tables.requests_written if site.masks else 0.0
    plain = stages(costs, site.width, site.height)
    field = Stages(
        plain.reading,
        plain.network,
        plain.writing,
        waits_read=requests_read * site.latency_s,
        waits_written=requests_written * site.latency_s,
    )
    seconds = field.seconds(site.cores, site.cores)
    writings, part_bytes, share = part_writings(tables, site.shard_fields, max(seconds.values()))
    seconds["processors"] /= 1 - share
    mask_bytes = costs.written.at(site.megapixels) if site.masks else 0.0
    field_bytes = image_bytes + mask_bytes + part_bytes
    requests = requests_read + requests_written + writings
    limits = {name: site.nodes * site.cores / value for name, value in seconds.items() if value}
    limits["network"] = site.nodes * site.network_gbit * 1e9 / 8 / field_bytes
    limits["storage"] = site.storage_gb * 1e9 / field_bytes
    limits["requests"] = site.storage_requests / requests
    bottleneck = min(limits, key=lambda name: limits[name])
    node = min(limits[name] for name in (*seconds, "network")) / site.nodes
    shards, lists = math.ceil(fields / site.shard_fields), math.ceil(fields / site.list_rows)
    start_s = costs.start_s + min(site.list_rows, fields) * tables.scan_row_s
    start_hours = shards * start_s / site.cores / 3600
    rate = limits[bottleneck]
    return {
        "fields": fields,
        "fields_per_second": rate,
        "fields_per_second_of_a_node": node,
        "bottleneck": f"processors, most for {field.largest()}" if bottleneck == "processors" else bottleneck,
        "limits": limits,
        "most_nodes": min(limits["storage"], limits["requests"]) / node,
        "node_hours": site.nodes * fields / rate / 3600 + start_hours,
        "hours": fields / rate / 3600 + start_hours / site.nodes,
        "start_share": start_hours / (site.nodes * fields / rate / 3600 + start_hours),
        "lists": lists,
        "shards": shards,
        "list_hours": fields * tables.list_row_s / 3600,
        "merge_hours": fields * tables.merge_row_s / 3600,
        "requests": fields * requests + shards * tables.requests_of_start,
        "read_bytes": fields * image_bytes,
        "mask_bytes": fields * mask_bytes,
        "table_bytes": fields * tables.row_bytes + lists * PICTURES * tables.picture_bytes,
        "rewritten_bytes": fields * part_bytes,
        "node_memory_gb": site.cores
        * (costs.peak_mb / 1e3 + min(site.list_rows, fields) * tables.scan_row_bytes / 1e9),
    }


def costs_from(found: Mapping[str, Any]) -> EngineCosts:
    """Costs of an engine, as a file of results has them."""
    lines = {name: Line(**found[name]) for name in ("reading", "writing", "written")}
    return EngineCosts(**{**found, **lines})


def tables_from(found: Mapping[str, Any]) -> TableCosts:
    """Costs of tables, as a file of results has them."""
    return TableCosts(**found)
