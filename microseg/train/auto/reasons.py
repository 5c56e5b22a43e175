"""Reasons of `--recipe auto` beside those of its rules: the scale that is taken, the steps, and what the user fixes."""

from __future__ import annotations

from collections.abc import Sequence

from microseg.core.schemas.automatic import Reason, Trial
from microseg.train.auto.budget import MOST_STEPS
from microseg.train.common.recipe import Recipe


def reasons_of(rules: Sequence[Reason], choices: Sequence[Reason], settings: Sequence[str]) -> list[Reason]:
    """All reasons: of the rules where no setting is in their place, of what was chosen, and of what the user fixes."""
    given = [text.partition("=") for text in settings]
    asked = [Reason(key=key.strip(), value=value.strip(), why="As asked for.") for key, _, value in given]
    kept = [_with_note(reason, settings) for reason in rules if is_open(reason.key, settings)]
    return [*kept, *choices, *asked]


def _with_note(reason: Reason, settings: Sequence[str]) -> Reason:
    """A rule's reason, which says where a setting changes a part of it."""
    keys = [text.partition("=")[0].strip() for text in settings]
    parts = reason.key.split(", ")
    changed = [key for key in keys if any(key == part or key.startswith(f"{part}.") for part in parts)]
    if not changed:
        return reason
    return reason.model_copy(update={"why": f"{reason.why} Then {', '.join(changed)} as asked for."})


def choice_reasons(recipe: Recipe, trials: Sequence[Trial], length: str | None, untried: str | None) -> list[Reason]:
    """Why the scale, and the number of steps.

    length: The reason for the steps; None where they are given. untried: Why no scale is tried, as `untried_scales` says.
    """
    found = []
    if length is not None:
        found.append(Reason(key="steps", value=str(recipe.steps), why=length))
    if trials:
        scores = ", ".join(f"{trial.scale:g}: {_last(trial)}" for trial in trials)
        why = f"The search on one fold gave mIoU {scores}."
        found.insert(0, Reason(key="scale", value=f"{recipe.scale:g}", why=why))
    elif untried is not None:
        found.insert(0, Reason(key="scale", value=f"{recipe.scale:g}", why=untried))
    return found


def untried_scales(scales: int, settings: Sequence[str], searches: bool) -> str | None:
    """Why none of several scales is tried. None where there is one, or a setting fixes it."""
    if scales == 1 or not is_open("scale", settings):
        return None
    why = (
        "The time is too short to compare scales" if searches else "Scales are compared only within a budget of minutes"
    )
    return f"{why}; the finest one keeps the most detail."


def length_reason(steps: int, fits: bool, minutes: float) -> str:
    """Why a fold has so many steps."""
    if steps == MOST_STEPS:
        return "The most that are trained: beyond, a fold only repeats what it knows."
    if fits:
        return f"So many fit into {minutes:g} min on this machine."
    return f"The fewest that are trained: {minutes:g} min are too short."


def is_open(key: str, settings: Sequence[str]) -> bool:
    """Whether no setting fixes a key."""
    return not any(text.partition("=")[0].strip() == key for text in settings)


def _last(trial: Trial) -> str:
    value = trial.scores[-1]
    return "undefined" if value is None else f"{value:.3f} in {len(trial.scores)} rounds"
