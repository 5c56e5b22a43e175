"""The tables of intervals, audits and the alarm, from what `benchmarks.coverage`, `.audit` and `.alarm` wrote."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from statistics import fmean
from typing import Any

from benchmarks.documentation.markdown import table

Found = Mapping[str, Any]
_NOT_RUN = "This command has not been run as a whole yet."


def coverage(found: Found, part: str) -> str:
    """Coverage by labelled fields, fields of a section and mean fraction.

    Args:
        found: the file of `benchmarks.coverage`; empty where there is none, which the table says.
        part: home or validated.
    """
    if not found:
        return _NOT_RUN
    rows: dict[tuple[str, int, int], list[Found]] = {}
    for cell in found[part]["cells"]:
        key = (cell.get("domain", "s").upper(), cell.get("labelled") or cell["validated"], cell["fields"])
        rows.setdefault(key, []).append(cell)
    means = [cell["mean"] for cell in next(iter(rows.values()))]
    header = ("domain", "labelled fields", "fields", *(f"{100 * mean:.0f} %" for mean in means),
              "half width, points", "of that from perfect labels", "E562 alone")  # fmt: skip
    return table(header, [_coverage_row(key, cells) for key, cells in rows.items()])


def _coverage_row(key: tuple[str, int, int], cells: Sequence[Found]) -> tuple[object, ...]:
    half, perfect, e562 = (
        fmean(cell[name] for cell in cells) for name in ("half_width", "half_width_perfect_labels", "coverage_e562")
    )
    coverages = (f"{cell['coverage']:.3f}" for cell in cells)
    return *key, *coverages, f"{100 * half:.1f}", f"{half / perfect:.2f}", f"{e562:.2f}"


def coverage_in_short(found: Found) -> str:
    """What `benchmarks.coverage` is judged by."""
    if not found:
        return _NOT_RUN
    rows = [
        (
            {"home": "at home, cross-validated", "validated": "T1, T2, T3, validated"}[part],
            f"{found[part]['pooled_coverage']:.3f}",
            f"{found[part]['worst_coverage']:.3f}",
            f"{100 * found[part]['without_interval']:.1f} %",
            f"{found[part]['half_width_ratio_10_fields']:.2f}",
        )
        for part in ("home", "validated")
    ]
    header = ("sections", "coverage", "lowest of a cell", "without an interval",
              "half width of 10 fields, of that from perfect labels")  # fmt: skip
    return table(header, rows)


def claims(found: Found) -> str:
    """What is claimed where nothing stands behind it."""
    if not found:
        return _NOT_RUN
    names = {"noise": "noise", "coating": "`coating`", "superalloy": "`superalloy`"}
    rows = [
        (names.get(cell["kind"], cell["kind"].upper()), cell["sections"], cell["claims"], cell["wrong_claims"])
        for cell in found["unaudited_claims"]["cells"]
    ]
    return table(("fields of", "sections", "claimed", "claimed and wrong"), rows)


def audits(found: Found) -> str:
    """How often audits of a few fields hold, and how wide they are beside the same labels alone."""
    if not found:
        return _NOT_RUN
    rows: dict[tuple[str, str], list[Found]] = {}
    for cell in found["cells"]:
        name = "aged superalloy, parts" if cell["domain"] == "aged" else cell["domain"].upper()
        rows.setdefault((name, cell["audit"]), []).append(cell)
    header = ("fields of", "audit by", "correlation", "covered", "lowest of a cell", "half width, points",
              "of that from labels alone")  # fmt: skip
    shown = [
        (
            *key,
            f"{fmean(cell['correlation'] for cell in cells):.2f}",
            f"{fmean(cell['covered'] for cell in cells):.3f}",
            f"{min(cell['covered'] for cell in cells):.3f}",
            f"{100 * fmean(cell['half_width'] for cell in cells):.1f}",
            f"{fmean(cell['half_width_ratio'] for cell in cells):.2f}",
        )
        for key, cells in rows.items()
    ]
    return table(header, shown)


def alarm(found: Found) -> str:
    """How well the alarm's predicted error separates large errors from small ones."""
    if not found:
        return _NOT_RUN
    rows = [
        (
            kind,
            _share(each["auroc"]),
            _share(each["auroc_of_the_kind"]),
            f"{each['large']} / {each['small']}",
            f"{each['raised']:.2f}",
            f"{each['missed']:.2f}",
        )
        for kind, each in found["kinds"].items()
    ]
    header = ("kind left out", "area under the curve", "of the kind alone", "fields with a large / small error", "alarm raised",
              "of large errors, not raised")  # fmt: skip
    home = (
        f"An error is large beyond {100 * found['error_limit']:.1f} points. Of {found['home_fields']} fresh fields at home, "
        f"{100 * found['false_alarm_rate']:.1f} % raise an alarm."
    )
    return f"{home}\n\n{table(header, rows)}"


def _share(value: float | None) -> str:
    return "one side only" if value is None else f"{value:.3f}"
