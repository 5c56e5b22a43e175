"""What a reduced engine kept in float32, and how true it is: printed by `export` and `inspect`."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from microseg.core.schemas.manifest import Manifest


def print_reduction(console: Console, manifest: Manifest) -> None:
    """What stayed float32 in a reduced engine and why, and how far its fractions are from torch's on real fields."""
    from rich.markup import escape
    from rich.table import Table

    if manifest.float32_layers:
        table = Table(title="Stayed float32", title_justify="left", title_style="bold")
        table.add_column("layer", overflow="fold")
        table.add_column("nodes", justify="right")
        table.add_column("why", overflow="fold")
        for row in manifest.float32_layers:
            table.add_row(escape(row.layer), str(row.nodes), row.reason)
        console.print(table)
    if manifest.quantisation is not None:
        made = manifest.quantisation
        console.print(
            f"INT8: {made.activations} activations, {made.weight_bits}-bit weights "
            f"({', '.join(made.instruction_sets) or 'processor unknown'}), calibrated on {made.calibration_tiles} "
            f"tiles ({escape(made.calibrated_on)})",
            soft_wrap=True,
            highlight=False,
        )
    for each in manifest.fidelity:
        labels = max(field.label_disagreement for field in each.fields)
        points = [f"{escape(phase)} {points:.3f} of {limit:.3f}" for phase, (points, limit) in each.largest.items()]
        console.print(
            f"{escape(each.fields_from)} ({len(each.fields)} fields, {each.arithmetic}), largest difference from "
            f"float32 torch: {', '.join(points)} points; labels {100 * labels:.3f} % of {100 * each.label_limit:.3g} %; "
            f"{each.not_a_number} no numbers, {each.saturated} saturated",
            soft_wrap=True,
            highlight=False,
        )
