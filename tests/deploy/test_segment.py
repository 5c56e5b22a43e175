"""The whole station: engine and folder to report."""

from __future__ import annotations

import csv
import errno
import json
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import onnxruntime
import pytest
from numpy.typing import NDArray
from PIL import Image

from microseg.core.errors import FieldError, InputError
from microseg.core.images.formats.known import NOT_READ
from microseg.core.schemas.preparation import DomainEntry, Grid, Preparation
from microseg.core.system import files
from microseg.deploy.pipeline import field_measurement
from microseg.deploy.pipeline.field_measurement import FieldMeasurement
from microseg.deploy.pipeline.tile_memory import max_tile_pixels
from microseg.deploy.report import report_sink
from microseg.deploy.report.report_sink import ReportSink
from microseg.deploy.segment import segment
from microseg.deploy.segment_options import SegmentOptions
from microseg.runtime import EngineFile, read_manifest
from tests.deploy.conftest import micrograph
from tests.engines import write_threshold_engine

Wafer = Callable[..., Path]


def mask_of(report: Path, name: str) -> NDArray[np.uint8]:
    return np.asarray(Image.open(report / "masks" / f"{name}.png"))


def rows_of(report: Path) -> dict[str, dict[str, str]]:
    with (report / "fields.csv").open(newline="", encoding="utf-8-sig") as stream:
        return {row["field"]: row for row in csv.DictReader(stream)}


def content_of(report: Path) -> dict[str, Any]:
    """Every file of a report, less what is said to differ between runs."""
    found: dict[str, Any] = {
        path.relative_to(report).as_posix(): path.read_bytes() for path in report.rglob("*") if path.is_file()
    }
    summary = json.loads(found["summary.json"])
    del summary["engine_calls"], summary["run"]
    return found | {"summary.json": summary}


def expected_mask(image: NDArray[np.uint8], threshold: float = 0.425) -> NDArray[np.bool_]:
    """What the tiny engine's bag decides, up to pixels that lie on the threshold."""
    mean = cv2.blur(image.astype(np.float32), (3, 3), borderType=cv2.BORDER_REFLECT_101) / 255
    return mean > threshold


def test_report_of_a_folder(wafer: Wafer, tiny_engine: Path) -> None:
    folder = wafer(3)
    result = segment(SegmentOptions(folder, tiny_engine))
    report = folder.parent / "wafer_dir-report"
    assert result.report == report
    assert result.summary["engine_calls"] == 3
    assert result.summary == json.loads((report / "summary.json").read_text(encoding="utf-8"))
    rows = rows_of(report)
    for index in range(3):
        name = f"field{index}.png"
        mask = mask_of(report, name)
        wanted = expected_mask(micrograph(90, 120, index))
        inside = np.s_[1:-1, 1:-1]
        assert np.mean(mask[inside] != wanted[inside]) < 0.01
        assert float(rows[name]["fraction_bainite"]) == np.mean(mask == 1)
        assert float(rows[name]["fold_std_bainite"]) > 0
        with (
            Image.open(report / "overlays" / f"{name}.jpg") as overlay,
            Image.open(report / "pictures" / f"{name}.jpg") as plain,
        ):
            assert (overlay.size, overlay.mode, plain.size, plain.mode) == ((120, 90), "RGB", (120, 90), "L")
        assert (report / "thumbnails" / f"{name}.jpg").is_file()
    fractions = [float(row["fraction_bainite"]) for row in rows.values()]
    bainite = result.summary["phases"]["bainite"]
    assert bainite["mean"] == pytest.approx(np.mean(fractions))
    assert bainite["ci95"] == pytest.approx(4.302653 * np.std(fractions, ddof=1) / 3**0.5, rel=1e-6)
    page = (report / "report.html").read_text(encoding="utf-8")
    assert "wafer_dir" in page and page.count("thumbnails/field") == 3 and "http" not in page.replace("http-equiv", "")


@pytest.mark.parametrize("size", [(90, 120), (333, 97), (16, 400), (257, 263)])
def test_tiled_equals_whole(wafer: Wafer, tmp_path: Path, size: tuple[int, int]) -> None:
    folder = wafer(1, size)
    engine = write_threshold_engine(tmp_path / "e.onnx", bytes_per_pixel=1000)
    whole = segment(SegmentOptions(folder, engine, out=tmp_path / "whole"))
    tiled = segment(SegmentOptions(folder, engine, out=tmp_path / "tiled", memory_mb=455))
    assert whole.summary["engine_calls"] == 1 < tiled.summary["engine_calls"]
    assert whole.summary["phases"] == tiled.summary["phases"]
    assert np.array_equal(mask_of(tmp_path / "whole", "field0.png"), mask_of(tmp_path / "tiled", "field0.png"))


@pytest.mark.parametrize("grid", [Grid(), Grid(scale=0.5)])
def test_rows_by_the_piece_equal_all_at_once(
    wafer: Wafer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, grid: Grid
) -> None:
    folder = wafer(1, (257, 263))
    engine = write_threshold_engine(tmp_path / "e.onnx", grid=grid)
    once = segment(SegmentOptions(folder, engine, out=tmp_path / "once"))
    monkeypatch.setattr(field_measurement, "_BLOCK_PX", 40 * 263)
    monkeypatch.setattr(field_measurement, "_STRIPE_PX", 7 * 263)
    pieces = segment(SegmentOptions(folder, engine, out=tmp_path / "pieces"))
    assert once.summary["phases"] == pieces.summary["phases"]
    assert np.array_equal(mask_of(tmp_path / "once", "field0.png"), mask_of(tmp_path / "pieces", "field0.png"))
    overlays = [(tmp_path / name / "overlays" / "field0.png.jpg").read_bytes() for name in ("once", "pieces")]
    assert overlays[0] == overlays[1]


def test_crop_inversion_and_scale(tmp_path: Path) -> None:
    """Half the pixels, inverted, a data bar and a margin cut off: the mask is native, 255 where not measured."""
    grey = np.repeat(np.repeat(micrograph(40, 60, 1), 2, 0), 2, 1)
    full = np.zeros((100, 126), np.uint8)
    full[:80, :120] = grey
    folder = tmp_path / "d"
    (folder / "images").mkdir(parents=True)
    Image.fromarray(full).save(folder / "images" / "a.png")
    (folder / "domain.yaml").write_text("invert: true\ncrop: {bottom_px: 20, right_px: 6}\npixel_size_um: 0.5\n")
    engine = write_threshold_engine(tmp_path / "e.onnx", grid=Grid(pixel_size_um=1.0))
    segment(SegmentOptions(folder, engine))
    mask = mask_of(tmp_path / "d-report", "a.png")
    assert mask.shape == (100, 126)
    assert (mask[80:] == 255).all() and (mask[:, 120:] == 255).all()
    measured = mask[:80, :120]
    wanted = np.repeat(np.repeat(expected_mask(255 - micrograph(40, 60, 1)), 2, 0), 2, 1)
    assert np.mean(measured != wanted) < 0.02
    row = rows_of(tmp_path / "d-report")["a.png"]
    assert float(row["fraction_bainite"]) == np.mean(measured == 1)
    assert float(row["area_um2"]) == 80 * 120 * 0.25 and int(row["measured_px"]) == 9600


def test_up_scaling_counts_native_pixels(wafer: Wafer, tmp_path: Path) -> None:
    engine = write_threshold_engine(tmp_path / "e.onnx", grid=Grid(scale=1.7), bytes_per_pixel=1000)
    folder = wafer(1, (70, 130))
    segment(SegmentOptions(folder, engine, memory_mb=457))
    mask = mask_of(tmp_path / "wafer_dir-report", "field0.png")
    assert mask.shape == (70, 130) and set(np.unique(mask)) == {0, 1}
    row = rows_of(tmp_path / "wafer_dir-report")["field0.png"]
    assert float(row["fraction_bainite"]) == np.mean(mask == 1)


def test_command_line_wins_over_domain_file_over_manifest(wafer: Wafer, tmp_path: Path) -> None:
    folder = wafer(1)
    entry = DomainEntry(name="lom", preparation=Preparation(invert=True, pixel_size_um=0.1))
    engine = write_threshold_engine(tmp_path / "e.onnx", domains=[entry])

    def used(out: str, **options: Any) -> tuple[bool, str, str]:
        result = segment(SegmentOptions(folder, engine, out=tmp_path / out, **options))
        row = rows_of(tmp_path / out)["field0.png"]
        return result.summary["settings"]["preparation"]["invert"], row["pixel_size_um"], row["pixel_size_source"]

    assert used("manifest") == (True, "", "none (native pixels)")  # an engine in native pixels assumes none
    (folder / "domain.yaml").write_text("invert: false\npixel_size_um: 0.2\n")
    assert used("domain") == (False, "0.2", "domain.yaml")
    assert used("command", invert=True, pixel_size_um=0.3) == (True, "0.3", "command line")


def test_as_picks_a_domain(wafer: Wafer, tiny_engine: Path, tmp_path: Path) -> None:
    result = segment(SegmentOptions(wafer(1), tiny_engine, out=tmp_path / "r", domain="dark"))
    assert result.summary["engine"]["domain"] == "dark"
    assert result.summary["settings"]["preparation"]["invert"] is True
    with pytest.raises(InputError, match="'bright', 'dark'"):
        segment(SegmentOptions(wafer(1, name="w2"), tiny_engine, domain="lom"))


def test_second_run_calls_the_engine_never(wafer: Wafer, tiny_engine: Path) -> None:
    folder = wafer(3)
    first = segment(SegmentOptions(folder, tiny_engine))
    before = content_of(first.report)
    second = segment(SegmentOptions(folder, tiny_engine))
    assert second.summary["engine_calls"] == 0 and second.summary["run"]["fields_resumed"] == 3
    assert content_of(second.report) == before
    # What computed stays in it, though nothing did now.
    assert second.summary["settings"]["runtime_version"] == onnxruntime.__version__
    assert f"ONNX Runtime {onnxruntime.__version__} on\nthe CPU" in (second.report / "report.html").read_text(
        encoding="utf-8"
    )


def test_a_report_is_not_continued_by_another_version_of_the_runtime(
    wafer: Wafer, tiny_engine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = wafer(2)
    report = segment(SegmentOptions(folder, tiny_engine)).report
    before = {path: path.read_bytes() for path in report.rglob("*") if path.is_file()}
    first = next(folder.iterdir())
    shutil.copy(first, folder / f"new{first.suffix}")
    Image.fromarray(255 - np.asarray(Image.open(first))).save(first)  # of its earlier content nothing is lost, either
    monkeypatch.setattr(onnxruntime, "__version__", "99.1")
    with pytest.raises(InputError, match=r"begun by onnxruntime .*, this is 99\.1.*Remedy: another --out"):
        segment(SegmentOptions(folder, tiny_engine))
    assert {path: path.read_bytes() for path in report.rglob("*") if path.is_file()} == before


def test_a_report_of_an_unknown_version_goes_on_and_claims_none(
    wafer: Wafer, tiny_engine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = wafer(2)
    report = segment(SegmentOptions(folder, tiny_engine)).report
    settings = json.loads((report / "settings.json").read_text(encoding="utf-8"))
    assert settings.pop("runtime_version") == onnxruntime.__version__
    (report / "settings.json").write_text(json.dumps(settings), encoding="utf-8")  # as it was written before
    shutil.copy(first := next(folder.iterdir()), folder / f"new{first.suffix}")
    assert segment(SegmentOptions(folder, tiny_engine)).summary["settings"]["runtime_version"] is None


def test_a_report_without_results_takes_the_version_that_gives_the_first(wafer: Wafer, tiny_engine: Path) -> None:
    folder = wafer(1)
    (whole,) = folder.iterdir()
    content = whole.read_bytes()
    whole.write_bytes(b"broken")
    assert segment(SegmentOptions(folder, tiny_engine)).summary["settings"]["runtime_version"] is None
    whole.write_bytes(content)
    report = segment(SegmentOptions(folder, tiny_engine)).report
    settings = json.loads((report / "settings.json").read_text(encoding="utf-8"))
    assert settings["runtime_version"] == onnxruntime.__version__


def test_interrupted_and_resumed_equals_uninterrupted(wafer: Wafer, tiny_engine: Path, tmp_path: Path) -> None:
    folder = wafer(6)
    whole = segment(SegmentOptions(folder, tiny_engine, out=tmp_path / "whole"))
    done = 0.0

    def interrupt(amount: float) -> None:
        nonlocal done
        done += amount
        if done > 2.5:
            raise KeyboardInterrupt

    options = SegmentOptions(folder, tiny_engine, out=tmp_path / "parts")
    with pytest.raises(KeyboardInterrupt):
        segment(options, on_advance=interrupt)
    (tmp_path / "parts" / "masks" / "field5.png.png.4711.part").write_bytes(b"half")
    (tmp_path / "parts" / "settings.json.4711.part").write_bytes(b"half")
    resumed = segment(options)
    assert 0 < resumed.summary["engine_calls"] < 6
    assert content_of(resumed.report) == content_of(whole.report)


def test_killed_and_resumed_equals_uninterrupted(wafer: Wafer, tiny_engine: Path, tmp_path: Path) -> None:
    folder = wafer(40, (400, 500))
    code = (
        "import sys; from pathlib import Path; from microseg.deploy.segment import *; "
        "segment(SegmentOptions(*map(Path, sys.argv[1:])))"
    )
    out = tmp_path / "killed"
    process = subprocess.Popen([sys.executable, "-c", code, str(folder), str(tiny_engine), str(out)])
    records = out / "records"
    until = time.monotonic() + 60
    while time.monotonic() < until and (not records.is_dir() or len(list(records.iterdir())) < 3):
        time.sleep(0.002)
    process.kill()
    process.wait()
    for path in out.rglob("*.png"):
        Image.open(path).load()
    resumed = segment(SegmentOptions(folder, tiny_engine, out=out))
    assert resumed.summary["engine_calls"] < 40
    whole = segment(SegmentOptions(folder, tiny_engine, out=tmp_path / "whole"))
    assert content_of(resumed.report) == content_of(whole.report)


def test_changed_content_is_measured_again(wafer: Wafer, tiny_engine: Path) -> None:
    folder = wafer(2)
    segment(SegmentOptions(folder, tiny_engine))
    stamp = (folder / "field1.png").stat().st_mtime
    Image.fromarray(micrograph(90, 120, 77)).save(folder / "field1.png")
    os.utime(folder / "field1.png", (stamp, stamp))
    again = segment(SegmentOptions(folder, tiny_engine))
    assert again.summary["engine_calls"] == 1
    fresh = segment(SegmentOptions(folder, tiny_engine, out=folder.parent / "fresh"))
    assert content_of(again.report) == content_of(fresh.report)


def test_other_engine_or_settings_are_never_mixed(wafer: Wafer, tiny_engine: Path, tmp_path: Path) -> None:
    options = SegmentOptions(wafer(1), tiny_engine)
    report = segment(options).report
    before = content_of(report)
    other = write_threshold_engine(tmp_path / "other.onnx", [(0.3,), (0.35,)])
    for changed, key in (
        (replace(options, engine=other), "engine_sha256"),
        (replace(options, invert=True), "preparation"),
        (replace(options, pixel_size_um=1.0), "pixel_size_um"),
        (replace(options, memory_mb=1000), "max_tile_pixels"),
        (replace(options, input=wafer(1, name="elsewhere"), out=report), "input"),
    ):
        with pytest.raises(InputError, match=rf"(?s)never mixes.*{key}"):
            segment(changed)
    assert content_of(report) == before


def test_broken_files_fail_alone(wafer: Wafer, tiny_engine: Path) -> None:
    folder = wafer(2)
    good = (folder / "field0.png").read_bytes()
    (folder / "sub").mkdir()
    (folder / "sub" / "truncated.png").write_bytes(good[: len(good) // 2])
    (folder / "empty.tif").write_bytes(b"")
    (folder / "text.jpg").write_text("no picture")
    (folder / "notes.txt").write_text("no picture either")
    Image.new("L", (1, 1), 7).save(folder / "one.png")
    Image.new("L", (64, 64), 0).save(folder / "black.png")
    Image.fromarray((micrograph(64, 64, 0) > 99).astype(np.uint8)).save(folder / "labels.png")
    result = segment(SegmentOptions(folder, tiny_engine))
    reasons = {failed["field"]: failed["reason"] for failed in result.summary["failed"]}
    assert set(reasons) == {"sub/truncated.png", "empty.tif", "text.jpg", "one.png", "black.png", "labels.png"}
    assert all("Traceback" not in reason and str(folder) in reason for reason in reasons.values())
    assert "label mask" in reasons["labels.png"]
    assert result.summary["fields"] == {"total": 8, "measured": 2, "failed": 6}
    assert result.summary["phases"]["bainite"]["n"] == 2
    assert {name: row["reason"] for name, row in rows_of(result.report).items() if row["status"] == "failed"} == reasons
    assert not list(result.report.rglob("*.part"))
    assert sorted(path.name for path in (result.report / "masks").rglob("*.*")) == ["field0.png.png", "field1.png.png"]
    (folder / "empty.tif").write_bytes(good)
    again = segment(SegmentOptions(folder, tiny_engine))
    assert again.summary["engine_calls"] == 2  # the mended field, and the label mask that is found out at its end
    assert again.summary["fields"]["measured"] == 3


def test_a_field_that_vanishes(wafer: Wafer, tiny_engine: Path) -> None:
    folder = wafer(3)
    result = segment(SegmentOptions(folder, tiny_engine), on_total=lambda total: (folder / "field1.png").unlink())
    assert [failed["field"] for failed in result.summary["failed"]] == ["field1.png"]
    assert result.summary["fields"]["measured"] == 2


def test_a_field_that_breaks_between_its_tiles(wafer: Wafer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = wafer(3, (300, 100))
    engine = write_threshold_engine(tmp_path / "e.onnx", bytes_per_pixel=1000)
    from microseg.core.preparation.prepared_field import PreparedField

    real = PreparedField.rows

    def rows(self: PreparedField, start: int, stop: int) -> NDArray[np.uint8]:
        if self.path.name == "field1.png" and start > 100:
            raise FieldError(f"{self.path}: gone")
        return real(self, start, stop)

    monkeypatch.setattr(PreparedField, "rows", rows)
    result = segment(SegmentOptions(folder, engine, memory_mb=460))
    assert result.summary["failed"] == [{"field": "field1.png", "reason": f"{folder / 'field1.png'}: gone"}]
    assert not (result.report / "masks" / "field1.png.png").exists() and not list(result.report.rglob("*.part"))


def test_an_engine_that_fails_fails_its_fields_alone(
    wafer: Wafer, tiny_engine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from microseg.runtime.onnx_engine import OnnxEngine

    real = OnnxEngine.run

    def run(self: OnnxEngine, tiles: NDArray[np.uint8], **options: Any) -> Any:
        if self.runs == 1:
            self.runs += 1
            raise FieldError("out of memory")
        return real(self, tiles, **options)

    monkeypatch.setattr(OnnxEngine, "run", run)
    result = segment(SegmentOptions(wafer(3), tiny_engine))
    assert result.summary["failed"] == [{"field": "field1.png", "reason": "out of memory"}]


def test_batches_are_shared_between_fields(wafer: Wafer, tiny_engine: Path, tmp_path: Path) -> None:
    folder = wafer(5)
    Image.fromarray(micrograph(50, 60, 9)).save(folder / "field2b.png")
    single = segment(SegmentOptions(folder, tiny_engine, out=tmp_path / "single", threads=1))
    shared = segment(SegmentOptions(folder, tiny_engine, out=tmp_path / "shared", threads=1, batch=2))
    assert (single.summary["engine_calls"], shared.summary["engine_calls"]) == (6, 4)
    assert content_of(tmp_path / "single") == content_of(tmp_path / "shared")


def test_a_refused_run_removes_nothing(wafer: Wafer, tiny_engine: Path) -> None:
    report = segment(SegmentOptions(wafer(3), tiny_engine)).report
    folder = report.parent / "wafer_dir"
    settings = json.loads((report / "settings.json").read_text())
    (report / "settings.json").write_text(json.dumps(settings | {"runtime_version": "0.1"}))
    kept = sorted(path for path in report.rglob("*") if path.is_file())
    (folder / "field0.png").write_bytes(b"half copied")
    (folder / "new.png").write_bytes((folder / "field1.png").read_bytes())
    with pytest.raises(InputError, match="was begun by"):
        segment(SegmentOptions(folder, tiny_engine))
    assert sorted(path for path in report.rglob("*") if path.is_file()) == kept
    (report / "settings.json").write_text(json.dumps(settings))
    assert segment(SegmentOptions(folder, tiny_engine)).summary["fields"]["failed"] == 1
    assert not (report / "masks" / "field0.png.png").exists(), "of a content that is gone"


@pytest.mark.skipif(not Path("/proc/self").exists(), reason="processes are known by /proc")
def test_what_another_run_is_writing_stays(wafer: Wafer, tiny_engine: Path) -> None:
    report = segment(SegmentOptions(wafer(1), tiny_engine)).report
    parts = [report / "masks" / f"a.png.{process}.part" for process in (os.getppid(), os.getpid(), 2**22 + 1)]
    for part in parts:
        part.touch()
    segment(SegmentOptions(report.parent / "wafer_dir", tiny_engine))
    assert [part.exists() for part in parts] == [True, False, False]


def test_records_and_settings_that_were_damaged(wafer: Wafer, tiny_engine: Path) -> None:
    report = segment(SegmentOptions(wafer(2), tiny_engine)).report
    path = report / "records" / "field0.png.json"
    record = json.loads(path.read_text())
    record["field"]["counts"][0] += 1
    path.write_text(json.dumps(record))
    again = segment(SegmentOptions(report.parent / "wafer_dir", tiny_engine)).summary
    assert (again["run"]["fields_measured"], again["run"]["fields_resumed"]) == (1, 1)
    (report / "settings.json").write_text("[]")
    with pytest.raises(InputError, match="holds no settings"):
        segment(SegmentOptions(report.parent / "wafer_dir", tiny_engine))


def test_full_batches_do_not_wait_for_fields_that_wait_for_them(
    wafer: Wafer, tiny_engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("microseg.deploy.pipeline.field_pipeline._BYTES_UNDER_WAY", 1)
    result = segment(SegmentOptions(wafer(4), tiny_engine, batch=3))
    assert result.summary["fields"]["measured"] == 4


def test_disk_full_leaves_only_complete_files(
    wafer: Wafer, tiny_engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = wafer(4)
    real = files.write_bytes

    def full(path: Path, data: bytes) -> None:
        if path.name.startswith("field2"):
            raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC), str(path))
        real(path, data)

    options = SegmentOptions(folder, tiny_engine)
    with monkeypatch.context() as patched:
        patched.setattr(report_sink, "write_bytes", full)
        with pytest.raises(InputError, match=r"field2.*disk is full.*repeat the same command"):
            segment(options)
    report = tmp_path / "wafer_dir-report"
    assert not list(report.rglob("*.part")) and len(list((report / "records").iterdir())) == 2
    assert segment(options).summary["engine_calls"] == 2


def test_wrong_places(wafer: Wafer, tiny_engine: Path, tmp_path: Path) -> None:
    folder = wafer(1)
    options = SegmentOptions(folder, tiny_engine)
    (tmp_path / "file").write_text("x")
    (tmp_path / "full").mkdir()
    (tmp_path / "full" / "thesis.txt").write_text("x")
    (tmp_path / "none").mkdir()
    for changed, message in (
        (replace(options, input=tmp_path / "nowhere"), "does not exist"),
        (replace(options, input=tmp_path / "none"), "holds no images"),
        (replace(options, input=tmp_path / "file"), "no image file"),
        (replace(options, engine=tmp_path / "nothing.onnx"), "does not exist"),
        (replace(options, out=folder / "report"), "inside the input"),
        (replace(options, out=folder), "inside the input"),
        (replace(options, out=tmp_path / "file"), "is a file"),
        (replace(options, out=tmp_path / "file" / "below"), "cannot be written"),
        (replace(options, out=tmp_path / "full"), "is not empty"),
        (replace(options, memory_mb=10), "needs at least"),
    ):
        with pytest.raises(InputError, match=message):
            segment(changed)
    assert sorted(path.name for path in folder.iterdir()) == ["field0.png"]


def test_an_engine_replaced_while_it_is_loaded(
    wafer: Wafer, tiny_engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = Path(shutil.copy(tiny_engine, tmp_path / "e.onnx"))

    require = EngineFile.require_intact

    def replaced(file: EngineFile) -> EngineFile:
        found = require(file)
        write_threshold_engine(file.path, thresholds=((0.1,), (0.1,)))
        return found

    with monkeypatch.context() as patched:
        patched.setattr(EngineFile, "require_intact", replaced)
        with pytest.raises(InputError, match=r"e\.onnx: changed while it was read. Remedy: repeat the command"):
            segment(SegmentOptions(wafer(2), engine))
    assert not (tmp_path / "wafer_dir-report").exists()


@pytest.mark.skipif(not hasattr(os, "mkfifo"), reason="this system has no named pipes")
def test_an_engine_that_is_no_file_is_not_waited_for(wafer: Wafer, tmp_path: Path) -> None:
    os.mkfifo(tmp_path / "pipe.onnx")
    with pytest.raises(InputError, match="does not exist"):
        segment(SegmentOptions(wafer(1), tmp_path / "pipe.onnx"))


@pytest.mark.parametrize("gone", [False, True])
def test_a_field_that_changes_while_it_is_measured_fails(
    wafer: Wafer, tiny_engine: Path, gone: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What was hashed is not what was measured; a file that is gone was read to its end."""
    folder = wafer(2)
    finish = FieldMeasurement.finish

    def changed(self: FieldMeasurement) -> Any:
        path = folder / "field0.png"
        if self._field.path == path:
            path.unlink()
            if not gone:
                shutil.copy(folder / "field1.png", path)
        return finish(self)

    with monkeypatch.context() as patched:
        patched.setattr(FieldMeasurement, "finish", changed)
        result = segment(SegmentOptions(folder, tiny_engine))
    if gone:
        assert result.summary["fields"]["measured"] == 2
        return
    (failed,) = result.summary["failed"]
    assert failed["reason"].endswith("field0.png: changed while it was measured. Remedy: repeat the command.")
    assert not (result.report / "masks" / "field0.png.png").exists()
    assert segment(SegmentOptions(folder, tiny_engine)).summary["fields"]["measured"] == 2


def test_masks_that_disappear_meanwhile_are_told(
    wafer: Wafer, tiny_engine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder = wafer(2)
    finish = ReportSink.finish

    def removed(self: ReportSink) -> None:
        finish(self)
        (folder.parent / "wafer_dir-report" / "masks" / "field1.png.png").unlink()

    with monkeypatch.context() as patched:
        patched.setattr(ReportSink, "finish", removed)
        with pytest.raises(InputError, match=r"masks or overlays of 1 fields disappeared during the run \(field1\.png"):
            segment(SegmentOptions(folder, tiny_engine))
    result = segment(SegmentOptions(folder, tiny_engine))
    assert result.summary["run"]["fields_resumed"] == 1 and (result.report / "masks" / "field1.png.png").exists()


def test_one_file_and_its_default_report(wafer: Wafer, tiny_engine: Path) -> None:
    folder = wafer(1)
    result = segment(SegmentOptions(folder / "field0.png", tiny_engine))
    assert result.report == folder / "field0.png-report"
    bainite = result.summary["phases"]["bainite"]
    assert bainite["n"] == 1 and bainite["ci95"] is None and bainite["std"] is None
    assert "asks for\nseveral fields" in (result.report / "report.html").read_text(encoding="utf-8")
    assert segment(SegmentOptions(folder, tiny_engine)).summary["fields"]["total"] == 1


def test_no_field_at_all_could_be_measured(tmp_path: Path, tiny_engine: Path) -> None:
    folder = tmp_path / "w"
    folder.mkdir()
    (folder / "a.png").write_bytes(b"")
    result = segment(SegmentOptions(folder, tiny_engine))
    assert result.summary["phases"]["bainite"]["n"] == 0 and result.summary["engine_calls"] == 0
    assert "no fraction to state" in (result.report / "report.html").read_text(encoding="utf-8")


@pytest.mark.skipif(os.name == "nt", reason="file names are Unicode there")
def test_names_and_links_that_lead_astray(wafer: Wafer, tiny_engine: Path) -> None:
    folder = wafer(1)
    (folder / "loop.tif").symlink_to("loop.tif")
    summary = segment(SegmentOptions(folder, tiny_engine)).summary
    assert (summary["fields"]["measured"], summary["fields"]["failed"]) == (1, 1)
    content = (folder / "field0.png").read_bytes()
    for name in (b"a\xff.png", rb"a\xff.png"):
        Path(os.fsdecode(os.fsencode(folder) + b"/" + name)).write_bytes(content)
    with pytest.raises(InputError, match="2 files have the name"):
        segment(SegmentOptions(folder, tiny_engine))


def test_names(tmp_path: Path, tiny_engine: Path) -> None:
    folder = tmp_path / "Gefüge A, Probe <1>"
    (folder / "sub dir").mkdir(parents=True)
    names = ["a.tif", "c.png", "sub dir/a b.png", "Ätzung.png", 'x,"y".png']
    if os.name != "nt":
        names += ["new\nline.png", "con.png", "<script>.png"]
    for index, name in enumerate(names):
        Image.fromarray(micrograph(40, 50, index)).save(folder / name)
    result = segment(SegmentOptions(folder, tiny_engine))
    assert not result.summary["failed"]
    rows = rows_of(result.report)
    assert set(rows) == set(names)
    for row in rows.values():
        assert (result.report / row["mask"]).is_file() and (result.report / row["overlay"]).is_file()
        assert "\n" not in row["mask"]
    assert len({row["mask"] for row in rows.values()}) == len(names)
    page = (result.report / "report.html").read_text(encoding="utf-8")
    assert "<script>" not in page and "overlays/sub%20dir/a%20b.png.jpg" in page


def test_results_of_removed_files_are_not_counted(wafer: Wafer, tiny_engine: Path) -> None:
    folder = wafer(3)
    segment(SegmentOptions(folder, tiny_engine))
    (folder / "field2.png").unlink()
    shutil.copy(folder / "field0.png", folder / "field1.png")
    result = segment(SegmentOptions(folder, tiny_engine))
    assert (result.summary["fields"]["measured"], result.summary["phases"]["bainite"]["n"]) == (2, 1)
    assert any("no longer in the input" in notice for notice in result.summary["notices"])
    assert "Counted once: field1.png (same file as field0.png)." in result.summary["notices"]


def test_memory_limit_decides_the_tile(tiny_engine: Path) -> None:
    manifest = read_manifest(tiny_engine)
    assert max_tile_pixels(manifest, 0, 560) == pytest.approx(1_000_000, abs=1)
    assert max_tile_pixels(manifest, 10**10, None) == 640 * 640


def test_station_needs_neither_torch_nor_the_slow_imports(wafer: Wafer, tiny_engine: Path) -> None:
    blocked = ("torch", "torchvision", "onnx", "scipy.stats", "scipy.special", "skimage", "matplotlib", "pandas")
    code = f"""
import sys
from pathlib import Path
class Block:
    def find_spec(self, name, path=None, target=None):
        if name in {blocked!r}:
            raise ImportError(name + " is blocked")
sys.meta_path.insert(0, Block())
from microseg.deploy.segment import segment
from microseg.deploy.segment_options import SegmentOptions
assert segment(SegmentOptions(*map(Path, sys.argv[1:]))).summary["engine_calls"] == 1
"""
    subprocess.run([sys.executable, "-c", code, str(wafer(1)), str(tiny_engine)], check=True)


@pytest.mark.parametrize("suffix", [".lif", ".oib", ".oir", ".vsi", ".nd2", ".emd"])
def test_a_format_that_is_not_read_is_named_in_the_report(wafer: Wafer, tiny_engine: Path, suffix: str) -> None:
    folder = wafer(1)
    (folder / f"b{suffix.upper()}").write_bytes(b"data")
    content = segment(SegmentOptions(folder, tiny_engine)).summary
    assert content["fields"] == {"total": 2, "measured": 1, "failed": 1}
    assert f"not read: a {NOT_READ[suffix]} file. Remedy: save it as TIFF" in content["failed"][0]["reason"]


def test_a_field_is_never_counted_twice(wafer: Wafer, tiny_engine: Path) -> None:
    folder = wafer(3)
    image = Image.open(folder / "field0.png")
    image.save(folder / "field0.jpg")  # a preview
    image.save(folder / "field1.bmp")  # another file without loss
    (folder / "Labels").mkdir()
    image.save(folder / "Labels" / "field0.png")
    image.save(folder / "field2_mask.png")
    for name in ("notes.txt", "Thumbs.db", "more.txt", "README"):
        (folder / name).write_text("text")
    result = segment(SegmentOptions(folder, tiny_engine))
    rows = rows_of(result.report)
    assert {name: row["status"] for name, row in rows.items()} == {
        "field0.png": "measured", "field1.bmp": "failed", "field2.png": "measured",
    }  # fmt: skip
    assert "field1.bmp and field1.png have one name" in rows["field1.bmp"]["reason"]
    for told in (
        "Left out as masks: 1 file in Labels.",
        "Left out as masks beside their images: field2_mask.png.",
        "Left out as second files of a field: field0.jpg (field0.png is taken).",
        "Passed over: 2 .txt, 1 .db, 1 without suffix (no images).",
    ):
        assert told in result.summary["notices"]
    assert "Left out as masks: 1 file in Labels." in (result.report / "report.html").read_text(encoding="utf-8")
