"""Initial weights: from a package, from files, and what does not fit."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from safetensors.torch import save_file

from microseg.core.errors import InputError
from microseg.models.unet import UNet
from microseg.models.weights import IMAGENET_MEAN, lite0_file, load_encoder_file, normalisation

CHANNELS = (16, 8, 8)


def test_the_packages_lite0_weights_are_loaded() -> None:
    torch.manual_seed(0)
    bare = UNet("tf_efficientnet_lite0", 2, "none", CHANNELS)
    torch.manual_seed(0)
    ready = UNet("tf_efficientnet_lite0", 2, "imagenet", CHANNELS)
    published = torch.load(lite0_file(), map_location="cpu", weights_only=True)
    found = ready.encoder.state_dict()
    (stem,) = [value for key, value in found.items() if "conv_stem" in key]
    assert torch.equal(stem, published["_conv_stem.weight"])
    unchanged = [
        key
        for key, value in bare.encoder.state_dict().items()
        if torch.equal(value, found[key]) and not key.endswith("num_batches_tracked")
    ]
    assert not unchanged, "every weight and statistic of the encoder comes from the file"
    assert all(torch.equal(value, ready.decoder.state_dict()[key]) for key, value in bare.decoder.state_dict().items())


def test_a_files_weights_return_exactly(tmp_path: Path) -> None:
    torch.manual_seed(1)
    there = UNet("resnet18", 2, "none", CHANNELS)
    path = tmp_path / "encoder.safetensors"
    save_file({f"encoder.{key}": value for key, value in there.encoder.state_dict().items()}, path)
    here = UNet("resnet18", 2, str(path), CHANNELS)
    for key, value in there.encoder.state_dict().items():
        assert torch.equal(value, here.encoder.state_dict()[key])


def test_another_encoders_file_is_refused(tmp_path: Path) -> None:
    network = UNet("resnet18", 2, "none", CHANNELS)
    path = tmp_path / "other.safetensors"
    state = dict(network.encoder.state_dict())
    state["conv1.weight"] = torch.zeros(1)
    del state["bn1.weight"]
    save_file(state, path)
    with pytest.raises(InputError, match=r"1 weights missing, 1 of another shape, first: bn1\.weight, conv1\.weight"):
        load_encoder_file(network.encoder, path)


@pytest.mark.parametrize("name", ["broken.pth", "broken.safetensors", "absent.pth"])
def test_unreadable_files_are_named(tmp_path: Path, name: str) -> None:
    if name.startswith("broken"):
        (tmp_path / name).write_bytes(b"not weights")
    with pytest.raises(InputError, match=rf"{name}: (cannot be read as weights|does not exist)"):
        load_encoder_file(torch.nn.Conv2d(1, 1, 1), tmp_path / name)


def test_nothing_in_a_file_runs(tmp_path: Path) -> None:
    class Payload:
        def __reduce__(self) -> tuple[object, tuple[object, ...]]:
            return Path.touch, (tmp_path / "ran",)

    torch.save({"x": Payload()}, tmp_path / "evil.pth")
    with pytest.raises(InputError, match="cannot be read as weights"):
        load_encoder_file(torch.nn.Conv2d(1, 1, 1), tmp_path / "evil.pth")
    assert not (tmp_path / "ran").exists()


def test_lite_encoders_were_trained_on_another_scale() -> None:
    assert normalisation("tu-tf_efficientnet_lite0")[0] == (0.5, 0.5, 0.5)
    assert normalisation("resnet18")[0] == IMAGENET_MEAN
