"""The model of an archive, by hand; and the clocks that its costs come from."""

from __future__ import annotations

import json
import subprocess
import sys
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from PIL import Image

from benchmarks.archive_model import (
    EngineCosts,
    Line,
    Site,
    TableCosts,
    compared,
    part_writings,
    plan,
    predicted_seconds,
    stages,
)
from benchmarks.archive_probe import MARK
from benchmarks.documentation.figures_archive import SHOWN, shown
from microseg.deploy.archive.lists.listing import list_fields

# 1000 x 500 px: read in 20 ms, written in 50 ms; the engine computes 1024 x 512 px in 0.524288 s.
COSTS = EngineCosts(
    reading=Line(0.01, 0.02),
    network_s=1.0,
    writing=Line(0.02, 0.06),
    written=Line(10_000, 80_000),
    start_s=2.0,
    peak_mb=500.0,
    stride=32,
    halo_px=62,
    max_tile_pixels=10**6,
)
PROCESSOR_S = 0.02 + 0.524288 + 0.05
TABLES = TableCosts(
    row_bytes=300.0,
    part_row_bytes=400.0,
    picture_bytes=20_000.0,
    part_row_s=1e-4,
    list_row_s=3.6e-4,
    scan_row_s=3e-6,
    scan_row_bytes=100.0,
    merge_row_s=3.6e-5,
    merge_row_bytes=600.0,
    requests_of_start=10.0,
    requests_read=2.0,
    requests_written=2.0,
)
SITE = Site(nodes=2, cores=4, latency_s=0.0, width=1000, height=500)


def test_a_line_has_no_negative_part() -> None:
    assert Line.through((1, 3), (3, 7)) == Line(1, 2) and Line(1, 2).at(2) == 5
    assert Line.through((1, 5), (2, 4)) == Line(5, 0)
    assert Line.through((1, 1), (2, 4)) == Line(0, 3)


def test_a_worker_is_as_fast_as_its_slowest_thread_or_the_processors() -> None:
    found = stages(COSTS, 1000, 500)
    assert (found.reading, found.network, found.writing) == pytest.approx((0.02, 0.524288, 0.05))
    assert found.largest() == "engine"
    size = (1000, 500)
    assert predicted_seconds(COSTS, size, 10, workers=1, cores=2) == pytest.approx(2 + 5.24288)
    assert predicted_seconds(COSTS, size, 10, workers=2, cores=2) == pytest.approx(2 + 10 * PROCESSOR_S)


def test_a_difference_above_15_percent_is_stated() -> None:
    assert compared(1.1, 1.0)["stated"] == "" and compared(1.1, 1.0)["difference"] == pytest.approx(0.1)
    assert compared(0.8, 1.0)["stated"] == compared(1.2, 1.0)["stated"] == "differs by more than 15 %"


def test_files_of_results_are_written_again_after_each_period() -> None:
    # 500 rows on the average take 50 ms, so that 2.5 s lie between two writings: 0.2 for a field of 0.5 s.
    assert part_writings(TABLES, 1000, 0.5) == pytest.approx((0.2, 0.2 * 500 * 400, 0.02))
    # Fields of 10 s are each written at once.
    assert part_writings(TABLES, 10, 10.0) == pytest.approx((1.0, 5 * 400, 5e-5))


def test_processors_limit_slow_engines() -> None:
    found = plan(COSTS, TABLES, SITE, 10_000_000)
    rate = 8 / (PROCESSOR_S / 0.98)
    assert found["bottleneck"] == "processors, most for engine"
    assert found["fields_per_second"] == pytest.approx(rate)
    assert found["fields_per_second_of_a_node"] == pytest.approx(rate / 2)
    assert (found["lists"], found["shards"]) == (10, 10_000)
    start = 10_000 * (2 + 3) / 4 / 3600
    assert found["node_hours"] == pytest.approx(2 * 1e7 / rate / 3600 + start)
    assert found["hours"] == pytest.approx(found["node_hours"] / 2)
    assert found["list_hours"] == pytest.approx(1.0) and found["merge_hours"] == pytest.approx(0.1)
    writings = PROCESSOR_S / 2.5
    assert found["requests"] == pytest.approx(1e7 * (4 + writings) + 10_000 * 10)
    assert found["read_bytes"] == 5e12 and found["mask_bytes"] == pytest.approx(5e11)
    assert found["table_bytes"] == 3e9 + 10 * 400 * 20_000
    assert found["rewritten_bytes"] == pytest.approx(1e7 * writings * 500 * 400)
    assert found["node_memory_gb"] == pytest.approx(4 * (0.5 + 0.1))


def test_storage_network_requests_and_waiting_limit_fast_engines() -> None:
    tables = replace(TABLES, part_row_bytes=0.0)
    bytes_ = 500_000 + 50_000
    for site, limit, rate in (
        (replace(SITE, storage_gb=0.001), "storage", 1e6 / bytes_),
        (replace(SITE, network_gbit=0.008), "network", 2 * 1e6 / bytes_),
        (replace(SITE, latency_s=1.0), "results", 8 / 2.05),
        (replace(SITE, latency_s=1.0, masks=False), "decoding", 8 / 2.02),
    ):
        found = plan(COSTS, tables, site, 1_000_000)
        assert (found["bottleneck"], found["fields_per_second"]) == (limit, pytest.approx(rate))
    few = plan(COSTS, tables, replace(SITE, storage_requests=4.0), 1_000_000)
    assert few["bottleneck"] == "requests" and few["fields_per_second"] == pytest.approx(4 / (4 + PROCESSOR_S / 2.5))
    assert few["most_nodes"] == pytest.approx(few["fields_per_second"] / few["fields_per_second_of_a_node"])


def test_an_object_of_several_requests_counts_them() -> None:
    large = plan(COSTS, TABLES, replace(SITE, width=1000, height=500, bytes_per_pixel=40.0), 1_000_000)
    plain = plan(COSTS, TABLES, SITE, 1_000_000)
    assert large["requests"] - plain["requests"] == 1_000_000  # 20 MB are two parts of 16 MiB


def test_clocks_tell_stages_apart(tiny_engine: Path, tmp_path: Path) -> None:
    folder = tmp_path / "lot"
    folder.mkdir()
    for index in range(4):
        grey = np.random.default_rng(index).integers(0, 256, (120, 160), np.uint8)
        Image.fromarray(grey).save(folder / f"{index}.png")
    listed, out = list_fields(folder, tmp_path / "fields.parquet").place, tmp_path / "out"
    command = ["segment", listed, "--engine", tiny_engine, "--out", out, "--shard", "1/1", "--threads", "1"]
    done = subprocess.run(
        [sys.executable, "-m", "benchmarks.archive_probe", *map(str, command)],
        capture_output=True,
        text=True,
        check=True,
    )
    found = json.loads(done.stdout.rpartition(MARK)[2])
    assert found["fields"] == 4 and found["network_megapixels"] == pytest.approx(3 * 120 * 160 / 1e6)
    assert min(found["reading_s"], found["writing_s"], found["network_s"], found["start_mb"]) > 0
    masks = sum(path.stat().st_size for path in (out / "masks").rglob("*.png"))
    assert found["written_bytes"]["masks"] == masks / 4 and found["peak_mb"] >= found["start_mb"]
    assert found["tables"][-1]["rows"] == 4


def test_tables_without_a_file_say_so() -> None:
    assert {shown({}, name) for name in SHOWN} == {"This command has not been run as a whole yet."}
