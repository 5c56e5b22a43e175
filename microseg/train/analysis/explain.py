"""`microseg explain`: which pixels a network uses to predict a phase (Grad-CAM)."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import torch
import torch.nn.functional as F
from numpy.typing import NDArray
from torch import Tensor, nn

from microseg.core.domains.domain import load_domain, native_labels
from microseg.core.domains.domain_file import domain_file_in
from microseg.core.domains.layout import mask_folders
from microseg.core.domains.phases import UNLABELLED
from microseg.core.domains.pixel_sizes import preparation_of
from microseg.core.errors import FieldError, InputError
from microseg.core.images.folders import find_images, readable
from microseg.core.preparation.field_scale import ScaleRules, assumed_size
from microseg.core.preparation.prepared_field import labels_to_grid, open_prepared
from microseg.core.preparation.tiling import plan_tiles
from microseg.core.schemas.bag import PhaseInfo
from microseg.core.schemas.run import RunRecord, read_run
from microseg.core.system.files import replacing
from microseg.models.network import Network
from microseg.train.common.run_folder import load_networks

# Gradients take memory for a whole field. A larger field is cut at the bottom and right.
MAX_EXPLAINED_PIXELS = 1_500_000


@dataclass(frozen=True)
class Explanation:
    """A field and its explanation, on the network's grid.

    image, predicted: Field and predicted labels, uint8 (h, w).
    heat: Grad-CAM, float32 (h, w), 0 to 1.
    labels: True labels uint8 (h, w), or None.
    """

    image: NDArray[np.uint8]
    predicted: NDArray[np.uint8]
    heat: NDArray[np.float32]
    labels: NDArray[np.uint8] | None


def explain(
    run: Path,
    images: Path,
    out: Path,
    phase: str | None = None,
    layer: str | None = None,
    fold: int = 0,
    progress: Callable[[str], None] = lambda name: None,
) -> tuple[str, str, list[Path]]:
    """Write a picture for each field.

    Args:
        run: A finished run.
        images: A domain, a folder or a file.
        out: Folder of the pictures.
        phase: The phase to explain; the last one by default.
        layer: A module of the encoder; by default layer3.16 of ResNet-101 (Goetz et al. 2022), else the last one at an
            eighth or sixteenth of the tile.
        fold: Number of the fold, or of the head of a student.
        progress: Receives the name of each field.

    Returns:
        Phase, layer and pictures.

    Raises:
        InputError: Unknown phase, layer or fold, or no fields.
    """
    record, summary = read_run(run)
    names = [item.name for item in record.phases]
    if (phase := phase or names[-1]) not in names:
        raise InputError(f"--phase {phase}: {run} has no such phase. Remedy: one of {', '.join(names)}.")
    if not 0 <= fold < record.folds:
        raise InputError(f"--fold {fold}: {run} has no such fold. Remedy: 0 to {record.folds - 1}.")
    networks = load_networks(run, record, summary)
    # A student is one network. `fold` is one of its heads.
    network, head = (networks[fold], 0) if record.distillation is None else (networks[0], fold)
    layer = layer or default_layer(network)
    module = _module(network, layer)
    pictures = []
    for name, image, labels in _fields(images, record):
        progress(name)
        predicted, heat = grad_cam(network, module, image, names.index(phase), head)
        picture = out / f"{name}.png"
        _draw(picture, Explanation(image, predicted, heat, labels), record.phases, f"{name}: {phase}, {layer}")
        pictures.append(picture)
    return phase, layer, pictures


def grad_cam(
    network: Network, module: nn.Module, image: NDArray[np.uint8], phase: int, head: int = 0
) -> tuple[NDArray[np.uint8], NDArray[np.float32]]:
    """Grad-CAM (Selvaraju et al. 2017) of a phase.

    The score is the sum of the phase's logits over the pixels that are predicted as it (Seg-Grad-CAM, Vinogradova et al. 2020),
    or over all pixels where none is.

    Args:
        network: The network.
        module: The layer inside it.
        image: A field, uint8 (h, w).
        phase: Index of the phase.
        head: Head of a student.

    Returns:
        Predicted labels uint8 (h, w), and heat float32 (h, w), 0 to 1. The heat is 0 where nothing raises the score.
    """
    kept: list[Tensor] = []

    def keep(_: nn.Module, __: Any, output: Tensor) -> None:
        output.retain_grad()
        kept.append(output)

    height, width = image.shape
    network.eval()
    device = next(network.parameters()).device
    tiles = torch.from_numpy(image)[None, None].to(device).float().requires_grad_()
    handle = module.register_forward_hook(keep)
    try:
        logits = network.forward_any_size(tiles).logits[0].chunk(network.heads)[head]
    finally:
        handle.remove()
    predicted = logits.argmax(0)
    called = predicted == phase
    score = logits[phase][called].sum() if bool(called.any()) else logits[phase].sum()
    network.zero_grad()
    score.backward()  # type: ignore[no-untyped-call]
    network_grad, activation = kept[-1].grad, kept[-1].detach()
    assert network_grad is not None
    weight = network_grad.mean((2, 3), keepdim=True)
    heat = F.relu((weight * activation).sum(1, keepdim=True))
    padded = [side + -side % network.stride for side in (height, width)]
    wide = F.interpolate(heat, size=padded, mode="bilinear", align_corners=False)[0, 0, :height, :width]
    top = float(wide.max())
    scaled = (wide / top if top > 0 else wide).cpu().numpy().astype(np.float32)
    return predicted.cpu().numpy().astype(np.uint8), scaled


def default_layer(network: Network) -> str:
    """The paper's layer 3_16 of ResNet-101, else the last block of the encoder's stage before the last. Raises InputError."""
    modules = dict(network.encoder.named_modules())
    for prefix, wanted in (("", "layer3"), ("model.", "blocks"), ("", "blocks"), ("", "features")):
        if (stage := modules.get(prefix + wanted)) is None:
            continue
        blocks = list(stage.named_children())
        if wanted == "layer3":
            return f"layer3.{min(16, len(blocks) - 1)}"
        if wanted == "features":
            pools = [int(name) for name, block in blocks if isinstance(block, nn.MaxPool2d)]
            return f"features.{pools[-1] - 1}"
        inner = list(dict(blocks[-2][1].named_children()))
        return f"{prefix}{wanted}.{blocks[-2][0]}.{inner[-1]}"
    raise InputError(f"--layer: this encoder has no default. Remedy: one of {', '.join(list(modules)[1:40])}.")


def _module(network: Network, layer: str) -> nn.Module:
    modules = dict(network.encoder.named_modules())
    if layer not in modules or not layer:
        near = [name for name in modules if name and name.count(".") <= 2]
        raise InputError(f"--layer {layer}: the encoder has no such layer. Remedy: one of {', '.join(near[:40])}.")
    found: nn.Module = modules[layer]
    return found


def _fields(path: Path, record: RunRecord) -> list[tuple[str, NDArray[np.uint8], NDArray[np.uint8] | None]]:
    """Name, image uint8 (h, w) and labels (None where there are none) of every field, on the network's grid."""
    is_domain = path.suffix in (".yaml", ".yml") or domain_file_in(path) is not None or mask_folders(path) != []
    domain = load_domain(path) if is_domain else None
    entry = record.domains[-1]
    rules = ScaleRules(assumed=assumed_size(entry, record.grid))
    preparation = entry.preparation.model_copy(update={"pixel_size_um": None})
    found = []
    if domain is not None:
        preparation = domain.preparation_over(preparation)
        domain = replace(domain, preparation=preparation)
        items = [(field.name, field.image, field) for field in domain.fields]
    else:
        # With its folders: pictures of one name would replace each other.
        base = path.parent if path.is_file() else path
        items = [(readable(image.relative_to(base).as_posix()), image, None) for image in find_images(path)]  # type: ignore[misc]
    if not items:
        raise InputError(f"{path}: holds no images. Remedy: a domain, a folder of images, or one image.")
    for name, image, field in items:
        try:
            own = preparation_of(preparation, None if field is None else field.pixel_size_um)
            with open_prepared(image, own, record.grid, rules) as prepared:
                pixels = prepared.whole()
                labels = None
                if domain is not None and domain.phases and field.mask is not None:
                    labels = labels_to_grid(native_labels(field, domain, prepared), prepared.shape)
        except FieldError as error:
            raise InputError(str(error)) from error
        full_height, full_width = pixels.shape
        tile = plan_tiles(full_height, full_width, record.stride, 0, MAX_EXPLAINED_PIXELS)[0]
        height, width = min(tile.height, full_height), min(tile.width, full_width)
        found.append((name, pixels[:height, :width], None if labels is None else labels[:height, :width]))
    return found


def _draw(path: Path, item: Explanation, phases: list[PhaseInfo], title: str) -> None:
    from matplotlib.colors import ListedColormap
    from matplotlib.figure import Figure
    from matplotlib.patches import Patch

    colours = ListedColormap([phase.color for phase in phases])
    panels = [("field", None), ("label", item.labels), ("prediction", item.predicted), ("Grad-CAM", item.heat)]
    panels = [panel for panel in panels if panel[0] != "label" or item.labels is not None]
    figure = Figure(figsize=(4 * len(panels), 4.6), layout="constrained")
    for axes, (name, what) in zip(figure.subplots(1, len(panels)), panels, strict=True):
        axes.imshow(item.image, cmap="gray", vmin=0, vmax=255)
        if name == "Grad-CAM":
            axes.imshow(what, cmap="inferno", vmin=0, vmax=1, alpha=0.55)
        elif what is not None:
            shown = np.ma.masked_equal(what, UNLABELLED)
            axes.imshow(shown, cmap=colours, vmin=-0.5, vmax=len(phases) - 0.5, alpha=0.45, interpolation="nearest")
        axes.set(title=name, xticks=[], yticks=[])
    handles: list[Any] = [Patch(color=phase.color, label=phase.name) for phase in phases]
    figure.legend(handles=handles, loc="outside lower center", ncols=len(phases), frameon=False)
    figure.suptitle(title, fontsize=10)
    with replacing(path) as part:
        figure.savefig(part, format="png", dpi=100)
