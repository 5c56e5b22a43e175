"""`microseg evaluate RUN|ENGINE DOMAIN`: IoU and phase fractions of a labelled domain, with a classical baseline."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

if TYPE_CHECKING:
    from rich.table import Table


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
    from rich.console import Console

    from microseg.cli.tables import output_console
    from microseg.core.evaluation.scoring import rdt
    from microseg.core.system.files import require_writable, write_json, writing

    if json_path is not None:
        require_writable(json_path, (model, domain, source))

    def run(data: Path) -> dict[str, Any]:
        with Console(stderr=True).status(f"scoring {data}") as status:
            if model.is_dir():
                from microseg.train.analysis.evaluate import evaluate_run

                return evaluate_run(model, data, domain_name, lambda name: status.update(f"scoring {name}"))
            from microseg.deploy.evaluate import evaluate_engine

            return evaluate_engine(model, data, domain_name, lambda name: status.update(f"scoring {name}"))

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

    from microseg.cli.tables import fitting_table

    phases = list(result["iou"])
    rows = _rows(result)
    console.print(fitting_table(console, [name for name, *_ in rows], lambda names: _table(phases, rows, names)))
    folds = result["folds"]
    if folds["miou_std"] is not None:
        console.print(f"Folds: mIoU {folds['miou_mean']:.3f} ± {folds['miou_std']:.3f} (mean ± std)")
    low, high = result["spread"]["miou"] or (None, None)
    spread = f", bootstrap over fields {_cell(low)} to {_cell(high)} (95 %)" if len(result["fields"]) > 1 else ""
    console.print(f"Bag: mIoU {_cell(result['miou'])}{spread}")
    errors = ", ".join(f"{phase} {_percent(result['fractions'][phase]['error'], 2)}" for phase in phases)
    console.print(f"Mean absolute error of the fraction per field, points: {escape(errors)}")
    if "rdt" in result:
        change = "undefined" if result["rdt"] is None else f"{100 * result['rdt']:+.1f} %"
        console.print(f"RDT: {change} against mIoU {_cell(result['source_miou'])} on the source")
    seen = sum(field["seen_in_training"] for field in result["fields"])
    if seen:
        console.print(
            f"[yellow]{seen} of {len(result['fields'])} fields were seen in training. Their scores do not hold for new "
            "fields.[/yellow]"
        )


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


def _table(phases: list[str], rows: list[tuple[str, dict[str, Any], str, bool]], names: Sequence[str]) -> Table:
    from rich.markup import escape
    from rich.table import Table

    table = Table(title="Pooled over fields, native grid (n: number of fields)", title_justify="left")
    table.add_column("", no_wrap=True)
    for phase in phases:
        table.add_column(f"IoU {escape(phase)}", justify="right", overflow="fold")
    table.add_column("mIoU", justify="right", no_wrap=True)
    for phase in phases:
        table.add_column(f"{escape(phase)} %\ntrue/found", justify="right", overflow="fold")
    for name, (_, item, style, is_end) in zip(names, rows, strict=True):
        shown = [item["fractions"][phase] for phase in phases]
        table.add_row(
            escape(name),
            *(_cell(item["iou"][phase]) for phase in phases),
            _cell(item["miou"]),
            *(f"{_percent(fraction['true'])}/{_percent(fraction['predicted'])}" for fraction in shown),
            style=style,
            end_section=is_end,
        )
    return table


def _cell(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"


def _percent(value: float | None, digits: int = 1) -> str:
    return "-" if value is None else f"{100 * value:.{digits}f}"
