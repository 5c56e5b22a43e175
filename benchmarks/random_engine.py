"""An engine with random weights: it takes the time and the memory of a trained one."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from microseg.core.manifest import (
    METADATA_KEY,
    DomainEntry,
    FoldInfo,
    Grid,
    Manifest,
    PhaseInfo,
    Provenance,
)

if TYPE_CHECKING:
    from microseg.models.unet import UNet

_HALO_PX = 62
_NO_HASH = "0" * 64


_DECODER = (256, 128, 64, 32, 16)


def build_network(encoder: str, seed: int = 0, decoder: tuple[int, ...] = _DECODER) -> UNet:
    """A two-phase U-Net with random weights, the same for one seed."""
    import torch

    from microseg.models.unet import UNet

    torch.manual_seed(seed)
    return UNet(encoder, 2, "none", decoder).eval()


def write_random_engine(
    path: Path, encoder: str, folds: int, bytes_per_pixel: float, decoder: tuple[int, ...] = _DECODER
) -> Path:
    """Export `folds` random networks as one engine for the synthetic phases, on native pixels."""
    import onnx

    from microseg.export.graph import build_onnx
    from microseg.runtime import model_sha256

    networks = [build_network(encoder, seed, decoder) for seed in range(folds)]
    build_onnx(networks, path)
    manifest = Manifest(
        phases=[PhaseInfo(name="ferrite", color="#0072b2"), PhaseInfo(name="lath-bainite", color="#e69f00")],
        domains=[DomainEntry(name="s")],
        default_domain="s",
        grid=Grid(),
        tile_core_px=512,
        halo_px=_HALO_PX,
        stride=networks[0].stride,
        bytes_per_pixel=bytes_per_pixel,
        folds=[FoldInfo(index=fold, miou=0.0, iou={}, weights_sha256=_NO_HASH) for fold in range(folds)],
        parity=[],
        fingerprints=[],
        training_fields=[],
        provenance=Provenance(
            created="2026-01-01T00:00:00Z",
            run="random weights",
            recipe=encoder,
            seed=0,
            dataset_sha256=_NO_HASH,
            versions={},
        ),
        model_sha256=model_sha256(path),
    )
    model = onnx.load(path)
    onnx.helper.set_model_props(model, {METADATA_KEY: manifest.model_dump_json()})
    onnx.save(model, path)
    return path
