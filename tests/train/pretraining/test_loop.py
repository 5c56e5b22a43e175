"""Pre-training: classes are learned, a kill loses nothing, and the encoder fits the networks that start from it."""

from __future__ import annotations

import csv
import json
import os
import signal
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from PIL import Image
from safetensors.torch import load_file

from microseg.core.errors import InputError, TrainingError
from microseg.core.schemas.run import PretrainSummary
from microseg.core.system.files import sha256_of
from microseg.models.deeplab import DeepLabV2
from microseg.models.unet import UNet
from microseg.train.pretraining.classified_data import centre_cut, find_classes, is_annotated
from microseg.train.pretraining.command import run_pretrain
from microseg.train.pretraining.recipe import PretrainRecipe
from tests.chain import microseg
from tests.processes import in_own_process

STEPS = 5


class Interrupted(Exception):
    """Stands for a kill between two steps."""


def recipe(**changes: object) -> PretrainRecipe:
    settings: dict[str, object] = {
        "task": "pretrain", "encoder": {"name": "tf_efficientnet_lite0", "weights": "none"}, "scale": 1.0, "tile_px": 32,
        "learning_rate": 2e-3, "batch": 4, "steps": STEPS, "validate_every": 2,
    }  # fmt: skip
    return PretrainRecipe.model_validate(settings | changes)


def texture(seed: int, sigma: float, side: int = 48) -> NDArray[np.uint8]:
    noise = np.random.default_rng(seed).standard_normal((side, side)).astype(np.float32)
    smooth = np.asarray(cv2.GaussianBlur(noise, (0, 0), sigma), np.float32)
    grey: NDArray[np.uint8] = np.clip(128 + 50 * smooth / smooth.std(), 0, 255).astype(np.uint8)
    return grey


@pytest.fixture(scope="module")
def classified(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Fine and coarse textures, six files each."""
    folder = tmp_path_factory.mktemp("classified")
    for name, sigma in (("coarse", 5.0), ("fine", 0.6)):
        (folder / name).mkdir()
        for index in range(6):
            Image.fromarray(texture(index, sigma)).save(folder / name / f"{index}.png")
    return folder


@pytest.fixture(scope="module")
def pretrained(classified: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("runs") / "pretrained"
    run_pretrain(classified, "tiny", recipe(), out, resume=False)
    return out


def test_the_run_folder_is_complete(pretrained: Path) -> None:
    summary = PretrainSummary.model_validate_json((pretrained / "summary.json").read_text())
    assert summary.classes == ["coarse", "fine"]
    assert summary.encoder == "tf_efficientnet_lite0"
    assert 0 <= summary.accuracy <= 1
    assert np.sum(summary.confusion) == 2, "one file of six validates, per class"
    assert summary.weights_sha256 == sha256_of(pretrained / "encoder.safetensors")
    assert [int(row.split(",")[0]) for row in (pretrained / "history.csv").read_text().splitlines()[1:]] == [2, 4, 5]


def test_texture_classes_are_learned(classified: Path, tmp_path: Path) -> None:
    encoder = {"name": "tf_efficientnet_lite0", "weights": "imagenet"}
    losses: list[float] = []
    settings = recipe(encoder=encoder, steps=12, validate_every=12, batch=6)
    run_pretrain(
        classified, "tiny", settings, tmp_path / "run", resume=False,
        progress=lambda step, steps, text: losses.append(float(text.removeprefix("loss "))),
    )  # fmt: skip
    first, last = losses[0], losses[-1]
    assert last < 0.3 * first


@pytest.mark.parametrize("stop", [1, 3, 5])
def test_a_resumed_run_equals_an_uninterrupted_one(
    classified: Path, pretrained: Path, tmp_path: Path, stop: int
) -> None:
    def report(step: int, steps: int, text: str) -> None:
        assert steps == STEPS
        if step == stop:
            raise Interrupted

    with pytest.raises(Interrupted):
        run_pretrain(classified, "tiny", recipe(), tmp_path / "run", resume=False, progress=report)
    run_pretrain(classified, "tiny", recipe(), tmp_path / "run", resume=True)
    for name in ("encoder.safetensors", "history.csv"):
        assert (tmp_path / "run" / name).read_bytes() == (pretrained / name).read_bytes()


def test_a_stop_saves_the_step_under_way(classified: Path, pretrained: Path, tmp_path: Path) -> None:
    in_own_process(_pretrain_and_stop, classified, tmp_path / "run")
    assert json.loads((tmp_path / "run" / "last" / "state.json").read_text())["step"] == 3
    run_pretrain(classified, "tiny", recipe(validate_every=5), tmp_path / "run", resume=True)
    (row,) = csv.DictReader((tmp_path / "run" / "history.csv").read_text().splitlines())
    mean = (
        np.mean([float(each["loss"]) * steps for each, steps in zip(_history(pretrained), (2, 2, 1), strict=True)])
        * 3
        / 5
    )
    assert float(row["loss"]) == pytest.approx(mean), "the losses before the stop count"


def _pretrain_and_stop(classified: Path, run: Path) -> None:
    def report(step: int, steps: int, text: str) -> None:
        if step == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    with pytest.raises(KeyboardInterrupt):
        run_pretrain(classified, "tiny", recipe(validate_every=5), run, resume=False, progress=report)


def _history(run: Path) -> list[dict[str, str]]:
    return list(csv.DictReader((run / "history.csv").read_text().splitlines()))


def test_networks_start_from_it(pretrained: Path) -> None:
    stored = load_file(pretrained / "encoder.safetensors")
    unet = UNet("tf_efficientnet_lite0", 2, str(pretrained), (16, 8, 8))
    deeplab = DeepLabV2("tf_efficientnet_lite0", 2, str(pretrained))
    for network in (unet, deeplab):
        state = network.encoder.state_dict()
        (stem,) = [value for key, value in state.items() if "conv_stem" in key]
        (there,) = [value for key, value in stored.items() if "conv_stem" in key]
        assert torch.equal(stem, there)


def test_another_encoder_is_named_with_the_one_that_was_pretrained(pretrained: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"holds a pre-trained tf_efficientnet_lite0, but encoder\.name is resnet18"):
        UNet("resnet18", 2, str(pretrained), (16, 8, 8))
    with pytest.raises(InputError, match="no finished pre-training run"):
        UNet("resnet18", 2, str(tmp_path), (16, 8, 8))


def test_a_supervised_run_is_no_pretraining(trained: Path) -> None:
    with pytest.raises(InputError, match="not a run of `microseg train pretrain`"):
        UNet("tf_efficientnet_lite0", 2, str(trained), (16, 8, 8))


def test_validation_files_are_a_share_of_every_class(classified: Path) -> None:
    names, files = find_classes(classified, 0.34, seed=3)
    assert names == ["coarse", "fine"]
    for label in (0, 1):
        assert sum(file.is_validation for file in files if file.label == label) == 2
    assert find_classes(classified, 0.34, seed=3) == (names, files)
    assert find_classes(classified, 0.34, seed=4) != (names, files)


def test_burned_in_text_is_seen_and_saturation_is_not() -> None:
    plain = texture(1, 3.0, 200)
    assert not is_annotated(plain)
    bright = plain.copy()
    bright[50:90, 50:120] = 255
    assert not is_annotated(bright), "a bright grain is no text"
    salted = plain.copy()
    salted[np.random.default_rng(0).random(plain.shape) > 0.99] = 255
    assert not is_annotated(salted), "nor is noise"
    written = plain.copy()
    cv2.putText(written, "2 um", (20, 180), cv2.FONT_HERSHEY_SIMPLEX, 1.0, 255, 2)
    assert is_annotated(written)


def test_annotated_images_are_listed_or_left_out(tmp_path: Path) -> None:
    for name in ("a", "b"):
        (tmp_path / "in" / name).mkdir(parents=True)
        for index in range(4):
            image = texture(index, 3.0, 200)
            if (name, index) == ("a", 2):
                cv2.putText(image, "2 um", (20, 180), cv2.FONT_HERSHEY_SIMPLEX, 1.0, 255, 2)
            Image.fromarray(image).save(tmp_path / "in" / name / f"{index}.png")
    listed = run_pretrain(tmp_path / "in", "t", recipe(steps=1), tmp_path / "1", resume=False, annotated="list")
    refused = run_pretrain(tmp_path / "in", "t", recipe(steps=1), tmp_path / "2", resume=False, annotated="refuse")
    cropped = run_pretrain(
        tmp_path / "in", "t", recipe(steps=1), tmp_path / "3", resume=False, annotated="refuse", crop_bottom_px=60
    )
    assert (listed.annotated, refused.annotated, cropped.annotated) == (["a/2.png"], ["a/2.png"], [])


def test_small_images_are_mirrored() -> None:
    assert centre_cut(texture(0, 2.0, 20), 32).shape == (32, 32)
    assert np.array_equal(centre_cut(texture(0, 2.0, 48), 32), texture(0, 2.0, 48)[8:40, 8:40])


@pytest.mark.parametrize(
    ("classes", "message"),
    [
        ({}, "holds 0 class folders"),
        ({"only": 3}, "holds 1 class folders"),
        ({"many": 3, "one": 1}, "one: holds 1 image to use; a class needs"),
        ({"many": 3, "none": 0}, "none: holds 0 images"),
    ],
)
def test_what_cannot_be_learned_is_named(tmp_path: Path, classes: dict[str, int], message: str) -> None:
    folder = tmp_path / "in"
    folder.mkdir()
    for name, count in classes.items():
        (folder / name).mkdir()
        for index in range(count):
            Image.fromarray(texture(index, 2.0)).save(folder / name / f"{index}.png")
    with pytest.raises(InputError, match=message):
        run_pretrain(folder, "tiny", recipe(), tmp_path / "out", resume=False)
    assert not (tmp_path / "out").exists()


def test_a_diverging_run_stops(classified: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    nan = torch.tensor(float("nan"), requires_grad=True)
    monkeypatch.setattr("torch.nn.functional.binary_cross_entropy_with_logits", lambda *_: nan * 1)
    with pytest.raises(TrainingError, match=r"nan at step 1, on .*\.png"):
        run_pretrain(classified, "tiny", recipe(), tmp_path / "run", resume=False)


def test_the_command_line(classified: Path, tmp_path: Path) -> None:
    small = ["--set", "steps=1", "--set", "tile_px=32", "--set", "batch=2", "--init", "none"]
    outcome = microseg("train", "pretrain", classified, "--out", tmp_path / "run", *small)
    assert outcome.status == 0, outcome.err
    assert "mean over 2 classes" in outcome.out
    assert f"--set encoder.weights={tmp_path / 'run'}" in outcome.out.replace("\n", "")
    assert json.loads((tmp_path / "run" / "summary.json").read_text())["init"] == "none"
    again = microseg("train", "pretrain", classified, "--out", tmp_path / "run", *small)
    assert again.status == 2
    assert "--resume" in again.err
    wrong = microseg("train", "pretrain", classified, "--recipe", "demo")
    assert wrong.status == 2
    assert "is a recipe of `train supervised`" in wrong.err
