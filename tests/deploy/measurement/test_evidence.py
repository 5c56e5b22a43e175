"""Which evidence a section has, and what is reported by it."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from microseg.core.alarm.schema import FieldAlarm, Group, Level
from microseg.core.schemas.bag import TrainingField
from microseg.core.schemas.fidelity import Fidelity, FieldFidelity
from microseg.core.schemas.manifest import EngineAdaptation, Manifest
from microseg.core.schemas.preparation import DomainEntry, Grid, PixelSizeRange, Preparation
from microseg.core.schemas.validation import Validation
from microseg.core.statistics.corrected import PhaseResult
from microseg.core.statistics.uncertainty import Component, combine
from microseg.deploy.measurement.evidence import NOT_VALIDATED, MeasuredField, Section, Sources, Verdict, grounds_of
from microseg.deploy.measurement.reported import claims, more_fields, sample_of
from tests.core.alarm.samples import ALARM
from tests.engines import threshold_manifest

NETWORK = "e" * 64


def manifest(**changes: Any) -> Manifest:
    domains = [DomainEntry(name="steel"), DomainEntry(name="lom", role="target")]
    made = threshold_manifest(2, ["matrix", "carbide"], domains, Grid(), 8, 8, 100.0)
    return made.model_copy(update={"model_sha256": NETWORK} | changes)


def validation(kind: str = "validated", **changes: Any) -> Validation:
    """Six fields of six groups: true fractions of carbide 0.1 to 0.6, found two points too low."""
    fields = [
        {
            "name": f"{index}.tif", "sha256": f"{index}" * 64, "group": f"{index}",
            "confusion": [[1000 - 100 * index, index % 2], [20, 100 * index - 20]],
            "fold": index % 2 if kind == "cross-validated" else None,
        }
        for index in range(1, 7)
    ]  # fmt: skip
    content = {
        "kind": kind, "network_sha256": NETWORK, "weights_sha256": ["f" * 64], "domain": "steel", "preparation": {},
        "phases": ["matrix", "carbide"], "created": "2026-11-30T10:00:00+00:00", "microseg": "1", "source": "labelled",
        "fields": fields,
    }  # fmt: skip
    return Validation.model_validate(content | changes)


def field(share: float, index: int = 0, **changes: Any) -> MeasuredField:
    made = MeasuredField(f"{index}.tif", "lot", (1 - share, share), Preparation(), (0.1, 0.1))
    return replace(made, **changes)


def lot(*shares: float, **changes: Any) -> list[MeasuredField]:
    return [field(share, index, **changes) for index, share in enumerate(shares or (0.3, 0.32, 0.28))]


def of(*validations: Validation, domain: str = "steel", **changes: Any) -> Sources:
    return Sources(manifest(**changes), domain, validations)


def known_lot() -> list[MeasuredField]:
    """A lot that the alarm looked at."""
    return [replace(each, alarm=judged(0, index, "known")) for index, each in enumerate(lot())]


def ground(sources: Sources, *fields: MeasuredField, alarm: Verdict | None = None) -> tuple[str, str]:
    found = grounds_of(Section("lot", fields or tuple(lot()), alarm), sources)[0]
    return found.evidence, "; ".join(found.reasons)


def test_labelled_fields_give_a_corrected_fraction_with_an_interval() -> None:
    found = claims(lot(), of(validation(), validation("cross-validated")))
    matrix, carbide = found.report
    assert matrix.fraction is not None and carbide.fraction is not None
    assert carbide.evidence == "validated" and carbide.raw == pytest.approx(0.3)
    assert carbide.fraction == pytest.approx(0.32, abs=0.005) and matrix.fraction == pytest.approx(1 - carbide.fraction)
    low, high = carbide.interval or (0, 0)
    assert 0.25 < low < carbide.fraction < high < 0.39
    assert {"sampling", "correction"} <= {term.term for term in carbide.budget}
    assert sum(term.share for term in carbide.budget) == pytest.approx(1)
    assert carbide.reasons[0].startswith(
        "validated on 6 fields of 6 groups that trained nothing (labelled, 2026-11-30)"
    )
    assert carbide.reasons[2] == "carbide: 10.0 to 60.0 % in the labelled fields"
    assert found.sections["lot"].phases == found.report and found.validation is not None


@pytest.mark.parametrize(
    ("sources", "fields", "reason"),
    [
        (of(), lot(), "the engine holds no cross-validation"),
        (of(validation(network_sha256="a" * 64)), lot(), "validation: it is of another engine"),
        (of(validation(domain="lom")), lot(), "it is of the domain 'lom', the fields are measured as 'steel'"),
        (of(validation(), domain="lom"), lot(), "(adapted without labels)"),
        (of(validation(), domain="lom"), lot(), "the engine is adapted to 'lom' without labels"),
        (of(validation(phases=["matrix", "pore"])), lot(), "it is of the phases matrix, pore"),
        (
            of(validation(), training_fields=[TrainingField(name="a", sha256="1" * 64, group="1", fold=0)]), lot(),
            "1 of its 6 fields trained this engine",
        ),
        (
            of(validation(pixel_sizes=PixelSizeRange.spanning(0.2))), lot(),
            "the pixel size of all 3 fields (0.1 um) is not that of its fields (0.2 um)",
        ),
        (of(validation(pixel_sizes=PixelSizeRange.spanning(0.1))), lot(edges_um=()), "of all 3 fields is unknown"),
        (of(validation()), lot(is_scale_assumed=True), "is only assumed"),
        (of(validation()), lot(is_trained=True), "trained this engine, which finds them better"),
        (of(validation()), lot(preparation=Preparation(invert=True)), "prepared with another invert"),
        (of(validation()), lot(preparation=Preparation(artefacts=("matrix",))), "artefacts leave the denominator"),
        (of(validation(fields=validation().fields[:1])), lot(), "one field does not show how far the error varies"),
        (
            of(validation(fields=[each.model_copy(update={"group": "1"}) for each in validation().fields])), lot(),
            "all its fields are of one group",
        ),
        (of(validation()), lot(0.3), "one field gives no interval"),
        (of(validation()), lot(0.9, 0.92), "lies outside the labelled fields' range"),
        (of(validation()), lot(0.0, 0.0), "lies outside the labelled fields' range"),
        (of(validation()), lot(1.0, 1.0), "lies outside the labelled fields' range"),
        (of(validation()), [], "no field was measured"),
    ],
)  # fmt: skip
def test_nothing_is_claimed(sources: Sources, fields: list[MeasuredField], reason: str) -> None:
    found = claims(fields, sources)
    for reported in found.report:
        assert (reported.evidence, reported.interval, reported.budget) == ("none", None, ())
        assert reported.fraction == reported.raw
        assert any(reason in each for each in reported.reasons), reported.reasons


def test_a_pixel_size_within_the_tolerance_of_calibrations_is_the_same() -> None:
    sizes = PixelSizeRange.spanning(0.105)
    assert ground(of(validation(pixel_sizes=sizes)))[0] == "validated"


def test_a_validation_goes_before_a_cross_validation_and_falls_back_to_it() -> None:
    folds = validation("cross-validated")
    assert ground(of(folds, validation()))[0] == "validated"
    evidence, reasons = ground(of(validation(network_sha256="a" * 64), folds, alarm=ALARM), *known_lot(), alarm=KNOWN)
    assert evidence == "cross-validated"
    assert "which stands for the bag" in reasons and "validation: it is of another engine" in reasons


def test_a_cross_validation_holds_whatever_network_computes_the_folds() -> None:
    folds = of(validation("cross-validated", network_sha256="a" * 64), alarm=ALARM)
    assert ground(folds, *known_lot(), alarm=KNOWN)[0] == "cross-validated"


RAISED = Verdict("doubtful", "doubtful (signs: darker). Remedy: capture it again")
KNOWN = replace(RAISED, level="known")


def judged(off: float, index: int, level: Level = "foreign") -> FieldAlarm:
    """A field whose grey value is this far from the labelled fields of the training."""
    scores: dict[Group, float] = {"grey": abs(off), "features": 1.0}
    deviations = {"grey_mean": off + (-1) ** index, "unsure": 0.1 * index}
    return FieldAlarm(level=level, predicted_error=0.01, scores=scores, deviations=deviations, causes=[])


def looked_at(off: float, level: Level = "foreign", **changes: Any) -> Validation:
    made = validation()
    fields = [each.model_copy(update={"alarm": judged(off, index, level)}) for index, each in enumerate(made.fields)]
    return made.model_copy(update={"fields": fields, "alarm_sha256": ALARM.sha256} | changes)


def lot_at(off: float) -> list[MeasuredField]:
    return [replace(each, alarm=judged(off, index)) for index, each in enumerate(lot())]


def test_an_alarm_withdraws_a_cross_validation() -> None:
    folds, fields = of(validation("cross-validated"), alarm=ALARM), known_lot()
    evidence, reasons = ground(folds, *fields, alarm=KNOWN)
    assert evidence == "cross-validated" and "no alarm" not in reasons
    assert ground(folds, *fields, alarm=RAISED) == ("none", f"cross-validation: alarm: {RAISED.text}")
    assert claims(fields, folds, {"lot": RAISED}).report[0].evidence == "none"
    # One field does not decide about the section.
    assert ground(folds, *lot_at(9), alarm=KNOWN)[0] == "cross-validated"


def test_a_cross_validation_needs_an_alarm_that_looked_at_every_field() -> None:
    folds = validation("cross-validated")
    evidence, reasons = ground(of(folds))
    assert evidence == "none" and "Remedy: export the run again with its labelled fields in place" in reasons
    evidence, reasons = ground(of(folds, alarm=ALARM))
    assert evidence == "none" and "no alarm looked at all 3 fields: smaller than it needs, or measured by" in reasons
    evidence, reasons = ground(of(folds, alarm=ALARM), *known_lot(), field(0.3, 7), alarm=KNOWN)
    assert evidence == "none" and "no alarm looked at 1 of 4 fields" in reasons


def test_an_alarm_withdraws_a_validation_outside_the_range_of_its_fields_alone() -> None:
    def found(off: float, validated_off: float, verdict: Verdict, level: Level = "foreign") -> tuple[str, str]:
        sources = of(looked_at(validated_off, level), validation("cross-validated"), alarm=ALARM)
        return ground(sources, *lot_at(off), alarm=verdict)

    evidence, reasons = found(10, 10, RAISED)
    assert evidence == "validated" and "these fields lie in the range of the validated ones" in reasons
    evidence, reasons = found(-10, 10, RAISED)
    assert evidence == "none"
    assert "validation: these fields lie outside the range of its fields (grey values); alarm: doubtful" in reasons
    assert "Remedy: capture it again, or microseg validate with labelled fields like these" in reasons
    # No alarm, no withdrawal ...
    assert found(5, 0, KNOWN, "known")[0] == "validated" and found(10, 10, KNOWN)[0] == "validated"
    # ... but where the fields of the validation raise it, what it knows is cross-validated.
    evidence, reasons = found(0, 20, KNOWN)
    assert evidence == "cross-validated" and "its fields raise the alarm, and these do not" in reasons


@pytest.mark.parametrize(
    ("made", "fields", "reason"),
    [
        (validation(), lot_at(-10), "holds no measures of the alarm. Remedy: microseg export RUN --validate again"),
        (validation(sha256="a" * 64), lot_at(-10), "holds no measures of the alarm. Remedy: microseg validate again"),
        (looked_at(10, alarm_sha256="b" * 64), lot_at(-10), "of another calibration of the alarm"),
        (
            looked_at(10, fields=looked_at(10).fields[:1] + validation().fields[1:]),
            lot_at(-10),
            "too small to be judged",
        ),
        (
            looked_at(10),
            [replace(each, alarm=judged(0, 0).model_copy(update={"deviations": {}})) for each in lot()],
            "an earlier version measured some of them. Remedy: microseg segment with another --out",
        ),
    ],
)
def test_a_validation_stays_where_nothing_shows_whether_its_fields_are_like_these(
    made: Validation, fields: list[MeasuredField], reason: str
) -> None:
    evidence, reasons = ground(of(made, alarm=ALARM), *fields, alarm=RAISED)
    assert evidence == "validated" and reason in reasons
    assert "the alarm is raised (doubtful), and nothing shows whether these fields are like those" in reasons
    assert "nothing shows" not in ground(of(made, alarm=ALARM), *fields, alarm=KNOWN)[1]


def test_a_validation_that_no_alarm_accompanies_says_so() -> None:
    evidence, reasons = ground(of(validation()))
    assert evidence == "validated" and "no alarm looked at these fields" in reasons


def test_a_plan_needs_the_comparison_with_its_own_file() -> None:
    from tests.plans import plan_info

    made = plan_info(b"plan")
    assert ground(of(validation(), plan=made.model_copy(update={"verified": True})))[0] == "validated"
    unverified = made.model_copy(update={"verified": False})
    assert "was not compared" in ground(of(validation(), plan=unverified))[1]
    folds = of(validation("cross-validated"), plan=unverified, alarm=ALARM)
    assert "was not compared" in ground(folds, *known_lot(), alarm=KNOWN)[1]


def test_a_report_of_sections_rests_on_the_weakest_and_each_has_its_own_figures() -> None:
    one, two = lot(0.3, 0.32, 0.28), lot(0.5, 0.52, 0.48, section="b")
    found = claims([*one, *two], of(validation()))
    assert list(found.sections) == ["lot", "b"] and [each.fields for each in found.sections.values()] == [3, 3]
    assert found.report[1].fraction == pytest.approx(0.42, abs=0.01) and found.report[1].evidence == "validated"
    assert found.sections["b"].phases[1].fraction == pytest.approx(0.52, abs=0.01)
    spoiled = claims([*one, *lot(0.5, 0.52, section="b", is_scale_assumed=True)], of(validation()))
    assert spoiled.report[0].evidence == "none" and spoiled.sections["lot"].phases[0].evidence == "validated"


def test_a_report_rests_on_labelled_fields_that_serve_all_of_its_sections() -> None:
    """One section is like the validated fields, which raise the alarm; the other one like those of the training."""
    foreign = lot_at(10)
    home = [replace(each, section="b", alarm=judged(-10, index, "known")) for index, each in enumerate(lot())]
    sources = of(looked_at(10), validation("cross-validated"), alarm=ALARM)
    found = claims([*foreign, *home], sources, {"lot": RAISED, "b": KNOWN})
    assert [each.phases[1].evidence for each in found.sections.values()] == ["validated", "cross-validated"]
    assert found.report[1].evidence == "none" and found.report[1].interval is None and found.validation is None
    assert "its sections rest on different labelled fields (validated, cross-validated)" in found.report[1].reasons[0]
    # A validation that serves one section does not hinder what serves both.
    near = [replace(each, alarm=judged(0, index, "known")) for index, each in enumerate(lot())]
    both = claims(
        [*near, *home],
        of(looked_at(0, "known"), validation("cross-validated"), alarm=ALARM),
        {"lot": KNOWN, "b": KNOWN},
    )
    assert both.report[1].evidence in {"validated", "cross-validated"} and both.validation is not None


def test_a_report_of_sections_beyond_the_labelled_range_claims_nothing() -> None:
    low, high = lot(0.0, 0.01, 0.0), lot(0.72, 0.71, 0.73, section="b")
    found = claims([*low, *high], of(validation()))
    assert {each.phases[1].evidence for each in found.sections.values()} == {"none"}
    assert (
        found.report[1].evidence == "none"
        and "6 of 6 fields are of sections without a claim" in found.report[1].reasons[0]
    )
    # A single section of many may lie there by chance.
    many = [field(share, index, section=f"{index // 3}") for index, share in enumerate((0.3, 0.32, 0.28) * 20)]
    assert claims([*many, *high], of(validation())).report[1].evidence == "validated"


def test_an_adapted_engine_tells_its_estimates_and_the_labelled_fields_that_it_knows() -> None:
    fields = [TrainingField(name="a", sha256=str(index) * 64, group="a", fold=-1) for index in (1, 2)]
    adaptation = EngineAdaptation(domain="lom", fields=fields, disagreement=0.031, limit=0.02)
    reasons = ground(of(adaptation=adaptation, domain="lom"))[1]
    assert "adapted to 'lom' without labels; estimates of its fractions differ by 3.1 points" in reasons
    close = adaptation.model_copy(update={"disagreement": 0.01})
    assert ground(of(adaptation=close, domain="lom"))[1].endswith("adapted to 'lom' without labels")
    evidence, reasons = ground(of(validation(domain="lom"), adaptation=adaptation, domain="lom"))
    assert evidence == "validated" and "adapted to 2 of the 6 labelled fields, without their labels" in reasons


def test_what_a_figure_lacks_is_in_the_reasons_for_a_file() -> None:
    lacking, claimed = claims(lot(), of()).report[0], claims(lot(), of(validation())).report[0]
    assert lacking.reasons_in_file == [*lacking.reasons, NOT_VALIDATED] and claimed.reasons_in_file == list(
        claimed.reasons
    )


def test_sections_of_one_field_have_no_interval_and_the_report_has_one() -> None:
    fields = [field(share, index, section=f"{index}") for index, share in enumerate((0.3, 0.32, 0.28, 0.31))]
    found = claims(fields, of(validation()))
    assert {each.phases[0].evidence for each in found.sections.values()} == {"none"}
    assert found.report[0].evidence == "validated" and found.report[0].interval is not None


def test_a_phase_that_no_labelled_field_holds_is_not_claimed() -> None:
    names = ["matrix", "carbide", "pore"]
    fields = [
        each.model_copy(update={"confusion": [[*row, 0] for row in each.confusion or []] + [[0, 0, 0]]})
        for each in validation().fields
    ]
    made = manifest().model_copy(
        update={"phases": threshold_manifest(2, names, [DomainEntry(name="steel")], Grid(), 8, 8, 1.0).phases}
    )
    sources = Sources(made, "steel", (validation(phases=names, fields=fields),))
    absent = [MeasuredField(f"{index}", "lot", (0.7, 0.3, 0.0), Preparation()) for index in range(3)]
    many = [MeasuredField(f"{index}", "lot", (0.6, 0.3, 0.1), Preparation()) for index in range(3)]
    assert claims(many, sources).report[2].evidence == "none"
    matrix, _, pore = claims(absent, sources).report
    assert matrix.evidence == "validated"
    assert (pore.fraction, pore.interval, pore.evidence) == (0, None, "none")
    assert "all labelled fields have 0 % of it" in pore.reasons[0]


def test_a_rounded_engine_has_a_term_for_what_is_only_bounded() -> None:
    fidelity = Fidelity(
        fields_from="held out", arithmetic="openvino", label_limit=0.02, limits_points={"matrix": 0.3, "carbide": 0.3},
        fields=[
            FieldFidelity(
                field="a", pixels=1_000_000, label_disagreement=0.0, torch_percent={"matrix": 60.0, "carbide": 40.0},
                engine_percent={"matrix": 59.8, "carbide": 40.2},
            )
        ],
        fold_disagreement=[0.0, 0.0], not_a_number=0, saturated=0,
    )  # fmt: skip
    folds, own = (
        of(validation(kind), precision="int8", fidelity=[fidelity], alarm=ALARM)
        for kind in ("cross-validated", "validated")
    )
    (term,) = (term for term in claims(known_lot(), folds, {"lot": KNOWN}).report[1].budget if "engine" in term.term)
    assert (term.term, term.degrees) == ("int8 engine beside the trained networks", None)
    assert term.value == pytest.approx(0.002 / 3**0.5) and term.kind == "B"
    assert not any("engine" in term.term for term in claims(lot(), own).report[1].budget)


def test_a_cross_validation_corrects_the_mean_of_the_folds() -> None:
    """Folds, not the bag, found the labelled fields: what the bag finds beyond its folds is no part of the correction."""
    shares = (0.3, 0.32, 0.28)
    plain = [field(share, index) for index, share in enumerate(shares)]
    folded = [
        field(share, index, fold_fractions=((0.9 - share, 0.1 + share), (0.7 - share, 0.3 + share)))
        for index, share in enumerate(shares)
    ]
    moved = [field(0.2 + share, index) for index, share in enumerate(shares)]
    folded, plain, moved = (
        [replace(each, alarm=judged(0, index, "known")) for index, each in enumerate(fields)]
        for fields in (folded, plain, moved)
    )
    cross = of(validation("cross-validated"), alarm=ALARM)
    by_folds = claims(folded, cross, {"lot": KNOWN}).report[1]
    assert by_folds.raw == pytest.approx(0.3)
    assert by_folds.fraction == claims(moved, cross, {"lot": KNOWN}).report[1].fraction
    assert sample_of(validation("cross-validated")).at_home and not sample_of(validation()).at_home
    own = claims(folded, of(validation())).report[1]
    assert own.fraction == claims(plain, of(validation())).report[1].fraction


def _result(*budget: Component) -> PhaseResult:
    return PhaseResult(0.3, 0.3, (0.2, 0.4), 0.05, 5, combine(budget).budget, (0.1, 0.8))


@pytest.mark.parametrize(
    ("budget", "text"),
    [
        ([Component("sampling", 0.05 / 5**0.5, 4)], "a relative accuracy of 10 % takes 14 fields in all"),
        ([Component("sampling", 0.001, 4)], "a relative accuracy of 10 % is reached"),
        (
            [Component("sampling", 0.01, 4), Component("correction", 0.03, 6)],
            "no number of fields reaches a relative accuracy of 10 %: the other terms leave 24 %; more labelled fields help",
        ),
        (
            [Component("sampling", 0.001, 4), Component("correction", 0.003, 6)],
            "a relative accuracy of 10 % is reached; more fields hardly help, as the other terms dominate",
        ),
        (
            [Component("sampling", 0.02, 4), Component("correction", 0.005, 6)],
            # t(14.0) = 2.145 times hypot(0.0447 / sqrt(12), 0.005) is 0.0297; with 11 fields it is 0.0312.
            "a relative accuracy of 10 % takes 12 fields in all; beyond 720 fields more hardly help, as the other terms "
            "dominate",
        ),
    ],
)
def test_what_more_fields_bring(budget: list[Component], text: str) -> None:
    assert more_fields(_result(*budget), 5, 1) == text


def test_a_claim_says_what_more_fields_bring() -> None:
    assert any("relative accuracy of 10 %" in each for each in claims(lot(), of(validation())).report[1].reasons)
