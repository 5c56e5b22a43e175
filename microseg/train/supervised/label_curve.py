"""How far more labels would help: the same recipe and folds with a quarter, a half and all of the labelled fields."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from statistics import fmean, stdev

from microseg.core.schemas.run import RunSummary
from microseg.core.system.files import replacing, write_json
from microseg.train.common.data import load_training_data
from microseg.train.common.datasets import LabelledField, with_labels
from microseg.train.common.recipe import Recipe
from microseg.train.common.run_folder import run_supervised
from microseg.train.supervised.loop import Report, steps_of

SHARES = (0.25, 0.5)


@dataclass(frozen=True)
class LabelPoint:
    """Labelled fields that a fold learned from (mean over folds), and the mIoU of each fold on what it did not see."""

    share: float
    fields: float
    mious: list[float]

    @property
    def miou_mean(self) -> float:
        """Over folds."""
        return fmean(self.mious)

    @property
    def miou_std(self) -> float:
        """Over folds."""
        return stdev(self.mious)


@dataclass(frozen=True)
class LabelCurve:
    """Points from few labels to all. gain and gain_se: of the last doubling, mIoU, paired over folds (standard error)."""

    points: list[LabelPoint]
    gain: float
    gain_se: float

    @property
    def verdict(self) -> str:
        """What the last doubling says of the next."""
        text = (
            f"The last doubling of the labels brought {100 * self.gain:+.1f} ± {100 * self.gain_se:.1f} points of mIoU"
        )
        if self.gain > 2 * self.gain_se:
            return f"{text}; gains shrink from doubling to doubling, so the next brings up to as much."
        return f"{text}, no more than chance between folds: more labels of the same kind would hardly help."


def run_label_curve(
    source: Path,
    recipe_name: str,
    recipe: Recipe,
    run: Path,
    summary: RunSummary,
    on_fold: Callable[[int], Report] = lambda fold: lambda step, steps, text: None,
    workers: int | None = None,
) -> LabelCurve:
    """Train the finished `run` again with fewer labels, into its own sub-folders `labels-25` and `labels-50`.

    As many steps as the run took, held out the same fields; the labels of a smaller share are among those of a larger
    one. Resumable like any run. Leaves labels.json and labels.png in `run`.
    """
    data = load_training_data(source, recipe.scale, recipe.folds)
    seen = [[item for item, k in zip(data.fields, data.folds, strict=True) if k != f] for f in range(recipe.folds)]
    steps = max(steps_of(recipe, fields) for fields in seen)
    points = []
    for share in SHARES:
        changed = recipe.model_copy(update={"label_share": share, "steps": steps, "epochs": None})
        out = run / f"labels-{100 * share:.0f}"
        found = run_supervised(source, recipe_name, changed, out, resume=True, on_fold=on_fold, workers=workers)
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
