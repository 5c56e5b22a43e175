"""`python -m benchmarks.archive`: a field list in shards and on Ray beside one process, with `kill -9` at random moments.

It prints how many fields are lost or differ, what shards and Ray cost beside one process with all cores, and when a shard of a
long list begins and how long its results take to merge. `--model` prints something else: what a field costs, and from it how
long millions of them take on nodes (`benchmarks.archive_costs`). Each run draws its own seed and prints it.
"""

from __future__ import annotations

import argparse
import json
import os
import random
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np

from benchmarks.archive_costs import add_options, model
from benchmarks.archive_ray import disturb, ray_cluster
from benchmarks.archive_s3 import copy_folder, fetch_folder, s3_server
from benchmarks.archive_scale import measure_scale
from benchmarks.machine import machine, versions
from microseg.core.system.files import write_json

ENCODER = "mobilenet_v2"
# A thin decoder: what is looked at is the archive and not the network.
DECODER = (32, 32, 16, 16, 8)
# What differs between two equal runs.
OWN = ("created", "run", "engine_calls", "input")


def main() -> None:
    """Measure, print, and write JSON with --json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--fields", type=int, default=2000)
    parser.add_argument("--px", type=int, default=512, help="side of a field")
    parser.add_argument("--shards", type=int, default=2)
    parser.add_argument("--kills", type=int, default=20)
    parser.add_argument(
        "--ray-kills", type=int, default=10, help="killed workers beside one killed node; below 0: no Ray"
    )
    parser.add_argument("--rows", type=int, default=1_000_000, help="rows of the long list; 0: leave it out")
    parser.add_argument(
        "--faults",
        type=float,
        default=0.05,
        help="share of the S3 server's answers that are faults; below 0: no server",
    )
    parser.add_argument("--engine", type=Path, help="an engine; by default one with random weights, which needs torch")
    parser.add_argument("--seed", type=int, default=random.SystemRandom().randrange(1 << 32))
    add_options(parser)
    options = parser.parse_args()
    if options.model:
        model(options)
        return
    print(f"seed {options.seed}")
    with tempfile.TemporaryDirectory() as work:
        found = measure(Path(work), options)
    for key, value in found.items():
        if isinstance(value, float | int):
            print(f"{key:24s} {value:.4g}")
    if options.json:
        write_json(options.json, found)


def measure(work: Path, options: argparse.Namespace) -> dict[str, Any]:
    """All figures."""
    engine = options.engine.absolute() if options.engine else _engine(work)
    fields, listed = work / "fields", work / "fields.parquet"
    _write_fields(fields, options.fields, options.px, options.seed)
    one_s = _timed([_segment(fields, engine, work / "one")])
    list_s = _timed([["list", fields, "--out", listed]])
    threads = max(1, (os.cpu_count() or 1) // options.shards)
    parts = [f"{number}/{options.shards}" for number in range(1, options.shards + 1)]
    clean, killed = work / "clean", work / "killed"
    shards_s = _timed([_segment(listed, engine, clean, "--shard", part, "--threads", str(threads)) for part in parts])
    merge_s = _timed([["merge", clean]])
    commands = [_segment(listed, engine, killed, "--shard", part, "--threads", str(threads)) for part in parts]
    kills = _with_kills(commands, options.kills, shards_s, random.Random(options.seed))
    _timed([["merge", killed]])
    lost, different = compared(work / "one", killed)
    lost_clean, different_clean = compared(work / "one", clean)
    from_s3 = {} if options.faults < 0 else _through_s3(work, engine, threads, options)
    on_ray = {} if options.ray_kills < 0 else _on_ray(work, engine, one_s, options)
    scale = measure_scale(work, listed, engine, killed, options.rows) if options.rows else {}
    return {
        "shards_lost": max(lost, lost_clean),
        "shards_different": max(different, different_clean),
        "overhead_shards": (shards_s + merge_s - one_s) / one_s,
        **on_ray,
        **from_s3,
        "one_process_s": one_s,
        "list_s": list_s,
        "shards_s": shards_s,
        "merge_s": merge_s,
        "kills": kills,
        "fields": options.fields,
        **scale,
        "seed": options.seed,
        "machine": machine(),
        "versions": versions("microseg", "onnxruntime", "numpy", "pyarrow", "ray"),
    }


def _on_ray(work: Path, engine: Path, one_s: float, options: argparse.Namespace) -> dict[str, Any]:
    """The same on clusters of two nodes: one that is left alone, and one with kills. Their start is not counted."""
    processors = os.cpu_count() or 1
    clean, killed = work / "ray", work / "ray-killed"

    def command(out: Path, address: str) -> list[Any]:
        threads = str(max(1, processors // 2))
        more = ("--on", "ray", "--address", address, "--cpus-per-actor", threads)
        return _segment(work / "fields.parquet", engine, out, *more)

    begun = time.monotonic()
    with ray_cluster(processors) as (cluster, _):
        started_s = time.monotonic() - begun
        ray_s = _timed([command(clean, cluster.address)])
    with ray_cluster(processors) as (cluster, node):
        process = _begin(command(killed, cluster.address))
        kills = disturb(process, (cluster, node), options.ray_kills, ray_s, random.Random(options.seed))
        _end(process)
    found = [compared(work / "one", out) for out in (clean, killed)]
    return {
        "ray_lost": max(lost for lost, _ in found),
        "ray_different": max(different for _, different in found),
        "overhead_ray": (ray_s - one_s) / one_s,
        "ray_s": ray_s,
        "ray_cluster_start_s": started_s,
        "ray_kills": kills,
    }


def _through_s3(work: Path, engine: Path, threads: int, options: argparse.Namespace) -> dict[str, Any]:
    """`s3_lost`: share of the fields without a result, or all where one differs, from and to an S3 server with faults."""
    with s3_server(0.0, options.seed) as (faults, environment):
        os.environ.update(environment)
        copy_folder(work / "fields", "fields")
        copy_folder(work / "nothing", "results")
        faults.share = options.faults
        listed, out = work / "s3.parquet", "s3://results/out"
        seconds = _timed([["list", "s3://fields", "--out", listed]])
        parts = [f"{number}/{options.shards}" for number in range(1, options.shards + 1)]
        commands = [
            ["segment", listed, "--engine", engine, "--out", out, "--shard", part, "--threads", threads]
            for part in parts
        ]
        seconds += _timed(commands)
        seconds += _timed([["merge", out]])
        faults.share = 0.0
        fetch_folder("results", work / "s3")
        lost, different = compared(work / "one", work / "s3" / "out")
        return {"s3_lost": lost, "s3_different": different, "s3_faults": faults.number, "s3_s": seconds}


def compared(one: Path, merged: Path) -> tuple[float, float]:
    """Shares of the fields that have no result after the merge, and that differ, 0-1.

    All differ where the summary does, apart from what belongs to a run. A field that counts twice differs.

    Args:
        one: The report of one process.
        merged: The place of the shards' results.
    """
    import pyarrow.parquet as pq

    summaries = [json.loads((place / "summary.json").read_text(encoding="utf-8")) for place in (one, merged)]
    records = {
        content["field"]["name"]: content["field"]["counts"]
        for content in (json.loads(path.read_text(encoding="utf-8")) for path in (one / "records").rglob("*.json"))
    }
    rows = [
        row
        for path in sorted((merged / "fields").glob("part-*.parquet"))
        for row in pq.read_table(path, columns=["field", "status", "counts", "mask"]).to_pylist()
        if row["status"] == "measured"
    ]
    found = {row["field"]: row for row in rows}
    lost = sum(name not in found for name in records) / len(records)
    differing = len(rows) - len(found)
    for name, counts in records.items():
        row = found.get(name)
        if row is not None:
            is_same_mask = (merged / row["mask"]).read_bytes() == (one / row["mask"]).read_bytes()
            differing += row["counts"] != counts or not is_same_mask
    for summary in summaries:
        for key in OWN:
            del summary[key]
    return lost, 1.0 if summaries[0] != summaries[1] else differing / len(records)


def _engine(work: Path) -> Path:
    from benchmarks.random_engine import write_random_engine
    from microseg.export.memory_footprint import measure_bytes_per_pixel
    from microseg.runtime import read_manifest

    engine = write_random_engine(work / "engine.onnx", ENCODER, 2, 1.0, DECODER)
    footprint = measure_bytes_per_pixel(engine, read_manifest(engine).stride)
    return write_random_engine(engine, ENCODER, 2, footprint, DECODER)


def _write_fields(folder: Path, count: int, px: int, seed: int) -> None:
    rng = np.random.default_rng(seed)
    for index in range(count):
        noise = cv2.GaussianBlur(rng.standard_normal((px, px)).astype(np.float32), (0, 0), 4)
        path = folder / f"lot{index % 20:02d}" / f"field {index}.png"
        path.parent.mkdir(parents=True, exist_ok=True)
        grey = (noise - noise.min()) * (255 / np.ptp(noise))
        path.write_bytes(cv2.imencode(".png", grey.astype(np.uint8))[1].tobytes())


def _segment(source: Path, engine: Path, out: Path, *more: str) -> list[Any]:
    return ["segment", source, "--engine", engine, "--out", out, *more]


def _begin(arguments: Sequence[Any]) -> subprocess.Popen[bytes]:
    command = [sys.executable, "-m", "microseg", *map(str, arguments)]
    return subprocess.Popen(command, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)


def _end(process: subprocess.Popen[bytes]) -> None:
    _, told = process.communicate()
    if process.returncode:
        raise SystemExit(f"{process.args!r}: {process.returncode}\n{told.decode()}")


def _timed(commands: Sequence[Sequence[Any]]) -> float:
    """Seconds of some commands side by side."""
    begun = time.monotonic()
    for process in [_begin(arguments) for arguments in commands]:
        _end(process)
    return time.monotonic() - begun


def _with_kills(commands: Sequence[Sequence[Any]], kills: int, seconds: float, rng: random.Random) -> int:
    """Run commands side by side, kill one of them at random moments and begin it again; returns the number of kills."""
    running = [_begin(arguments) for arguments in commands]
    done = 0
    for _ in range(kills):
        time.sleep(rng.uniform(0, 2 * seconds / (kills + 1)))
        alive = [index for index, process in enumerate(running) if process.poll() is None]
        # A finished shard is begun again: it may run twice.
        index = rng.choice(alive) if alive else rng.randrange(len(running))
        if alive:
            running[index].send_signal(signal.SIGKILL)
            running[index].communicate()
            done += 1
        running[index] = _begin(commands[index])
    for process in running:
        _end(process)
    return done


if __name__ == "__main__":
    main()
