"""One engine of a run: what torch says, self-described, or nothing at all."""

from __future__ import annotations

import shutil
from pathlib import Path

import numpy as np
import onnx
import pytest
import torch
from numpy.typing import NDArray

from microseg.core.domains.domain import load_domain
from microseg.core.errors import GateError, InputError
from microseg.core.preparation.tiling import extract, plan_tiles
from microseg.core.schemas.preparation import Grid
from microseg.core.schemas.run import read_run
from microseg.deploy.evaluate import evaluate_engine
from microseg.export import onnx_export as module
from microseg.export.onnx_export import export_run
from microseg.export.torch_graph import bag as graph
from microseg.models.build import load_folds
from microseg.models.unet import UNet
from microseg.runtime import EngineFile, open_engine, read_manifest
from microseg.train.analysis.evaluate import evaluate_run
from microseg.train.common.datasets import load_fields
from microseg.train.common.prediction import predict_field


def tiles(count: int, height: int, width: int) -> NDArray[np.uint8]:
    return np.random.default_rng(height).integers(0, 256, (count, 1, height, width), np.uint8)


@pytest.fixture
def ready_made(monkeypatch: pytest.MonkeyPatch, exported: Path) -> None:
    """Spares the exporter's seconds: the graph is that of the session's engine."""
    monkeypatch.setattr(graph, "build_onnx", lambda networks, path: shutil.copyfile(exported, path))
    monkeypatch.setattr(module, "measure_bytes_per_pixel", lambda path, stride: 100.0)


def test_the_manifest_is_complete(exported: Path, trained: Path) -> None:
    record, summary = read_run(trained)
    manifest = read_manifest(exported)
    assert manifest.phases == record.phases
    assert manifest.grid == record.grid
    assert manifest.domains == [record.domain]
    assert manifest.default_domain == record.domain.name
    assert manifest.folds == summary.folds
    assert manifest.fingerprints == summary.fingerprints
    assert manifest.training_fields == record.fields
    assert manifest.trained_pixel_sizes == record.trained_pixel_sizes is not None
    assert (manifest.stride, manifest.halo_px, manifest.tile_core_px) == (8, 16, 48)
    assert [parity.fold for parity in manifest.parity] == [-1, 0, 1]
    assert all(set(parity.fraction_difference_points) == {"ferrite", "lath-bainite"} for parity in manifest.parity)
    assert manifest.bytes_per_pixel > 1
    assert manifest.model_sha256 == EngineFile(exported).hashes.network
    (judged,) = manifest.fidelity
    assert len(judged.fields) == len(list(trained.glob("fold*/parity/*.png"))) and not judged.not_a_number
    assert manifest.provenance.dataset_sha256 == record.dataset_sha256
    onnx.checker.check_model(exported)


@pytest.mark.parametrize("shape", [(1, 8, 8), (1, 104, 120), (3, 40, 24)], ids=str)
def test_the_engine_says_what_torch_says(exported: Path, trained: Path, shape: tuple[int, int, int]) -> None:
    networks = load_folds(trained, *read_run(trained))
    pixels = tiles(*shape)
    out = open_engine(exported, threads=1).run(pixels, features=True, probability=True)
    with torch.inference_mode():
        theirs = [network(torch.from_numpy(pixels)) for network in networks]
    soft = np.stack([found.logits.softmax(1).numpy() for found in theirs], 1)
    count, height, width = shape
    assert out.labels.shape == (count, height, width)
    assert out.votes.shape == (count, 2, height, width)
    assert out.labels.dtype == out.votes.dtype == np.uint8
    assert out.probability is not None and out.features is not None
    assert np.allclose(out.probability, soft.mean(1), atol=1e-4)
    assert np.allclose(out.features, np.stack([found.features.numpy() for found in theirs], 1), atol=1e-3)
    for fold in range(2):
        assert (out.votes[:, fold] != soft[:, fold].argmax(1)).mean() < 1e-3
    clear = np.abs(soft.mean(1)[:, 0] - 0.5) > 1e-4
    assert np.array_equal(out.labels[clear], soft.mean(1).argmax(1)[clear])


def test_masks_and_scores_equal_those_of_the_run(exported: Path, trained: Path, unseen: Path) -> None:
    engine = open_engine(exported, threads=1)
    networks = load_folds(trained, *read_run(trained))
    for field in load_fields(load_domain(unseen), Grid()):
        height, width = field.image.shape
        (tile,) = plan_tiles(height, width, 8, 16, 1 << 20)
        pixels = extract(lambda start, stop, f=field: f.image[start:stop], tile, height, width)  # type: ignore[misc]
        ours = engine.run(pixels[None, None]).labels[0, :height, :width]
        soft = predict_field(networks, field.image, 8, 16)[0].mean(0)
        assert (ours != soft.argmax(0)).mean() <= 1e-4
    by_run, by_engine = evaluate_run(trained, unseen), evaluate_engine(exported, unseen)
    assert by_engine["miou"] == pytest.approx(by_run["miou"], abs=1e-3)
    assert by_engine["iou"] == pytest.approx(by_run["iou"], abs=1e-3)


def test_an_engine_knows_the_fields_it_was_trained_on(exported: Path, source: Path) -> None:
    assert all(field["seen_in_training"] for field in evaluate_engine(exported, source)["fields"])


def test_tiled_equals_whole_with_a_sufficient_halo(exported: Path) -> None:
    engine = open_engine(exported, threads=1)
    image = tiles(1, 72, 420)[0, 0]
    height, width = image.shape
    found = []
    for largest in (1 << 20, 72 * 240):
        plan = plan_tiles(height, width, 8, 64, largest)
        soft = np.empty((2, height, width), np.float32)
        for tile in plan:
            cut = extract(lambda start, stop: image[start:stop], tile, height, width)
            out = engine.run(cut[None, None], probability=True).probability
            assert out is not None
            y, x = tile.core_top - tile.top, tile.core_left - tile.left
            down = slice(tile.core_top, tile.core_top + tile.core_height)
            across = slice(tile.core_left, tile.core_left + tile.core_width)
            soft[:, down, across] = out[0, :, y : y + tile.core_height, x : x + tile.core_width]
        found.append(soft)
    whole, tiled = found
    assert np.allclose(whole, tiled, atol=1e-5)
    clear = np.abs(whole[0] - 0.5) > 1e-4
    assert np.array_equal(whole.argmax(0)[clear], tiled.argmax(0)[clear])


def test_another_encoder_exports_too(tmp_path: Path) -> None:
    torch.manual_seed(0)
    network = UNet("resnet18", 3, "none", (8, 8, 8)).eval()
    graph.build_onnx([network], tmp_path / "bare.onnx")
    import onnxruntime

    session = onnxruntime.InferenceSession(tmp_path / "bare.onnx", providers=["CPUExecutionProvider"])
    for shape in ((1, 24, 40), (2, 64, 8)):
        pixels = tiles(*shape)
        (soft,) = session.run(["probability"], {"tiles": pixels})
        assert np.allclose(soft, graph.run_torch([network], pixels)[0], atol=1e-4)


@pytest.mark.usefixtures("ready_made")
def test_a_disagreement_writes_nothing(trained: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    right = graph.run_torch

    def wrong(networks: list[UNet], pixels: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        return [found[:, ::-1] for found in right(networks, pixels)]

    monkeypatch.setattr(graph, "run_torch", wrong)
    with pytest.raises(GateError, match="The engine does not agree with torch"):
        export_run(trained, tmp_path / "out" / "bagged.onnx")
    assert not list(tmp_path.rglob("*"))


@pytest.mark.usefixtures("ready_made")
def test_changed_weights_are_refused(trained: Path, tmp_path: Path) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    path = run / "fold1" / "model.safetensors"
    content = bytearray(path.read_bytes())
    content[-1] ^= 1
    path.write_bytes(content)
    with pytest.raises(
        InputError, match=r"fold1.model\.safetensors: is missing, or is not the file that training wrote"
    ):
        export_run(run, tmp_path / "bagged.onnx")
    path.unlink()
    with pytest.raises(InputError, match="is missing"):
        export_run(run, tmp_path / "bagged.onnx")
    assert not (tmp_path / "bagged.onnx").exists()


def test_what_is_no_finished_run_is_refused(trained: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="not a run folder"):
        export_run(tmp_path, tmp_path / "a.onnx")
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    shutil.rmtree(run / "fold0" / "parity")
    shutil.rmtree(run / "fold1" / "parity")
    with pytest.raises(InputError, match="no tiles to compare"):
        export_run(run, tmp_path / "a.onnx")
    (run / "summary.json").unlink()
    with pytest.raises(InputError, match="training is not finished"):
        export_run(run, tmp_path / "a.onnx")


def test_out_is_checked_first(tmp_path: Path, exported: Path) -> None:
    with pytest.raises(InputError, match=r"bagged\.engine: engines are \.onnx files"):
        export_run(tmp_path, tmp_path / "bagged.engine")
    with pytest.raises(InputError, match="exists"):
        export_run(tmp_path, exported)


@pytest.mark.usefixtures("ready_made")
def test_a_place_that_cannot_be_written_is_named(trained: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("", encoding="utf-8")
    with pytest.raises(InputError, match=r"cannot be written|exists"):
        export_run(trained, tmp_path / "file" / "bagged.onnx")
