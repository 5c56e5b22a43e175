"""What `export` and `inspect` print about an engine: its comparison with torch, its float32 layers, its plan."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, get_args

if TYPE_CHECKING:
    from rich.console import Console

    from microseg.core.alarm.schema import Alarm
    from microseg.core.schemas.manifest import Manifest
    from microseg.core.schemas.plan import PlanComparison, PlanInfo


def print_export(out: Path, manifest: Manifest, *, of_run: bool) -> None:
    """Print what was exported and what to do next.

    Args:
        out: the engine that was written.
        manifest: its manifest.
        of_run: whether it was exported from a run, and so compared with torch now.
    """
    from microseg.cli.tables import output_console, say

    console = output_console()
    plan = manifest.plan
    if plan is None:
        size = f"{out.stat().st_size / 1e6:.1f} MB, {manifest.bytes_per_pixel:.0f} bytes of memory per pixel of a tile"
        say(console, f"{out}: {len(manifest.folds)} folds, {size}")
    else:
        _print_plan(console, out, plan, manifest.precision)
    if of_run:
        bag = manifest.parity[0]
        worst = max(bag.fraction_difference_points.values())
        say(
            console,
            f"Against torch on the run's parity tiles: probability {bag.max_probability_difference:.1e}, "
            f"labels {100 * bag.label_disagreement:.4f} %, fractions {worst:.5f} points",
        )
        print_reduction(console, manifest)
    if manifest.alarm is not None:
        say(console, f"Alarm: {alarm_line(manifest.alarm)}")
    if plan is not None and not plan.verified:
        say(console, f"Next, on that card: microseg verify {out}")
    else:
        say(console, f"Next: microseg segment FOLDER --engine {out}")


def _print_plan(console: Console, out: Path, plan: PlanInfo, precision: str) -> None:
    from microseg.cli.tables import say
    from microseg.export.tensorrt.plan_profile import ComputeCapability
    from microseg.runtime.tensorrt.library import TITLES

    say(
        console,
        f"{out}: {TITLES[plan.flavour]} {plan.tensorrt}, profile {plan.profile}, {out.stat().st_size / 1e6:.1f} MB, "
        f"{plan.gpu or 'built without a card'}",
    )
    say(
        console,
        f"Layers: {_counts(plan.layer_precisions)}; convolutions and products: {_counts(plan.matrix_precisions)}",
    )
    if plan.engine_precisions is not None:
        say(console, f"Layers of the built engine: {_counts(plan.engine_precisions)}")
    for shown in (plan.matrix_precisions, plan.engine_precisions or {}):
        wider = sum(number for name, number in shown.items() if name != precision)
        if wider:
            say(console, f"note: a {precision} engine, of which {wider} layers compute in another precision")
            break
    if plan.flavour == "tensorrt_rtx" and plan.gpu and plan.compute_capability not in get_args(ComputeCapability):
        say(
            console,
            f"note: TensorRT for RTX does not support the {plan.gpu} of this machine (compute capability "
            f"{plan.compute_capability}). Full TensorRT does: pip install 'microseg[tensorrt]'",
        )
    if plan.comparison is None:
        say(console, "Unverified: not yet compared with its ONNX file on the card that will run it")
    else:
        say(console, f"Verified here: {comparison_text(plan.comparison)}")


def comparison_text(found: PlanComparison) -> str:
    """The comparison of a plan with its ONNX file in one line."""
    phase, points = max(found.fraction_difference_points.items(), key=lambda item: item[1])
    return (
        f"by {found.provider} against its ONNX file: labels {100 * found.label_disagreement:.4f} %, "
        f"{phase} {points:.4f} points"
    )


def alarm_line(alarm: Alarm) -> str:
    """What an alarm is calibrated on, in one line."""
    few = alarm.held_out is not None and alarm.held_out < alarm.fields
    held = f" ({alarm.held_out} of them held out: it learned from the others)" if few else ""
    return (
        f"calibrated on {alarm.fields} labelled fields as {alarm.domain}{held}; doubtful from a predicted error of "
        f"{100 * alarm.doubtful:.1f} points, foreign from {100 * alarm.foreign:.1f}"
    )


def _counts(precisions: dict[str, int]) -> str:
    return ", ".join(f"{number} {name}" for name, number in sorted(precisions.items())) or "none"


def print_reduction(console: Console, manifest: Manifest) -> None:
    """Print the layers that stayed float32 and why, and the differences from float32 torch on real fields."""
    from microseg.cli.tables import TextTable, say

    if manifest.float32_layers:
        table = TextTable("Layers in float32", ["layer", "why"], ["nodes"])
        for row in manifest.float32_layers:
            table.add(row.layer, row.reason, str(row.nodes))
        table.print(console)
    if manifest.quantisation is not None:
        made = manifest.quantisation
        say(
            console,
            f"INT8: {made.activations} activations, {made.weight_bits}-bit weights "
            f"({', '.join(made.instruction_sets) or 'processor unknown'}), calibrated on {made.calibration_tiles} "
            f"tiles ({made.calibrated_on})",
        )
    for each in manifest.fidelity:
        labels = max(field.label_disagreement for field in each.fields)
        points = [f"{phase} {points:.3f} of {limit:.3f}" for phase, (points, limit) in each.largest.items()]
        say(console, f"Against float32 torch: {each.fields_from}, {len(each.fields)} fields, {each.arithmetic}")
        say(console, f"  largest difference of a field and limit, points: {', '.join(points)}")
        say(
            console,
            f"  labels {100 * labels:.3f} % of {100 * each.label_limit:.3g} %; {each.not_a_number} values not a number, "
            f"{each.saturated} saturated",
        )
