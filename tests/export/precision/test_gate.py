"""The gate of a reduced engine: limits per phase, what trips it, and what it says."""

from __future__ import annotations

import numpy as np
import pytest
from numpy.typing import NDArray

from microseg.agreement.fidelity import nearest_limit
from microseg.core.errors import GateError
from microseg.core.schemas.fidelity import Fidelity, FieldFidelity
from microseg.core.schemas.tolerance import LEAST_POINTS, LIMITS
from microseg.export.calibration_fields import Field, FieldSet
from microseg.export.precision.gate import PrecisionGate, require_fidelity
from tests.export.bags import PHASES, bag, fields, gate, probabilities

SIDE = 400


def gate_of(*fields: NDArray[np.uint8]) -> PrecisionGate:
    """A gate whose torch reads the labels off the pixels."""

    def torch(pixels: NDArray[np.uint8]) -> list[NDArray[np.float32]]:
        return [(pixels == np.arange(len(PHASES))[:, None, None]).astype(np.float32)] * 2

    named = FieldSet("test", tuple(Field(f"field{i}", labels) for i, labels in enumerate(fields)))
    return PrecisionGate([named], PHASES, stride=8, halo_px=8, torch=torch)


def labels(crack_percent: float, oxide_percent: float = 20.0) -> NDArray[np.uint8]:
    found = np.zeros(SIDE * SIDE, np.uint8)
    oxide, crack = (int(SIDE * SIDE * percent / 100) for percent in (oxide_percent, crack_percent))
    found[:oxide], found[oxide : oxide + crack] = 1, 2
    return found.reshape(SIDE, SIDE)


def figures(engine: dict[str, float], crack_limit: float = 0.015, **changes: object) -> Fidelity:
    torch = {"matrix": 79.7, "oxide": 20.0, "crack": 0.3}
    field = FieldFidelity(
        field="a.tif", pixels=1_000_000, label_disagreement=0.001, torch_percent=torch, engine_percent=torch | engine
    )  # fmt: skip
    whole = Fidelity(
        fields_from="coating",
        label_limit=0.02,
        limits_points={"matrix": 0.3, "oxide": 0.3, "crack": crack_limit},
        fields=[field],
        fold_disagreement=[0.001, 0.001],
        not_a_number=0,
        saturated=0,
    )
    return whole.model_copy(update=changes)


@pytest.mark.parametrize(
    ("precision", "common", "rare"), [("fp16", 0.1, 0.02 * 0.3), ("int8", 0.3, 0.05 * 0.3), ("fp32", 0.01, 0.01)]
)
def test_a_rare_phase_has_a_limit_of_its_own(precision: str, common: float, rare: float) -> None:
    """The mean over the fields counts: cracks in one of two fields alone."""
    limits = gate_of(labels(0.6), labels(0.0)).limits_points(precision, 0)  # type: ignore[arg-type]
    assert limits["oxide"] == pytest.approx(common)
    assert limits["crack"] == pytest.approx(rare, rel=0.01)


def test_an_absent_phase_has_a_defined_limit() -> None:
    limits = gate_of(labels(0.0)).limits_points("fp32", 0), gate_of(labels(0.0)).limits_points("int8", 0)
    assert [found["crack"] for found in limits] == [LEAST_POINTS] * 2
    assert all(np.isfinite(list(found.values())).all() for found in limits)


def test_a_pixel_of_a_small_field_is_allowed_there_and_loosens_no_other() -> None:
    found = figures({"crack": 0.33, "matrix": 79.67})
    assert nearest_limit([found], "int8").ratio == pytest.approx(2)
    tiny = found.fields[0].model_copy(update={"field": "tiny.tif", "pixels": 256})
    assert nearest_limit([found.model_copy(update={"fields": [tiny]})], "int8").ratio < 1
    assert nearest_limit([found.model_copy(update={"fields": [tiny, *found.fields]})], "int8").ratio == pytest.approx(2)
    unknown = found.fields[0].model_copy(update={"pixels": None})  # of an engine made before
    assert nearest_limit([found.model_copy(update={"fields": [unknown]})], "int8").ratio == pytest.approx(2)


def test_agreement_passes() -> None:
    require_fidelity([figures({})], "int8")
    assert nearest_limit([figures({})], "int8").ratio < 1


@pytest.mark.parametrize(
    ("found", "message"),
    [
        (
            figures({"crack": 0.28, "matrix": 79.72}),
            r"a\.tif \(coating\), area of crack: 0\.02 points \(0\.28 % by the engine, 0\.3 % by torch\), limit 0\.015 points",
        ),
        (
            figures({"oxide": 20.31}),
            r"area of oxide: 0\.31 points \(20\.31 % by the engine, 20 % by torch\), limit 0\.3 points",
        ),
        (figures({"crack": float("nan")}), r"area of crack: nan points \(nan % by the engine"),
        (figures({}, not_a_number=3, saturated=2), "3 values are not numbers, 2 activations overflow, limit none"),
        (figures({}, fold_disagreement=[0.0, 0.3]), r"labels of fold 1 that differ: 30 %, limit 2 %"),
    ],
)
def test_what_is_beyond_a_limit_is_refused_by_name(found: Fidelity, message: str) -> None:
    with pytest.raises(GateError, match=message) as caught:
        require_fidelity([figures({}), found], "int8")
    assert "Nothing was written" in str(caught.value)
    assert "Remedy: --precision fp16" in str(caught.value)
    assert caught.value.exit_code == 4


def test_the_phase_with_the_largest_change_is_named_beside_the_worst_check() -> None:
    found = figures({"crack": 0.29}, fold_disagreement=[0.3])
    with pytest.raises(
        GateError,
        match=r"of fold 0 that differ: 30 %, limit 2 %\. Largest difference of a phase: a\.tif \(coating\), area of crack",
    ):
        require_fidelity([found], "int8")


def test_a_lost_crack_trips_the_gate_though_hardly_a_label_differs() -> None:
    """0.3 % of the area gone is 0.3 % of the labels: within what labels may differ, far beyond the phase's limit."""
    model = bag()
    judged = gate(model)
    cut = bag(crack=-1e6)
    found = judged.compare(cut, "int8")
    assert all(field.engine_percent["crack"] == 0 for field in found[0].fields)
    rare = [figures({"crack": 0.0, "matrix": 80.0})]
    assert rare[0].fields[0].label_disagreement < LIMITS["int8"].labels
    for lost in (found, rare):
        with pytest.raises(GateError, match=r"crack|labels"):
            require_fidelity(lost, "int8")


def test_figures_are_those_of_the_graph() -> None:
    model, moved = bag(), bag(crack=-0.2)
    (found,) = gate(model).compare(moved, "int8")
    soft = [np.mean(probabilities(each)(fields().fields[1].pixels[None, None]), axis=0)[0] for each in (model, moved)]
    wanted, ours = (values.argmax(0) for values in soft)
    field = found.fields[1]
    assert field.label_disagreement == pytest.approx((wanted != ours).mean())
    assert field.torch_percent["crack"] == pytest.approx(100 * (wanted == 2).mean())
    assert field.engine_percent["crack"] == pytest.approx(100 * (ours == 2).mean())
    assert field.label_disagreement > 0
