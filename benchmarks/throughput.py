"""`python -m benchmarks.throughput [--json FILE]`: `microseg segment` beside other programs, with the same weights.

Every side runs in a separate process, one after the other, `--repeats` times. Figures are medians of the repeats; ratios
compare sides of the same repeat. `segment` is the whole command from its start to the page, with masks and overlays, as a
user types it. Peers (`benchmarks.throughput_peers`) are timed without their start. Compiled networks of OpenVINO are
deleted between runs, except for the figures of a start, which are those of a second start.
"""

from __future__ import annotations

import argparse
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from statistics import median
from typing import Any

from rich.console import Console
from rich.table import Table

from benchmarks.machine import machine, versions
from benchmarks.random_engine import DECODER, write_random_engine
from benchmarks.throughput_peers import NAMES, PLAIN, TORCH, export_plain, run_peer, skipped
from benchmarks.throughput_sides import gflop, images, run_network, run_segment, run_start, sgemm
from microseg.core.schemas.tolerance import Precision
from microseg.core.system.files import write_json

ENCODER = "resnet18"
WIDTH, HEIGHT = 1024, 717
MEGAPIXELS = WIDTH * HEIGHT / 1e6
FOLDS = 5
BYTES_PER_PIXEL = 600.0
# As the recipe `distill` has it: the bag's network, its last stages narrower.
STUDENT_DECODER = (256, 128, 64, 16, 16)
# name -> what, folds, whether a student, precision
ENGINES: dict[str, tuple[str, int, bool, Precision]] = {
    "f32": ("one network, float32", 1, False, "fp32"),
    "fp16": ("one network, FP16", 1, False, "fp16"),
    "int8": ("one network, INT8", 1, False, "int8"),
    "bag": ("bag of five, float32", FOLDS, False, "fp32"),
    "bag_int8": ("bag of five, INT8", FOLDS, False, "int8"),
    "student": ("student of a bag of five, float32", FOLDS, True, "fp32"),
    "student_int8": ("student of a bag of five, INT8", FOLDS, True, "int8"),
}
# Of the fields; what takes longer per field measures fewer. Peers are timed without their start, which needs no spreading.
# A folder of five times as many fields spreads the start of the command as a shift's work does.
MANY = "_many"
SHARES = {"f32_many": 5.0, "bag": 0.25, "fp16": 0.25, "network_1": 0.25, "network_2": 0.25} | dict.fromkeys(NAMES, 0.15)

# The network alone is timed on half of the fields before `segment` and on half after it: machines change their speed. On as
# many as --fields at most.
ALONE = {side: f"network_{side}" for side in ("f32", "f32_many", "int8")}

# Sides that measure no fields.
NO_FIELDS = ("sgemm", "start_f32", "start_int8")


def main() -> None:
    """Measure, print a table, and write JSON with --json."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--json", type=Path, help="write the figures to this file")
    parser.add_argument("--fields", type=int, default=40)
    parser.add_argument("--repeats", type=int, default=3)
    parser.add_argument("--work", type=Path, help="folder for fields, engines and reports (default: temporary)")
    parser.add_argument("--side", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.side:
        print(json.dumps(run_side(options.side, options.work, options.fields)))
        return
    with tempfile.TemporaryDirectory() as temporary:
        found = measure(options.work or Path(temporary), options.fields, options.repeats)
    _print(found)
    if options.json:
        write_json(options.json, found)


def run_side(side: str, work: Path, fields: int) -> dict[str, Any]:
    """The figures of one process: `seconds` for `fields` fields, and `settings`."""
    paths = images(work)[:fields]
    side = side.removesuffix(MANY)
    match side.split("_"):
        case ["start", engine]:
            return run_start(work / f"{engine}.onnx", paths[0], work)
        case ["sgemm"]:
            return sgemm()
        case ["network", threads] if threads.isdigit():
            return run_network(work / "f32.onnx", paths, int(threads))
        case ["network", *engine]:
            return run_network(work / f"{'_'.join(engine)}.onnx", paths, None)
    if side in NAMES:
        return run_peer(side, paths, work, ENCODER)
    return run_segment(work / f"{side}.onnx", paths, work)


def measure(work: Path, fields: int, repeats: int) -> dict[str, Any]:
    """All figures: the ratios, then every row and every raw time."""
    from microseg.runtime import EngineFile
    from microseg.synthetic.folder import write_domain

    work.mkdir(parents=True, exist_ok=True)
    write_domain(work / "domain", "s", round(fields * max(SHARES.values())), 0, size_px=(WIDTH, HEIGHT))
    export_plain(work / PLAIN, ENCODER)
    for name, (_, folds, is_student, precision) in ENGINES.items():
        decoder = STUDENT_DECODER if is_student else DECODER
        write_random_engine(
            work / f"{name}.onnx", ENCODER, folds, BYTES_PER_PIXEL, decoder, precision=precision, is_student=is_student
        )
    absent = skipped()
    peers = [peer for peer in NAMES if peer not in absent]
    # What is compared with each other runs close together.
    sides = ["sgemm", "start_f32", "start_int8", *peers, "f32", "f32_many", "int8", "fp16", "bag", "student", "bag_int8",
             "student_int8", "network_1", "network_2"]  # fmt: skip
    runs: dict[str, list[dict[str, Any]]] = {side: [] for side in (*sides, *ALONE.values())}
    for _ in range(repeats):
        for side in sides:
            count = max(2, round(fields * SHARES.get(side, 1)))
            alone = ALONE.get(side)
            most = min(count, fields)
            half = [measured(alone, work, most // 2)] if alone else []
            runs[side].append(measured(side, work, count))
            if alone:
                half.append(measured(alone, work, most - most // 2))
                both = {key: sum(part[key] for part in half) for key in ("seconds", "fields")}
                runs[alone].append(half[0] | both)
    found = figures({side: [run["seconds"] / run["fields"] for run in of] for side, of in runs.items()}, peers)
    plain, ours = (gflop(work / name, HEIGHT, WIDTH) for name in (PLAIN, "f32.onnx"))
    peak = max(run["gflops"] for run in runs["sgemm"])
    return found | {
        "start_to_first_inference_seconds": median(run["seconds"] for run in runs["start_f32"]),
        "start_to_first_inference_seconds_int8": median(run["seconds"] for run in runs["start_int8"]),
        "roofline": {
            "sgemm_gflops": peak,
            "gflop_per_field": plain,
            "gflop_per_field_of_our_graph": ours,
            "network_alone": plain / peak / found["seconds_per_field"]["network_f32"],
            "segment": plain / peak / found["seconds_per_field"]["f32"],
        },
        "field_px": [WIDTH, HEIGHT],
        "network": f"U-Net {ENCODER}, decoder {DECODER}, two phases, random weights; student's decoder {STUDENT_DECODER}",
        "int8": "all layers; which of a trained bag stay float32: benchmarks.precision",
        "skipped": absent,
        "fields": {side: of[-1]["fields"] for side, of in runs.items()},
        "seconds": {side: [run["seconds"] for run in of] for side, of in runs.items()},
        "settings": {side: of[-1]["settings"] for side, of in runs.items()},
        "versions": versions(
            "microseg", "torch", "monai", "pytorch-toolbelt", "onnxruntime", "openvino", "segmentation-models-pytorch",
            "numpy", "opencv-python-headless",
        ),
        "machine": machine(),
        "engine_sha256": {name: EngineFile(work / f"{name}.onnx").sha256 for name in ENGINES},
    }  # fmt: skip


def measured(side: str, work: Path, fields: int) -> dict[str, Any]:
    """A side in a separate process: the result of `run_side`, and `fields`."""
    command = [sys.executable, "-m", "benchmarks.throughput", "--side", side, "--work", str(work)]
    done = subprocess.run([*command, "--fields", str(fields)], capture_output=True, text=True)
    if done.returncode:
        raise SystemExit(f"{side}: {done.stderr[-2000:]}")
    found: dict[str, Any] = json.loads(done.stdout.splitlines()[-1])
    print(f"{side}: {found['seconds']:.2f} s", file=sys.stderr, flush=True)
    return found | {"fields": fields}


def figures(each: dict[str, list[float]], peers: list[str]) -> dict[str, Any]:
    """Ratios, slower over faster, from seconds per field of every repeat: medians of the ratios within a repeat."""
    seconds = {side: median(of) for side, of in each.items()}
    torch_peer = min((peer for peer in peers if peer in TORCH), key=lambda peer: seconds[peer])

    def over(slow: str, fast: str, times: float = 1.0) -> float:
        return median(times * a / b for a, b in zip(each[slow], each[fast], strict=True))

    named = {"monai": "ratio_to_monai", "naive": "ratio_to_naive"}
    return {
        "ratio_f32_to_torch_peer": over(torch_peer, "f32"),
        "ratio_f32_to_ort_tiles": over("ort_tiles", "f32"),
        "ratio_int8_to_torch_peer": over(torch_peer, "int8"),
        "ratio_distilled_to_bag": over("bag", "student"),
        "ratio_distilled_int8_to_bag_int8": over("bag_int8", "student_int8"),
        "ratio_distilled_int8_to_peer_bag": over(torch_peer, "student_int8", FOLDS),
        "outside_network_share": 1 - over("network_f32", "f32"),
        "outside_network_share_many_fields": 1 - over("network_f32_many", "f32_many"),
        "outside_network_share_int8": 1 - over("network_int8", "int8"),
        "scaling_two_threads": over("network_1", "network_2") / 2,
        **{key: over(peer, "f32") for peer, key in named.items() if peer in peers},
        "fastest_torch_peer": torch_peer,
        "seconds_per_field": seconds,
        "fields_per_second": {side: 1 / value for side, value in seconds.items() if side not in NO_FIELDS},
        "megapixels_per_second": {side: MEGAPIXELS / value for side, value in seconds.items() if side not in NO_FIELDS},
    }


def _print(found: dict[str, Any]) -> None:
    rows = NAMES | {name: f"microseg segment, {what}" for name, (what, *_) in ENGINES.items()}
    rows |= {"f32_many": "microseg segment, one network, float32, many fields"}
    rows |= {"network_f32": "the float32 engine alone", "network_int8": "the INT8 engine alone"}
    title = f"Fields of {WIDTH} x {HEIGHT} px, U-Net {ENCODER}, {found['machine']['processor']}"
    table = Table(title=title, title_justify="left")
    table.add_column("what")
    for column in ("s/field", "fields/s", "megapixels/s", "runtime"):
        table.add_column(column, justify="right")
    for side, name in rows.items():
        if side in found["skipped"]:
            table.add_row(name, found["skipped"][side])
            continue
        values = [
            f"{found[key][side]:.3f}" for key in ("seconds_per_field", "fields_per_second", "megapixels_per_second")
        ]
        table.add_row(name, *values, str(found["settings"][side].get("runtime", "")))
    console = Console(width=150)
    console.print(table)
    for key, value in found.items():
        if isinstance(value, float):
            console.print(f"{key}: {value:.3f}", highlight=False)
    console.print({key: round(value, 3) for key, value in found["roofline"].items()})


if __name__ == "__main__":
    main()
