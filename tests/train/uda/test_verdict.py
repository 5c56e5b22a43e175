from __future__ import annotations

from functools import partial
from typing import Any

import pytest

from microseg.core.schemas.run import Candidate, ConsistencyGain, FractionEstimates
from microseg.train.uda import verdict
from microseg.train.uda.verdict import CHANCE, CLOSE, DISAGREE, FLOOR, FORGOT, GAIN, SHIFTED, UNSURE, Likeness

KNOWN = {"matrix": 0.7, "crack": 0.3}
decide = partial(verdict.decide, drift=2.5)
STRANGE = Likeness(0.88, 0.8, 0.95, 10.0)


def _gain(over: str, p: float | None = 0.01) -> ConsistencyGain:
    return ConsistencyGain(over=over, criterion="flips", mean=0.01, ratio=0.9, p=p, fields=5, folds=2)


def _candidate(name: str, consistency: float, **changes: Any) -> Candidate:
    """A candidate whose gains are more than chance, and whose estimates of the fractions were not made."""
    values: dict[str, Any] = dict.fromkeys(("flips", "photometric", "certainty", "information", "density"), consistency)
    values |= {
        "fold_agreement": 0.9,
        "label_change": 0.1,
        "fractions": KNOWN,
        "source_miou": 0.9,
        "minutes": 1.0,
        "steps": [1],
        "gains": [_gain(over) for over in ("unadapted", "source") if name not in ("unadapted", over)],
    }
    return Candidate(name=name, self_consistency=consistency, **(values | changes))


def test_a_clear_gain_is_adapted_to_and_a_small_one_is_not() -> None:
    source = _candidate("unadapted", 0.8)
    better = decide([source, _candidate("dacs", 0.8 + 2 * GAIN)], KNOWN, STRANGE)
    same = decide([source, _candidate("dacs", 0.8 + GAIN / 2)], KNOWN, STRANGE)
    assert (better.verdict, better.chosen) == ("adapt", "dacs")
    assert (same.verdict, same.chosen) == ("do not adapt", "unadapted")
    assert "0.800" in better.evidence and "10.0 standard deviations" in better.evidence
    assert "agreement of the folds" not in better.evidence  # there is one
    untold = decide([source], KNOWN, STRANGE._replace(shift=float("inf")))
    assert untold.shift is None and "not compared" in untold.evidence


def test_a_sure_network_that_lost_a_phase_is_not_believed() -> None:
    collapsed = _candidate("minent", 0.99, fractions={"matrix": 1.0, "crack": 0.0})
    assert decide([_candidate("unadapted", 0.8), collapsed], KNOWN, STRANGE).chosen == "unadapted"
    alone = decide([_candidate("unadapted", 0.99, fractions={"matrix": 1.0, "crack": 0.0})], KNOWN, STRANGE)
    assert alone.verdict == "label a few fields" and "crack" in alone.evidence


def test_a_sure_bag_whose_fractions_drifted_is_not_taken() -> None:
    """A twentieth of the source's share is no lost phase, and what is left of a collapse agrees with itself as well."""
    drifted = _candidate("dacs", 0.99, fractions={"matrix": 0.985, "crack": 0.015})
    found = decide([_candidate("unadapted", 0.85), drifted], KNOWN, STRANGE)
    assert (found.verdict, found.chosen) == ("do not adapt", "unadapted")
    as_before = _candidate("unadapted", 0.9, fractions=drifted.fractions)
    for candidates in ([as_before], [as_before, drifted]):
        unknown = decide(candidates, KNOWN, STRANGE)
        assert unknown.verdict == "label a few fields"
        assert "1.5 % crack where the source has 70.0 % matrix, 30.0 % crack" in unknown.evidence
    alike = Likeness(0.9, 0.9, 0.95, SHIFTED / 2)
    assert decide([as_before], KNOWN, alike).verdict == "do not adapt"


def test_a_sure_bag_that_forgot_the_source_is_not_taken() -> None:
    forgetful = _candidate("dacs", 0.99, source_miou=0.9 * FORGOT - 0.01)
    assert decide([_candidate("unadapted", 0.85), forgetful], KNOWN, STRANGE).chosen == "unadapted"


def test_what_agrees_with_nothing_needs_labels() -> None:
    low = FLOOR - 2 * GAIN
    assert (
        decide([_candidate("unadapted", low - 0.1), _candidate("dacs", low)], KNOWN, STRANGE).verdict
        == "label a few fields"
    )


def test_a_source_that_is_far_less_sure_than_at_home_is_no_reason_to_leave_it() -> None:
    """As T3, where target statistics alone double the mIoU and raise no agreement."""
    unsure = STRANGE.source_consistency - UNSURE - 0.01
    found = decide([_candidate("unadapted", unsure), _candidate("normalise", unsure)], KNOWN, STRANGE)
    assert (found.verdict, found.chosen) == ("label a few fields", "unadapted")
    assert "nothing helped" in found.evidence
    assert decide([_candidate("unadapted", unsure + 0.02)], KNOWN, STRANGE).verdict == "do not adapt"


def test_folds_that_disagree_want_labels_however_sure_each_is() -> None:
    """As superalloy shown to networks of lath bainite, or coating to those of superalloy."""
    sure = _candidate("dacs", 0.97, fold_agreement=STRANGE.source_fold_agreement - 2 * DISAGREE)
    found = decide([_candidate("unadapted", 0.8), sure], KNOWN, STRANGE)
    assert (found.verdict, found.chosen) == ("label a few fields", "dacs")
    assert "folds of dacs agree" in found.evidence


def test_folds_that_were_taught_by_their_bag_count_as_they_agreed_before() -> None:
    apart = _candidate("dacs", 0.9, fold_agreement=STRANGE.source_fold_agreement - 2 * DISAGREE)
    taught = _candidate("dacs-2", 0.97, fold_agreement=STRANGE.source_fold_agreement)
    found = decide([_candidate("unadapted", 0.8), apart, taught], KNOWN, STRANGE)
    assert (found.verdict, found.chosen) == ("label a few fields", "dacs-2")
    assert decide([_candidate("unadapted", 0.8), taught], KNOWN, STRANGE).verdict == "adapt"


def test_folds_that_longer_training_set_apart_count_as_they_agreed_before() -> None:
    """As on the coating's other specimens, where it gains four points of mIoU."""
    apart = STRANGE.source_fold_agreement - 2 * DISAGREE
    longer = _candidate("source", 0.85, fold_agreement=apart)
    found = decide([_candidate("unadapted", 0.85), longer], KNOWN, STRANGE)
    assert (found.verdict, found.chosen) == ("do not adapt", "unadapted")
    better = longer.model_copy(update={"source_miou": 0.95})
    found = decide([_candidate("unadapted", 0.85), better], KNOWN, STRANGE)
    assert (found.verdict, found.chosen) == ("do not adapt", "source")
    foreign = decide([_candidate("unadapted", 0.85, fold_agreement=apart), better], KNOWN, STRANGE)
    assert (foreign.verdict, foreign.chosen) == ("label a few fields", "source")


def test_a_target_like_the_source_is_left_alone_however_sure_training_makes_it() -> None:
    candidates = [_candidate("unadapted", 0.9), _candidate("dacs", 0.99)]
    found = decide(candidates, KNOWN, Likeness(0.91, 0.90 + CLOSE, 0.95, SHIFTED / 2))
    assert (found.verdict, found.chosen) == ("do not adapt", "unadapted")
    assert decide(candidates, KNOWN, Likeness(0.95, 0.90, 0.95, SHIFTED / 2)).verdict == "adapt"
    assert decide(candidates, KNOWN, Likeness(0.91, 0.91, 0.95, 2 * SHIFTED)).verdict == "adapt"


def test_a_gain_is_one_over_equally_long_source_training() -> None:
    source, longer = _candidate("unadapted", 0.9, source_miou=0.7), _candidate("source", 0.93, source_miou=0.74)
    no_more = decide([source, longer, _candidate("dacs", 0.93 + GAIN / 2)], KNOWN, STRANGE)
    more = decide([source, longer, _candidate("dacs", 0.93 + 2 * GAIN)], KNOWN, STRANGE)
    assert (no_more.verdict, no_more.chosen) == ("do not adapt", "source")
    assert "0.930 after equally long source training" in no_more.evidence
    assert "no equally long source training was run" not in more.evidence
    alone = decide([source, _candidate("dacs", 0.93 + 2 * GAIN)], KNOWN, STRANGE)
    assert alone.verdict == "adapt" and "no equally long source training was run" in alone.evidence
    assert (more.verdict, more.chosen) == ("adapt", "dacs")
    forgetful = decide([source, _candidate("source", 0.91, source_miou=0.5)], KNOWN, STRANGE)
    assert forgetful.chosen == "unadapted"


def test_a_control_that_flips_less_well_still_sets_the_bar() -> None:
    source = _candidate("unadapted", 0.8, flips=0.9, photometric=0.7)
    longer = _candidate("source", 0.86, flips=0.89, photometric=0.83)
    found = decide([source, longer, _candidate("dacs", 0.8 + 2 * GAIN)], KNOWN, STRANGE)
    assert found.chosen == "unadapted" and "0.860 after equally long source training" in found.evidence


def test_a_study_may_take_a_method_that_the_verdict_does_not() -> None:
    found = decide([_candidate("unadapted", 0.9), _candidate("minent", 0.9)], KNOWN, STRANGE, taken="minent")
    assert (found.verdict, found.chosen) == ("do not adapt", "minent")
    assert "the run holds minent nevertheless" in found.evidence


def test_labels_that_chose_are_stamped() -> None:
    found = decide([_candidate("unadapted", 0.8), _candidate("dacs", 0.7)], KNOWN, STRANGE, forced="dacs")
    assert (found.chosen, found.oracle) == ("dacs", True)


@pytest.mark.parametrize(("p", "chosen"), [(CHANCE / 2, "source"), (2 * CHANCE, "unadapted"), (None, "unadapted")])
def test_longer_source_training_replaces_the_bag_only_where_it_gains_more_than_chance(
    p: float | None, chosen: str
) -> None:
    """As on five fields of another specimen, where a gain of 0.003 in agreement lost a point of mIoU."""
    longer = _candidate("source", 0.803, source_miou=0.95, gains=[_gain("unadapted", p)])
    found = decide([_candidate("unadapted", 0.8), longer], KNOWN, STRANGE)
    assert (found.verdict, found.chosen) == ("do not adapt", chosen)
    assert ("not more than chance" in found.evidence) == (p == 2 * CHANCE)
    assert ("one field" in found.evidence) == (p is None)


def test_an_adapted_bag_must_gain_more_than_chance_over_both_source_bags() -> None:
    source, longer = _candidate("unadapted", 0.8), _candidate("source", 0.81)
    for over in ("unadapted", "source"):
        gains = [_gain(name, 0.2 if name == over else 0.01) for name in ("unadapted", "source")]
        lucky = _candidate("dacs", 0.81 + 2 * GAIN, gains=gains)
        found = decide([source, longer, lucky], KNOWN, STRANGE)
        assert (found.verdict, found.chosen) == ("label a few fields", "source")
        assert "the gain of dacs may be chance" in found.evidence and "p = 0.2" in found.evidence
        sure = _candidate("normalise", 0.81 + 1.5 * GAIN)
        assert decide([source, longer, lucky, sure], KNOWN, STRANGE).chosen == "normalise"


def test_estimates_of_the_fractions_that_disagree_want_labels() -> None:
    def estimates(disagreement: float) -> FractionEstimates:
        other = {"matrix": 0.7 - disagreement, "crack": 0.3 + disagreement}
        return FractionEstimates(corrected=other, emq=KNOWN, temperatures=[1.0], disagreement=disagreement, limit=0.03)

    verdicts = {}
    for apart in (0.02, 0.05):
        better = _candidate("dacs", 0.9, estimates=estimates(apart))
        found = decide([_candidate("unadapted", 0.8), better], KNOWN, STRANGE)
        assert found.chosen == "dacs" and f"{100 * apart:.1f} points apart (limit 3.0)" in found.evidence
        verdicts[apart] = found.verdict
    assert verdicts == {0.02: "adapt", 0.05: "label a few fields"}
    assert (
        "differ by 5.0 points" in found.evidence
        and "corrected by the source's held-out fields 65.0 %" in found.evidence
    )
