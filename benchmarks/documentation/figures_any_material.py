"""The tables of `--recipe auto` beside its peers, from rows that `benchmarks.any_material` wrote."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from benchmarks.any_material_sets import CASES
from benchmarks.documentation.markdown import table

Rows = Mapping[str, Mapping[str, Any]]
ARMS = {"auto": "`auto`", "hand_made": "hand-made recipe", "forest": "pixel forest", "plain": "plain U-Net"}
FEW_ARMS = {"auto": "`auto`", "suggested": "`auto`, suggested fields", "forest": "pixel forest"}


def any_material(rows: Rows) -> str:
    """Sets with all labels: every arm's mIoU, and what `auto` finds of each phase."""
    found = []
    for name, entry in rows.items():
        if _labelled(name) is not None:
            continue
        auto = entry.get("auto")
        has_test = name in CASES and CASES[name].has_test
        found.append(
            (
                f"`{name}`",
                "its test set" if has_test else "cross-validation",
                *(_miou(entry.get(arm)) for arm in ARMS),
                "" if auto is None else ", ".join(f"{p} {_number(value)}" for p, value in auto["iou"].items()),
                "" if auto is None else f"{100 * _worst(auto):.2f}",
                " / ".join(f"{entry[arm]['minutes']:.0f}" if arm in entry else "-" for arm in ARMS),
            )
        )
    header = ("set", "scored on", *ARMS.values(), "IoU of each phase, `auto`",
              "largest fraction error, `auto`, points", "minutes, in the same order")  # fmt: skip
    return table(header, found) if found else ""


def any_material_few(rows: Rows) -> str:
    """Few labelled fields: mean over draws, and the lowest and the highest."""
    few = {number: entry for name, entry in rows.items() if (number := _labelled(name)) is not None}
    found = [(number, *(_miou(few[number].get(arm)) for arm in FEW_ARMS)) for number in sorted(few)]
    return table(("labelled fields", *FEW_ARMS.values()), found) if found else ""


def _labelled(name: str) -> int | None:
    return CASES[name].labelled if name in CASES else None


def _worst(item: Mapping[str, Any]) -> float:
    errors: list[float | None] = list(item["fraction_error"].values())
    return max(error for error in errors if error is not None)


def _miou(item: Mapping[str, Any] | None) -> str:
    """The mean over the seeds, and their range where there are several."""
    if item is None:
        return ""
    each = [run["miou"] for run in item["runs"]]
    spread = f" ({min(each):.3f} - {max(each):.3f})" if len(each) > 1 else ""
    return f"{item['miou']:.3f}{spread}"


def _number(value: float | None) -> str:
    return "-" if value is None else f"{value:.3f}"
