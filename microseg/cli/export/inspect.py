"""`microseg inspect ENGINE`: what an engine states about itself."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated

import typer

from microseg.cli.streams import print_result
from microseg.core.plain_text import plain, plain_name

if TYPE_CHECKING:
    from microseg.cli.tables import Cell
    from microseg.core.schemas.manifest import Manifest
    from microseg.core.schemas.plan import PlanInfo, SizeRange
    from microseg.runtime import EngineFile


def inspect(
    engine: Annotated[Path, typer.Argument(help="An engine (.onnx or .plan).")],
    as_json: Annotated[bool, typer.Option("--json", help="Print the whole manifest as JSON.")] = False,
) -> None:
    """Print what an engine states about itself: phases, domains, folds, comparisons, provenance. Exit 4 if it was changed."""
    from microseg.runtime import EngineFile

    file = EngineFile(engine)
    manifest = file.manifest
    intact = {"network": file.is_network_intact, "manifest": file.is_manifest_intact}
    states = {part: "as exported" if is_whole else "CHANGED since the export" for part, is_whole in intact.items()}
    if as_json:
        print_result(manifest.model_dump_json(indent=2))
    else:
        _print(file, states)
    changed = [part for part, is_whole in intact.items() if not is_whole]
    for part in changed:
        typer.echo(
            f"microseg: {plain(str(engine))}: {part} {states[part]}. Remedy: copy or export the engine again.", err=True
        )
    if changed:
        raise typer.Exit(4)


def _print(file: EngineFile, states: dict[str, str]) -> None:
    from rich.markup import escape

    from microseg.cli.export.engine_tables import print_reduction
    from microseg.cli.tables import output_console, print_pairs, say

    manifest = file.manifest
    console = output_console()
    console.print(f"[bold]{escape(plain_name(str(file.path)))}[/]", soft_wrap=True, highlight=False)
    print_pairs(console, _rows(manifest, states) | ({} if manifest.plan is None else _plan_rows(manifest.plan)))
    # On lines of their own: a hash that is broken over two lines cannot be copied or compared.
    say(console, f"network SHA-256 {manifest.network_sha256}")
    say(console, f"file SHA-256    {file.sha256}")
    if manifest.plan is not None:
        say(console, f"ONNX SHA-256    {manifest.plan.onnx_sha256}")
    for parity in manifest.parity:
        who = "bag" if parity.fold < 0 else f"fold {parity.fold}"
        worst = max(parity.fraction_difference_points.values(), default=0.0)
        say(
            console,
            f"{who} against torch: labels {100 * parity.label_disagreement:.4f} %, fractions {worst:.5f} points",
        )
    print_reduction(console, manifest)
    _print_validations(file)


def _print_validations(file: EngineFile) -> None:
    """What stands behind the intervals of reports: the file beside the engine, and what the engine carries."""
    from microseg.cli.export.validate import print_validation
    from microseg.cli.tables import output_console, say
    from microseg.core.errors import InputError
    from microseg.core.schemas.validation import read_validation_beside, validation_beside
    from microseg.deploy.measurement.evidence import against_network

    console, manifest = output_console(), file.manifest
    is_used = bool(manifest.validations)
    try:
        found = read_validation_beside(file.path)
    except InputError as error:
        say(console, f"note: not used: {error}")
    else:
        if found is not None:
            against = against_network(found, manifest)
            say(console, f"{validation_beside(file.path).name}{''.join(f': not used: {why}' for why in against)}")
            print_validation(found)
            is_used |= not against
    for carried in manifest.validations:
        print_validation(carried)
    if not is_used:
        say(console, "not validated: reports state no interval")
        say(console, "Next: microseg validate ENGINE LABELLED, or export the run again")


def _rows(manifest: Manifest, states: dict[str, str]) -> dict[str, Cell]:
    from rich.text import Text

    from microseg.cli.export.engine_tables import alarm_line
    from microseg.cli.tables import phase_label

    grid, origin, student = manifest.grid, manifest.provenance, manifest.distillation
    pixel = f"{grid.pixel_size_um:g} um" if grid.pixel_size_um else f"{grid.scale:g} network pixels per native pixel"
    whose = "" if student is None else ", of the bag"
    rows: dict[str, Cell] = {
        "phases": Text(", ").join(phase_label(phase.name, phase.color) for phase in manifest.phases),
        "domains": ", ".join(f"{each.name} ({each.role})" for each in manifest.domains),
        "network's pixel": pixel,
        "trained on": "native pixels"
        if (sizes := manifest.known_pixel_sizes) is None
        else f"native pixels of {sizes.text}",
        "tile": f"core {manifest.tile_core_px} px, halo {manifest.halo_px} px, stride {manifest.stride} px",
        "memory": f"{manifest.bytes_per_pixel:.0f} bytes per pixel of a tile",
        "precision": manifest.precision,
        "folds": ", ".join(f"{fold.miou:.3f}" for fold in manifest.folds) + f" (mIoU on held-out fields{whose})",
        "training fields": str(len(manifest.training_fields)),
        "alarm": "none" if manifest.alarm is None else alarm_line(manifest.alarm),
        "exported": f"{origin.created}, run {origin.run}, recipe {origin.recipe}, seed {origin.seed}",
        "versions": ", ".join(f"{name} {number}" for name, number in origin.versions.items()),
        "network": states["network"],
        "manifest": states["manifest"],
    }
    if student is not None:
        points = ", ".join(f"{phase} {value:.2f}" for phase, value in student.points.items())
        fields = f"{len(student.compared)} fields" if student.compared else "fields that it learned from"
        rows["student"] = (
            f"one network with {len(manifest.folds)} heads, learned from the bag {student.run}: mIoU with the bag "
            f"{student.agreement:.3f}, largest difference of the fractions {points} points on {fields}"
        )
    return rows


def _plan_rows(plan: PlanInfo) -> dict[str, Cell]:
    from microseg.runtime.tensorrt.library import TITLES

    card = f"{plan.gpu}, compute capability {plan.compute_capability}, driver for CUDA {plan.cuda_driver}"
    return {
        "plan": f"{TITLES[plan.flavour]} {plan.tensorrt}, profile {plan.profile}",
        "built on": card if plan.gpu else "a machine without a card",
        "runs on": _cards(plan),
        "tile sizes": f"{_range(plan.tile_px)} px, {_range(plan.batch)} at once",
        "outputs": ", ".join(plan.outputs),
        "layers": ", ".join(f"{number} {name}" for name, number in sorted(plan.layer_precisions.items())),
        "verified": _verified(plan),
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
