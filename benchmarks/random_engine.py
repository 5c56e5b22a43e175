"""An engine with random weights. It needs the time and the memory of a trained one, in every precision."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from microseg.core.schemas.bag import FoldInfo, PhaseInfo
from microseg.core.schemas.fidelity import Quantisation
from microseg.core.schemas.manifest import Manifest, Provenance
from microseg.core.schemas.preparation import DomainEntry, Grid
from microseg.core.schemas.tolerance import Precision

if TYPE_CHECKING:
    from onnx import ModelProto

    from microseg.models.unet import UNet

_HALO_PX = 62
_NO_HASH = "0" * 64
DECODER = (256, 128, 64, 32, 16)


def build_network(encoder: str, seed: int = 0, decoder: tuple[int, ...] = DECODER, heads: int = 1) -> UNet:
    """A two-phase U-Net with random weights that depend on the seed alone. heads: for a student, one per fold."""
    import torch

    from microseg.models.unet import UNet

    torch.manual_seed(seed)
    return UNet(encoder, 2, "none", decoder, heads).eval()


def write_random_engine(
    path: Path,
    encoder: str,
    folds: int,
    bytes_per_pixel: float,
    decoder: tuple[int, ...] = DECODER,
    *,
    precision: Precision = "fp32",
    is_student: bool = False,
) -> Path:
    """Export `folds` random networks, or their student, as one engine for the synthetic phases, on native pixels."""
    import onnx

    from microseg.export.torch_graph.bag import build_onnx
    from microseg.runtime import EngineFile
    from microseg.runtime.engine_metadata import manifest_entries

    if is_student:
        networks = [build_network(encoder, 0, decoder, folds)]
    else:
        networks = [build_network(encoder, seed, decoder) for seed in range(folds)]
    build_onnx(networks, path)
    model, quantisation = _reduced(onnx.load(path), precision)
    onnx.save(model, path)
    manifest = Manifest(
        phases=[PhaseInfo(name="ferrite", color="#0072b2"), PhaseInfo(name="lath-bainite", color="#e69f00")],
        domains=[DomainEntry(name="s")],
        default_domain="s",
        grid=Grid(),
        precision=precision,
        quantisation=quantisation,
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
        model_sha256=EngineFile(path).hashes.network,
    )
    model = onnx.load(path)
    onnx.helper.set_model_props(model, manifest_entries(manifest))
    onnx.save(model, path)
    return path


def _reduced(model: ModelProto, precision: Precision) -> tuple[ModelProto, Quantisation | None]:
    """Reduce the precision as `export` does, without its gate: random weights give many equal logits. INT8: all layers."""
    from microseg.core.system.processor import instruction_sets, weight_bits
    from microseg.export.calibration_fields import Field, calibration_tiles
    from microseg.export.graph_rewrites import interleaved_by_copies, small_upsampling
    from microseg.export.onnx_graph import outside_convolutions, simplified
    from microseg.export.precision.fp16 import kept_in_float32, to_half
    from microseg.export.precision.int8 import activation_ranges, quantised
    from microseg.export.precision.reduce import before_int8
    from microseg.synthetic.tiles import reference_tiles

    if precision == "fp32":
        return interleaved_by_copies(small_upsampling(model)), None
    tiles = calibration_tiles([Field(*named) for named in reference_tiles()], 32)
    if precision == "fp16":
        plain = simplified(model)
        return to_half(plain, kept_in_float32(plain, tiles)), None
    sets = instruction_sets()
    bits = weight_bits(sets)
    plain = before_int8(model, symmetric=False)
    kept = outside_convolutions(plain)
    made = quantised(plain, activation_ranges(plain, tiles), kept, reduced_range=bits == 7)
    return made, Quantisation(
        activations="asymmetric",
        weight_bits=bits,
        instruction_sets=sets,
        calibrated_on="reference tiles",
        calibration_tiles=len(tiles),
    )
