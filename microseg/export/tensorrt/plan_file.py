"""Writes a plan and its manifest; compares it with its ONNX file where its card is present."""

from __future__ import annotations

import shutil
import tempfile
from contextlib import suppress
from pathlib import Path

from microseg.agreement.check_table import CheckTable, require_agreement
from microseg.agreement.reference_tiles import check_reference
from microseg.core.errors import FieldError, InputError, MissingExtraError
from microseg.core.schemas.manifest import Manifest
from microseg.core.schemas.plan import SizeRange, plan_manifest_path
from microseg.core.schemas.reference import Reference, unpack
from microseg.core.schemas.tolerance import LIMITS
from microseg.core.system.files import make_folder, replacing, require_writable
from microseg.export.progress import ExportProgress
from microseg.runtime import EngineFile, is_plan, open_engine
from microseg.runtime.engine_metadata import text_beside


def require_out(out: Path) -> None:
    """Raise InputError where `out` cannot be written as a plan: wrong suffix, existing file, no right to write."""
    if not is_plan(out):
        raise InputError(f"--out {out}: a TensorRT plan is a .plan file. Remedy: --out {out.with_suffix('.plan')}.")
    for path in (out, plan_manifest_path(out)):
        if path.exists():
            raise InputError(f"{path}: exists. Remedy: another --out, or remove it.")
        require_writable(path)


def require_portable(file: EngineFile, out: Path) -> Manifest:
    """Return the manifest of an ONNX engine that a plan can be built from.

    Args:
        file: the engine.
        out: the plan to be built, for the message.

    Returns:
        Its manifest.

    Raises:
        InputError: the engine is a plan, is not intact, or is quantised with zero points.
    """
    source, manifest = file.path, file.manifest
    if file.is_plan:
        raise InputError(f"{source}: is already a plan. Remedy: give the .onnx file that it was built from.")
    file.require_intact()
    if manifest.quantisation is not None and manifest.quantisation.activations == "asymmetric":
        raise InputError(
            f"{source}: is quantised with zero points, which TensorRT does not take. Remedy: export it with --symmetric, or "
            f"build the plan from the run: microseg export RUN --out {out} --precision int8."
        )
    return manifest


def write_plan(
    out: Path, content: bytes, manifest: Manifest, source: Path, reference: Reference | None, progress: ExportProgress
) -> Manifest:
    """Write a plan and its manifest. A plan that was built on its card is compared with its ONNX file first.

    Args:
        out: the .plan file to write; the manifest goes beside it.
        content: the serialised plan.
        manifest: the manifest of the plan.
        source: the ONNX file.
        reference: the tiles that `source` carries.
        progress: receives the phases of the export.

    Returns:
        The manifest with the result of the comparison.

    Raises:
        InputError: the files cannot be written.
        GateError: the plan does not agree with the ONNX file. Nothing is written.
    """
    assert manifest.plan is not None
    reference = _fitting(reference, manifest.plan.tile_px, len(manifest.folds))
    try:
        make_folder(out.parent)
        with tempfile.TemporaryDirectory(prefix=f".{out.stem}-", dir=out.parent) as folder:
            draft = Path(folder) / out.name
            draft.write_bytes(content)
            beside = plan_manifest_path(draft)
            beside.write_text(text_beside(manifest, reference), encoding="utf-8")
            if manifest.plan.gpu is not None:
                manifest = _compared(draft, source, out, manifest, reference, progress)
                beside.write_text(text_beside(manifest, reference), encoding="utf-8")
            # The plan last: a manifest without its plan is harmless, the reverse is not. Compiled kernels are moved too.
            for path in sorted(Path(folder).iterdir(), key=lambda path: path == draft):
                with replacing(out.with_name(path.name)) as part:
                    shutil.move(path, part)
    except OSError as error:
        with suppress(OSError):
            plan_manifest_path(out).unlink()
        raise InputError(
            f"{out}: cannot be written ({error.strerror or error}). Remedy: free space there, or another --out."
        ) from error
    return manifest


def _compared(
    draft: Path, source: Path, out: Path, manifest: Manifest, reference: Reference | None, progress: ExportProgress
) -> Manifest:
    """The manifest, marked as verified if the plan labels the reference tiles on this card as the ONNX file does.

    Where there are no tiles, or the plan cannot run here, the manifest is unchanged and a notice states the reason. Raises
    GateError where the labels do not agree.
    """
    assert manifest.plan is not None
    if reference is None:
        progress.notice(
            f"{out}: was not compared with {source}, which carries no reference tile of a size that the plan runs"
        )
        return manifest
    table = CheckTable([phase.name for phase in manifest.phases], LIMITS[manifest.precision])
    step = "comparing with the ONNX file"
    progress.begin(step, 0)
    try:
        with open_engine(draft) as engine:
            figures = check_reference(table, engine, reference)
    except (InputError, MissingExtraError, FieldError) as error:
        progress.notice(f"not compared with {source} here: {str(error).replace(str(draft), str(out))}")
        return manifest
    finally:
        progress.end(step)
    remedy = "another --precision or --profile, or the .onnx file itself"
    require_agreement(table, f"{out}: the plan, run by {figures.provider},", str(source), remedy)
    plan = manifest.plan.model_copy(update={"verified": True, "comparison": figures})
    return manifest.model_copy(update={"plan": plan})


def _fitting(reference: Reference | None, tile_px: SizeRange, folds: int) -> Reference | None:
    """The reference tiles whose size the plan runs; None where there are none."""
    if reference is None:
        return None
    tiles = [
        tile
        for tile in reference.tiles
        if all(tile_px.min <= side <= tile_px.max for side in unpack(tile, folds)[0].shape)
    ]
    return reference.model_copy(update={"tiles": tiles}) if tiles else None
