"""The alarm that an export calibrates on the run's own fields."""

from __future__ import annotations

from pathlib import Path

import pytest

from microseg.cli.export.engine_tables import alarm_line
from microseg.core.alarm.calibrate import HOME, calibrated
from microseg.core.schemas.bag import TrainingField
from microseg.core.schemas.preparation import Grid
from microseg.core.schemas.run import DistillationRecord, RunRecord, read_run
from microseg.core.schemas.validation import CROSS_VALIDATION_FILE, read_validation
from microseg.core.system.files import sha256_of
from microseg.export import alarm_calibration as module
from microseg.export.alarm_calibration import alarm_of_run, calibration_parts, with_held_out
from microseg.export.progress import SilentProgress
from microseg.synthetic.folder import write_domain
from tests.engines import write_threshold_engine


class Told(SilentProgress):
    """Keeps the notices."""

    def __init__(self) -> None:
        self.notices: list[str] = []

    def notice(self, text: str) -> None:
        self.notices.append(text)


@pytest.fixture(scope="module")
def given(tmp_path_factory: pytest.TempPathFactory, trained: Path) -> tuple[RunRecord, Path]:
    """A run of five fields, of which every other one was held out by fold 0, and an engine."""
    folder = tmp_path_factory.mktemp("calibration")
    images = write_domain(folder / "source", "s", 5, 3, size_px=(150, 150))
    record, _ = read_run(trained)
    fields = [
        TrainingField(name=path.name, sha256=sha256_of(path), group=path.name, fold=index % 2)
        for index, path in enumerate(images)
    ]
    changes = {"domain_source": str(folder / "source"), "fields": fields, "grid": Grid()}
    names = ("ferrite", "lath-bainite")
    return record.model_copy(update=changes), write_threshold_engine(folder / "engine.onnx", names=names)


def test_parts_count_the_fold_that_held_the_field_out(
    given: tuple[RunRecord, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "KINDS", {"noise": (10.0, 40.0)})
    record, model = given
    by_fold = []
    for fold in (0, 1):
        held = [field.model_copy(update={"fold": fold}) for field in record.fields]
        by_fold.append(calibration_parts(record.model_copy(update={"fields": held}), model, SilentProgress()))
    assert [part.kind for part in by_fold[0]] == [HOME, "noise"] * 5
    assert {part.field for part in by_fold[0]} == {field.name for field in record.fields}
    # Fold 0 calls more pixels bainite than fold 1.
    assert all(first.errors[1] > second.errors[1] for first, second in zip(*by_fold, strict=True))
    assert all(abs(part.errors.sum()) < 1e-9 for part in by_fold[0])
    alarm = calibrated(by_fold[0], record.domain.name)
    assert alarm is not None
    assert (alarm.domain, alarm.fields, alarm.parts, alarm.pixels) == (record.domain.name, 5, 5, 144 * 144)
    assert len(alarm.features) == 2


def test_an_alarm_says_how_many_fields_were_held_out(
    given: tuple[RunRecord, Path], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(module, "KINDS", {})
    record, model = given
    # Another file of the same name, as a student may have learned from, is not the labelled one.
    other = record.fields[0].model_copy(update={"sha256": "0" * 64, "fold": -1})
    learned = [field.model_copy(update={"fold": -1}) for field in record.fields[:2]]
    mixed = record.model_copy(update={"fields": [*learned, *record.fields[2:], other]})
    alarm = alarm_of_run(mixed, model, SilentProgress())
    assert alarm is not None and (alarm.fields, alarm.held_out) == (5, 3)
    assert "as source (3 of them held out" in alarm_line(alarm).replace(alarm.domain, "source")
    whole = alarm_of_run(record, model, SilentProgress())
    assert whole is not None and whole.held_out == 5 and "held out" not in alarm_line(whole)


def test_a_student_has_the_folds_of_its_bag(given: tuple[RunRecord, Path], trained: Path) -> None:
    record, _ = given
    kept = read_validation(trained / CROSS_VALIDATION_FILE)
    fields = [TrainingField(name=each.name, sha256=each.sha256, group="g", fold=-1) for each in kept.fields]
    fields.append(TrainingField(name="unlabelled.tif", sha256="0" * 64, group="u", fold=-1))
    learned = DistillationRecord(run="run", weights_sha256=kept.weights_sha256, domains=[], compared=[])
    student = record.model_copy(update={"fields": fields, "distillation": learned})
    found = with_held_out(student, kept)
    assert [field.fold for field in found.fields] == [*(each.fold for each in kept.fields), -1]
    assert with_held_out(student, None) == student and with_held_out(record, kept) == record


def test_an_engine_of_few_fields_or_of_fields_that_are_gone_has_none_and_says_so(given: tuple[RunRecord, Path]) -> None:
    record, model = given
    told = Told()
    assert alarm_of_run(record.model_copy(update={"fields": record.fields[:4]}), model, told) is None
    assert alarm_of_run(record.model_copy(update={"domain_source": "gone"}), model, told) is None
    changed = [field.model_copy(update={"sha256": "0" * 64}) for field in record.fields]
    assert alarm_of_run(record.model_copy(update={"fields": changed}), model, told) is None
    assert "4 labelled fields" in told.notices[0]
    assert "does not exist" in told.notices[1]
    assert "no longer the file" in told.notices[2]
