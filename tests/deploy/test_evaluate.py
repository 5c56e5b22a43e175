"""`evaluate ENGINE` with an engine whose answers are known."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
import yaml
from onnx import numpy_helper
from PIL import Image

from microseg.core.errors import InputError
from microseg.core.schemas.bag import TrainingField
from microseg.core.system.files import sha256_of
from microseg.deploy import evaluate as module
from microseg.deploy.evaluate import evaluate_engine
from microseg.runtime import EngineFile, read_manifest
from microseg.runtime.engine_metadata import manifest_entries, read_metadata
from tests.engines import write_threshold_engine, write_with_metadata

PHASES = [{"name": "ferrite", "value": 0}, {"name": "bainite", "value": 1}]


@pytest.fixture
def domain(tmp_path: Path) -> Path:
    """Two fields of 60 x 90 px with a dark and a bright half; the engine's 3 x 3 mean blurs their border."""
    folder = tmp_path / "domain"
    for index, edge in enumerate((30, 60)):
        labels = np.zeros((60, 90), np.uint8)
        labels[:, edge:] = 1
        for name, pixels in (("images", 40 + 170 * labels), ("masks", labels)):
            (folder / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels.astype(np.uint8)).save(folder / name / f"{index}.png")
    (folder / "domain.yaml").write_text(yaml.safe_dump({"phases": PHASES}), encoding="utf-8")
    return folder


def test_scores_bag_and_folds_of_whole_fields(tiny_engine: Path, domain: Path) -> None:
    told: list[str] = []
    result = evaluate_engine(tiny_engine, domain, None, told.append)
    assert result["miou"] > 0.95
    assert result["fractions"]["bainite"]["true"] == pytest.approx(0.5)
    assert [fold["fields"] for fold in result["folds"]["each"]] == [2, 2]
    assert not any(field["seen_in_training"] for field in result["fields"])
    assert told == ["0.png", "1.png"]


def test_tiles_give_what_one_pass_gives(tiny_engine: Path, domain: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    whole = evaluate_engine(tiny_engine, domain)
    monkeypatch.setattr(module, "max_tile_pixels", lambda manifest, engine_bytes, memory_mb: 32 * 32)
    assert evaluate_engine(tiny_engine, domain) == whole


def test_fields_of_the_training_set_are_told(tiny_engine: Path, domain: Path, tmp_path: Path) -> None:
    known = TrainingField(name="0.png", sha256=sha256_of(domain / "images" / "0.png"), group="0", fold=0)
    manifest = read_manifest(tiny_engine).model_copy(update={"training_fields": [known]})
    engine = write_with_metadata(tmp_path / "known.onnx", onnx.load(tiny_engine), manifest_entries(manifest))
    assert [field["seen_in_training"] for field in evaluate_engine(engine, domain)["fields"]] == [True, False]


def test_a_changed_engine_is_not_scored(tiny_engine: Path, domain: Path, tmp_path: Path) -> None:
    model = onnx.load(tiny_engine)
    names = {tensor.name: tensor for tensor in model.graph.initializer}
    first, second = (numpy_helper.to_array(names[f"bias{fold}"]) for fold in (0, 1))
    for fold, values in ((0, second), (1, first)):
        names[f"bias{fold}"].CopyFrom(numpy_helper.from_array(values, f"bias{fold}"))
    swapped = write_with_metadata(tmp_path / "swapped.onnx", model, read_metadata(tiny_engine))
    with pytest.raises(InputError, match="damaged or changed"):
        evaluate_engine(swapped, domain)


def test_an_engine_replaced_between_its_hash_and_its_network_is_not_scored(
    domain: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    engine = write_threshold_engine(tmp_path / "e.onnx")

    require = EngineFile.require_intact

    def replaced(file: EngineFile) -> EngineFile:
        found = require(file)
        write_threshold_engine(file.path, thresholds=((0.1,), (0.1,)))
        return found

    monkeypatch.setattr(EngineFile, "require_intact", replaced)
    with pytest.raises(InputError, match=r"e\.onnx: changed while it was read. Remedy: repeat the command"):
        evaluate_engine(engine, domain)


def test_as_picks_the_preparation(tiny_engine: Path, domain: Path) -> None:
    assert evaluate_engine(tiny_engine, domain, "dark")["miou"] < 0.05


def test_what_the_domain_states_wins(tiny_engine: Path, domain: Path) -> None:
    (domain / "domain.yaml").write_text(yaml.safe_dump({"phases": PHASES, "invert": False}), encoding="utf-8")
    assert evaluate_engine(tiny_engine, domain, "dark")["miou"] > 0.95


def test_an_unknown_name_lists_the_known_ones(tiny_engine: Path, domain: Path) -> None:
    with pytest.raises(
        InputError, match=r"--as 'lom': the engine knows no such domain. Remedy: one of 'bright', 'dark'"
    ):
        evaluate_engine(tiny_engine, domain, "lom")
