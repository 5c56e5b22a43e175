"""The rules of `--recipe auto`: each decision follows the fingerprint, and the recipe is one that training takes."""

from __future__ import annotations

from typing import Any

import pytest

from microseg.core.errors import InputError
from microseg.core.schemas.fingerprint import (
    DatasetFingerprint,
    FieldCopy,
    Orientation,
    PhaseFingerprint,
    ShiftedMask,
    Spread,
    SuspectedGroups,
)
from microseg.train.auto import rules
from microseg.train.auto.rules import LEAST_CHORD_PX, SCALES, Circumstances, RecipePlan, plan_for, rate_for
from microseg.train.recipe_files import recipe_from


def phase(name: str, share: float, chord: float | None, grey: float = 100, **changes: Any) -> PhaseFingerprint:
    values = {
        "name": name, "area_share": share, "labelled_px": int(share * 1e6), "chord_px": chord, "chord_std_px": chord,
        "chord_um": None, "chord_std_um": None, "regions": 10, "fields": 4, "groups": 4, "grey_mean": grey, "grey_std": 20.0,
    }  # fmt: skip
    return PhaseFingerprint(**(values | changes))


def same(value: float) -> Spread:
    return Spread(smallest=value, median=value, largest=value)


def fingerprint(*phases: PhaseFingerprint, side: int = 512, groups: int = 10, **changes: Any) -> DatasetFingerprint:
    values: dict[str, Any] = {
        "fields": 10, "test_fields": 0, "groups": groups, "groups_stated": True,
        "height_px": same(side), "width_px": same(side),
        "pixel_size_um": None, "labelled_px": 1_000_000, "unlabelled_share": 0.0, "phases": list(phases),
        "grey_mean": 100.0, "grey_std": 30.0, "grey_low": 10.0, "grey_high": 240.0, "noise_grey": 2.0, "focus_px": 2.0,
        "orientation": Orientation(by_row=0.0, by_column=0.0, is_layered=False), "copies": [], "shifted_masks": [],
        "suspected_groups": None,
    }  # fmt: skip
    return DatasetFingerprint(**(values | changes))


def tree_of(*phases: PhaseFingerprint, **changes: Any) -> dict[str, Any]:
    plan = planned(*phases, **changes)
    return plan.trees[plan.scales[0]]


TWO = (phase("ferrite", 0.6, 20.0, 60), phase("bainite", 0.4, 12.0, 160))
CPU = Circumstances(has_gpu=False, workers=2)


def planned(*phases: PhaseFingerprint, given: Circumstances = CPU, **changes: Any) -> RecipePlan:
    plan = plan_for(fingerprint(*phases, **changes), given)
    for tree in plan.trees.values():
        recipe_from("auto", tree)  # every plan is a recipe
    assert all(reason.why.endswith(".") for reason in plan.reasons)
    return plan


def test_every_decision_has_a_reason() -> None:
    plan = planned(*TWO)
    told = {key.strip() for reason in plan.reasons for key in reason.key.split(",")}
    assert told == {
        "scale",
        "network.decoder_channels",
        "tile",
        "batch",
        "augmentation",
        "loss",
        "rare_phase_share",
        "folds",
    }
    assert {key.partition(".")[0] for key in told} == set(plan.trees[1.0])


def test_the_finest_phase_decides_the_scales() -> None:
    assert planned(*TWO).scales == (1.0, 0.5)
    fine = planned(TWO[0], phase("bainite", 0.4, 5.0))
    assert fine.scales == (1.0, 0.7) and fine.trees[1.0]["scale"] == 1.0
    assert all(scale * 5.0 >= LEAST_CHORD_PX for scale in fine.scales)
    assert planned(TWO[0], phase("bainite", 0.4, 1.5)).scales == (1.0,)
    assert planned(phase("a", 0.5, 900), phase("b", 0.5, 800)).scales == (SCALES[-1],)
    specks = planned(*TWO, phase("pore", 0.0005, 2.0))
    assert specks.scales == planned(*TWO).scales, "a handful of specks does not decide"


def test_tiles_fit_the_fields() -> None:
    assert tree_of(*TWO)["tile"]["core_px"] == 160
    plan = planned(*TWO, side=256)
    sizes = {scale: (tree["tile"]["core_px"], tree["batch"]) for scale, tree in plan.trees.items()}
    assert sizes == {1.0: (160, 6), 0.5: (128, 9)}, "256 px, and 128 px at half the scale"


def test_layers_stay_upright() -> None:
    layered = tree_of(*TWO, orientation=Orientation(by_row=0.6, by_column=0.0, is_layered=True))
    assert layered["augmentation"]["upright"] and layered["augmentation"]["rotation_deg"] == 8
    assert not tree_of(*TWO)["augmentation"]["upright"]


def test_augmentation_is_always_strong() -> None:
    for phases in (TWO, (phase("a", 0.5, 9, 100), phase("b", 0.3, 9, 105), phase("c", 0.1, 9), phase("d", 0.1, 9))):
        found = tree_of(*phases)["augmentation"]
        assert (found["kind"], found["strength"]) == ("randomised", 1.0) and found["share"] >= 0.5
    assert tree_of(*TWO)["augmentation"]["phase_offset_grey"] == 8, "grey values distinguish them"
    assert tree_of(phase("a", 0.5, 9, 100), phase("b", 0.5, 9, 105))["augmentation"]["phase_offset_grey"] == 14


@pytest.mark.parametrize(("share", "sampling", "balance"), [(0.4, 0.1, 0.0), (0.03, 0.3, 0.0), (0.004, 0.6, 0.2)])
def test_a_rare_phase_is_sampled(share: float, sampling: float, balance: float) -> None:
    plan = planned(phase("matrix", 1 - share, 30.0), phase("carbide", share, 8.0))
    tree = plan.trees[plan.scales[0]]
    assert tree["rare_phase_share"] == sampling and tree["loss"]["balance"] == balance
    assert [("carbide" in text) for text in plan.warnings] == ([True] if share < 0.01 else [])


@pytest.mark.parametrize(
    ("workers", "groups", "folds"), [(1, 10, 5), (2, 10, 4), (3, 10, 3), (16, 10, 5), (2, 3, 3), (1, 2, 2)]
)
def test_folds_keep_the_workers_busy(workers: int, groups: int, folds: int) -> None:
    given = Circumstances(has_gpu=False, workers=workers)
    assert tree_of(*TWO, given=given, groups=groups)["folds"] == folds
    assert tree_of(*TWO, given=Circumstances(has_gpu=False, workers=workers, folds=6))["folds"] == 6
    short = Circumstances(has_gpu=False, workers=workers, is_short=True)
    assert tree_of(*TWO, given=short, groups=groups)["folds"] == min(folds, max(workers, 2))


@pytest.mark.parametrize(("fields", "folds", "split"), [(1, 4, "blocks"), (3, 3, "fields"), (9, 4, "fields")])
def test_one_group_is_split_by_fields_or_blocks(fields: int, folds: int, split: str) -> None:
    plan = planned(*TWO, groups=1, fields=fields)
    tree = plan.trees[plan.scales[0]]
    assert (tree["folds"], tree["split"]) == (folds, split)
    assert any(reason.key == "folds" and "flatters" in reason.why for reason in plan.reasons)


@pytest.mark.parametrize(("fields", "split"), [(1, "blocks"), (4, "fields")])
def test_folds_that_are_asked_for_split_one_group_too(fields: int, split: str) -> None:
    plan = planned(*TWO, groups=1, fields=fields, given=Circumstances(has_gpu=False, workers=2, folds=2))
    assert (plan.trees[1.0]["folds"], plan.trees[1.0]["split"]) == (2, split)


def test_the_learning_rate_has_a_reason_for_every_length() -> None:
    assert rate_for(rules.SHORT_STEPS, 2e-3, 0.1)[0]["learning_rate"] == rules.SHORT_RATE[0]
    tree, reason = rate_for(rules.SHORT_STEPS + 1, 2e-3, 0.1)
    assert tree == {"learning_rate": 2e-3, "encoder_factor": 0.1} and reason.value == "0.002, encoder 0.0002"


def test_a_gpu_takes_the_papers_tiles() -> None:
    tree = tree_of(*TWO, given=Circumstances(has_gpu=True, workers=1), side=2048)
    assert tree["tile"]["core_px"] == 512 and tree["tile"]["halo_px"] == 62 and tree["batch"] == 12
    assert tree["network"]["decoder_channels"] == [256, 128, 64, 32, 16]


def test_what_makes_scores_lie_is_told() -> None:
    lonely = phase("carbide", 0.1, 8.0, groups=1)
    copy = FieldCopy(
        kind="overlap", first="a.tif", second="b.tif", first_group="a", second_group="b", is_across=True, change="none",
        shift_px=(10, 0), score=0.9,
    )  # fmt: skip
    shifted = ShiftedMask(field="c.tif", dy_px=5, dx_px=-3, edges_here=1, edges_moved=2)
    suspected = SuspectedGroups(rule="^(spot[0-9]+)", groups=3)
    plan = planned(*TWO, lonely, copies=[copy], shifted_masks=[shifted], suspected_groups=suspected)
    told = "\n".join(plan.warnings)
    for text in ("'carbide' occurs in one group alone", "a.tif and b.tif", "c.tif", "3 specimens", "'^(spot[0-9]+)'"):
        assert text in told
    assert planned(*TWO).warnings == ()


def test_one_phase_is_no_training_set() -> None:
    with pytest.raises(InputError, match="the labels hold 'ferrite' alone"):
        planned(TWO[0], phase("bainite", 0.0, None))


def test_many_lonely_phases_are_one_sentence() -> None:
    lonely = [phase(f"p{index}", 0.05, 10.0, 10.0 * index, groups=1) for index in range(250)]
    (told,) = (text for text in planned(*lonely).warnings if "in one group alone" in text)
    assert "'p0', 'p1'" in told and "and 244 more" in told


def test_twenty_phases_have_a_recipe() -> None:
    phases = [phase(f"p{index}", 0.05, 10.0, 10.0 * index) for index in range(20)]
    assert tree_of(*phases)["augmentation"]["share"] == 0.5
