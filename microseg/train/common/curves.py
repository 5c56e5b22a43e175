"""Learning curves: history.csv and history.png beside it."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

from microseg.core.system.files import replacing, write_text

# Columns of an adaptation: unweighted mean losses, and `on_target`, the weighted sum of those on target tiles.
LOSSES = (
    "segmentation", "target", "target_auxiliary", "discriminator", "discriminator_auxiliary", "consistency", "masked",
    "on_target",
)  # fmt: skip


def write_history(folder: Path, history: list[dict[str, Any]]) -> None:
    """Write history.csv, one row per validation, atomically."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(history[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    write_text(folder / "history.csv", text.getvalue())


def plot_histories(path: Path, folders: list[Path], scored: str = "mIoU on the held-out fold") -> None:
    """Plot loss and mIoU of every fold against the step, as one PNG.

    Args:
        path: The PNG.
        folders: Folders of the folds.
        scored: What the mIoU is of, in words.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    loss, miou = figure.subplots(1, 2)
    for folder in folders:
        rows = list(csv.DictReader(io.StringIO((folder / "history.csv").read_text(encoding="utf-8"))))
        steps = [int(row["step"]) for row in rows]
        loss.plot(steps, [float(row["loss"]) for row in rows], marker=".", label=folder.name)
        miou.plot(steps, [float(row["miou"]) for row in rows], marker=".", label=folder.name)
    loss.set(xlabel="step", ylabel="training loss")
    miou.set(xlabel="step", ylabel=scored)
    miou.legend(frameon=False)
    for axes in (loss, miou):
        axes.spines[["top", "right"]].set_visible(False)
    with replacing(path) as part:
        figure.savefig(part, format="png", dpi=120)


def plot_adaptation(path: Path, folders: list[Path], phases: list[str]) -> None:
    """Plot losses, label-free criteria and phase fractions on the target against the step, all folds, as one PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(13, 3.8), layout="constrained")
    losses, criteria, shares = figure.subplots(1, 3)
    curves = [
        (losses, {name: f"C{index}" for index, name in enumerate(LOSSES)}),
        (criteria, {"flips": "C0", "photometric": "C1", "certainty": "C2", "source_miou": "C7"}),
        (shares, {f"fraction_{phase}": f"C{index}" for index, phase in enumerate(phases)}),
    ]
    for folder in folders:
        rows = list(csv.DictReader(io.StringIO((folder / "history.csv").read_text(encoding="utf-8"))))
        for axes, columns in curves:
            for column, colour in columns.items():
                points = [(int(row["step"]), float(row[column])) for row in rows if row[column]]
                if points:
                    label = column.removeprefix("fraction_") if folder == folders[0] else None
                    axes.plot(*zip(*points, strict=True), marker=".", linewidth=1, color=colour, label=label)
    for axes, title in (
        (losses, "loss"),
        (criteria, "on the target, without labels"),
        (shares, "area fraction on the target"),
    ):
        axes.set(xlabel="step", ylabel=title)
        axes.legend(frameon=False, fontsize="small")
        axes.spines[["top", "right"]].set_visible(False)
    with replacing(path) as part:
        figure.savefig(part, format="png", dpi=120)
