"""The costs behind the model of an archive: those of a field on this machine, and runs of one and two workers.

Everything runs through `microseg segment FIELDS.parquet --shard K/N`, with clocks (`benchmarks.archive_probe`) where stages are
told apart, and as a user types it where a run is predicted.
"""

from __future__ import annotations

import argparse
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict, fields
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.archive_model import (
    EngineCosts,
    Line,
    Site,
    TableCosts,
    compared,
    costs_from,
    plan,
    predicted_seconds,
    tables_from,
)
from benchmarks.archive_probe import MARK
from benchmarks.archive_s3 import copy_folder, s3_server
from benchmarks.archive_scale import measure_scale, measured_run
from benchmarks.documentation.figures_archive import SHOWN
from benchmarks.machine import machine, versions
from benchmarks.memory import write_fields
from benchmarks.random_engine import DECODER, write_random_engine
from benchmarks.throughput import BYTES_PER_PIXEL, ENCODER, ENGINES, STUDENT_DECODER
from microseg.core.system.files import write_json
from microseg.core.system.processor_count import usable_processors

MILLIONS = (10, 100, 1000)
# Sides of the fields that costs are measured on, px. Runs are predicted for a size between them.
SMALL, LARGE = (512, 512), (1024, 1024)
PREDICTED = (1024, 717)
# Small and large fields of each engine, of which the first one is left out. What takes long measures fewer.
COUNTS = {
    "f32": (7, 3), "fp16": (5, 3), "int8": (9, 4), "bag": (3, 2), "bag_int8": (5, 3), "student": (7, 3),
    "student_int8": (9, 4),
}  # fmt: skip
# Fields of a worker in the runs that are predicted.
RUNS = {"f32": 8, "int8": 12}
# Half of a file of results, of fields as small as fields are, through an engine as small as one can be.
TABLES = "tables"
TABLE_FIELDS, TABLE_PX, TABLE_DECODER = 1100, 32, (16, 8, 8, 8, 8)
# A long folder has so many links to each of them.
LIST_TIMES = 30
S3_FIELDS = (2, 6)


def add_options(parser: argparse.ArgumentParser) -> None:
    """Options of the model: how much is measured, and what is assumed of nodes, storage and fields."""
    group = parser.add_argument_group("model of an archive (--model)")
    group.add_argument("--model", action="store_true", help="measure what a field costs, and print the model alone")
    group.add_argument("--costs", type=Path, help="a file of --json, whose costs are taken; nothing is measured")
    group.add_argument("--share", type=float, default=1.0, help="share of the fields that are measured")
    group.add_argument("--only", nargs="+", choices=list(ENGINES), default=list(ENGINES), help="engines")
    group.add_argument("--model-rows", type=int, default=200_000, help="rows that are merged for their cost")
    for each in fields(Site):
        if each.name != "masks":
            name = f"--{each.name.replace('_', '-')}"
            group.add_argument(name, type=type(each.default), default=each.default, help=_HELP[each.name])
    group.add_argument("--no-masks", dest="masks", action="store_false", help="as `segment --masks none`")


_HELP = {
    "nodes": "nodes",
    "cores": "cores of a node",
    "network_gbit": "network of a node, Gbit/s",
    "storage_gb": "what the storage gives and takes in all, GB/s",
    "storage_requests": "requests that the storage answers in all, each second",
    "latency_s": "seconds until the storage answers a request",
    "width": "of a field, px",
    "height": "of a field, px",
    "bytes_per_pixel": "of a field's file",
    "shard_fields": "fields of a shard",
    "list_rows": "rows of a field list",
}


def site_of(options: argparse.Namespace) -> Site:
    """What the options assume."""
    return Site(**{each.name: getattr(options, each.name) for each in fields(Site)})


def model(options: argparse.Namespace) -> None:
    """Measure, or take the costs of an earlier run; print, and write JSON with --json."""
    site = site_of(options)
    if options.costs:
        found = json.loads(options.costs.read_text(encoding="utf-8"))
        found |= {"site": asdict(site), "models": models(found, site)}
    else:
        print(f"seed {options.seed}")
        with tempfile.TemporaryDirectory() as work:
            found = measure_model(Path(work), site, options)
    for name, rows in SHOWN.items():
        header, cells = rows(found)
        shown = Table(*header, title=name, title_justify="left")
        for row in cells:
            shown.add_row(*map(str, row))
        Console().print(shown)
    print(f"most_different {found['most_different']:.3f}")
    if options.json:
        write_json(options.json, found)


def measure_model(work: Path, site: Site, options: argparse.Namespace) -> dict[str, Any]:
    """Costs of every engine, predicted beside measured runs, and the model.

    Args:
        work: folder for what it writes.
        site: nodes, storage and fields.
        options: engines, share of the fields that are measured, rows that are merged, seed.
    """
    engines, runs = {}, []
    with ProcessPoolExecutor(usable_processors(), get_context("spawn"), _one_thread) as pool:
        list(pool.map(_write_engine, [work / f"{name}.onnx" for name in (*options.only, TABLES)]))
    for name in options.only:
        what, engine = ENGINES[name][0], work / f"{name}.onnx"
        counts = [max(2, round(options.share * count)) for count in COUNTS[name]]
        costs, seen = _engine_costs(work, engine, counts)
        engines[name] = {"what": what, "costs": asdict(costs), "measured": seen}
        if name in RUNS:
            count = max(2, round(options.share * RUNS[name]))
            runs += [{"engine": name, "what": what, **_run(work, engine, costs, workers, count)} for workers in (1, 2)]
    tables, scale = _tables(work, options.model_rows, options.seed)
    found = {
        "runs": runs,
        "most_different": max((abs(run["difference"]) for run in runs), default=0.0),
        "engines": engines,
        "tables": asdict(tables),
        "scale": scale,
        "site": asdict(site),
        "network": f"U-Net {ENCODER}, decoder {DECODER}, two phases, random weights; student's decoder {STUDENT_DECODER}",
        "seed": options.seed,
        "machine": machine(),
        "versions": versions("microseg", "onnxruntime", "openvino", "numpy", "pyarrow"),
    }
    return found | {"models": models(found, site)}


def models(found: Mapping[str, Any], site: Site) -> dict[str, list[dict[str, Any]]]:
    """The model of each number of fields, by engine.

    Args:
        found: costs of engines and tables.
        site: nodes, storage and fields.
    """
    tables = tables_from(found["tables"])
    return {
        name: [plan(costs_from(engine["costs"]), tables, site, million * 1_000_000) for million in MILLIONS]
        for name, engine in found["engines"].items()
    }


def _one_thread() -> None:
    """Each process writes an engine of its own."""
    os.environ["OMP_NUM_THREADS"] = "1"


def _write_engine(path: Path) -> None:
    if path.stem == TABLES:
        write_random_engine(path, ENCODER, 5, BYTES_PER_PIXEL, TABLE_DECODER, is_student=True)
        return
    _, folds, is_student, precision = ENGINES[path.stem]
    decoder = STUDENT_DECODER if is_student else DECODER
    write_random_engine(path, ENCODER, folds, BYTES_PER_PIXEL, decoder, precision=precision, is_student=is_student)


def _engine_costs(work: Path, engine: Path, counts: Sequence[int]) -> tuple[EngineCosts, list[dict[str, Any]]]:
    """Costs through a run on small fields and one on large ones."""
    seen = [_spent(work, engine, size, count) for size, count in zip((SMALL, LARGE), counts, strict=True)]
    pixels = [size[0] * size[1] / 1e6 for size in (SMALL, LARGE)]

    def line(values: Sequence[float]) -> Line:
        return Line.through((pixels[0], values[0]), (pixels[1], values[1]))

    network = sum(run["network_s"] for run in seen) / sum(run["network_megapixels"] for run in seen)
    costs = EngineCosts(
        reading=line([run["reading_s"] for run in seen]),
        network_s=network,
        writing=line([run["writing_s"] for run in seen]),
        written=line([sum(run["written_bytes"].values()) for run in seen]),
        start_s=min(run["start_s"] for run in seen),
        peak_mb=max(run["peak_mb"] for run in seen),
        **seen[0].pop("tiles"),
    )
    del seen[1]["tiles"]
    return costs, seen


def _spent(work: Path, engine: Path, size: tuple[int, int], count: int, *more: str) -> dict[str, Any]:
    """What a run of one worker spends on fields of one size."""
    from microseg.runtime import read_manifest

    listed, out = _listed(work, size, count), work / f"out-{engine.stem}-{size[0]}"
    command = _segment(listed, engine, out, "1/1", *more)
    begun = time.perf_counter()
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.archive_probe", *command], stdout=subprocess.PIPE, text=True
    )
    seconds = time.perf_counter() - begun
    if done.returncode:
        raise SystemExit(f"{engine.name}: {done.stdout[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.rpartition(MARK)[2])
    settings = json.loads((out / "settings.json").read_text(encoding="utf-8"))
    manifest = read_manifest(engine)
    print(f"{engine.stem}, {count} fields of {size[0]} x {size[1]}: {seconds:.1f} s", file=sys.stderr, flush=True)
    return found | {
        "size_px": list(size),
        "seconds": seconds,
        "start_s": seconds - found["pipeline_s"],
        "tiles": {
            "stride": manifest.stride,
            "halo_px": manifest.halo_px,
            "max_tile_pixels": settings["max_tile_pixels"],
        },
    }


def _run(work: Path, engine: Path, costs: EngineCosts, workers: int, count: int) -> dict[str, Any]:
    """A run of workers with one thread each, as a user types it, beside what the model says of it."""
    from microseg.deploy.archive.lists.field_list import FieldList
    from microseg.deploy.archive.lists.shards import Shard, rows_of

    listed, out = _listed(work, PREDICTED, workers * count), work / f"run-{engine.stem}-{workers}"
    scan = FieldList(listed).scan()
    most = max(int(rows_of(Shard(number + 1, workers), scan.digests, scan.sizes).sum()) for number in range(workers))
    predicted = predicted_seconds(costs, PREDICTED, most, workers, usable_processors())
    begun = time.perf_counter()
    processes = [
        subprocess.Popen(
            [sys.executable, "-m", "microseg", *_segment(listed, engine, out, f"{number + 1}/{workers}")],
            stdout=subprocess.DEVNULL,
        )
        for number in range(workers)
    ]
    if any(process.wait() for process in processes):
        raise SystemExit(f"{engine.name}: a run of {workers} workers failed")
    seconds = time.perf_counter() - begun
    fields_of_all = workers * count
    found = compared(fields_of_all / predicted, fields_of_all / seconds)
    return {"workers": workers, "fields": fields_of_all, "most_fields": most, "seconds": seconds, **found}


def _tables(work: Path, rows: int, seed: int) -> tuple[TableCosts, dict[str, Any]]:
    """Costs of lists, of files of results, of the merge, and of requests."""
    engine, size = work / f"{TABLES}.onnx", (TABLE_PX, TABLE_PX)
    few_s, list_s = (_list_seconds(work, size, times) for times in (1, LIST_TIMES))
    seen = _spent(work, engine, size, TABLE_FIELDS, "--masks", "none")
    out = work / f"out-{engine.stem}-{TABLE_PX}"
    written = sorted(seen["tables"], key=lambda each: each["rows"])
    large = [each for each in written if each["rows"] > TABLE_FIELDS // 2]
    part_s = sum(each["cpu_s"] for each in large) / sum(each["rows"] for each in large)
    _, part_bytes = _bytes_of_rows(out / "fields")
    # Of fields as large as an archive has them.
    pictures, _ = _bytes_of_rows(next(work.glob(f"out-*-{LARGE[0]}")) / "fields")
    few_merge_s, few_merge_mb = measured_run(["merge", out], None)
    _, merged_bytes = _bytes_of_rows(out / "fields")
    scale = measure_scale(work, _listed(work, size, TABLE_FIELDS), engine, out, rows)
    requests = _requests(work, engine, seed)
    costs = TableCosts(
        row_bytes=merged_bytes,
        part_row_bytes=part_bytes,
        picture_bytes=pictures,
        part_row_s=part_s,
        list_row_s=max(0.0, list_s - few_s) / (TABLE_FIELDS * (LIST_TIMES - 1)),
        scan_row_s=max(0.0, scale["begin_seconds"] - scale["short_begin_seconds"]) / rows,
        scan_row_bytes=1e6 * max(0.0, scale["begin_mb"] - scale["short_begin_mb"]) / rows,
        merge_row_s=(scale["merge_rows_seconds"] - few_merge_s) / (rows - TABLE_FIELDS),
        merge_row_bytes=1e6 * (scale["merge_rows_mb"] - few_merge_mb) / (rows - TABLE_FIELDS),
        **requests,
    )
    return costs, scale | {"merge_start_mb": few_merge_mb, "table_fields": TABLE_FIELDS, "table_writings": written}


def _bytes_of_rows(folder: Path) -> tuple[float, float]:
    """Bytes of a small picture, and of a row without it, in the tables of a folder."""
    import pyarrow.parquet as pq

    total = rows = pictures = number = 0
    for path in folder.glob("part-*.parquet"):
        with pq.ParquetFile(path) as file:
            groups = [file.metadata.row_group(place) for place in range(file.num_row_groups)]
            columns = [group.column(place) for group in groups for place in range(group.num_columns)]
            pictures += sum(column.total_compressed_size for column in columns if column.path_in_schema == "thumbnail")
            number += len(file.read(["thumbnail"]).column(0).drop_null())
            rows += file.metadata.num_rows
        total += path.stat().st_size
    return pictures / max(1, number), (total - pictures) / rows


def _requests(work: Path, engine: Path, seed: int) -> dict[str, float]:
    """Requests of a shard and of a field to an S3 server, without those of tables and lists."""
    found = []
    folders = [_listed(work, (TABLE_PX, TABLE_PX), count).with_suffix("") for count in S3_FIELDS]
    with s3_server(0.0, seed) as (server, environment):
        os.environ.update(environment)
        copy_folder(work / "nothing", "results")
        for number, folder in enumerate(folders):
            bucket, listed = f"fields{number}", work / f"s3-{number}.parquet"
            copy_folder(folder, bucket)
            _microseg("list", f"s3://{bucket}", "--out", listed)
            server.requests.clear()
            _microseg("segment", listed, "--engine", engine, "--out", f"s3://results/{number}", "--shard", "1/1")
            images, tables = (
                _of(server.requests, f"/{bucket}/"),
                _of(server.requests, f"/results/{number}/fields/part-"),
            )
            pictures = sum(_of(server.requests, f"/results/{number}/{each}/") for each in ("masks", "overlays"))
            found.append((images, pictures, sum(server.requests.values()) - images - pictures - tables))
    more = S3_FIELDS[1] - S3_FIELDS[0]
    return {
        "requests_of_start": found[0][2],
        "requests_read": (found[1][0] - found[0][0]) / more,
        "requests_written": (found[1][1] - found[0][1]) / more,
    }


def _of(requests: Mapping[str, int], prefix: str) -> int:
    return sum(number for path, number in requests.items() if path.startswith(prefix))


def _list_seconds(work: Path, size: tuple[int, int], times: int) -> float:
    """Seconds of `list` for a folder that holds each small field so many times."""
    source, folder = _listed(work, size, TABLE_FIELDS).with_suffix(""), work / f"links-{times}"
    for number in range(times):
        (folder / f"lot{number}").mkdir(parents=True)
        for path in source.iterdir():
            (folder / f"lot{number}" / path.name).hardlink_to(path)
    begun = time.perf_counter()
    _microseg("list", folder, "--out", folder.with_suffix(".parquet"))
    return time.perf_counter() - begun


def _listed(work: Path, size: tuple[int, int], count: int) -> Path:
    """The field list of a folder of fields."""
    folder = work / f"fields-{size[0]}x{size[1]}-{count}"
    if not folder.exists():
        write_fields(folder, count, size)
        _microseg("list", folder, "--out", folder.with_suffix(".parquet"))
    return folder.with_suffix(".parquet")


def _segment(listed: Path, engine: Path, out: Path, shard: str, *more: str) -> list[str]:
    options = ["--shard", shard, "--threads", "1", "--no-profile", *more]
    return ["segment", str(listed), "--engine", str(engine), "--out", str(out), *options]


def _microseg(*arguments: Any) -> None:
    subprocess.run([sys.executable, "-m", "microseg", *map(str, arguments)], check=True, stdout=subprocess.DEVNULL)
