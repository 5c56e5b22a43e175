"""`benchmarks.any_material`: peers that learn, folds that all arms share, results that a second call keeps."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray

from benchmarks import any_material, pixel_forest
from benchmarks.any_material_peers import Fitted, labelled_set, scored
from benchmarks.any_material_sets import CASES, Case, case_of, drawn_fields, prepared, write_subset
from benchmarks.documentation.figures_any_material import any_material as table_of_sets
from benchmarks.documentation.figures_any_material import any_material_few as table_of_few
from microseg.core.domains.domain import load_domain

Plane = NDArray[np.uint8]
RAW = pixel_forest.Setting(standardised=False, balance=0.5)


def rough_and_smooth(seed: int) -> tuple[Plane, Plane]:
    """Two phases of one mean grey: only texture tells them apart. A quarter of the field is rough, phase 1."""
    labels = np.zeros((100, 120), np.uint8)
    labels[:, :30] = 1
    noise = np.random.default_rng(seed).standard_normal(labels.shape)
    return np.clip(128 + np.where(labels == 1, 40, 4) * noise, 0, 255).astype(np.uint8), labels


def pool(seed: int, most: int = 2_000) -> pixel_forest.Pool:
    return pixel_forest.pool_of(*rough_and_smooth(seed), 2, most, np.random.default_rng(seed))


def test_a_forest_learns_texture_and_labels_large_fields_in_tiles(monkeypatch: pytest.MonkeyPatch) -> None:
    pytest.importorskip("sklearn")
    forest = pixel_forest.fit_forest([pool(0), pool(1)], RAW, seed=0, trees=10, pixels=2_000)
    image, labels = rough_and_smooth(2)
    found = forest(image)
    assert found.dtype == np.float32 and found.shape == (2, *labels.shape)
    np.testing.assert_allclose(found.sum(0), 1, atol=1e-5)
    assert (found.argmax(0) == labels).mean() > 0.97
    monkeypatch.setattr(pixel_forest, "HALO_PX", 40)
    monkeypatch.setattr(pixel_forest, "MAX_TILE_PIXELS", 100 * 110)
    assert (forest(image).argmax(0) == found.argmax(0)).mean() > 0.995


def test_pixels_are_drawn_by_area_or_evenly() -> None:
    rng = np.random.default_rng(0)
    shares = {
        balance: float(pixel_forest._drawn([pool(0), pool(1)], balance, 1_000, rng)[1].mean())
        for balance in pixel_forest.BALANCES
    }
    assert shares == pytest.approx({0.0: 0.25, 0.5: 1 / (1 + 3**0.5), 1.0: 0.5}, abs=0.01)


def test_unlabelled_pixels_and_absent_phases_teach_nothing() -> None:
    pytest.importorskip("sklearn")
    image, labels = rough_and_smooth(0)
    labels[:, 60:] = 255
    found = pixel_forest.pool_of(image, labels, 3, 500, np.random.default_rng(0))
    assert found.counts.tolist() == [3000, 3000, 0]
    assert [len(pixels) for pixels in found.pixels] == [500, 500, 0]
    forest = pixel_forest.fit_forest([found], RAW, seed=0, trees=2, pixels=500)
    assert forest(image).shape == (3, 100, 120)


def test_fields_of_different_light_are_standardised_where_other_fields_can_tell(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    pytest.importorskip("sklearn")
    monkeypatch.setattr(pixel_forest, "_TRIAL_TREES", 5)
    pools: dict[bool, list[pixel_forest.Pool]] = {True: [], False: []}
    for seed, light in enumerate((0.3, 1.0)):
        labels = rough_and_smooth(seed)[1]
        noise = np.random.default_rng(seed).standard_normal(labels.shape)
        image = np.rint(light * (120 + 80 * labels + 5 * noise)).astype(np.uint8)  # dark and bright phase
        for standard, found in pools.items():
            grey = pixel_forest.standardised(image) if standard else image
            found.append(pixel_forest.pool_of(grey, labels, 2, 300, np.random.default_rng(seed)))
    one = {standard: found[:1] for standard, found in pools.items()}
    assert pixel_forest.best_setting(one, ["a"], 0) == pixel_forest.DEFAULT
    assert pixel_forest.best_setting(pools, ["a", "a"], 0).standardised
    assert pixel_forest.best_setting({True: pools[False], False: pools[True]}, ["a", "b"], 0).standardised is False
    image = pixel_forest.standardised(np.array([[60, 60], [80, 80]], np.uint8))
    assert image.tolist() == [[83, 83], [173, 173]]


def test_the_plain_network_trains_until_its_time_is_up(monkeypatch: pytest.MonkeyPatch) -> None:
    plain_unet = pytest.importorskip("benchmarks.plain_unet")
    monkeypatch.setattr(plain_unet, "CROP_PX", 64)
    monkeypatch.setattr(plain_unet, "BATCH", 2)
    monkeypatch.setattr(plain_unet, "DECODER", (16, 8, 8))
    times = iter([0.0, 1.0, 2.0, 3.0])
    small = tuple(plane[:40] for plane in rough_and_smooth(0))
    network = plain_unet.train_plain([small, rough_and_smooth(1)], 2, 3.0, 0, lambda: next(times))
    assert network.steps == 3
    found = network(rough_and_smooth(2)[0])
    assert found.shape == (2, 100, 120)
    np.testing.assert_allclose(found.sum(0), 1, atol=1e-5)


def test_image_and_labels_of_a_crop_belong_together() -> None:
    plain_unet = pytest.importorskip("benchmarks.plain_unet")
    plane = np.arange(100 * 30, dtype=np.uint32).reshape(100, 30).astype(np.uint8)
    padded = plain_unet._at_least_a_crop(plane)
    assert padded.shape == (256, 256)
    np.testing.assert_array_equal(padded[:100, :30], plane)
    np.testing.assert_array_equal(padded[:100, 30:59], plane[:, -2::-1])
    image, labels = plain_unet._crop(padded, padded.copy(), np.random.default_rng(3))
    np.testing.assert_array_equal(image, labels)


def test_a_field_is_scored_by_the_model_that_held_it_out_and_others_by_the_mean(source: Path, unseen: Path) -> None:
    names = [field.name for field in load_domain(source).training_fields]
    data = labelled_set(source, dict(zip(names, (0, 1, 0, 1), strict=True)))
    assert data.folds == 2
    assert [field.name for field in data.seen_by(0)] == names[1::2]

    def model(ferrite: float) -> Any:
        return lambda image: np.stack([np.full(image.shape, value, np.float32) for value in (ferrite, 1 - ferrite)])

    fitted = Fitted([model(0.0), model(0.9)], 1.0, {})
    found = scored(fitted, data, source)
    predicted = [field["fractions"]["ferrite"]["predicted"] for field in found["fields"]]
    assert predicted == [0.0, 1.0, 0.0, 1.0]
    assert scored(Fitted([model(0.2), model(0.9)], 1.0, {}), data, unseen)["fractions"]["ferrite"]["predicted"] == 1.0


def test_the_folds_are_those_of_auto_else_of_another_arm_else_by_group(source: Path, tmp_path: Path) -> None:
    case = Case("tiny", source)
    names = [field.name for field in load_domain(source).training_fields]
    assert any_material.held_out_by_name(case, 0, {}) == dict(zip(names, range(4), strict=True))
    assert max(any_material.held_out_by_name(replace(case, folds=2), 0, {}).values()) == 1

    def arm(*folds: int) -> dict[str, Any]:
        return {"runs": [{"seed": 0, "held_out": dict(zip(names, folds, strict=True))}]}

    plain, auto, blocks = arm(0, 0, 1, 1), arm(0, 1, 1, 1), arm(-1, -1, -1, -1)
    assert any_material.held_out_by_name(case, 0, {"plain": plain}) == plain["runs"][0]["held_out"]
    assert any_material.held_out_by_name(case, 5, {"plain": plain, "auto": auto}) == auto["runs"][0]["held_out"]
    assert any_material.held_out_by_name(case, 0, {"auto": blocks, "plain": plain}) == plain["runs"][0]["held_out"]
    write_subset(source, names[:1], tmp_path / "one")
    with pytest.raises(SystemExit, match="has one labelled field"):
        any_material.held_out_by_name(Case("one", tmp_path / "one"), 0, {})


def test_few_fields_are_drawn_by_seed_and_written_as_a_domain(source: Path, tmp_path: Path) -> None:
    two, four = drawn_fields(source, 2, 1), drawn_fields(source, 4, 1)
    assert four[:2] == two
    assert len({tuple(drawn_fields(source, 2, seed)) for seed in range(8)}) > 1
    for names in (four, two):  # what was there is replaced
        write_subset(source, names, tmp_path / "few")
    domain = load_domain(tmp_path / "few")
    assert sorted(Path(field.name).name for field in domain.fields) == sorted(Path(name).name for name in two)
    assert [phase.name for phase in domain.phases] == ["ferrite", "lath-bainite"]
    assert domain.preparation.pixel_size_um == pytest.approx(load_domain(source).preparation.pixel_size_um)
    case = prepared(Case("few", source, labelled=2), 1, tmp_path)
    assert len(load_domain(case.source).fields) == 2


def test_a_path_is_a_set_that_cross_validation_scores(source: Path) -> None:
    case = case_of(str(source))
    assert (case.name, case.test, case.hand_made) == ("synthetic-s", None, None)
    assert case.arms == ("auto", "forest", "plain")
    assert case_of("superalloy-aged") is CASES["superalloy-aged"]


@pytest.fixture
def words(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> list[list[str]]:
    """The commands that are run; each leaves a run folder."""
    found: list[list[str]] = []

    def run(*arguments: object) -> None:
        found.append([str(argument) for argument in arguments])
        Path(found[-1][-1]).mkdir(parents=True)

    monkeypatch.setattr(any_material, "microseg", run)
    return found


def test_a_finished_training_is_kept_and_an_interrupted_one_repeated(words: list[list[str]], tmp_path: Path) -> None:
    case, run = Case("tiny", Path("domain")), tmp_path / "auto-0"
    run.mkdir()  # interrupted: it does not say how long it took
    minutes = any_material.train(case, run, 3, "--recipe", "auto", "--minutes", "2")
    assert any_material.train(case, run, 3, "--recipe", "auto", "--minutes", "2") == minutes
    expected = "train supervised domain --recipe auto --minutes 2 --seed 3 --out"
    assert words == [[*expected.split(), str(run)]]
    assert len([path for path in tmp_path.iterdir() if "interrupted" in path.name]) == 1


def test_suggested_fields_join_the_one_that_the_seed_draws(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (drawn,) = drawn_fields(source, 1, 0)
    other = next(field for field in load_domain(source).training_fields if field.name != drawn)
    commands = []

    def run(*arguments: object) -> None:
        words = [str(argument) for argument in arguments]
        commands.append(words)
        Path(words[-1]).mkdir(parents=True)
        if words[0] == "suggest":
            assert len(list(Path(words[2]).iterdir())) == 4, "all images, and nothing else"
            text = json.dumps({"fields": [{"field": other.image.name}]})
            Path(words[-1], "suggest.json").write_text(text, encoding="utf-8")

    monkeypatch.setattr(any_material, "microseg", run)
    case = any_material.with_suggested(Case("superalloy-2", source, labelled=2), 0, 5.0, tmp_path)
    assert {Path(field.name).name for field in load_domain(case.source).fields} == {Path(drawn).name, other.image.name}
    first = tmp_path / "superalloy-1"
    expected = (
        f"train supervised {first / 'labelled-0'} --recipe auto --minutes 5 --seed 0 --out {first / 'auto-5min-0'}"
    )
    assert " ".join(commands[0]) == expected
    assert commands[1][:2] == ["suggest", str(first / "auto-5min-0")] and commands[1][3:5] == ["--n", "1"]


def result(seed: int, miou: float, crack: float | None = 0.5) -> dict[str, Any]:
    return {
        "seed": seed, "budget_minutes": 30.0, "minutes": 28.0 + seed, "miou": miou, "iou": {"oxide": miou, "crack": crack},
        "fraction_error": {"oxide": 0.01, "crack": 0.02}, "folds": 5, "held_out": {},
    }  # fmt: skip


def test_rows_are_written_at_once_kept_and_averaged_over_seeds(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    kept, made = tmp_path / "rows.json", []

    def trained(case: Case, arm: str, seed: int, budget: float, run: Path, entry: Mapping[str, Any]) -> Any:
        made.append((arm, seed, run.name))
        return result(seed, 0.6 + 0.1 * seed, None if seed else 0.5)

    monkeypatch.setattr(any_material, "trained", trained)
    case = Case("coating", Path("domain"))
    for seed in (0, 2, 0):
        any_material.add_row({}, case, "forest", seed, 30.0, runs=tmp_path, kept=kept)
    assert made == [("forest", 0, "forest-30min-0"), ("forest", 2, "forest-30min-2")]
    rows = json.loads(kept.read_text(encoding="utf-8"))
    item = rows["coating"]["forest"]
    assert (item["miou"], item["minutes"], item["seed"]) == (pytest.approx(0.7), 29.0, [0, 2])
    assert item["iou"] == {"oxide": pytest.approx(0.7), "crack": 0.5}
    with pytest.raises(SystemExit, match="has a budget of 30 min, not 5"):
        any_material.add_row({}, case, "forest", 0, 5.0, runs=tmp_path, kept=kept)
    assert "0.600, 0.800" in str(list(any_material.table(rows).columns[3].cells))


def test_the_page_shows_the_arms_that_there_are() -> None:
    auto, forest = any_material.summary([result(0, 0.7)]), any_material.summary([result(0, 0.6), result(1, 0.5)])
    rows = {"coating": {"auto": auto, "forest": forest}, "superalloy-2": {"auto": forest}, "steel": {"auto": auto}}
    sets = table_of_sets(rows).splitlines()
    assert len(sets) == 4
    assert sets[2].startswith(
        "| `coating` | its test set | 0.700 |  | 0.550 (0.500 - 0.600) |  | oxide 0.700, crack 0.500 | 2.00 |"
    )
    assert sets[2].endswith("| 2.00 | 28 / - / 28 / - |")
    assert sets[3].startswith("| `steel` | cross-validation |")
    assert table_of_few(rows).splitlines()[2] == "| 2 | 0.550 (0.500 - 0.600) |  |  |"
    assert (table_of_sets({}), table_of_few({})) == ("", "")


def test_a_forest_is_trained_and_scored_on_the_folds_of_the_set(
    source: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    pytest.importorskip("sklearn")
    monkeypatch.setattr(pixel_forest, "PIXELS", 2_000)
    monkeypatch.setattr(pixel_forest, "_TRIAL_TREES", 2)
    monkeypatch.setattr(pixel_forest, "TREES", 10)
    found = any_material.trained(Case("tiny", source, folds=2), "forest", 0, 1.0, tmp_path / "run", {})
    assert 0.3 < found["miou"] < 1 and found["cross_validation_miou"] == found["miou"]
    assert found["folds"] == 2 and sorted(found["held_out"].values()) == [0, 0, 1, 1]
    assert set(found["iou"]) == set(found["fraction_error"]) == {"ferrite", "lath-bainite"}
    assert len(found["settings"]) == 2 and len(found["fields"]) == 4
