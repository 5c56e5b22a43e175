"""Other ways to compute the same weights: loops over tiles in torch, MONAI, pytorch_toolbelt, ONNX Runtime with four tiles.

Each of those in torch gets all processors, and the tile size and memory format that are fastest on the first field. A time
covers decoding, inference and labels, without start, masks, overlays and report.
"""

from __future__ import annotations

import itertools
import json
import time
from collections.abc import Callable, Sequence
from importlib.util import find_spec
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from microseg.core.system.processor_count import usable_processors

Forward = Callable[[Any], Any]
Image = NDArray[np.uint8]

# (tile, overlap) in pixels: neighbours see at least 62 px beyond what of a tile is used, as `segment` gives them.
TILES_PX = ((512, 128), (640, 128))
PACKAGES = {"monai": "monai", "toolbelt": "pytorch_toolbelt"}
NAMES = {
    "naive": "torch, a loop over tiles",
    "monai": "MONAI sliding_window_inference",
    "toolbelt": "pytorch_toolbelt ImageSlicer, TileMerger",
    "ort_tiles": "ONNX Runtime, four tiles of 640 px",
}
TORCH = ("naive", "monai", "toolbelt")
PLAIN, ORT_TILE_PX = "plain.onnx", 640


def skipped() -> dict[str, str]:
    """Peers whose package is not installed, with the reason."""
    return {
        peer: f"{package} is not installed: pip install 'microseg[bench]'"
        for peer, package in PACKAGES.items()
        if find_spec(package) is None
    }


def run_peer(peer: str, images: Sequence[Path], work: Path, encoder: str) -> dict[str, Any]:
    """Seconds of a peer for all images, and its settings."""
    if peer == "ort_tiles":
        return _run_onnxruntime(images, work)
    return _run_torch(peer, images, work, encoder)


def export_plain(path: Path, encoder: str) -> None:
    """The network exported plainly: grey tiles in float32 to logits, tiles of 640 px."""
    import torch

    from benchmarks.random_engine import build_network

    network = build_network(encoder)

    class Logits(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.network = network

        def forward(self, tiles: torch.Tensor) -> torch.Tensor:
            logits: torch.Tensor = network(tiles).logits
            return logits

    torch.onnx.export(
        Logits().eval(), (torch.zeros(1, 1, ORT_TILE_PX, ORT_TILE_PX),), path, input_names=["tiles"], output_names=["logits"],
        opset_version=18, dynamo=True, external_data=False, verbose=False,
    )  # fmt: skip


def naive(forward: Forward, image: Image, tile_px: int, overlap_px: int) -> Image:
    """The core of every tile, from an image mirrored at its borders."""
    import torch

    core, halo = tile_px - overlap_px, overlap_px // 2
    height, width = image.shape
    down, across = -(-height // core) * core, -(-width // core) * core
    padded = np.pad(image, ((halo, down - height + halo), (halo, across - width + halo)), mode="reflect")
    result = np.empty((down, across), np.uint8)
    for top in range(0, down, core):
        for left in range(0, across, core):
            tile = torch.from_numpy(padded[top : top + tile_px, left : left + tile_px].copy())[None, None].float()
            found = forward(tile).argmax(1)[0, halo : halo + core, halo : halo + core]
            result[top : top + core, left : left + core] = found.numpy()
    return result[:height, :width]


def monai(forward: Forward, image: Image, tile_px: int, overlap_px: int) -> Image:
    """One window at a time: batches are no faster on a processor."""
    import torch
    from monai.inferers.utils import sliding_window_inference

    tile = torch.from_numpy(image)[None, None].float()
    found: Any = sliding_window_inference(tile, tile_px, 1, forward, overlap=overlap_px / tile_px)
    return np.asarray(found.argmax(1)[0].to(torch.uint8).numpy())


def toolbelt(forward: Forward, image: Image, tile_px: int, overlap_px: int) -> Image:
    """As its README shows it, with plain averaging where tiles overlap."""
    import torch
    from pytorch_toolbelt.inference.tiles import ImageSlicer, TileMerger

    slicer = ImageSlicer((*image.shape, 1), tile_px, tile_px - overlap_px, weight="mean")
    merger = TileMerger(slicer.target_shape, 2, slicer.weight)
    for tile, coordinates in zip(slicer.split(image[..., None]), slicer.crops, strict=True):
        tiles = torch.from_numpy(np.ascontiguousarray(tile)).reshape(1, 1, tile_px, tile_px).float()
        merger.integrate_batch(forward(tiles), [coordinates])
    merged = merger.merge().argmax(0, keepdim=True).to(torch.uint8)
    return np.asarray(slicer.crop_to_orignal_size(np.moveaxis(merged.numpy(), 0, -1))[..., 0])


LABELS: dict[str, Callable[[Forward, Image, int, int], Image]] = {"naive": naive, "monai": monai, "toolbelt": toolbelt}


def _run_torch(peer: str, images: Sequence[Path], work: Path, encoder: str) -> dict[str, Any]:
    import torch

    from benchmarks.random_engine import build_network

    labels = LABELS[peer]
    network = build_network(encoder)
    torch.set_num_threads(usable_processors())
    first = _decoded(images[0])

    def use(channels_last: bool) -> Forward:
        layout = torch.channels_last if channels_last else torch.contiguous_format
        network.to(memory_format=layout)
        return lambda tiles: network.forward_any_size(tiles.contiguous(memory_format=layout)).logits

    def seconds(sizes: tuple[int, int], channels_last: bool) -> float:
        forward = use(channels_last)
        labels(forward, first, *sizes)
        begun = time.perf_counter()
        labels(forward, first, *sizes)
        return time.perf_counter() - begun

    settled = work / f"{peer}.json"
    with torch.inference_mode():
        if not settled.exists():
            choices = list(itertools.product(TILES_PX, (False, True)))
            trials = [
                {"tile_px": sizes[0], "overlap_px": sizes[1], "channels_last": last, "seconds": seconds(sizes, last)}
                for sizes, last in choices
            ]
            settled.write_text(json.dumps(trials), encoding="utf-8")
        trials = json.loads(settled.read_text(encoding="utf-8"))
        best = min(trials, key=lambda trial: trial["seconds"])
        forward = use(best["channels_last"])
        begun = time.perf_counter()
        for image in images:
            labels(forward, _decoded(image), best["tile_px"], best["overlap_px"])
        total = time.perf_counter() - begun
    chosen = {key: best[key] for key in ("tile_px", "overlap_px", "channels_last")}
    return {"seconds": total, "settings": chosen | {"threads": torch.get_num_threads(), "batch": 1, "trials": trials}}


def _run_onnxruntime(images: Sequence[Path], work: Path) -> dict[str, Any]:
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = usable_processors()
    options.log_severity_level = 3
    session = onnxruntime.InferenceSession(work / PLAIN, options, providers=["CPUExecutionProvider"])
    side = ORT_TILE_PX

    def labels(image: Image) -> Image:
        """Four tiles from corner to corner. Each pixel comes from the tile whose middle is nearest."""
        height, width = image.shape
        result = np.empty((height, width), np.uint8)
        middle_y, middle_x = height // 2, width // 2
        for top, rows in ((0, slice(0, middle_y)), (height - side, slice(middle_y, height))):
            for left, columns in ((0, slice(0, middle_x)), (width - side, slice(middle_x, width))):
                tile = image[top : top + side, left : left + side].astype(np.float32)[None, None]
                found = session.run(None, {"tiles": tile})[0][0].argmax(0)
                result[rows, columns] = found[
                    rows.start - top : rows.stop - top, columns.start - left : columns.stop - left
                ]
        return result

    labels(_decoded(images[0]))
    begun = time.perf_counter()
    for image in images:
        labels(_decoded(image))
    total = time.perf_counter() - begun
    return {"seconds": total, "settings": {"tile_px": side, "tiles": 4, "threads": options.intra_op_num_threads}}


def _decoded(path: Path) -> Image:
    from microseg.core.images.micrograph import open_micrograph

    with open_micrograph(path) as micrograph:
        return np.asarray(micrograph.rows(0, micrograph.height))
