"""The tables of `benchmarks.uda`, from the rows that it writes. Nothing here needs PyTorch."""

from __future__ import annotations

from collections import Counter
from typing import Any

import numpy as np
from rich.table import Table
from scipy.stats import linregress, spearmanr

CRITERIA = ("flips", "photometric", "certainty", "information", "density", "source_miou")
# What `train uda` goes by, and other ways to combine criteria: sums of those named.
SHIPPED = ("flips", "flips", "source_miou")
COMBINED = (
    *((name,) for name in (*CRITERIA, "step")),
    ("flips", "photometric"),
    ("flips", "photometric", "source_miou"),
    SHIPPED,
    ("flips", "information"),
    ("flips", "information", "source_miou"),
    ("flips", "photometric", "information"),
)
# A difference of the bags' mIoU, in points, below which the unadapted one is as good.
SAME_POINTS = 0.5
DRAWS = 10_000


def table(rows: list[dict[str, Any]]) -> Table:
    """Rows by target, each with its difference to the unadapted bag and to equally long source training."""
    shown = Table(title="mIoU on the target, without one of its labels", title_justify="left")
    columns = (
        "target", "method", "folds", "unadapted", "folds ±", "bag", "points", "against longer source", "fraction error",
        "slope", "Otsu", "verdict", "chosen", "on source", "min",
    )  # fmt: skip
    for column in columns:
        shown.add_column(column)
    controls = _controls(rows)
    for item in rows:
        decision = item["decision"]
        if "after" not in item:
            said = (decision["verdict"], decision["chosen"], "", f"{item['minutes']:.1f}")
            shown.add_row(item["case"], item["method"], str(item["folds"]), *[""] * 8, *said)
            continue
        before, after = item["before"], item["after"]
        control = controls.get(_control_key(item))
        against = ""
        if control is not None and control is not item:
            mean, low, high = paired(control["after"], after)
            against = f"{100 * mean:+.1f} \\[{100 * low:+.1f}, {100 * high:+.1f}]"
        folds = after["folds"]
        miou, error = unadapted(item)
        shown.add_row(
            item["case"], f"{item['method']} {item['label']} {item['seed']}", str(item["folds"]),
            f"{miou:.3f}" + (f" (as it comes {item['as_it_comes']:.3f})" if "as_it_comes" in item else ""),
            f"{folds['miou_mean']:.3f} ± {folds['miou_std'] or 0:.3f}",
            f"{after['miou']:.3f} ({', '.join(f'{name} {value:.3f}' for name, value in after['iou'].items())})",
            f"{100 * (after['miou'] - miou):+.1f}", against, f"{100 * error:.1f} / {100 * fraction_error(after):.1f}",
            " / ".join(f"{value:.2f}" for value in map(slope, (before, after)) if value is not None),
            f"{before['baseline']['miou']:.3f}", decision["verdict"], decision["chosen"], f"{item['source_after']:.3f}",
            f"{item['minutes']:.1f}",
        )  # fmt: skip
    return shown


def _control_key(item: dict[str, Any]) -> tuple[Any, ...]:
    """Equally long source training of the same settings with as many folds."""
    return item["case"], item["label"], item["folds"], item["seed"]


def _controls(rows: list[dict[str, Any]]) -> dict[tuple[Any, ...], dict[str, Any]]:
    return {_control_key(item): item for item in rows if item["method"] == "source"}


def unadapted(item: dict[str, Any]) -> tuple[float, float]:
    """MIoU and fraction error of the unadapted bag. For fewer folds: means over the folds, which score lower."""
    before, folds = item["before"], [fold["fold"] for fold in item["after"]["folds"]["each"]]
    each = [fold for fold in before["folds"]["each"] if fold["fold"] in folds]
    compared = [before] if len(folds) == len(before["folds"]["each"]) else each
    return float(np.mean([scores["miou"] for scores in compared])), float(np.mean([*map(fraction_error, compared)]))


def fraction_error(scores: dict[str, Any]) -> float:
    """Error of the phase that is furthest from its true fraction, 0-1: the mean over the fields of |found - true|."""
    return float(max(value["error"] for value in scores["fractions"].values()))


def slope(scores: dict[str, Any]) -> float | None:
    """Least-squares slope of predicted on true fractions over fields, of the last phase; None for few fields."""
    fields = [list(field["fractions"].values())[-1] for field in scores["fields"]]
    if len(fields) < 8:
        return None
    return float(linregress([f["true"] for f in fields], [f["predicted"] for f in fields]).slope)


def paired(one: dict[str, Any], other: dict[str, Any]) -> tuple[float, float, float]:
    """Mean difference of mIoU by field (other - one) and its 95 % bootstrap over fields."""
    first = {field["name"]: field["miou"] for field in one["fields"]}
    gains = np.array([field["miou"] - first[field["name"]] for field in other["fields"]])
    draws = np.random.default_rng(0).integers(gains.size, size=(DRAWS, gains.size))
    low, high = np.percentile(gains[draws].mean(1), [2.5, 97.5])
    return float(gains.mean()), float(low), float(high)


def criteria_table(rows: list[dict[str, Any]]) -> Table:
    """Regret of choosing the snapshot of each fold by a sum of criteria, in points, mean over folds, and its rank correlation.

    The last line takes, for each target, the sum with the least regret on all other targets.
    """
    shown = Table(title="Choosing a snapshot without labels", title_justify="left")
    for column in ("criterion", "mean regret, points", "worst", "Spearman with the truth, mean over folds"):
        shown.add_column(column)
    series = _series(rows)
    if not series:
        return shown
    regrets = {columns: {key: _regret(group, columns) for key, group in series.items()} for columns in COMBINED}
    for columns in COMBINED:
        ranks = [_rank(group, columns) for group in series.values()]
        values = list(regrets[columns].values())
        shown.add_row(
            _named(columns), f"{100 * np.mean(values):.2f}", f"{100 * max(values):.2f}", f"{np.mean(ranks):.2f}"
        )
    targets = {key[0] for key in series}
    if len(targets) > 1:
        values = []
        for target in targets:
            best = min(COMBINED, key=lambda c: np.mean([v for key, v in regrets[c].items() if key[0] != target]))
            values += [value for key, value in regrets[best].items() if key[0] == target]
        shown.add_row("the best on the other targets", f"{100 * np.mean(values):.2f}", f"{100 * max(values):.2f}", "")
    return shown


def regrets_table(rows: list[dict[str, Any]]) -> Table:
    """Mean regret on each target, in points, of every sum of criteria."""
    series = _series(rows)
    targets = list(dict.fromkeys(key[0] for key in series))
    shown = Table(title="Mean regret by target, points", title_justify="left")
    for column in ("criterion", *targets):
        shown.add_column(column)
    for columns in COMBINED if targets else ():
        means = [
            np.mean([_regret(group, columns) for key, group in series.items() if key[0] == name]) for name in targets
        ]
        shown.add_row(_named(columns), *(f"{100 * mean:.2f}" for mean in means))
    return shown


def _named(columns: tuple[str, ...]) -> str:
    """A sum of criteria in words."""
    parts = [name if times == 1 else f"{times} {name}" for name, times in Counter(columns).items()]
    return " + ".join(parts) + (" (shipped)" if columns == SHIPPED else "")


def _series(rows: list[dict[str, Any]]) -> dict[tuple[str, ...], list[dict[str, Any]]]:
    """The snapshots of each fold with more than one, by target, method and fold."""
    series: dict[tuple[str, ...], list[dict[str, Any]]] = {}
    for item in rows:
        for snapshot in item.get("snapshots", []):
            key = (item["case"], item["method"], item["label"], str(item["seed"]), snapshot["method"], snapshot["fold"])
            series.setdefault(key, []).append(snapshot)
    return {key: group for key, group in series.items() if len(group) > 1}


def _regret(group: list[dict[str, Any]], columns: tuple[str, ...]) -> float:
    usable = [snapshot for snapshot in group if not snapshot["drifted"]] or group
    chosen = max(usable, key=lambda item: sum(item[column] for column in columns))
    return float(max(snapshot["miou"] for snapshot in group) - chosen["miou"])


def _rank(group: list[dict[str, Any]], columns: tuple[str, ...]) -> float:
    values = [sum(snapshot[column] for column in columns) for snapshot in group]
    rank = float(spearmanr(values, [snapshot["miou"] for snapshot in group]).statistic)
    return 0.0 if np.isnan(rank) else rank


def verdict_table(rows: list[dict[str, Any]]) -> Table:
    """Verdicts of `auto` against the gain of its trained bag over the better of the unadapted and the longer trained one."""
    title = "Verdicts of auto against the true gain of the trained bag over the source's, unadapted or trained as long"
    shown = Table(title=title, title_justify="left")
    controls = _controls(rows)
    for column in ("verdict", f"better by {SAME_POINTS} points", "the same", "worse", "nothing trained", "no labels"):
        shown.add_column(column)
    for verdict in ("adapt", "do not adapt", "label a few fields"):
        cells: list[list[str]] = [[] for _ in range(5)]
        for item in rows:
            if item["method"] != "auto" or item["decision"]["verdict"] != verdict:
                continue
            if "after" not in item:
                place, text = 4, item["case"]
            elif item["trained"] is None:
                place, text = 3, item["case"]
            else:
                control = controls.get(_control_key(item), item)
                known = [item["before"]["miou"], *([] if control is item else [control["after"]["miou"]])]
                points = 100 * (item["trained"] - max(known))
                place = 0 if points > SAME_POINTS else 2 if points < -SAME_POINTS else 1
                text = f"{item['case']} {points:+.1f}"
            cells[place].append(text)
        shown.add_row(verdict, *(", ".join(cell) for cell in cells))
    return shown


def fractions_table(rows: list[dict[str, Any]]) -> Table:
    """Regret in fraction error, points: of the bag that `auto` took, and of always taking the same, against the best bag.

    The bags are the unadapted one, the source trained equally long, and the one that was trained for the target, as far as the
    rows score them. Rows of earlier versions score the trained bag only where it was taken. *apart* is how far the estimates of
    the fractions with the taken bag differ, which needs no label. The last rows are means, of all targets and by verdict.
    """
    title = "Regret in fraction error, points: the bag's error less that of the best bag"
    shown = Table(title=title, title_justify="left")
    columns = (
        "target", "verdict (taken)", "apart", "best bag", "its error", "regret of auto", "always unadapted",
        "always longer source", "always trained",
    )  # fmt: skip
    for column in columns:
        shown.add_column(column)
    found: list[tuple[str, dict[str, float]]] = []
    for item in rows:
        if item["method"] != "auto" or "after" not in item:
            continue
        decision = item["decision"]
        errors = bag_errors(item, _controls(rows).get(_control_key(item)))
        best = min(errors, key=lambda name: errors[name])
        taken, trained = errors[decision["chosen"]], _trained_name(decision)
        named = {"auto": decision["chosen"], "unadapted": "unadapted", "source": "source", "trained": trained}
        regrets = {key: 100 * (errors[name] - errors[best]) for key, name in named.items() if name in errors}
        found.append((decision["verdict"], regrets))
        estimates = _estimates(decision)
        apart = "" if estimates is None else f"{100 * estimates['disagreement']:.1f} of {100 * estimates['limit']:.1f}"
        shown.add_row(
            item["case"], f"{decision['verdict']} ({decision['chosen']}, {100 * taken:.1f})", apart, best,
            f"{100 * errors[best]:.1f}", *_regret_cells(regrets),
        )  # fmt: skip
    groups = [("mean", [regrets for _, regrets in found])]
    groups += [
        (f"mean of *{name}*", [regrets for verdict, regrets in found if verdict == name])
        for name in dict.fromkeys(verdict for verdict, _ in found)
    ]
    for name, group in groups if found else ():
        means = {key: np.mean([each[key] for each in group if key in each]) for key in _POLICIES if _any(group, key)}
        shown.add_row(name, f"{len(group)} targets", "", "", "", *_regret_cells(means))
    return shown


_POLICIES = ("auto", "unadapted", "source", "trained")


def bag_errors(item: dict[str, Any], control: dict[str, Any] | None) -> dict[str, float]:
    """Fraction error, 0-1, of each bag of a row of `auto` that is known.

    Args:
        item: The row.
        control: The row of equally long source training, if there is one.
    """
    errors = {"unadapted": unadapted(item)[1]}
    if control is not None and "after" in control:
        errors["source"] = fraction_error(control["after"])
    errors |= {name: scores["fraction_error"] for name, scores in item.get("bags", {}).items()}
    return errors | {item["decision"]["chosen"]: fraction_error(item["after"])}


def _trained_name(decision: dict[str, Any]) -> str:
    """The bag that was trained for the target; none where nothing was trained."""
    last = str(decision["candidates"][-1]["name"])
    return "" if last in ("unadapted", "source", "normalise") else last


def _estimates(decision: dict[str, Any]) -> dict[str, float] | None:
    """The estimates of the fractions of the chosen candidate; None in rows of earlier versions."""
    chosen = next(item for item in decision["candidates"] if item["name"] == decision["chosen"])
    found: dict[str, float] | None = chosen.get("estimates")
    return found


def _regret_cells(regrets: dict[str, Any]) -> list[str]:
    return [f"{regrets[key]:.1f}" if key in regrets else "" for key in _POLICIES]


def _any(group: list[dict[str, float]], key: str) -> bool:
    return any(key in each for each in group)
