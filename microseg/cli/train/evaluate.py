"""`microseg evaluate RUN|ENGINE DOMAIN`: IoU and phase fractions of a labelled domain, with a classical baseline."""

from __future__ import annotations

from collections import Counter
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from microseg.core.plain_text import plain_name

if TYPE_CHECKING:
    from microseg.cli.tables import TextTable


def evaluate(
    model: Annotated[Path, typer.Argument(metavar="RUN|ENGINE", help="Run folder, or engine (.onnx).")],
    domain: Annotated[Path, typer.Argument(help="Labelled domain: a folder, or a YAML file that describes one.")],
    source: Annotated[
        Path | None, typer.Option(help="Source domain. Prints the relative change of the mIoU from it as well (RDT).")
    ] = None,
    domain_name: Annotated[
        str | None, typer.Option("--as", metavar="NAME", help="Prepare the fields as this domain of the run or engine.")
    ] = None,
    json_path: Annotated[Path | None, typer.Option("--json", metavar="FILE", help="Write all figures here.")] = None,
) -> None:
    """Score whole fields on their native grid: per phase, per field, per fold and for the bag."""
    from microseg.cli.progress import status
    from microseg.cli.tables import output_console
    from microseg.core.evaluation.scoring import rdt
    from microseg.core.system.files import require_writable, write_json, writing

    if json_path is not None:
        require_writable(json_path, (model, domain, source))

    def run(data: Path) -> dict[str, Any]:
        with status(f"scoring {data}") as show:
            if model.is_dir():
                from microseg.train.analysis.evaluate import evaluate_run

                return evaluate_run(model, data, domain_name, lambda name: show(f"scoring {name}"))
            from microseg.deploy.evaluate import evaluate_engine

            return evaluate_engine(model, data, domain_name, lambda name: show(f"scoring {name}"))

    result = run(domain)
    if source is not None:
        at_source = run(source)
        result |= {"source_miou": at_source["miou"], "rdt": rdt(result["miou"], at_source["miou"])}
    _print(output_console(), result)
    if json_path is not None:
        with writing(json_path):
            write_json(json_path, result)


def _print(console: Any, result: dict[str, Any]) -> None:
    from rich.markup import escape

    from microseg.cli.tables import percent_cell, score_cell

    phases = list(result["iou"])
    _table(phases, _rows(result)).print(console)
    folds = result["folds"]
    if folds["miou_std"] is not None:
        console.print(f"Folds: mIoU {folds['miou_mean']:.3f} ± {folds['miou_std']:.3f} (mean ± std)", soft_wrap=True)
    low, high = result["spread"]["miou"] or (None, None)
    spread = (
        f", bootstrap over fields {score_cell(low)} to {score_cell(high)} (95 %)" if len(result["fields"]) > 1 else ""
    )
    console.print(f"Bag: mIoU {score_cell(result['miou'])}{spread}", soft_wrap=True)
    errors = ", ".join(f"{phase} {percent_cell(result['fractions'][phase]['error'], 2)}" for phase in phases)
    console.print(
        f"Mean absolute error of the fraction per field, points: {escape(plain_name(errors))}", soft_wrap=True
    )
    if "rdt" in result:
        change = "undefined" if result["rdt"] is None else f"{100 * result['rdt']:+.1f} %"
        console.print(f"RDT: {change} against mIoU {score_cell(result['source_miou'])} on the source", soft_wrap=True)
    _print_scale(console, result["fields"])
    seen = sum(field["seen_in_training"] for field in result["fields"])
    if seen:
        console.print(
            f"[yellow]{seen} of {len(result['fields'])} fields were seen in training. Their scores do not hold for new "
            "fields.[/yellow]",
            soft_wrap=True,
        )


def _print_scale(console: Any, fields: list[dict[str, Any]]) -> None:
    """The pixel sizes of the fields with their sources, and notices on them."""
    from microseg.cli.tables import say
    from microseg.core.preparation.wording import pixel_sizes_text, sources_text

    known = [(field["pixel_size_um"], field["pixel_size_source"]) for field in fields if field["pixel_size_um"]]
    others = dict(Counter(field["pixel_size_source"] for field in fields if not field["pixel_size_um"]))
    texts = [*([pixel_sizes_text(known)] if known else []), *([sources_text(others)] if others else [])]
    say(console, f"Pixel size: {plain_name('; '.join(texts))}")
    for field in fields:
        for notice in field["notices"]:
            say(console, f"note: {plain_name(field['name'])}: {plain_name(notice)}")


def _rows(result: dict[str, Any]) -> list[tuple[str, dict[str, Any], str, bool]]:
    """(name, scores, style, whether a section ends) of each field, each fold, the bag and the baseline."""
    rows = []
    for place, field in enumerate(result["fields"], start=1):
        name = field["name"] + (" (seen in training)" if field["seen_in_training"] else "")
        rows.append((name, field, "", place == len(result["fields"])))
    each = result["folds"]["each"]
    for place, fold in enumerate(each, start=1):
        rows.append((f"fold {fold['fold']} (n = {fold['fields']})", fold, "", place == len(each)))
    rows.append(("bag", result, "bold", False))
    if result["baseline"]:
        rows.append((f"{result['baseline']['name']} (baseline)", result["baseline"], "dim", False))
    return rows


def _table(phases: list[str], rows: list[tuple[str, dict[str, Any], str, bool]]) -> TextTable:
    from microseg.cli.tables import TextTable, percent_cell, score_cell

    shown = [plain_name(phase) for phase in phases]
    heads = [*(f"IoU {phase}" for phase in shown), "mIoU", *(f"{phase} %\ntrue/found" for phase in shown)]
    table = TextTable("Pooled over fields, native grid (n: number of fields)", [""], heads, shortens=True)
    for name, item, style, is_end in rows:
        fractions = [item["fractions"][phase] for phase in phases]
        table.add(
            name,
            *(score_cell(item["iou"][phase]) for phase in phases),
            score_cell(item["miou"]),
            *(f"{percent_cell(fraction['true'])}/{percent_cell(fraction['predicted'])}" for fraction in fractions),
            style=style,
            ends_section=is_end,
        )
    return table
