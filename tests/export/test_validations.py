"""What an exported engine carries of its folds' held-out fields, and of `--validate`."""

from __future__ import annotations

import re
import shutil
from pathlib import Path

import numpy as np
import pytest

from microseg.core.errors import InputError
from microseg.core.schemas.run import read_run
from microseg.core.schemas.validation import CROSS_VALIDATION_FILE, read_validation, write_validation
from microseg.deploy.evaluate import evaluate_engine
from microseg.deploy.segment import segment
from microseg.deploy.segment_options import SegmentOptions
from microseg.export.progress import SilentProgress
from microseg.export.validations import kept_cross_validation, refuse_trained_fields, validations_of
from microseg.runtime import read_manifest
from microseg.train.analysis.evaluate import evaluate_run


def copied(run: Path, to: Path) -> Path:
    return Path(shutil.copytree(run, to))


def test_a_run_keeps_what_each_fold_finds_on_the_fields_that_it_held_out(trained: Path, source: Path) -> None:
    record, summary = read_run(trained)
    kept = read_validation(trained / CROSS_VALIDATION_FILE)
    assert kept.kind == "cross-validated" and kept.network_sha256 is None
    assert kept.weights_sha256 == [fold.weights_sha256 for fold in summary.folds]
    assert {field.sha256: field.fold for field in kept.fields} == {field.sha256: field.fold for field in record.fields}
    pooled = np.sum([field.confusion for field in kept.fields if field.confusion], axis=0)
    assert pooled.tolist() == evaluate_run(trained, source)["confusion"]


def test_the_engine_carries_it_and_a_report_rests_on_it(exported: Path, unseen: Path, tmp_path: Path) -> None:
    (carried,) = read_manifest(exported).validations
    assert (carried.kind, carried.network_sha256) == ("cross-validated", read_manifest(exported).model_sha256)
    report = segment(SegmentOptions(unseen / "images", exported, tmp_path / "report", pixel_size_um=0.05))
    for phase in report.summary["phases"].values():
        reported = phase["reported"]
        assert reported["evidence"] in ("cross-validated", "none")
        assert (reported["interval"] is None) == (reported["evidence"] == "none")


def test_a_run_of_an_earlier_version_is_cross_validated_by_its_engine(
    trained: Path, exported: Path, tmp_path: Path
) -> None:
    run = copied(trained, tmp_path / "run")
    kept = read_validation(run / CROSS_VALIDATION_FILE)
    (run / CROSS_VALIDATION_FILE).unlink()
    record, summary = read_run(run)
    assert kept_cross_validation(run, record, summary) is None
    (found,) = validations_of(exported, None, record, None, SilentProgress())
    assert found.network_sha256 == read_manifest(exported).model_sha256
    for one, other in zip(found.fields, kept.fields, strict=True):
        assert (one.sha256, one.fold) == (other.sha256, other.fold)
        # Torch and the engine round differently.
        assert np.abs(np.array(one.confusion) - np.array(other.confusion)).sum() <= 4


class Notices(SilentProgress):
    def __init__(self) -> None:
        self.texts: list[str] = []

    def notice(self, text: str) -> None:
        self.texts.append(text)


def test_a_run_whose_fields_are_gone_has_no_cross_validation(trained: Path, exported: Path, tmp_path: Path) -> None:
    record, _ = read_run(trained)
    told = Notices()
    gone = record.model_copy(update={"domain_source": str(tmp_path / "gone")})
    assert validations_of(exported, None, gone, None, told) == []
    assert "without cross-validation" in told.texts[0] and "microseg validate" in told.texts[0]


def test_a_kept_file_of_other_weights_counts_as_none_and_a_changed_one_is_refused(
    trained: Path, tmp_path: Path
) -> None:
    run = copied(trained, tmp_path / "run")
    record, summary = read_run(run)
    assert kept_cross_validation(run, record, summary) is not None
    path = run / CROSS_VALIDATION_FILE
    kept = read_validation(path)
    write_validation(path, kept.model_copy(update={"weights_sha256": ["0" * 64, "1" * 64]}))
    assert kept_cross_validation(run, record, summary) is None
    path.write_text(path.read_text().replace(kept.created, "2020-01-01T00:00:00+00:00"))
    with pytest.raises(InputError, match="SHA-256 differs"):
        kept_cross_validation(run, record, summary)


def test_labelled_fields_that_trained_nothing_validate_the_bag(
    trained: Path, exported: Path, source: Path, unseen: Path
) -> None:
    record, summary = read_run(trained)
    told = Notices()
    kept = kept_cross_validation(trained, record, summary)
    own, folds = validations_of(exported, kept, record, unseen, told)
    assert (own.kind, folds.kind) == ("validated", "cross-validated")
    assert f"reports of the domain {own.domain!r}" in told.texts[0]
    pooled = np.sum([field.confusion for field in own.fields if field.confusion], axis=0)
    assert pooled.tolist() == evaluate_engine(exported, unseen)["confusion"]
    with pytest.raises(InputError, match=r"4 of 4 fields trained this engine .* and 1 more"):
        refuse_trained_fields(source, record.fields)


def test_blocks_of_fields_are_no_cross_validation(trained: Path, exported: Path) -> None:
    from microseg.core.evaluation.validating import held_out_fields
    from microseg.core.schemas.run import Block

    record, _ = read_run(trained)
    block = Block(sha256="0" * 64, fold=0, top_px=0, left_px=0, height_px=1, width_px=1)
    assert held_out_fields(record.model_copy(update={"blocks": [block]})) == {}
    twice = [*record.fields, record.fields[0].model_copy(update={"fold": 1 - record.fields[0].fold})]
    assert record.fields[0].sha256 not in held_out_fields(record.model_copy(update={"fields": twice}))


def test_labelled_fields_are_measured_as_the_domain_that_their_file_names(
    trained: Path, exported: Path, unseen: Path, tmp_path: Path
) -> None:
    from microseg.agreement.validating import measured_as
    from microseg.core.domains.domain import load_domain

    manifest = read_manifest(exported)
    other = manifest.domains[0].model_copy(update={"name": "lom"})
    two = manifest.model_copy(update={"domains": [*manifest.domains, other]})
    assert measured_as(two, load_domain(unseen)).name == manifest.default_domain
    named = copied(unseen, tmp_path / "whatever")
    path = named / "domain.yaml"
    path.write_text(re.sub("(?m)^name: .*$", "name: lom", path.read_text()))
    assert measured_as(two, load_domain(named)).name == "lom"
    assert measured_as(two, load_domain(named), manifest.default_domain).name == manifest.default_domain
    with pytest.raises(InputError, match="--as"):
        measured_as(two, load_domain(named), "sem")
