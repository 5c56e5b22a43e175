"""The whole of `--recipe auto`: fingerprint, rules, timing, a short search, and the recipe that fits the budget."""

from __future__ import annotations

import math
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from microseg.core.domains.domain import load_domain
from microseg.core.domains.fingerprint.fingerprint import fingerprint_of_domain
from microseg.core.errors import InputError
from microseg.core.schemas.automatic import AutomaticRecipe, Reason, Speed, Trial
from microseg.core.schemas.fingerprint import DatasetFingerprint
from microseg.core.schemas.run import RunSummary
from microseg.core.system.files import write_json
from microseg.core.system.processor_count import usable_processors
from microseg.train.analysis.evaluate import evaluate_run
from microseg.train.auto.budget import Forecast, TrainingWork, forecast, measured_speed
from microseg.train.auto.closing import closing_warnings, read_evaluation
from microseg.train.auto.draft import Draft, draft_of, rounds_of, trials_of, workers_for
from microseg.train.auto.options import (
    EVALUATION,
    LEAST_MINUTES,
    AutoOptions,
    FingerprintCallback,
    no_fingerprint,
)
from microseg.train.auto.reasons import choice_reasons, is_open, length_reason, reasons_of, untried_scales
from microseg.train.auto.rules import Circumstances, plan_for, rate_for
from microseg.train.auto.search import best
from microseg.train.common.optimiser_step import training_device
from microseg.train.common.parallel.folds import default_workers
from microseg.train.common.parallel.ranks import ranks_of_torchrun
from microseg.train.common.progress import FoldCallback, NoticeCallback, no_fold_progress, no_notice
from microseg.train.common.recipe import Recipe, UnlabelledConfig
from microseg.train.common.run_folder import refuse_existing
from microseg.train.recipe_files import AUTO, recipe_from, recipe_of_run
from microseg.train.supervised.command import run_supervised
from microseg.train.supervised.loop import steps_of

_AUTOMATIC = "automatic.json"
CPU_MINUTES, GPU_MINUTES = 30.0, 60.0
# Largest share of the budget that the search takes.
_SEARCH_SHARE = 0.25
# Fewer steps leave a network well below what it can reach.
_FAIR_STEPS = 150
# With fewer, half as many folds of twice as many steps make the better bag: so in both trials with four labelled fields of the
# superalloy (`--minutes 5 --folds 2` beside `--folds 4`, about 320 steps), scored on fields that trained nothing.
_AMPLE_STEPS = 400
# Part of the budget that is left for what the forecast does not see, such as reading, plots and the first start of a process.
_RESERVE = 0.03


@dataclass(frozen=True)
class AutoDecision:
    """What `--recipe auto` decides.

    recipe: The recipe, complete.
    automatic: How it came to be.
    fingerprint: Of the domain.
    """

    recipe: Recipe
    automatic: AutomaticRecipe
    fingerprint: DatasetFingerprint


def decide(
    source: Path,
    options: AutoOptions,
    *,
    notice: NoticeCallback = no_notice,
    on_trial: FoldCallback = no_fold_progress,
    clock: Callable[[], float] = time.monotonic,
) -> AutoDecision:
    """Find the recipe for a labelled domain.

    Args:
        source: The labelled domain.
        options: What the user asks for.
        notice: Receives sentences for the user.
        on_trial: Gives the progress callback of a candidate of the search.
        clock: Seconds, monotonic.

    Raises:
        InputError: The domain cannot be trained on, or a setting is wrong.
        TrainingError: No memory, or a loss that is not finite.
    """
    begun = clock()
    found = _fingerprint(source)
    given = _circumstances(options)
    minutes = options.minutes or (GPU_MINUTES if given.has_gpu else CPU_MINUTES)
    budget_s = 60 * minutes * (1 - _RESERVE)
    plan = plan_for(found, given)

    def recipe_at(scale: float) -> Recipe:
        return recipe_from(AUTO, plan.trees[scale], options.settings, seed=options.seed)

    recipe = recipe_at(plan.scales[0])
    is_length_given = not (is_open("steps", options.settings) and is_open("epochs", options.settings))
    # A search belongs to a budget: who fixes the length and names no minutes wants that length alone.
    searches = is_open("scale", options.settings) and not (is_length_given and options.minutes is None)
    scales = plan.scales if searches else (recipe.scale,)
    draft = draft_of(source, recipe, given)
    speed = measured_speed(draft.jobs, draft.workers, clock)
    trials: list[Trial] = []
    share_s = _SEARCH_SHARE * budget_s - (clock() - begun)
    rounds = rounds_of(share_s, scales, draft, speed)
    left_s = budget_s - (clock() - begun) - (share_s if rounds else 0)
    are_folds_open = given.folds is None and is_open("folds", options.settings) and not is_length_given
    if are_folds_open and _is_short(draft, speed, left_s):
        plan, before = plan_for(found, replace(given, is_short=True)), draft
        draft = draft_of(source, recipe_at(plan.scales[0]), given)
        if draft.workers != before.workers:
            # More processes have fewer threads each, so that a step takes longer.
            speed = measured_speed(draft.jobs, draft.workers, clock)
        share_s = _SEARCH_SHARE * budget_s - (clock() - begun)
        rounds = rounds_of(share_s, scales, draft, speed)
    if rounds:
        notice(f"tries {len(scales)} scales on one fold, about {share_s / 60:.1f} min")
        trials = trials_of(source, draft, [recipe_at(scale) for scale in scales], rounds, on_trial)
        timed, draft = draft, draft_of(source, recipe_at(best(trials).scale), given)
        share = _step_pixels(draft.recipe) / _step_pixels(timed.recipe)
        speed = speed.model_copy(update={"step_s": speed.step_s * share})
    spent_s = clock() - begun
    steps = steps_of(draft.recipe, draft.jobs[0].fields) if is_length_given else None
    paced = _with_second_stage(speed, draft.recipe, options)
    expected = forecast(paced, draft.work, budget_s - spent_s, steps)
    few = [] if is_length_given else _few_steps(expected, paced, draft.work, spent_s, len(scales))
    warnings = [*plan.warnings, *few]
    for text in warnings:
        notice(text.rstrip("."))
    recipe, rate_reasons = _with_length(draft.recipe, expected, is_length_given, options.settings)
    fits = spent_s + expected.seconds <= budget_s
    length = None if is_length_given else length_reason(expected.steps, fits, minutes)
    choices = choice_reasons(recipe, trials, length, untried_scales(len(plan.scales), options.settings, searches))
    automatic = AutomaticRecipe(
        minutes=minutes,
        spent_minutes=spent_s / 60,
        expected_minutes=expected.seconds / 60,
        workers=draft.workers,
        reasons=reasons_of(plan.reasons, [*choices, *rate_reasons], options.settings),
        trials=trials,
        speed=speed,
        warnings=warnings,
    )
    return AutoDecision(recipe, automatic, found)


def _with_length(
    recipe: Recipe, expected: Forecast, is_length_given: bool, settings: Sequence[str]
) -> tuple[Recipe, list[Reason]]:
    """The recipe with its steps, and with the learning rate for so many unless a setting is about the optimiser."""
    if not is_length_given:
        recipe = recipe.model_copy(update={"steps": expected.steps, "validate_every": expected.validate_every})
    if any(text.strip().startswith("optimiser") for text in settings):
        return recipe, []
    tree, reason = rate_for(expected.steps, recipe.optimiser.learning_rate, recipe.optimiser.encoder_factor)
    return recipe.model_copy(update={"optimiser": recipe.optimiser.model_copy(update=tree)}), [reason]


def _is_short(draft: Draft, speed: Speed, seconds: float) -> bool:
    """Whether fewer folds, which learn longer, make the better bag."""
    return draft.recipe.folds > max(draft.workers, 2) and forecast(speed, draft.work, seconds).steps < _AMPLE_STEPS


def _few_steps(expected: Forecast, speed: Speed, work: TrainingWork, spent_s: float, scales: int) -> list[str]:
    """A sentence where the budget is too short for a fair result."""
    if expected.steps >= _FAIR_STEPS:
        return []
    # A longer budget leaves time for the search, and for more validations, too.
    share = (1 - _RESERVE) * ((1 - _SEARCH_SHARE) if scales > 1 else 1)
    minutes = math.ceil((spent_s + forecast(speed, work, 0.0, _FAIR_STEPS).seconds) / share / 60)
    while forecast(speed, work, 60 * minutes * share - spent_s).steps < _FAIR_STEPS:
        minutes += 1
    return [f"{expected.steps} steps for each fold are few: --minutes {minutes} gives {_FAIR_STEPS}"]


def recipe_of_rules(source: Path, options: AutoOptions) -> Recipe:
    """The recipe that the rules alone give, without search and without a budget. For pictures of what training sees.

    Args:
        source: The labelled domain.
        options: What the user asks for.

    Raises:
        InputError: The domain cannot be trained on, or a setting is wrong.
    """
    plan = plan_for(_fingerprint(source), _circumstances(options))
    return recipe_from(AUTO, plan.trees[plan.scales[0]], options.settings, seed=options.seed)


def _fingerprint(source: Path) -> DatasetFingerprint:
    domain = load_domain(source)
    if not domain.phases:
        raise InputError(f"{source}: has no labels to learn from. Remedy: a folder with masks/.")
    return fingerprint_of_domain(domain)


def _circumstances(options: AutoOptions) -> Circumstances:
    has_gpu = training_device().type == "cuda"
    workers = options.workers or (default_workers() if has_gpu else usable_processors())
    return Circumstances(has_gpu, workers, options.folds)


def _with_second_stage(speed: Speed, recipe: Recipe, options: AutoOptions) -> Speed:
    """The speed at which a step also pays for its share of those with unlabelled fields."""
    if options.unlabelled is None:
        return speed
    rule = recipe.unlabelled or UnlabelledConfig()
    # An unlabelled tile passes the teacher as well: a third of what it costs to learn from a tile.
    share = rule.steps_share * (1 + rule.batch_share * 4 / 3)
    return speed.model_copy(update={"step_s": speed.step_s * (1 + share)})


def _step_pixels(recipe: Recipe) -> int:
    """Pixels of the tiles of a step, which its time follows."""
    return recipe.batch * (recipe.tile.core_px + 2 * recipe.tile.halo_px) ** 2


def run_auto(
    source: Path,
    options: AutoOptions,
    out: Path,
    *,
    resume: bool,
    on_fold: FoldCallback = no_fold_progress,
    on_trial: FoldCallback = no_fold_progress,
    on_fingerprint: FingerprintCallback = no_fingerprint,
    notice: NoticeCallback = no_notice,
    clock: Callable[[], float] = time.monotonic,
) -> RunSummary:
    """Decide on a recipe, train with it, and evaluate the run on its own domain.

    The run folder gets `fingerprint.json`, `automatic.json`, `recipe.yaml` (for `--recipe`, to repeat or edit) and
    `evaluation.json` beside what every run has.

    Args:
        source: The labelled domain.
        options: What the user asks for.
        out: The run folder.
        resume: Continue the run that is in `out`, with the recipe that it has.
        on_fold: Gives the progress callback of a fold.
        on_trial: Gives the progress callback of a candidate of the search.
        on_fingerprint: Receives what the labelled fields are like, before the reasons are told.
        notice: Receives sentences for the user.
        clock: Seconds, monotonic.

    Raises:
        InputError: `out` exists without `resume` or holds another run, or the domain cannot be trained on.
        TrainingError: No memory, or a loss that is not finite.
        KeyboardInterrupt: The process was asked to stop. The state is saved.
    """
    if ranks_of_torchrun().size > 1:
        raise InputError(
            "--recipe auto: decides in one process, and torchrun starts several. Remedy: without torchrun, which uses all "
            "GPUs of a machine; or --recipe with the recipe.yaml of a run of `auto`."
        )
    if options.minutes is not None and not LEAST_MINUTES <= options.minutes < math.inf:
        raise InputError(f"--minutes {options.minutes:g}: is no time to train. Remedy: at least {LEAST_MINUTES:g}.")
    refuse_existing(out, resume)
    documents: dict[str, Any] = {}
    if (out / "run.yaml").is_file():
        recipe, workers = _begun(out, options, notice)
    else:
        decided = decide(source, options, notice=notice, on_trial=on_trial, clock=clock)
        recipe, workers = decided.recipe, decided.automatic.workers
        documents = {
            "fingerprint.json": decided.fingerprint.model_dump(mode="json"),
            _AUTOMATIC: decided.automatic.model_dump(mode="json"),
            "recipe.yaml": recipe.model_dump(mode="json"),
        }
        on_fingerprint(decided.fingerprint)
        _tell(decided.automatic, recipe, notice)
    summary = run_supervised(
        source, AUTO, recipe, out,
        resume=resume, on_fold=on_fold, workers=workers, notice=notice, documents=documents, unlabelled=options.unlabelled,
    )  # fmt: skip
    assert summary is not None  # all folds are trained
    if not (out / EVALUATION).is_file():
        write_json(out / EVALUATION, evaluate_run(out, source, training_only=True))
    scores = read_evaluation(out)
    assert scores is not None  # written above
    for text in closing_warnings(scores):
        notice(text)
    return summary


def _begun(out: Path, options: AutoOptions, notice: NoticeCallback = no_notice) -> tuple[Recipe, int]:
    """Recipe and workers of a run that has begun. Settings that differ make another run, which `run_supervised` refuses.

    Raises InputError where the run has another recipe, or a file of it cannot be read.
    """
    name, recipe = recipe_of_run(out, options.settings, folds=options.folds, seed=options.seed)
    if name != AUTO:
        raise InputError(f"{out}: holds a run of the recipe {name}. Remedy: --recipe {name}, or another --out.")
    if not (out / _AUTOMATIC).is_file():
        # The process was killed between two files: what follows is decided as for a new run.
        return recipe, workers_for(recipe, _circumstances(options))
    remedy = "remove it, or train again with another --out"
    automatic = AutomaticRecipe.read_json(out / _AUTOMATIC, "record of `--recipe auto`", remedy)
    if options.minutes not in (None, automatic.minutes):
        notice(f"the run keeps its budget of {automatic.minutes:g} min; --minutes {options.minutes:g} is for a new one")
    return recipe, automatic.workers


def _tell(automatic: AutomaticRecipe, recipe: Recipe, notice: NoticeCallback) -> None:
    """Every decision with its reason, and the expected time."""
    for reason in automatic.reasons:
        notice(f"{reason.key} = {reason.value}: {reason.why.rstrip('.')}")
    notice(
        f"expected time: {automatic.expected_minutes:.1f} min for {recipe.folds} folds of {recipe.steps} steps, "
        f"after {automatic.spent_minutes:.1f} min of {automatic.minutes:g}"
    )
