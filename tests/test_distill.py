"""`microseg distill`: a bag of two tiny folds to one network of two heads, and what the other commands make of it."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
import tifffile
import torch
from numpy.typing import NDArray
from safetensors.numpy import load_file

from microseg.core.errors import InputError, TrainingError
from microseg.core.schemas import tolerance
from microseg.core.schemas.bag import TrainingField
from microseg.core.schemas.preparation import DomainEntry, Preparation
from microseg.core.schemas.run import STUDENT_FOLDER, AdaptationRecord, RunRecord, RunSummary, read_record, read_run
from microseg.core.system.files import sha256_of, write_yaml
from microseg.export.onnx_graph import fold_logits
from microseg.models.build import build_network, load_folds
from microseg.runtime import open_engine, read_manifest
from microseg.train.analysis.evaluate import evaluate_run
from microseg.train.common.checkpoint import save_model
from microseg.train.common.datasets import LabelledField
from microseg.train.common.parallel import stopping
from microseg.train.common.prediction import predict_field
from microseg.train.common.run_folder import load_network, newest_supervised_run
from microseg.train.common.weight_average import WeightAverage
from microseg.train.distillation import command as distill_command
from microseg.train.distillation import loop as loop
from microseg.train.distillation.calibration import set_fractions, set_heads_apart
from microseg.train.distillation.command import run_distill
from microseg.train.distillation.loop import StudentTraining, distillation_loss, new_student, train_student
from microseg.train.distillation.recipe import DistillRecipe, settled
from microseg.train.distillation.teacher import TeacherPrediction, balanced, predict_fields, read_distillation_set
from microseg.train.recipe_files import load_distill_recipe
from tests.chain import microseg, tiny_recipe
from tests.plans import Silent, needs_rtx

NETWORKS: dict[str, dict[str, Any]] = {
    "unet": {"kind": "unet", "decoder_channels": [16, 8, 8]},
    "deeplabv2": {"kind": "deeplabv2", "aspp_branches": 2, "auxiliary_loss": 0.0},
}

SHORT = ["steps=4", "batch=2", "validate_every=2", "ema_decay=0.8"]


@pytest.fixture(scope="module")
def bare(unseen: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The images of `unseen` without labels."""
    folder = tmp_path_factory.mktemp("bare") / "lot7"
    shutil.copytree(unseen / "images", folder)
    return folder


def _distill(bag: Path, domains: list[Path], out: Path, *settings: str, **options: Any) -> RunSummary:
    name, recipe = load_distill_recipe("distill", [*SHORT, *settings])
    return run_distill(bag, domains, name, recipe, out, **({"resume": False} | options))


@pytest.fixture(scope="module")
def student(trained: Path, source: Path, bare: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A student of `trained` that has learned a little on its fields and on unlabelled ones."""
    out = tmp_path_factory.mktemp("students") / "student"
    _distill(trained, [source, bare], out, "steps=8", "validate_every=4", "optimiser.learning_rate=5e-3")
    return out


@pytest.fixture(scope="module")
def engine(student: Path) -> Path:
    """Through the command line and the gate."""
    path = student.with_name("student.onnx")
    done = microseg("export", student, "--out", path)
    assert done.status == 0, done.err
    return path


def test_a_student_is_a_run_that_says_what_it_is(student: Path, trained: Path, source: Path, bare: Path) -> None:
    (record, summary), (bag_record, bag) = read_run(student), read_run(trained)
    assert record.distillation is not None and summary.distillation is not None
    assert record.distillation.weights_sha256 == [fold.weights_sha256 for fold in bag.folds]
    assert [item.prepared_as for item in record.distillation.domains] == ["synthetic-s", "synthetic-s"]
    assert record.domains == bag_record.domains and record.grid == bag_record.grid
    assert record.trained_pixel_sizes == bag_record.trained_pixel_sizes is not None
    learned = {field.sha256 for item in record.distillation.domains for field in item.fields}
    assert len(record.distillation.compared) == 1 and learned.isdisjoint(record.distillation.compared)
    assert {sha256_of(path) for path in bare.iterdir()} <= learned
    # Whatever the bag or the student learned from is held out by nobody.
    assert {field.sha256 for field in record.fields} == learned | {field.sha256 for field in bag_record.fields}
    assert {field.fold for field in record.fields} == {-1}
    assert [fold.miou for fold in summary.folds] == [fold.miou for fold in bag.folds]
    weights = sha256_of(student / STUDENT_FOLDER / "model.safetensors")
    assert {fold.weights_sha256 for fold in summary.folds} == {weights}
    assert summary.distillation.learned == 5 and len(summary.distillation.compared) == 1
    assert (student / "history.png").stat().st_size > 1000
    assert len((student / STUDENT_FOLDER / "history.csv").read_text(encoding="utf-8").splitlines()) == 1 + 2


def test_each_head_learns_its_fold(trained: Path, bare: Path, tmp_path: Path) -> None:
    """A bag of fold 0 and its opposite: a student begins as fold 0 twice, and one of its heads has to turn round."""
    record, start = read_record(trained), tmp_path / "start.safetensors"
    same, opposite = (load_network(tiny_recipe(), 2, trained / "fold0" / "model.safetensors") for _ in range(2))
    with torch.no_grad():
        for network, factor in ((same, 10), (opposite, -10)):  # ten times as sure as six steps of training made it
            for weight in network.get_submodule("head").parameters():
                weight.mul_(factor)
    save_model(start, same.state_dict())
    lesson, _ = read_distillation_set(bare, record, None, compared=1, most=9, seed=0)
    asked = predict_fields([same, opposite], lesson.learned, record)
    given = {"task": "distill", "augmentation": {"kind": "none"}, "steps": 30, "validate_every": 30, "bag_weight": 0}
    rates = {"learning_rate": 2e-2, "encoder_factor": 1e-3}
    recipe = settled(DistillRecipe.model_validate(given | {"optimiser": rates, "batch": 2}), tiny_recipe())
    before = loop.compare(new_student(recipe, 2, 2, start), asked, 2, record.halo_px)
    assert before.heads[0] > 0.999 and before.heads[1] < 0.01 and np.abs(before.spreads).max() == 0
    fields = [answer.field for answer in asked]
    taught, _ = train_student(
        StudentTraining(recipe, 2, [same, opposite], fields, asked, start, record.halo_px, tmp_path)
    )
    first, second, (mine, turned) = (
        predict_field([network], fields[0].image, record.stride, record.halo_px)[0]
        for network in (same, opposite, taught)
    )
    apart = np.abs(first - second).mean()
    assert apart > 0.2
    assert np.abs(mine - first).mean() < 0.5 * apart and np.abs(turned - second).mean() < 0.5 * apart


@pytest.mark.parametrize("kind", ["unet", "deeplabv2"])
def test_heads_spread_as_the_folds_do_and_decide_as_before(kind: str, bare: Path, trained: Path) -> None:
    """Folds twice as far apart as the heads: the factor is found, and the mean of the logits stays."""
    record = read_record(trained)
    torch.manual_seed(0)
    network = build_network({"name": "tf_efficientnet_lite0", "weights": "none"}, NETWORKS[kind], 2, heads=3)
    (layer, *_) = [module for module in network.last.modules() if isinstance(module, torch.nn.Conv2d)]
    with torch.no_grad():
        assert layer.bias is not None
        layer.bias += torch.tensor([0.0, 0.1, 0.05, 0.0, -0.1, 0.0])
    lesson, _ = read_distillation_set(bare, record, None, compared=1, most=3, seed=0)
    asked = []
    for field in lesson.learned:
        soft, _ = predict_field([network.eval()], field.image, network.stride, record.halo_px)
        logits = np.log(soft)
        votes = (logits.mean(0) + 2 * (logits - logits.mean(0))).argmax(1).astype(np.uint8)
        asked.append(TeacherPrediction(field, votes))
    tile = torch.from_numpy(lesson.learned[0].image[:64, :64]).float()[None, None]
    before = torch.stack([out.logits for out in network.of_heads(tile)])
    assert set_heads_apart(network, asked, record.halo_px) == pytest.approx(2, rel=0.07)
    after = torch.stack([out.logits for out in network.of_heads(tile)])
    assert torch.allclose(after.mean(0), before.mean(0), atol=1e-5)
    found = loop.compare(network, asked, 2, record.halo_px)
    assert found.bag_spreads.mean() > 0.001
    assert found.spreads.mean() == pytest.approx(found.bag_spreads.mean(), rel=0.1)


@pytest.mark.parametrize("kind", ["unet", "deeplabv2"])
def test_a_student_that_leans_to_a_phase_is_set_upright(kind: str, bare: Path, trained: Path) -> None:
    record = read_record(trained)
    torch.manual_seed(0)
    network = build_network({"name": "tf_efficientnet_lite0", "weights": "none"}, NETWORKS[kind], 3, heads=2).eval()
    lesson, _ = read_distillation_set(bare, record, None, compared=1, most=3, seed=0)

    def bag_of(field: LabelledField) -> NDArray[np.uint8]:
        soft, _ = predict_field([network], field.image, network.stride, record.halo_px)
        return np.asarray(soft.mean(0).argmax(0), np.uint8)

    # Two logits apart by the same over all phases would leave some of them empty.
    soft, _ = predict_field([network], lesson.learned[0].image, network.stride, record.halo_px)
    network.add_to_logits((-np.median(np.log(soft), axis=(0, 2, 3))).tolist())
    asked = [
        TeacherPrediction(field.relabelled(bag_of(field)), np.zeros((2, 1, 1), np.uint8)) for field in lesson.learned
    ]
    leaning = [0.0, 0.02, -0.01]
    network.add_to_logits(leaning)

    def points() -> float:
        found = np.concatenate([bag_of(field).ravel() for field in lesson.learned])
        wanted = np.concatenate([item.field.labels.ravel() for item in asked])
        return float(
            100 * np.abs(np.bincount(found, minlength=3) - np.bincount(wanted, minlength=3)).max() / wanted.size
        )

    assert points() > 0.5
    added = set_fractions(network, asked, record.halo_px)
    np.testing.assert_allclose(added, np.negative(leaning), atol=0.002)
    assert points() < 0.1


def test_a_student_that_was_cut_off_ends_as_one_that_was_not(
    trained: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    _distill(trained, [source], tmp_path / "whole")
    update = WeightAverage.update

    def is_stopped_in_the_third_step(average: WeightAverage, network: torch.nn.Module, step: int) -> None:
        update(average, network, step)
        if step == 2:
            monkeypatch.setattr(stopping.StopRequest, "made", True)

    monkeypatch.setattr(WeightAverage, "update", is_stopped_in_the_third_step)
    with pytest.raises(KeyboardInterrupt):
        _distill(trained, [source], tmp_path / "cut")
    monkeypatch.undo()
    assert not (tmp_path / "cut" / "summary.json").exists()
    cut = _distill(trained, [source], tmp_path / "cut", resume=True)
    whole = read_run(tmp_path / "whole")[1]
    assert cut.model_copy(update={"seconds": 0.0}) == whole.model_copy(update={"seconds": 0.0})
    first, second = (load_file(tmp_path / name / STUDENT_FOLDER / "model.safetensors") for name in ("whole", "cut"))
    assert all(np.array_equal(first[key], second[key]) for key in first)
    with pytest.raises(InputError, match="holds a run with another recipe"):
        _distill(trained, [source], tmp_path / "cut", "steps=5", resume=True)


def test_nobody_is_told_that_a_learned_field_is_unseen(student: Path, source: Path, unseen: Path, engine: Path) -> None:
    for domain in (source, unseen):  # the bag's own labelled fields, and the unlabelled ones, labelled here
        assert {field["seen_in_training"] for field in evaluate_run(student, domain)["fields"]} == {True}
    shown = microseg("evaluate", engine, source).out
    assert "fields were seen in training" in shown and "fold 1" in shown


def test_its_engine_votes_by_head_at_the_cost_of_one_network(
    engine: Path, exported: Path, student: Path, source: Path
) -> None:
    model, bag = onnx.load(engine), onnx.load(exported)
    assert len(fold_logits(model)) == 1  # both heads in one
    convolutions = [sum(node.op_type == "Conv" for node in m.graph.node) for m in (model, bag)]
    assert 2 * convolutions[0] == convolutions[1]
    manifest = read_manifest(engine)
    assert len(manifest.folds) == len(manifest.fingerprints) == 2
    assert manifest.distillation == read_run(student)[1].distillation
    with open_engine(engine, 1) as opened:
        images = [tifffile.imread(path) for path in sorted((source / "images").iterdir())[:2]]
        pixels = np.stack([image[None, :128, :160] for image in images])
        found = opened.run(pixels, features=True, probability=True)
    assert found.votes.shape == (2, 2, 128, 160) and found.features is not None and found.features.shape[:2] == (2, 2)
    assert (found.votes[:, 0] != found.votes[:, 1]).any()
    (network,) = load_folds(student, *read_run(student))
    with torch.inference_mode():
        heads = [out.logits.argmax(1).numpy() for out in network.of_heads(torch.from_numpy(pixels))]
    assert (found.votes == np.stack(heads, 1)).mean() > 0.999
    shown = microseg("inspect", engine).out
    assert "mIoU on held-out fields, of the bag" in shown
    assert "one network with 2 heads, learned from the bag run" in shown


def test_the_station_and_explain_take_it(
    engine: Path, student: Path, bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)  # `verify` leaves its record where it is called
    assert microseg("verify", engine).status == 0
    assert microseg("segment", bare, "--engine", engine, "--out", tmp_path / "report").status == 0
    assert "2 of the measured fields were used to train this engine" in (
        tmp_path / "report" / "summary.json"
    ).read_text("utf-8")
    assert "folds of the bag run" in (tmp_path / "report" / "report.html").read_text("utf-8")
    image = sorted(bare.iterdir())[0]
    done = microseg("explain", student, image, "--out", tmp_path / "cam", "--fold", "1")
    assert done.status == 0, done.err


@needs_rtx
def test_it_becomes_smaller_engines_and_plans(
    engine: Path, student: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    from microseg.core.schemas.tolerance import Limit
    from microseg.export import onnx_export as module
    from microseg.export.onnx_export import export_run
    from microseg.export.tensorrt.plan import plan_of_engine
    from microseg.export.torch_graph import bag as graph

    monkeypatch.setattr(graph, "build_onnx", lambda networks, path: shutil.copyfile(engine, path))
    monkeypatch.setattr(module, "measure_bytes_per_pixel", lambda path, stride: 100.0)
    # A few steps of training leave logits that hardly differ: rounding decides many pixels otherwise.
    for precision in ("fp16", "int8"):
        monkeypatch.setitem(tolerance.LIMITS, precision, Limit(0.5, 20.0, 5.0))
    assert export_run(student, tmp_path / "half.onnx", precision="fp16").distillation is not None
    export_run(student, tmp_path / "int8.onnx", precision="int8", symmetric=True)
    profile = tmp_path / "small.yaml"
    write_yaml(
        profile,
        {
            "flavour": "tensorrt_rtx",
            "tile_px": {"min": 64, "opt": 128, "max": 192},
            "batch": {"min": 1, "opt": 1, "max": 2},
        },
    )
    for name in ("half", "int8"):
        plan = plan_of_engine(tmp_path / f"{name}.onnx", tmp_path / f"{name}.plan", str(profile), Silent())
        assert plan.plan is not None and "votes" in plan.plan.outputs and len(plan.folds) == 2


def test_a_domain_is_prepared_as_the_bags_domain_that_it_belongs_to(
    trained: Path, source: Path, unseen: Path, bare: Path
) -> None:
    record = read_record(trained)

    def prepared_as(path: Path, of: RunRecord, name: str | None = None) -> tuple[str, str]:
        lesson, why = read_distillation_set(path, of, name, compared=1, most=9, seed=0)
        return lesson.entry.name, why

    assert prepared_as(bare, record) == ("synthetic-s", "the bag's only domain")
    target = DomainEntry(name="lom", role="target", preparation=Preparation(invert=True, pixel_size_um=0.0277))
    fields = [TrainingField(name="a", sha256=sha256_of(sorted(bare.iterdir())[0]), group="a", fold=-1)]
    adaptation = AdaptationRecord(
        target=target, target_source="gone", fields=fields, method="dacs", recipe={}, source_run="gone"
    )
    adapted = record.model_copy(update={"adaptation": adaptation})
    assert prepared_as(bare, adapted) == ("lom", "the bag was trained on its fields")
    assert prepared_as(source, adapted) == ("synthetic-s", "the bag was trained on its fields")
    assert prepared_as(source, adapted, "lom") == ("lom", "--as")
    other = record.model_copy(update={"adaptation": adaptation.model_copy(update={"fields": []})})
    assert prepared_as(unseen, other) == ("synthetic-s", "the same name")
    continued = record.model_copy(update={"earlier_domains": [target]})
    assert prepared_as(source, continued) == ("synthetic-s", "the same name")
    with pytest.raises(InputError, match=r"none of the bag's domains \('synthetic-s', 'lom'\).*--as NAME"):
        prepared_as(bare, other)
    upright, inverted = (
        read_distillation_set(bare, adapted, name, compared=1, most=9, seed=0)[0].learned[0].image
        for name in ("synthetic-s", "lom")
    )
    assert np.array_equal(upright, 255 - inverted)


def test_masks_are_not_opened(trained: Path, source: Path, tmp_path: Path) -> None:
    shutil.copytree(source, tmp_path / "broken")
    for mask in (tmp_path / "broken" / "masks").iterdir():
        mask.write_bytes(b"opened")  # reading this raises
    assert (
        len(
            read_distillation_set(tmp_path / "broken", read_record(trained), None, compared=1, most=3, seed=0)[
                0
            ].learned
        )
        == 2
    )


def test_the_loss_is_zero_where_the_student_says_what_the_bag_says() -> None:
    logits = torch.randn(2, 3, 4, 5, 5, generator=torch.Generator().manual_seed(0))
    taught = logits.softmax(2)
    assert abs(float(distillation_loss(logits, taught, 1.0))) < 1e-6
    assert float(distillation_loss(logits.roll(1, 1), taught, 0.0)) > 0.1, "heads learn their own folds"
    assert (
        abs(
            float(distillation_loss(logits.roll(1, 1), taught, 1.0) - distillation_loss(logits.roll(1, 1), taught, 0.0))
        )
        < 1e-6
    )
    certain = torch.nn.functional.one_hot(taught.argmax(2), 4).movedim(-1, 2).float()
    assert torch.isfinite(distillation_loss(logits, certain, 1.0)), "0 log 0 is 0"


def test_what_is_null_is_the_bags() -> None:
    bag = tiny_recipe(network={"decoder_channels": [64, 48, 32, 24, 16]}, augmentation={"kind": "basic"})
    found = settled(DistillRecipe(task="distill", narrow=0.6), bag)
    assert found.network is not None and found.network.kind == "unet"
    assert found.network.decoder_channels == (64, 48, 32, 16, 16)
    assert found.augmentation == bag.augmentation
    assert (found.encoder, found.tile, found.start_fold) == (bag.encoder, bag.tile, 0)
    other = DistillRecipe.model_validate({"task": "distill", "encoder": {"name": "resnet18", "weights": "none"}})
    assert settled(other, bag).start_fold is None, "its weights would not fit"


def test_a_narrower_student_begins_with_the_first_channels(trained: Path) -> None:
    start = trained / "fold0" / "model.safetensors"
    recipe = DistillRecipe.model_validate({"task": "distill", "network": {"decoder_channels": [16, 8, 4]}})
    own, fold = new_student(settled(recipe, tiny_recipe()), 2, 3, start).state_dict(), load_file(start)
    for key, value in fold.items():
        if key.startswith(("encoder.", "decoder.blocks.0.")):
            assert np.array_equal(own[key].numpy(), value)
    last = "decoder.blocks.2.conv1.0.weight"
    assert len(fold[last]) == 8 and np.array_equal(own[last].numpy(), fold[last][:4])
    assert np.array_equal(own["head.0.weight"].numpy(), np.tile(fold["head.0.weight"][:, :4], (3, 1, 1, 1)))


def test_small_domains_count_as_much_as_large_ones(trained: Path, source: Path, bare: Path) -> None:
    record = read_record(trained)
    large, small = (
        read_distillation_set(path, record, None, compared=1, most=most, seed=0)[0].learned
        for path, most in ((source, 9), (bare, 1))
    )
    fields = balanced([large, small])
    assert len(fields) == 6 and sum(field.sha256 == small[0].sha256 for field in fields) == 3


def test_a_loss_that_is_no_number_stops(trained: Path, source: Path, tmp_path: Path) -> None:
    with pytest.raises(TrainingError, match="the loss is"):
        _distill(trained, [source], tmp_path / "run", "optimiser.learning_rate=1e30", "optimiser.encoder_factor=1")


def test_bad_input(
    student: Path, trained: Path, source: Path, bare: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def refused(*arguments: object) -> str:
        done = microseg(*arguments)
        assert done.status == 2, done.err
        return done.err

    out = ("--out", tmp_path / "out")
    unfinished = tmp_path / "unfinished"
    shutil.copytree(trained, unfinished)
    (unfinished / "summary.json").unlink()
    assert "training is not finished" in refused("distill", unfinished, source, *out)
    (tmp_path / "empty").mkdir()
    assert "empty" in refused("distill", trained, tmp_path / "empty", *out)
    shutil.copytree(source, tmp_path / "other")
    described = (tmp_path / "other" / "domain.yaml").read_text("utf-8").replace("lath-bainite", "pearlite")
    (tmp_path / "other" / "domain.yaml").write_text(described, "utf-8")
    assert "names the phase 'pearlite'" in refused("distill", trained, tmp_path / "other", *out)
    assert "exists. Remedy: --resume" in refused("distill", trained, source, "--out", student)
    assert "--as 'nowhere': the run knows no such domain. Remedy: one of 'synthetic-s'" in refused(
        "distill", trained, source, "--as", "nowhere", *out
    )
    assert "3 names for 1 domains" in refused("distill", trained, source, *["--as", "a"] * 3, *out)
    assert "has the folds 0 to 1" in refused("distill", trained, source, "--set", "start_fold=7", *out)
    assert "recipe of `train supervised`" in refused("distill", trained, source, "--recipe", "synthetic", *out)
    assert "recipe of `distill`" in refused("train", "supervised", source, "--recipe", "distill", *out)
    assert not (tmp_path / "out").exists()
    for command in (
        ("distill", student, source),
        ("train", "supervised", source, "--init", student),
        ("train", "uda", "--target", bare, "--source", student),
    ):
        assert f"is a student (`distill`). Remedy: give its bag, {trained.resolve()}" in refused(*command, *out)
    shutil.copytree(student, tmp_path / "runs" / "student")
    with pytest.raises(InputError, match="holds no finished supervised run"):
        newest_supervised_run(tmp_path / "runs")


def test_the_command_line_shows_the_student_beside_its_bag(
    trained: Path, source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings = [part for setting in SHORT for part in ("--set", setting)]
    command = ("distill", trained, source, "--out", tmp_path / "student", *settings)
    done = microseg(*command)
    for part in (
        "prepared as 'synthetic-s' (the bag was trained on its fields); 3 fields to learn from, 1 to compare on",
        "Student compared with its bag on 1 field that", "spread of the heads", "of the heads with the folds",
    ):  # fmt: skip
        assert part in done.out
    measured = read_run(tmp_path / "student")[1].distillation
    assert measured is not None
    # What is far from its bag is not to be exported.
    is_far = max(measured.points.values()) > 0.5
    assert ("differs from the bag's by" in done.out) == is_far
    assert ("Next: microseg export" in done.out) != is_far
    assert done.status == (4 if is_far else 0), done.err
    for limit, status in ((-1.0, 4), (100.0, 0)):
        monkeypatch.setattr(distill_command, "FAR_POINTS", limit)
        again = microseg(*command, "--resume")
        assert again.status == status and "is already finished" in again.out
