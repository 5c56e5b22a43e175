"""Runs of an earlier version stay readable."""

from __future__ import annotations

from microseg.core.schemas.run import Adaptation

# As `train uda` wrote it before the names became the field's terms.
EARLIER = {
    "verdict": "adapt",
    "evidence": "trust of the source's folds 0.900 on their own held-out fields and 0.800 on the target",
    "chosen": "dacs",
    "candidates": [
        {
            "name": name, "trust": trust, "flips": 0.8, "photometric": 0.8, "certainty": 0.9, "information": 0.2,
            "density": -0.1, "fold_agreement": 0.9, "moved": moved, "fractions": {"a": 0.6, "b": 0.4}, "source_miou": 0.9,
            "minutes": 1.0, "steps": [1], "warnings": [],
        }
        for name, trust, moved in (("unadapted", 0.8, 0.0), ("dacs", 0.9, 0.1))
    ],
    "at_home": 0.9,
    "abroad": 0.8,
    "folds_at_home": 0.95,
    "shift": 3.0,
    "otsu": None,
    "to_label": [],
    "oracle": False,
}  # fmt: skip


def test_an_adaptation_of_an_earlier_version_is_read() -> None:
    found = Adaptation.model_validate(EARLIER)
    assert (found.source_consistency, found.target_consistency, found.source_fold_agreement) == (0.9, 0.8, 0.95)
    assert [(item.self_consistency, item.label_change) for item in found.candidates] == [(0.8, 0.0), (0.9, 0.1)]
    written = found.model_dump(mode="json")
    assert Adaptation.model_validate(written) == found
    assert not {"at_home", "abroad", "folds_at_home"} & set(written)
    assert not {"trust", "moved"} & set(written["candidates"][0])
