"""Learning curves: history.csv and history.png beside it."""

from __future__ import annotations

import csv
import io
from pathlib import Path
from typing import Any

from microseg.core.files import replacing, write_text


def write_history(folder: Path, history: list[dict[str, Any]]) -> None:
    """Write history.csv, one row per validation, atomically."""
    text = io.StringIO()
    writer = csv.DictWriter(text, list(history[0]), lineterminator="\n")
    writer.writeheader()
    writer.writerows(history)
    write_text(folder / "history.csv", text.getvalue())


def plot_histories(path: Path, folders: list[Path]) -> None:
    """Loss and validation mIoU of every fold against the step, as one PNG."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    loss, miou = figure.subplots(1, 2)
    for folder in folders:
        rows = list(csv.DictReader(io.StringIO((folder / "history.csv").read_text(encoding="utf-8"))))
        steps = [int(row["step"]) for row in rows]
        loss.plot(steps, [float(row["loss"]) for row in rows], marker=".", label=folder.name)
        miou.plot(steps, [float(row["miou"]) for row in rows], marker=".", label=folder.name)
    loss.set(xlabel="step", ylabel="training loss")
    miou.set(xlabel="step", ylabel="mIoU on the held-out fold")
    miou.legend(frameon=False)
    for axes in (loss, miou):
        axes.spines[["top", "right"]].set_visible(False)
    with replacing(path) as part:
        figure.savefig(part, format="png", dpi=120)
