"""`microseg study`: a table of recipes and domains as in the paper. A row is a recipe, and its figures come from a run."""

from __future__ import annotations

import csv
import io
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from statistics import fmean, stdev
from typing import Any

from pydantic import Field, ValidationError

from microseg.core.content_problems import problems, told
from microseg.core.errors import InputError, MicrosegError
from microseg.core.evaluation.scoring import rdt
from microseg.core.schemas.frozen_model import FrozenModel
from microseg.core.schemas.run import read_run
from microseg.core.system.files import replacing, write_json, write_text
from microseg.core.system.yaml_file import read_yaml
from microseg.train.analysis.evaluate import evaluate_run
from microseg.train.analysis.study_page import DomainPart, PageRow, study_html
from microseg.train.common.progress import FoldCallback, no_fold_progress
from microseg.train.common.recipe import Recipe
from microseg.train.recipe_files import load_recipe, load_uda_recipe
from microseg.train.supervised.command import run_supervised
from microseg.train.uda.command import AdaptationOptions, run_uda
from microseg.train.uda.recipe import UdaRecipe

SOURCE = "source"
AUTO = "uda-auto"
# What a study writes after study.json, which marks the folder as its own.
_TABLES = ("table.md", "table.csv", "study.html", "bars.png")


class StudyAdaptation(FrozenModel):
    """A row that adapts another row's run. The recipe `uda-auto` decides by its verdict; other recipes are always taken."""

    start: str = Field(description="Name of a row above that trains: the source run.")
    target: Path = Field(description="The target's fields. Their masks are not opened.")


class StudyRow(FrozenModel):
    """A row: a recipe with overrides. It is a recipe of `train uda` where the row adapts."""

    name: str = Field(pattern=r"^[A-Za-z0-9][A-Za-z0-9._-]*$", description="Name of the row, and of its run folder.")
    title: str = Field("", description="Text beside the name in the tables.")
    recipe: str = Field(description="Name of a shipped recipe, or a YAML file.")
    set: list[str] = Field(default_factory=list, description="Overrides KEY=VALUE of the recipe.")
    published: dict[str, float] = Field(default_factory=dict, description="Published mIoU by domain, percent.")
    source: Path | None = Field(
        None,
        description="Labelled domain to train on instead of the study's, such as a target's own; null for the study's.",
    )
    adapt: StudyAdaptation | None = Field(None, description="Adapt another row's run; null for supervised training.")


class Study(FrozenModel):
    """A table. Paths are relative to the working directory."""

    source: Path = Field(description="Labelled domain to train on.")
    targets: dict[str, Path] = Field(default_factory=dict, description="Labelled domains to score on, by name.")
    phase: str = Field(description="Phase whose area fraction the tables show.")
    folds: int | None = Field(None, ge=2, description="Folds of every row; null for those of the recipes.")
    rows: list[StudyRow] = Field(min_length=1, description="The rows.")


@dataclass(frozen=True)
class StudyResult:
    """The result of a study, by row name.

    rows: Figures of the rows that are finished.
    failed: Why the other rows failed.
    """

    rows: dict[str, dict[str, Any]]
    failed: dict[str, str]


Recipes = dict[str, tuple[str, Recipe | UdaRecipe]]


def load_study(path: Path) -> tuple[Study, Recipes]:
    """Read a study and the recipes of its rows.

    Raises:
        InputError: The file, or a recipe, is wrong. It names the row and the key.
    """
    content = read_yaml(path)
    try:
        study = Study.model_validate(content)
    except ValidationError as error:
        raise InputError(f"{path}: {told(problems(error, content, Study))}") from error
    names = [row.name for row in study.rows]
    if len(set(names)) < len(names):
        twice = next(name for name in names if names.count(name) > 1)
        raise InputError(f"{path}: two rows have the name {twice!r}. Remedy: another name for one of them.")
    if SOURCE in study.targets:
        raise InputError(f"{path}: a target has the name {SOURCE!r}, which is reserved. Remedy: another name.")
    recipes: Recipes = {}
    trained: set[str] = set()
    for row in study.rows:
        if row.adapt is not None and row.adapt.start not in trained:
            known = ", ".join(sorted(trained))
            raise InputError(
                f"{path}: row {row.name}: adapt.start: no row above it that trains has the name {row.adapt.start!r}. "
                f"Remedy: {f'one of {known}' if known else 'such a row above it'}."
            )
        try:
            if row.adapt is not None:
                recipes[row.name] = load_uda_recipe(row.recipe, row.set)
            else:
                recipes[row.name] = load_recipe(row.recipe, row.set, folds=study.folds)
                trained.add(row.name)
        except InputError as error:
            raise InputError(f"{path}: row {row.name}: {error}") from error
    return study, recipes


def run_study(
    path: Path,
    out: Path,
    on_row: Callable[[str], None] = lambda name: None,
    on_fold: FoldCallback = no_fold_progress,
    only: str | None = None,
) -> StudyResult:
    """Train and score every row that is not finished. A row that fails does not stop the others.

    Writes rows/NAME (a run folder for each row), study.json, table.md, table.csv, study.html and bars.png.

    Args:
        path: The study.
        out: Folder to write.
        on_row: Receives the name of each row.
        on_fold: Gives the progress callback of a fold.
        only: Name or number (from 1) of the only row to train and score, without tables, so that rows can be separate jobs.

    Raises:
        InputError: The study cannot be read, or `out` holds files of these names that no study wrote.
    """
    study, recipes = load_study(path)
    _refuse_files_of_others(out)
    done: dict[str, dict[str, Any]] = {}
    failed: dict[str, str] = {}
    for row in study.rows if only is None else [_chosen(study, path, only)]:
        on_row(row.name)
        try:
            done[row.name] = _row(study, row, *recipes[row.name], out / "rows" / row.name, on_fold)
        except MicrosegError as error:
            failed[row.name] = str(error)
        if only is None:
            _write(study, StudyResult(done, failed), out)
    return StudyResult(done, failed)


def _refuse_files_of_others(out: Path) -> None:
    if (out / "study.json").is_file():
        return
    for name in _TABLES:
        if (out / name).exists():
            raise InputError(f"{out / name}: exists, and no study wrote it. Remedy: another --out.")


def _chosen(study: Study, path: Path, only: str) -> StudyRow:
    by_number = {str(number): row for number, row in enumerate(study.rows, start=1)}
    rows = by_number | {row.name: row for row in study.rows}
    if only not in rows:
        raise InputError(
            f"{path}: has no row {only!r}. Remedy: a number from 1 to {len(study.rows)}, or one of "
            f"{', '.join(row.name for row in study.rows)}."
        )
    return rows[only]


def _row(
    study: Study,
    row: StudyRow,
    recipe_name: str,
    recipe: Recipe | UdaRecipe,
    run: Path,
    on_fold: FoldCallback,
) -> dict[str, Any]:
    """Figures of one row by domain: its folds on the fields that they held out, and all folds on every target."""
    if isinstance(recipe, Recipe):
        run_supervised(row.source or study.source, recipe_name, recipe, run, resume=True, on_fold=on_fold)
    else:
        assert row.adapt is not None
        start = run.parent / row.adapt.start
        auto = row.recipe == AUTO
        # A row with a method shows that method. Only `auto` may keep the source. Controls are rows of their own.
        options = AdaptationOptions(auto=auto, always=not auto, control=auto)
        run_uda(row.adapt.target, start, recipe_name, recipe, run, options, resume=True, on_fold=on_fold)
    weights = [fold.weights_sha256 for fold in read_run(run)[1].folds]
    figures: dict[str, Any] = {}
    for name, domain in {SOURCE: study.source, **study.targets}.items():
        kept = run / f"evaluation-{name}.json"
        found = json.loads(kept.read_text(encoding="utf-8")) if kept.is_file() else {}
        if found.get("weights") != weights or found.get("domain") != str(domain.resolve()):
            found = {"weights": weights, "domain": str(domain.resolve()), "scores": evaluate_run(run, domain)}
            write_json(kept, found)
        figures[name] = _figures(found["scores"], study.phase, domain)
    for name, item in figures.items():
        compared = name != SOURCE and row.source is None
        item["rdt"] = rdt(item["miou_mean"], figures[SOURCE]["miou_mean"]) if compared else None
    return figures


def _figures(scores: dict[str, Any], phase: str, domain: Path) -> dict[str, Any]:
    if phase not in scores["fractions"]:
        raise InputError(
            f"{domain}: has no phase {phase!r}. Remedy: `phase` in the study, one of {', '.join(scores['iou'])}."
        )
    fractions = [fold["fractions"][phase]["predicted"] for fold in scores["folds"]["each"]]
    known = [value for value in fractions if value is not None]
    otsu = scores["baseline"] and {
        "miou": scores["baseline"]["miou"],
        "fraction": scores["baseline"]["fractions"][phase]["predicted"],
    }
    return {
        "miou_mean": scores["folds"]["miou_mean"],
        "miou_std": scores["folds"]["miou_std"],
        "bag_miou": scores["miou"],
        "fraction_true": scores["fractions"][phase]["true"],
        "fraction_mean": fmean(known) if known else None,
        "fraction_std": stdev(known) if len(known) > 1 else None,
        "otsu": otsu,
    }


def table(study: Study, result: StudyResult) -> tuple[list[str], list[list[str]]]:
    """Headings and rows of text, with the `entries` of all domains side by side."""
    domains = [SOURCE, *study.targets]
    heads = ["row"] + [f"{name} {column}" for name in domains for column in entries(study, None, None, name)]
    lines = []
    for row in study.rows:
        line = [f"{row.name} {row.title}".strip()]
        figures = result.rows.get(row.name)
        if figures is None:
            lines.append(line + ["failed" if row.name in result.failed else ""] * (len(heads) - 1))
        else:
            lines.append(line + [cell for name in domains for cell in entries(study, row, figures, name).values()])
    known = next((row for row in result.rows.values() if all(row[name]["otsu"] for name in domains)), None)
    if known is not None:
        lines.append(["Otsu's threshold"] + [cell for name in domains for cell in _otsu_entries(study, known, name)])
    return heads, lines


def _otsu_entries(study: Study, figures: dict[str, Any], domain: str) -> list[str]:
    """The entries of the classical baseline, which is the same for every row."""
    otsu = figures[domain]["otsu"]
    values = {
        "mIoU": _percent(otsu["miou"]),
        f"{study.phase}: found / true": f"{_percent(otsu['fraction'])} / {_percent(figures[domain]['fraction_true'])}",
    }
    return [values.get(column, "-") for column in entries(study, None, None, domain)]


def entries(study: Study, row: StudyRow | None, figures: dict[str, Any] | None, domain: str) -> dict[str, str]:
    """Text by column for one domain: mIoU of the folds in percent, RDT, a published figure, the bag, fractions.

    Args:
        study: The study.
        row: The row; None for empty columns.
        figures: Its figures.
        domain: Name of the domain.
    """
    columns = ["mIoU"] + (["RDT"] if domain != SOURCE else [])
    columns += ["published"] if any(domain in item.published for item in study.rows) else []
    columns += ["bag"] if domain != SOURCE else []
    columns += [f"{study.phase}: found / true"]
    if row is None or figures is None:
        return dict.fromkeys(columns, "")
    item = figures[domain]
    found = f"{_spread(item['fraction_mean'], item['fraction_std'])} / {_percent(item['fraction_true'])}"
    values = {
        "mIoU": _spread(item["miou_mean"], item["miou_std"]),
        "RDT": "-" if item["rdt"] is None else f"{100 * item['rdt']:+.1f}",
        "published": f"{row.published[domain]:.1f}" if domain in row.published else "-",
        "bag": _percent(item["bag_miou"]),
        f"{study.phase}: found / true": found,
    }
    return {column: values[column] for column in columns}


def _percent(value: float | None) -> str:
    return "-" if value is None else f"{100 * value:.1f}"


def _spread(mean: float | None, std: float | None) -> str:
    return _percent(mean) if mean is None or std is None else f"{_percent(mean)} ± {_percent(std)}"


def _write(study: Study, result: StudyResult, out: Path) -> None:
    heads, lines = table(study, result)
    rows = [heads, ["---"] * len(heads), *lines]
    text = "\n".join("| " + " | ".join(cell.replace("|", "\\|") for cell in row) + " |" for row in rows)
    failures = "".join(f"\nFailed: {name}: {reason}\n" for name, reason in result.failed.items())
    write_json(out / "study.json", {"rows": result.rows, "failed": result.failed})
    write_text(out / "table.md", f"mIoU, RDT and fractions in percent, mean ± std over folds.\n\n{text}\n{failures}")
    stream = io.StringIO()
    csv.writer(stream, lineterminator="\n").writerows([heads, *lines])
    write_text(out / "table.csv", stream.getvalue())
    domains = [SOURCE, *study.targets]
    columns = list(dict.fromkeys(column for name in reversed(domains) for column in entries(study, None, None, name)))
    page = study_html(out.name, len(domains), columns, _page_rows(study, result, domains))
    write_text(out / "study.html", page)
    if result.rows:
        _plot(study, result, out / "bars.png")


def _page_rows(study: Study, result: StudyResult, domains: Sequence[str]) -> list[PageRow]:
    """The rows of the page, the classical baseline last."""
    rows = []
    for row in study.rows:
        figures = result.rows.get(row.name)
        parts = {
            name: DomainPart(entries(study, row, figures, name), item["miou_mean"], item["miou_std"])
            for name, item in (figures or {}).items()
        }
        rows.append(PageRow(row.name, row.title, parts, result.failed.get(row.name)))
    known = next((each for each in result.rows.values() if all(each[name]["otsu"] for name in domains)), None)
    if known is not None:
        otsu = {}
        for name in domains:
            texts = zip(entries(study, None, None, name), _otsu_entries(study, known, name), strict=True)
            otsu[name] = DomainPart(dict(texts), known[name]["otsu"]["miou"], None)
        rows.append(PageRow("Otsu's threshold", "", otsu, is_baseline=True))
    return rows


def _plot(study: Study, result: StudyResult, path: Path) -> None:
    """Grouped bars: mIoU of every row, a colour for each domain, whiskers of one standard deviation."""
    from matplotlib.figure import Figure

    domains = [SOURCE, *study.targets]
    figure = Figure(figsize=(max(6.0, 1.1 * len(result.rows) + 2), 4), layout="constrained")
    axes = figure.subplots()
    width = 0.8 / len(domains)
    for place, name in enumerate(domains):
        items = [figures[name] for figures in result.rows.values()]
        at = [index + (place - (len(domains) - 1) / 2) * width for index in range(len(items))]
        heights = [100 * (item["miou_mean"] or 0) for item in items]
        axes.bar(at, heights, width, yerr=[100 * (item["miou_std"] or 0) for item in items], label=name, capsize=2)
    axes.set_xticks(range(len(result.rows)), list(result.rows), rotation=30, ha="right")
    axes.set(ylabel="mIoU, %", ylim=(0, 100))
    axes.legend(frameon=False, ncols=len(domains), loc="upper center", bbox_to_anchor=(0.5, 1.12))
    axes.spines[["top", "right"]].set_visible(False)
    with replacing(path) as part:
        figure.savefig(part, format="png", dpi=120)
