"""How much more labels would gain: the same recipe and folds with a quarter, a half and all of the labelled fields."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, stdev

from microseg.core.schemas.run import RunSummary, read_run
from microseg.core.system.files import replacing, write_json
from microseg.train.common.data import load_training_data
from microseg.train.common.datasets import LabelledField, with_labels
from microseg.train.common.progress import FoldCallback, no_fold_progress
from microseg.train.common.recipe import Recipe
from microseg.train.supervised.command import run_supervised
from microseg.train.supervised.loop import steps_of

SHARES = (0.25, 0.5)


@dataclass(frozen=True)
class LabelPoint:
    """The scores with one share of the labels.

    share: Share of the labelled fields, 0-1.
    fields: Labelled fields that a fold learns from, mean over folds.
    mious: mIoU, 0-1, of each fold on the fields that it held out.
    """

    share: float
    fields: float
    mious: list[float]

    @property
    def miou_mean(self) -> float:
        """Mean mIoU over folds."""
        return fmean(self.mious)

    @property
    def miou_std(self) -> float:
        """Sample standard deviation of the mIoU over folds."""
        return stdev(self.mious)


@dataclass(frozen=True)
class LabelCurve:
    """The scores from few labels to all.

    points: One for each share.
    gain, gain_se: mIoU that the last doubling gained, paired over folds, and its standard error.
    """

    points: list[LabelPoint]
    gain: float
    gain_se: float

    @property
    def verdict(self) -> str:
        """A sentence on the last doubling, and on what to expect of the next one."""
        text = (
            f"The last doubling of the labels gained {100 * self.gain:+.1f} ± {100 * self.gain_se:.1f} points of mIoU"
        )
        if self.gain > 2 * self.gain_se:
            return f"{text}. Gains shrink with every doubling, so the next one gains at most as much."
        return f"{text}. This is within the variation between folds: more labels of the same kind gain little."


def run_label_curve(
    source: Path, run: Path, on_fold: FoldCallback = no_fold_progress, workers: int | None = None
) -> LabelCurve:
    """Train a finished run again with a quarter and a half of its labelled fields.

    The trainings take as many steps as the run and hold out the same fields. The labels of a smaller share are among those
    of a larger one. The runs are the sub-folders `labels-25` and `labels-50`, which an interrupted call continues. Writes
    labels.json and labels.png into `run`.

    Args:
        source: The labelled domain of the run.
        run: The finished run.
        on_fold: Gives the progress callback of a fold.
        workers: Processes that train; one for each GPU by default.
    """
    record, summary = read_run(run)
    recipe = Recipe.model_validate(record.recipe)
    data = load_training_data(source, recipe.scale, recipe.folds, split=recipe.split)
    seen = [data.seen(fold) for fold in range(recipe.folds)]
    steps = max(steps_of(recipe, fields) for fields in seen)
    points = []
    for share in SHARES:
        changed = recipe.model_copy(update={"label_share": share, "steps": steps, "epochs": None})
        out = run / f"labels-{100 * share:.0f}"
        unlabelled = Path(record.unlabelled.source) if record.unlabelled else None
        found = run_supervised(
            source, record.recipe_name, changed, out,
            resume=True, on_fold=on_fold, workers=workers, unlabelled=unlabelled,
        )  # fmt: skip
        assert found is not None
        points.append(_point(share, seen, found))
    points.append(_point(1.0, seen, summary))
    gains = [more - fewer for more, fewer in zip(points[-1].mious, points[-2].mious, strict=True)]
    curve = LabelCurve(points, fmean(gains), stdev(gains) / len(gains) ** 0.5)
    write_json(run / "labels.json", asdict(curve))
    _plot(curve, run / "labels.png")
    return curve


def _point(share: float, seen: list[list[LabelledField]], summary: RunSummary) -> LabelPoint:
    counts = [len(with_labels(fields, share, 0)) for fields in seen]
    return LabelPoint(share, fmean(counts), [fold.miou for fold in summary.folds])


def _plot(curve: LabelCurve, path: Path) -> None:
    from matplotlib.figure import Figure

    figure = Figure(figsize=(5, 3.6), layout="constrained")
    axes = figure.subplots()
    fields = [point.fields for point in curve.points]
    for fold in range(len(curve.points[0].mious)):
        axes.plot(fields, [100 * point.mious[fold] for point in curve.points], color="0.8", marker=".")
    means, stds = [100 * p.miou_mean for p in curve.points], [100 * p.miou_std for p in curve.points]
    axes.errorbar(fields, means, stds, color="#0072b2", marker="o", capsize=3, label="mean ± std over folds")
    axes.set_xscale("log", base=2)
    axes.set_xticks(fields, [f"{count:g}" for count in fields])
    axes.set(xlabel="labelled fields that a fold learns from", ylabel="mIoU on the held-out fold, %")
    axes.legend(frameon=False)
    axes.spines[["top", "right"]].set_visible(False)
    with replacing(path) as part:
        figure.savefig(part, format="png", dpi=120)
