from __future__ import annotations

import csv
import json
import shutil
from dataclasses import replace
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import numpy as np
import pytest
from safetensors.numpy import load_file

from microseg.core.domains.domain import Domain, preparation_as
from microseg.core.errors import InputError, TrainingError
from microseg.core.evaluation.scoring import score_fields
from microseg.core.schemas.preparation import DomainEntry
from microseg.core.schemas.run import read_record, read_run
from microseg.runtime import read_manifest
from microseg.train.common.data import load_training_data
from microseg.train.common.run_folder import newest_supervised_run, source_of_adaptation
from microseg.train.recipe_files import load_uda_recipe
from microseg.train.uda import loop as adapt
from microseg.train.uda.command import AdaptationOptions, run_uda
from microseg.train.uda.context import AdaptationContext
from tests.chain import microseg
from tests.train.uda.runs import ONCE, SHORT, adapted


@pytest.mark.parametrize("setting", ["mic={weight: 1.0}", "second_round=2", "style_share=0.5"])
@pytest.mark.parametrize("method", ["source", "normalise"])
def test_a_control_learns_nothing_from_the_target(method: str, setting: str) -> None:
    with pytest.raises(InputError, match=f"method {method} learns nothing from the target"):
        load_uda_recipe(f"uda-{method}", [setting])


def test_statistics_stay_the_source_s_when_asked(place: Path, tmp_path: Path) -> None:
    adapted(place, tmp_path / "run", "dacs", [*ONCE, "statistics=none"])
    start = load_file(place / "runs" / "s-tiny" / "fold0" / "model.safetensors")
    end = load_file(tmp_path / "run" / "methods" / "dacs" / "fold0" / "model.safetensors")
    kept = [key for key in start if key.endswith(("running_mean", "running_var"))]
    assert kept and all(np.allclose(start[key], end[key], atol=1e-6) for key in kept)


def test_in_the_second_round_the_bag_teaches(place: Path, tmp_path: Path) -> None:
    settings = [*ONCE, "second_round=2"]
    summary = adapted(place, tmp_path / "bag", "dacs", settings, folds=2, workers=1)
    assert summary.adaptation is not None
    assert [item.name for item in summary.adaptation.candidates] == ["unadapted", "dacs", "dacs-2"]
    history = (tmp_path / "bag" / "methods" / "dacs-2" / "fold0" / "history.csv").read_text(encoding="utf-8")
    assert [line.split(",")[0] for line in history.splitlines()] == ["step", "0", "2"]
    alone = adapted(place, tmp_path / "alone", "dacs", settings, always=True)
    assert alone.adaptation is not None and alone.adaptation.chosen == "dacs-2"
    spent = 60 * sum(item.minutes for item in alone.adaptation.candidates[1:])
    assert alone.seconds == pytest.approx(spent, rel=1e-6), "it goes on from the first round, which took its time"
    ends = [
        load_file(tmp_path / name / "methods" / "dacs-2" / "fold0" / "last" / "step-0000002.safetensors")
        for name in ("bag", "alone")
    ]
    assert any(not np.array_equal(ends[0][key], ends[1][key]) for key in ends[0])  # the other fold had its say


def test_in_the_second_round_of_dast_the_bag_teaches_from_the_start(place: Path, tmp_path: Path) -> None:
    adapted(place, tmp_path / "run", "dast", ["steps=2", "batch=1", "snapshot_every=1", "second_round=2"])
    taught = []
    for name in ("dast", "dast-2"):
        with (tmp_path / "run" / "methods" / name / "fold0" / "history.csv").open(encoding="utf-8") as file:
            taught.append([bool(row["consistency"]) for row in csv.DictReader(file)][1:])
    assert taught == [[False, True], [True, True]]


def test_folders_that_are_no_run_are_left_alone(place: Path, tmp_path: Path) -> None:
    (tmp_path / "notes.txt").write_text("mine")
    with pytest.raises(InputError, match="is not a run folder"):
        adapted(place, tmp_path, "normalise", [], resume=True)
    assert [path.name for path in tmp_path.iterdir()] == ["notes.txt"]


def test_auto_wants_a_recipe_that_adapts(place: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="needs a recipe that adapts"):
        adapted(place, tmp_path / "run", "normalise", [], auto=True)


def test_labels_that_the_source_was_to_do_without_are_not_learned_from(place: Path, tmp_path: Path) -> None:
    data = load_training_data(place / "s", 0.5, 2)
    data = replace(data, folds=[0, 0, *[1] * (len(data.fields) - 2)])
    for share, least in ((1.0, 2), (0.5, 1)):
        at = SimpleNamespace(data=data, source=SimpleNamespace(label_share=share, seed=0))
        assert len(AdaptationContext.seen(at, 1)) == least  # type: ignore[arg-type]


def test_a_second_round_needs_a_teacher() -> None:
    with pytest.raises(InputError, match="method minent has no teacher"):
        load_uda_recipe("uda-minent", ["second_round=2"])


def test_a_target_has_no_phases_to_change_grey_values_by() -> None:
    with pytest.raises(InputError, match="a target has no labels"):
        load_uda_recipe("uda-auto", ["target_augmentation={kind: randomised}"])


def test_balanced_patches_and_kept_snapshots(place: Path, tmp_path: Path) -> None:
    adapted(place, tmp_path / "run", "minent", [*ONCE, "balanced_patches=true", "keep_snapshots=true"])
    kept = sorted((tmp_path / "run" / "methods" / "minent" / "fold0" / "snapshots").iterdir())
    assert [path.name for path in kept] == [f"step-{step:05d}.safetensors" for step in (0, 2)]


def test_a_loss_that_is_no_number_stops(place: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match=r"the loss is (nan|inf) at step \d"):
        adapted(
            place, tmp_path / "run", "source", [*SHORT, "optimiser.learning_rate=1e30", "optimiser.encoder_factor=1"]
        )


def test_labels_may_choose_for_a_study_and_the_run_says_so(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen = []

    def spy(domain: Domain, entry: DomainEntry, *others: Any) -> Any:
        seen.append(preparation_as(domain, entry).invert)
        return score_fields(domain, entry, *others)

    monkeypatch.setattr("microseg.train.uda.bags.score_fields", spy)
    summary = adapted(place, tmp_path / "run", "normalise", [], oracle=True, invert=True)
    assert seen and all(seen), "prepared as it was adapted to, whatever domain.yaml says"
    assert summary.adaptation is not None and summary.adaptation.oracle
    record = read_record(tmp_path / "run")
    assert record.adaptation is not None and record.adaptation.oracle


def test_training_ends_where_fractions_ran_away(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapt, "drifted", lambda *arguments: True)
    settings = ["steps=8", "batch=1", "snapshot_every=2"]
    for name in ("dacs", "source"):
        adapted(place, tmp_path / name, name, settings)
    steps = {
        name: (tmp_path / name / "methods" / name / "fold0" / "history.csv").read_text(encoding="utf-8").splitlines()
        for name in ("dacs", "source")
    }
    assert [line.split(",")[0] for line in steps["dacs"]] == ["step", "0", "2", "4"]
    assert steps["source"][-1].startswith("8,")  # the control has no target to run away on


def test_heads_and_balance_are_in_the_history(place: Path, tmp_path: Path) -> None:
    adapted(place, tmp_path / "run", "adaptsegnet", [*ONCE, "method.adversarial=0.5"])
    path = tmp_path / "run" / "methods" / "adaptsegnet" / "fold0" / "history.csv"
    row = list(csv.DictReader(path.read_text(encoding="utf-8").splitlines()))[-1]
    assert float(row["on_target"]) == pytest.approx(0.5 * float(row["target"]))
    assert row["target_auxiliary"] == "" and float(row["segmentation"]) > 0  # this network has one head


def test_in_the_control_of_intrada_pseudo_labels_teach_nothing(place: Path, tmp_path: Path) -> None:
    same = [*ONCE, "statistics=none", "augmentation={kind: extended}"]
    rates = ["optimiser.learning_rate=1e-3", "optimiser.weight_decay=1e-4", "optimiser.encoder_factor=0.3"]
    adapted(place, tmp_path / "control", "intrada", [*same, *rates, "statistics_only=true", "frozen_affine=false"])
    adapted(place, tmp_path / "source", "source", [*same, *rates, "frozen_affine=false"])
    control, source = (
        load_file(tmp_path / name / "methods" / kind / "fold0" / "last" / "step-0000002.safetensors")
        for name, kind in (("control", "intrada"), ("source", "source"))
    )
    network = [key for key in source if "discriminators" not in key]
    assert all(np.allclose(control[key], source[key], atol=1e-6) for key in network)


@pytest.mark.parametrize(("whose", "moves"), [("source", False), ("target", True)])
def test_in_the_second_round_of_intrada_all_statistics_are_the_target_s(
    whose: str, moves: bool, place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its easy tiles stand where the source's were."""
    passes: list[tuple[bool, bool]] = []
    forward = adapt._Adaptation._forward

    def watched(self: Any, tiles: Any, domain: Any) -> Any:
        before = [norm.running_mean.clone() for norm in self.norms]
        out = forward(self, tiles, domain)
        moved = any(not old.equal(norm.running_mean) for old, norm in zip(before, self.norms, strict=True))
        passes.append((domain == "source", moved))
        return out

    monkeypatch.setattr(adapt._Adaptation, "_forward", watched)
    adapted(place, tmp_path / "run", "intrada", [*ONCE, f"statistics={whose}"])
    assert [of_source for of_source, _ in passes] == [True, False] * 2
    assert [moved for _, moved in passes] == [not moves, moves, moves, moves]


def test_labels_that_are_not_there_cannot_choose(place: Path, tmp_path: Path) -> None:
    name, recipe = load_uda_recipe("uda-minent", ONCE)
    with pytest.raises(InputError, match="no labels for --oracle"):
        run_uda(
            place / "lom", place / "runs" / "s-tiny", name, recipe, tmp_path / "run", AdaptationOptions(oracle=True)
        )
    assert not (tmp_path / "run").exists()


def test_a_gain_of_any_method_stands_beside_equally_long_source_training(place: Path, tmp_path: Path) -> None:
    found = adapted(place, tmp_path / "run", "minent", ONCE, control=True).adaptation
    assert found is not None
    assert [item.name for item in found.candidates] == ["unadapted", "source", "minent"]
    assert found.candidates[1].steps == [2]
    gains = [[(gain.over, gain.criterion, gain.fields, gain.folds) for gain in item.gains] for item in found.candidates]
    assert gains[:2] == [[], [("unadapted", "flips", 3, 1)]]
    assert gains[2] == [("unadapted", "self-consistency", 3, 1), ("source", "self-consistency", 3, 1)]
    for item in found.candidates:
        assert item.estimates is not None and sum(item.estimates.emq.values()) == pytest.approx(1)
        assert sum(item.estimates.corrected.values()) == pytest.approx(1)
    assert "fractions with" in found.evidence


def test_a_run_that_was_cut_off_at_its_very_end_goes_on(place: Path, tmp_path: Path) -> None:
    """The grey curve of the target stands in run.yaml before there is a summary. The source's data have moved, too."""
    moved = tmp_path / "moved"
    shutil.copytree(place / "s", moved)
    options: dict[str, Any] = {"always": True, "source_data": moved}
    settings = ["method.intensity=histogram"]
    adapted(place, tmp_path / "run", "normalise", settings, **options)
    record = read_record(tmp_path / "run")
    assert record.adaptation is not None and record.adaptation.target.preparation.tone is not None
    assert record.domain_source == str(moved)
    (tmp_path / "run" / "summary.json").unlink()
    adapted(place, tmp_path / "run", "normalise", settings, resume=True, **options)
    assert read_record(tmp_path / "run").adaptation == record.adaptation


def test_the_command_line_from_a_bare_folder_to_an_engine_that_knows_both_domains(
    place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(place)
    settings = [part for setting in [*ONCE, "second_round=1"] for part in ("--set", setting)]
    settings += ["--workers", "1"]
    done = microseg("train", "uda", "--target", "lom", *settings)
    assert done.status == 0, done.err
    assert (
        "Fractions of the target, estimated in three ways" in done.out
        and "the source run is runs/s-tiny" in done.out
        and "--pixel-size-um 0.1266" in done.out
        and "Verdict:" in done.out
    )
    engine = tmp_path / "bagged.onnx"
    assert microseg("export", "runs/lom-auto", "--out", engine).status == 0
    shown = microseg("inspect", engine).out
    assert "synthetic-s (source)" in shown and "lom (target)" in shown
    assert "pixel size of the target: 0.1266 um (found by train uda)" in done.out
    sizes, chosen = read_manifest(engine).known_pixel_sizes, read_run(Path("runs/lom-auto"))[1].adaptation
    assert sizes is not None and chosen is not None
    # Target tiles are magnified by 0.9 to 1.1; a network that was not trained on them has not seen them.
    largest = 0.0277 / 0.6 if chosen.chosen in ("unadapted", "normalise", "source") else 0.1266 / 0.9
    assert sizes.largest_um == pytest.approx(largest, rel=1e-3)
    assert microseg("segment", "lom", "--engine", engine, "--out", tmp_path / "report").status == 0
    summary = json.loads((tmp_path / "report" / "summary.json").read_text(encoding="utf-8"))
    assert summary["fields"]["measured"] == 2
    assert microseg("evaluate", "runs/lom-auto", "s", "--as", "synthetic-s").status == 0
    assert microseg("train", "uda", "--target", "lom", *settings).status == 2
    shutil.copytree("runs/s-tiny", "runs/newer")
    (place / "runs" / "newer" / "summary.json").touch()
    (place / "runs" / "lom-auto" / "summary.json").unlink()
    again = microseg("train", "uda", "--target", "lom", *settings, "--resume")
    shutil.rmtree("runs/newer")
    assert again.status == 0, again.err  # from the run that it began with, though another is the newest now


def test_bad_input(place: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.chdir(tmp_path)
    missing = microseg("train", "uda", "--target", place / "t2")
    assert missing.status == 2 and "holds no finished supervised run" in missing.err
    nowhere = microseg("train", "uda", "--target", place / "t2", "--source", "nope")
    assert nowhere.status == 2 and "nope: does not exist. Remedy: a run folder" in nowhere.err
    unknown = microseg("train", "uda", "--target", place / "t2", "--method", "magic")
    assert unknown.status == 2 and "--method magic: no such method. Remedy: one of auto" in unknown.err
    both = microseg("train", "uda", "--target", place / "t2", "--method", "fda", "--recipe", "uda-mic")
    assert both.status == 2 and "--method fda: the recipe uda-mic has the method dacs" in both.err
    monkeypatch.chdir(place)
    moved = place / "runs" / "s-tiny" / "run.yaml"
    content = moved.read_text(encoding="utf-8")
    moved.write_text(content.replace(str(place / "s"), str(place / "gone")), encoding="utf-8")
    lost = microseg("train", "uda", "--target", "t2", "--out", tmp_path / "a")
    assert lost.status == 2 and "gone" in lost.err and "--source-data" in lost.err
    other = microseg("train", "uda", "--target", "t2", "--out", tmp_path / "b", "--source-data", "labelled")
    assert other.status == 2 and "holds other fields or labels" in other.err
    moved.write_text(content, encoding="utf-8")


def test_the_source_that_a_run_began_with_is_known(place: Path, tmp_path: Path) -> None:
    adapted(place, tmp_path / "run", "normalise", [])
    source = place / "runs" / "s-tiny"
    assert source_of_adaptation(tmp_path / "run") == source_of_adaptation(tmp_path / "run", place / "s") == source
    assert source_of_adaptation(tmp_path / "run", place / "t2") is None
    assert source_of_adaptation(source) is None and source_of_adaptation(tmp_path / "none") is None


def test_the_newest_run_of_a_domain_is_found(place: Path) -> None:
    assert newest_supervised_run(place / "runs", trained_on=place / "s") == place / "runs" / "s-tiny"
    with pytest.raises(InputError, match="no finished supervised run of"):
        newest_supervised_run(place / "runs", trained_on=place / "t2")
