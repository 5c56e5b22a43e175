"""The tables of `train uda`, from rows that `benchmarks.uda` wrote."""

from __future__ import annotations

import re
from typing import Any

from benchmarks.documentation.markdown import rows_of, table
from benchmarks.uda_tables import (
    criteria_table,
    fraction_error,
    fractions_table,
    paired,
    unadapted,
    verdict_table,
)

Rows = list[dict[str, Any]]
# Targets of the README's table, and what they are.
_SHORT = {
    "T2": "T2, over-etched",
    "T3": "T3, another instrument",
    "aged superalloy": "`superalloy-aged`, another alloy",
    "coating 040617-3": "`coating-040617-3`, a darker specimen",
}
# Criteria as the files name them, and in words.
_CRITERIA = {
    "flips": "agreement under flips",
    "photometric": "agreement under another light",
    "certainty": "certainty (entropy)",
    "information": "mutual information",
    "density": "soft neighbourhood density",
    "source_miou": "source mIoU",
    "step": "the last snapshot",
}


def adaptation_in_short(rows: Rows) -> str:
    """Targets before and after, beside equally long training on the source."""
    found = []
    for case, title in _SHORT.items():
        pair = _pair(rows, case)
        scores = [unadapted(pair["auto"])[0], pair["source"]["after"]["miou"], pair["auto"]["after"]["miou"]]
        found.append((title, *(f"{score:.3f}" for score in scores)))
    header = ("target, no label used", "mIoU, unadapted", "longer on the source", "adapted")
    return table(header, found)


def adaptation_bags(rows: Rows) -> str:
    """`auto` beside equally long training on the source, whole bags."""
    found = []
    for case in dict.fromkeys(row["case"] for row in rows):
        pair = _pair(rows, case)
        auto = pair["auto"]
        decision = f"{auto['decision']['verdict']} ({auto['decision']['chosen']})"
        if "after" not in auto:
            found.append((case, *[""] * 6, decision))
            continue
        miou, error = unadapted(auto)
        cells = [f"{miou:.3f}", "", f"{auto['after']['miou']:.3f}", "", f"{100 * error:.1f}"]
        errors = [error, fraction_error(auto["after"])]
        if "after" in pair.get("source", {}):
            control = pair["source"]["after"]
            mean, low, high = (100 * value for value in paired(control, auto["after"]))
            cells[1] = f"{control['miou']:.3f}"
            cells[3] = f"{mean:+.1f} [{low:+.1f}, {high:+.1f}]"
            errors.insert(1, fraction_error(control))
        cells[4] = ", ".join(f"{100 * value:.1f}" for value in errors)
        otsu = f"{auto['before']['baseline']['miou']:.3f}" if auto["before"].get("baseline") else ""
        found.append((case, *cells, otsu, decision))
    header = ("target", "unadapted", "source", "auto", "points against source [95 %]",
              "fraction error, points: unadapted, source, auto", "Otsu", "verdict (taken)")  # fmt: skip
    return table(header, found)


def adaptation_methods(rows: Rows) -> str:
    """Single methods on two targets, beside equally long training on the source."""
    cases = list(dict.fromkeys(row["case"] for row in rows))
    found = []
    for method in dict.fromkeys(row["method"] for row in rows):
        cells: list[str] = []
        for case in cases:
            row = next((row for row in rows if (row["case"], row["method"]) == (case, method)), None)
            control = next(row for row in rows if (row["case"], row["method"]) == (case, "source"))
            if row is None:
                cells += [""] * 3
                continue
            mean, low, high = (100 * value for value in paired(control["after"], row["after"]))
            gain = "" if row is control else f"{mean:+.1f} [{low:+.1f}, {high:+.1f}]"
            cells += [f"{row['after']['miou']:.3f}", gain, f"{100 * fraction_error(row['after']):.1f}"]
        found.append((f"`{method}`", *cells))
    columns = [f"{case} {what}" for case in cases for what in ("mIoU", "points [95 %]", "fraction error")]
    return table(("method", *columns), found)


def adaptation_criteria(bags: Rows, methods: Rows) -> str:
    """Regret of choosing a snapshot by each criterion: bags of `auto`, and all series."""
    auto = rows_of(criteria_table(bags))
    both = rows_of(criteria_table([*bags, *methods]))
    found = [(_criteria(of_auto[0]), *of_auto[1:], *of_both[1:3]) for of_auto, of_both in zip(auto, both, strict=True)]
    header = ("snapshot chosen by", "`auto`: mean regret, points", "worst", "Spearman", "all: mean regret, points",
              "worst, all")  # fmt: skip
    return table(header, found)


def _criteria(names: str) -> str:
    """A sum of criteria in words."""
    for name, words in _CRITERIA.items():
        names = re.sub(rf"\b{name}\b", words, names)
    return re.sub(r"^(\d) ", r"\1 x ", names)


def adaptation_verdicts(rows: Rows) -> str:
    """Verdicts of `auto` beside what its trained bag gains."""
    shown = verdict_table(rows)
    return table([str(column.header) for column in shown.columns], rows_of(shown))


def adaptation_fractions(rows: Rows) -> str:
    """Regret in fraction error of the bag that `auto` took, and of always taking the same. Empty columns are left out."""
    shown = fractions_table(rows)
    cells = rows_of(shown)
    kept = [place for place in range(len(shown.columns)) if any(row[place] for row in cells)]
    header = [str(shown.columns[place].header) for place in kept]
    return table(header, [[row[place] for place in kept] for row in cells])


def _pair(rows: Rows, case: str) -> dict[str, dict[str, Any]]:
    """Method -> row of a target."""
    return {row["method"]: row for row in rows if row["case"] == case}
