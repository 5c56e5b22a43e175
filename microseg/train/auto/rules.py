"""The rules of `--recipe auto`: from the fingerprint of a labelled domain to a recipe, each with its reason.

The recipe file `auto` has the keys that no rule changes. The numbers below come from short trials on four public sets, and from
recipes that were made by hand. `python -m benchmarks.any_material` compares what they give with other ways.
"""

from __future__ import annotations

import math
from dataclasses import dataclass
from itertools import combinations
from typing import Any

from microseg.core.domains.fingerprint.notices import fingerprint_notices
from microseg.core.domains.folds import planned_split
from microseg.core.errors import InputError
from microseg.core.schemas.automatic import Reason
from microseg.core.schemas.fingerprint import DatasetFingerprint, PhaseFingerprint

# Network pixels per native pixel that may be tried.
SCALES = (1.0, 0.7, 0.5, 0.35, 0.25)
MOST_SCALES = 3
# The mean chord of the finest phase keeps at least so many network pixels: below, its outline is lost.
LEAST_CHORD_PX = 3.5
# Chords of the finest phase beyond this many network pixels need no finer grid.
AMPLE_CHORD_PX = 100.0
# A phase below this share of the area does not decide the scale.
LEAST_AREA = 0.001
# Phases below these shares of the labelled area are rare, and very rare.
RARE, VERY_RARE = 0.05, 0.01
# Below this distance of the mean grey values of two phases, in standard deviations, their grey values do not distinguish them.
DISTINCT_GREY = 1.0
# Core and halo of a tile (px of the network's grid), and tiles of a step. On a CPU, every pixel that is computed is learned
# from: around a core of 160 px, a halo of 16 px would be 31 % of them, and fewer steps cost more than it gains at the edges.
CPU_TILE, GPU_TILE = (160, 0, 6), (512, 62, 12)
# Channels of the decoder. Processors convolve multiples of 16 channels in the least time for each of them.
CPU_DECODER, GPU_DECODER = [64, 48, 32, 16, 16], [256, 128, 64, 32, 16]
SMALLEST_CORE_PX = 64
# Up to so many steps, a training learns faster: its learning rate, and the share of it that the encoder takes.
SHORT_STEPS, SHORT_RATE = 500, (4.0e-3, 0.5)
# Folds: the multiple of the workers that is next to this number.
FOLDS = 5
# Names in a sentence.
_LISTED = 6


@dataclass(frozen=True)
class Circumstances:
    """What the rules know beside the data.

    has_gpu: Whether training runs on a GPU.
    workers: Processes that can train side by side.
    folds: Folds that the user asks for, or None.
    is_short: Whether the time is too short for more folds than train side by side.
    """

    has_gpu: bool
    workers: int
    folds: int | None = None
    is_short: bool = False


@dataclass(frozen=True)
class RecipePlan:
    """A recipe without its length.

    trees: For each scale to try (network pixels per native pixel), the keys of the recipe that the rules decide.
    scales: These scales, the rules' choice first.
    reasons: One for each decision.
    warnings: What the user should know before training.
    """

    trees: dict[float, dict[str, Any]]
    scales: tuple[float, ...]
    reasons: tuple[Reason, ...]
    warnings: tuple[str, ...]


def plan_for(found: DatasetFingerprint, given: Circumstances) -> RecipePlan:
    """The recipe that fits a labelled domain.

    Args:
        found: The domain's fingerprint.
        given: Machine and wishes.

    Raises:
        InputError: The labels hold one phase alone.
    """
    present = [phase for phase in found.phases if phase.labelled_px]
    if len(present) < 2:
        names = ", ".join(repr(phase.name) for phase in present) or "no phase"
        raise InputError(f"the labels hold {names} alone. Remedy: fields that show at least two phases.")
    scales, scale_reason = _scales(present)
    parts = [
        _network(given),
        _augmentation(found, present),
        _loss(present),
        _sampling(present),
        _folds(found, given),
    ]
    tiles = {scale: _tile(found, given, scale) for scale in scales}
    tree = {key: value for keys, _ in parts for key, value in keys.items()}
    trees = {scale: tree | {"scale": scale} | keys for scale, (keys, _) in tiles.items()}
    reasons = [scale_reason, tiles[scales[0]][1], *(reason for _, reason in parts)]
    return RecipePlan(trees, scales, tuple(reasons), (*fingerprint_notices(found), *_alone(found)))


def rate_for(steps: int, rate: float, factor: float) -> tuple[dict[str, float], Reason]:
    """Keys of the recipe's optimiser for a training of so many steps.

    Args:
        steps: Steps of each fold.
        rate: The recipe's learning rate.
        factor: The share of it that the recipe's encoder takes.
    """
    if steps > SHORT_STEPS:
        why = f"More than {SHORT_STEPS} steps learn at the usual rate."
    else:
        rate, factor = SHORT_RATE
        why = f"{steps} steps are few: at most {SHORT_STEPS} learn faster."
    tree = {"learning_rate": rate, "encoder_factor": factor}
    return tree, _reason("optimiser.learning_rate", f"{rate:g}, encoder {rate * factor:g}", why)


def _scales(phases: list[PhaseFingerprint]) -> tuple[tuple[float, ...], Reason]:
    """Scales at which the finest phase is resolved, the finest of them first unless that is more than it needs."""
    chords = {phase.name: phase.chord_px for phase in phases if phase.chord_px and phase.area_share >= LEAST_AREA}
    if not chords:
        return (1.0,), _reason("scale", "1", "no phase has a measurable chord")
    name, finest = min(chords.items(), key=lambda item: item[1])
    allowed = [scale for scale in SCALES if LEAST_CHORD_PX <= scale * finest <= AMPLE_CHORD_PX]
    allowed = allowed or [SCALES[0] if finest < LEAST_CHORD_PX else SCALES[-1]]
    tried = tuple(allowed[:: math.ceil(len(allowed) / MOST_SCALES)])
    text = " or ".join(f"{scale:g}" for scale in tried)
    why = (
        f"The finest phase, {name}, has a mean chord of {finest:.3g} px: {LEAST_CHORD_PX:g} to {AMPLE_CHORD_PX:g} px "
        "show its outline with its surroundings."
    )
    return tried, _reason("scale", text, why)


def _network(given: Circumstances) -> tuple[dict[str, Any], Reason]:
    widths = GPU_DECODER if given.has_gpu else CPU_DECODER
    why = "A GPU takes the paper's decoder." if given.has_gpu else "A narrow decoder takes more steps in its time."
    return {"network": {"kind": "unet", "decoder_channels": widths}}, _reason(
        "network.decoder_channels", str(widths), why
    )


def _tile(found: DatasetFingerprint, given: Circumstances, scale: float) -> tuple[dict[str, Any], Reason]:
    """Tiles no larger than the fields, and as many of them as keep the pixels of a step."""
    core, halo, batch = GPU_TILE if given.has_gpu else CPU_TILE
    side = min(found.height_px.median, found.width_px.median) * scale
    fitting = min(core, max(SMALLEST_CORE_PX, 32 * int((side - 2 * halo) // 32)))
    grown = min(2 * batch, round(batch * ((core + 2 * halo) / (fitting + 2 * halo)) ** 2))
    why = (
        f"Fields of about {side:.0f} px on the network's grid hold such tiles."
        if fitting < core
        else "The paper's tiles fit a GPU."
        if given.has_gpu
        else "The fields hold tiles of the usual size."
    )
    tree = {"tile": {"core_px": fitting, "halo_px": halo, "placement": "random"}, "batch": grown}
    return tree, _reason("tile, batch", f"{grown} x {fitting + 2 * halo} px", why)


def _augmentation(found: DatasetFingerprint, phases: list[PhaseFingerprint]) -> tuple[dict[str, Any], Reason]:
    """Domain randomisation always: what it gains on foreign material does not show on held-out fields."""
    layered = found.orientation.is_layered
    similar = _least_contrast(phases) < DISTINCT_GREY
    tree = {
        "kind": "randomised",
        "scale": [0.7, 1.5] if layered else [0.6, 1.7],
        "rotation_deg": 8 if layered else 180,
        "strength": 1.0,
        "phase_offset_grey": 14 if similar else 8,
        "share": 0.5 if layered or len(phases) > 3 else 0.7,
        "upright": layered,
    }
    texts = [
        "The phases lie in layers, so tiles stay upright."
        if layered
        else "The structure has no preferred direction, so tiles turn.",
        "Grey values of phases overlap, so shape must count." if similar else "Grey values distinguish the phases.",
    ]
    value = f"randomised, share {tree['share']}, grey offset {tree['phase_offset_grey']}"
    return {"augmentation": tree}, _reason("augmentation", value, " ".join(texts))


def _least_contrast(phases: list[PhaseFingerprint]) -> float:
    """The smallest distance of the mean grey values of two phases, in their pooled standard deviations."""
    known = [(p.grey_mean, p.grey_std) for p in phases if p.grey_mean is not None and p.grey_std is not None]
    pairs = [
        abs(one - other) / max(math.hypot(s1, s2) / math.sqrt(2), 1.0)
        for (one, s1), (other, s2) in combinations(known, 2)
    ]
    return min(pairs, default=0.0)


def _loss(phases: list[PhaseFingerprint]) -> tuple[dict[str, Any], Reason]:
    rarest = min(phases, key=lambda phase: phase.area_share)
    if rarest.area_share < VERY_RARE:
        dice, balance, why = 1.0, 0.2, f"{rarest.name} takes {100 * rarest.area_share:.2g} % of the area."
    elif rarest.area_share < RARE:
        why = f"{rarest.name} takes {100 * rarest.area_share:.2g} % of the area, and Dice counts each phase alike."
        dice, balance = 0.5, 0.0
    elif len(phases) > 2:
        dice, balance, why = 0.5, 0.0, "Dice counts each phase alike, whatever its area."
    else:
        dice, balance, why = 0.5, 0.0, "Both phases take a fair share of the area."
    loss = {"kind": "cross_entropy", "dice": dice, "balance": balance}
    return {"loss": loss}, _reason("loss", f"cross-entropy + {dice:g} Dice, balance {balance:g}", why)


def _sampling(phases: list[PhaseFingerprint]) -> tuple[dict[str, Any], Reason]:
    rarest = min(phases, key=lambda phase: phase.area_share)
    share = 0.6 if rarest.area_share < VERY_RARE else 0.3 if rarest.area_share < RARE else 0.1
    if share == 0.1:
        why = "No phase is rare."
    else:
        why = f"{rarest.name} takes {100 * rarest.area_share:.2g} % of the area and would be on few tiles."
    return {"rare_phase_share": share}, _reason("rare_phase_share", f"{share:g}", why)


def _folds(found: DatasetFingerprint, given: Circumstances) -> tuple[dict[str, Any], Reason]:
    """As many folds as keep all workers busy to the end."""
    if given.folds is not None and found.groups > 1:
        return {"folds": given.folds}, _reason("folds", str(given.folds), "As asked for.")
    beside = min(given.workers, FOLDS)
    wanted = given.folds or max(beside if given.is_short else beside * (FOLDS // beside), 2)
    if found.groups == 1:
        plan = planned_split(["the only group"] * found.fields, wanted)
        what = "blocks of the only labelled field" if plan.split == "blocks" else "fields of the only group"
        why = f"They hold out {what}, which flatters the scores."
        return {"folds": plan.folds, "split": plan.split}, _reason("folds", str(plan.folds), why)
    if found.groups < wanted:
        why = f"There are {found.groups} groups, and a group is in one fold."
        return {"folds": found.groups}, _reason("folds", str(found.groups), why)
    if given.is_short:
        return {"folds": wanted}, _reason("folds", str(wanted), "The time is short: few folds learn longer.")
    why = f"{beside} train side by side." if beside > 1 else "As in the paper."
    return {"folds": wanted}, _reason("folds", str(wanted), why)


def _reason(key: str, value: str, why: str) -> Reason:
    return Reason(key=key, value=value, why=why)


def _alone(found: DatasetFingerprint) -> list[str]:
    """Phases that the fold which holds them out cannot learn."""
    alone = [repr(phase.name) for phase in found.phases if phase.groups == 1 and found.groups > 1]
    if not alone:
        return []
    names = ", ".join(alone[:_LISTED]) + (f" and {len(alone) - _LISTED} more" if len(alone) > _LISTED else "")
    what = f"the phase {names} occurs" if len(alone) == 1 else f"each of the phases {names} occurs"
    return [f"{what} in one group alone: the fold that holds it out cannot learn it"]
