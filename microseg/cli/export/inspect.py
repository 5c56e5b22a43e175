"""`microseg inspect ENGINE`: what an engine says about itself."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from microseg.core.schemas.plan import PlanInfo, SizeRange
    from microseg.runtime import EngineFile


def inspect(
    engine: Annotated[Path, typer.Argument(help="An engine (.onnx or .plan).")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole manifest as JSON.")] = False,
) -> None:
    """Print an engine's manifest: phases, domains, folds, parity and provenance. Exit 4 if it was changed since its export."""
    from microseg.runtime import EngineFile

    file = EngineFile(engine)
    manifest = file.manifest
    states = {"network": file.is_network_intact, "manifest": file.is_manifest_intact}
    told = {part: "as exported" if is_whole else "CHANGED since the export" for part, is_whole in states.items()}
    if as_json:
        typer.echo(manifest.model_dump_json(indent=2))
    else:
        _print(file, told)
    changed = [part for part, is_whole in states.items() if not is_whole]
    for part in changed:
        typer.echo(f"microseg: {engine}: {part} {told[part]}. Remedy: copy or export the engine again.", err=True)
    if changed:
        raise typer.Exit(4)


def _print(file: EngineFile, told: dict[str, str]) -> None:
    from rich.console import Console
    from rich.markup import escape
    from rich.table import Table

    from microseg.cli.export.engine_tables import print_reduction

    manifest = file.manifest
    console = Console()
    table = Table(title=escape(str(file.path)), title_justify="left", show_header=False)
    table.add_column()
    table.add_column(overflow="fold")  # a hash that is cut off cannot be compared
    grid, origin = manifest.grid, manifest.provenance
    pixel = f"{grid.pixel_size_um:g} um" if grid.pixel_size_um else f"{grid.scale:g} network pixels per native pixel"
    student = manifest.distillation
    whose = "" if student is None else ", of the bag's folds"
    rows = {
        "phases": ", ".join(f"[{p.color}]██[/] {escape(p.name)}" for p in manifest.phases),
        "domains": ", ".join(f"{escape(d.name)} ({d.role})" for d in manifest.domains),
        "network's pixel": pixel,
        "tile": f"core {manifest.tile_core_px} px, halo {manifest.halo_px} px, stride {manifest.stride} px",
        "memory": f"{manifest.bytes_per_pixel:.0f} bytes per pixel of a tile",
        "precision": manifest.precision,
        "folds": ", ".join(f"{fold.miou:.3f}" for fold in manifest.folds) + f" (mIoU on held-out fields{whose})",
        "training fields": str(len(manifest.training_fields)),
        "made": f"{origin.created} from run {escape(origin.run)}, recipe {escape(origin.recipe)}, seed {origin.seed}",
        "versions": ", ".join(f"{name} {number}" for name, number in origin.versions.items()),
        "model": f"{told['network']}, SHA-256 at the export {manifest.network_sha256}",
        "manifest": told["manifest"],
        "file": f"SHA-256 {file.sha256}",
    }
    if student is not None:
        points = ", ".join(f"{escape(phase)} {value:.2f}" for phase, value in student.points.items())
        rows["student"] = (
            f"one network of {len(manifest.folds)} heads, of the bag {escape(student.run)}: mIoU with it "
            f"{student.agreement:.3f}, fractions within {points} points on {len(student.compared) or 'learned'} fields"
        )
    if manifest.plan is not None:
        rows |= _plan_rows(manifest.plan)
    for name, value in rows.items():
        table.add_row(name, value)
    console.print(table)
    for parity in manifest.parity:
        who = "bag" if parity.fold < 0 else f"fold {parity.fold}"
        worst = max(parity.fraction_difference_points.values(), default=0.0)
        console.print(
            f"{who} against torch: labels {100 * parity.label_disagreement:.4f} %, fractions {worst:.5f} points",
            highlight=False,
        )
    print_reduction(console, manifest)


def _plan_rows(plan: PlanInfo) -> dict[str, str]:
    from rich.markup import escape

    from microseg.runtime.tensorrt.library import TITLES

    card = f"{plan.gpu}, compute capability {plan.compute_capability}, driver for CUDA {plan.cuda_driver}"
    return {
        "plan": f"{TITLES[plan.flavour]} {plan.tensorrt}, profile {escape(plan.profile)}, from ONNX {plan.onnx_sha256}",
        "built on": escape(card) if plan.gpu else "a machine without a card",
        "runs on": _cards(plan),
        "tiles": f"{_range(plan.tile_px)} px, {_range(plan.batch)} at once",
        "outputs": ", ".join(plan.outputs),
        "layers": ", ".join(f"{number} {name}" for name, number in sorted(plan.layer_precisions.items())),
        "verified": escape(_verified(plan)),
    }


def _verified(plan: PlanInfo) -> str:
    from microseg.cli.export.engine_tables import comparison_text

    if not plan.verified:
        return "no: not yet compared with its ONNX file on a card (microseg verify)"
    return "yes" if plan.comparison is None else f"yes, {comparison_text(plan.comparison)}"


def _range(size: SizeRange) -> str:
    return f"{size.min} to {size.max} (best {size.opt})"


def _cards(plan: PlanInfo) -> str:
    if plan.flavour == "tensorrt_rtx":
        return f"compute capability {', '.join(plan.target_capabilities) or 'of any RTX card from Ampere on'}"
    match plan.hardware_compatibility:
        case "ampere_plus":
            return "cards from Ampere on"
        case "same_compute_capability":
            return f"cards of compute capability {plan.compute_capability}"
        case _:
            return "this kind of card"
