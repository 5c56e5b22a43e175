"""The acceptance test of an installation, on engines that are right and on engines that are not."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from numpy.typing import NDArray
from onnx import numpy_helper
from PIL import Image

from microseg.core.errors import InputError
from microseg.core.schemas.bag import Distillation, PhaseInfo
from microseg.core.schemas.keys import MANIFEST_SHA256_KEY, REFERENCE_KEY
from microseg.deploy.acceptance.verify import VerifyOptions
from microseg.deploy.acceptance.verify_record import VerifyRecord
from microseg.runtime import EngineFile, EngineOutput, open_engine, read_manifest
from microseg.runtime.engine_metadata import append_metadata, manifest_entries, read_metadata
from microseg.runtime.openvino.engine import OpenVinoEngine
from tests.deploy.conftest import micrograph
from tests.engines import rewrite_manifest, with_reference, write_threshold_engine, write_with_metadata
from tests.verification import opens, verify


@pytest.fixture
def engine(tiny_engine: Path, tmp_path: Path) -> Path:
    """The tiny engine with reference tiles."""
    return with_reference(tiny_engine, tmp_path / "engine.onnx")


def markdown(content: dict[str, Any]) -> str:
    return VerifyRecord.model_validate(content).markdown()


def failed(content: dict[str, Any]) -> list[str]:
    assert content["passed"] == all(check["passed"] for check in content["checks"])
    return [check["check"] for check in content["checks"] if not check["passed"]]


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_a_sound_installation(engine: Path, runtime: Any) -> None:
    content = verify(VerifyOptions(engine, runtime=runtime, threads=1))
    assert failed(content) == []
    assert content["runtime"]["name"] == runtime and content["runtime"]["threads"] == 1
    assert content["engine"]["model_sha256"] == EngineFile(engine).hashes.network
    assert content["machine"]["processors"] >= 1 and content["date"].startswith("20")
    names = [check["check"] for check in content["checks"]]
    assert {"network's hash", "manifest", "provider", "probabilities", "reference tiles: labels"} <= set(names)
    assert {"reference tiles: ferrite", "reference tiles: bainite", "reference tiles: votes of the folds"} <= set(names)
    json.dumps(content, allow_nan=False)
    page = markdown(content)
    assert page.startswith("# engine.onnx: passed") and runtime in page and page.count("| ok |") == len(names)


def test_what_segment_runs_is_compared_and_not_only_the_network_with_every_output(
    engine: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = OpenVinoEngine.run

    def kept_wrongly(self: OpenVinoEngine, tiles: NDArray[np.uint8], **wanted: bool) -> EngineOutput:
        found = run(self, tiles, **wanted)
        return found if any(wanted.values()) else replace(found, labels=1 - found.labels)

    monkeypatch.setattr(OpenVinoEngine, "run", kept_wrongly)
    content = verify(VerifyOptions(engine, runtime="openvino", threads=1))
    assert "reference tiles: labels" in failed(content) and "probabilities" not in failed(content)


def test_an_engine_replaced_meanwhile_is_no_verified_one(engine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def replaced(file: EngineFile) -> bool:
        found = file.hashes.network == file.manifest.network_sha256
        write_threshold_engine(file.path, thresholds=((0.1,), (0.1,)))
        return found

    monkeypatch.setattr(EngineFile, "is_network_intact", property(replaced))
    with pytest.raises(InputError, match=r"engine\.onnx: changed while it was read. Remedy: repeat"):
        verify(VerifyOptions(engine, threads=1))


def test_real_engines_carry_reference_tiles(exported: Path) -> None:
    content = verify(VerifyOptions(exported, threads=1))
    assert failed(content) == []
    assert content["reference"]["origin"] == "synthetic"
    # A network that hardly learned labels noisily, and then fewer tiles fit into the limit.
    assert 1 <= content["reference"]["tiles"] <= 3
    assert len(read_metadata(exported)[REFERENCE_KEY]) < 300_000


def test_swapped_weights_of_one_fold(exported: Path, tmp_path: Path) -> None:
    """A fold's tensor of another network, metadata untouched: nothing is run."""
    model = onnx.load(exported)
    large = max(model.graph.initializer, key=lambda tensor: len(tensor.raw_data))
    large.CopyFrom(numpy_helper.from_array(-numpy_helper.to_array(large), large.name))
    swapped = write_with_metadata(tmp_path / "swapped.onnx", model, read_metadata(exported))
    content = verify(VerifyOptions(swapped))
    assert failed(content) == ["network's hash"]
    assert content["runtime"] is None and "**FAILED**" in markdown(content)


def test_a_manifest_changed_by_hand(engine: Path, tmp_path: Path) -> None:
    phases = read_manifest(engine).phases
    swapped = [PhaseInfo(name=phases[1].name, color=phases[0].color), PhaseInfo(name=phases[0].name, color="#000000")]
    changed = rewrite_manifest(engine, tmp_path / "changed.onnx", phases=swapped)
    told = manifest_entries(read_manifest(engine))[MANIFEST_SHA256_KEY]
    for key, text in ((REFERENCE_KEY, read_metadata(engine)[REFERENCE_KEY]), (MANIFEST_SHA256_KEY, told)):
        append_metadata(changed, key, text)
    assert failed(verify(VerifyOptions(changed))) == ["manifest"]
    assert failed(verify(VerifyOptions(changed, against=engine))) == ["manifest", "comparison"], "a record all the same"
    with pytest.raises(InputError, match=r"changed\.onnx: its manifest is not the one that was exported"):
        verify(VerifyOptions(engine, against=changed))


def test_an_installation_that_computes_otherwise(engine: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from microseg.runtime.onnx_engine import OnnxEngine

    real = OnnxEngine.run

    def black(self: OnnxEngine, tiles: NDArray[np.uint8], **options: Any) -> Any:
        found = real(self, tiles, **options)
        found.labels[:] = 0
        if found.probability is not None:
            found.probability[0, 0, 0, 0] = np.nan
        return found

    monkeypatch.setattr(OnnxEngine, "run", black)
    assert failed(verify(VerifyOptions(engine))) == [
        "probabilities", "reference tiles: labels", "reference tiles: ferrite", "reference tiles: bainite",
    ]  # fmt: skip


def test_tiles_of_another_engine(engine: Path, tmp_path: Path) -> None:
    other = with_reference(write_threshold_engine(tmp_path / "o.onnx", [(0.3,), (0.35,)]), tmp_path / "other.onnx")
    append_metadata(engine, REFERENCE_KEY, read_metadata(other)[REFERENCE_KEY])
    assert "reference tiles are of this network" in failed(verify(VerifyOptions(engine)))


def test_nothing_to_compare_with(tiny_engine: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="holds no reference tiles"):
        verify(VerifyOptions(tiny_engine))
    other = write_threshold_engine(tmp_path / "other.onnx")
    with pytest.raises(InputError, match="no reference tiles either"):
        verify(VerifyOptions(tiny_engine, against=other))


def test_against_another_engine(tiny_engine: Path, engine: Path, wafer: Callable[..., Path], tmp_path: Path) -> None:
    folder = wafer(2)
    shifted = write_threshold_engine(tmp_path / "shifted.onnx", [(0.5,), (0.55,)])
    assert failed(verify(VerifyOptions(tiny_engine, against=engine))) == []
    assert failed(verify(VerifyOptions(engine, folder, against=tiny_engine))) == []
    found = failed(verify(VerifyOptions(engine, folder, against=shifted)))
    assert found[0] == "fields against shifted.onnx: labels"
    assert [name.split(":")[0] for name in found[1:]] == ["field field0.png", "field field1.png"]
    (folder / "broken.png").write_bytes(b"x")
    assert failed(verify(VerifyOptions(engine, folder, against=tiny_engine))) == ["field broken.png"]
    three = write_threshold_engine(tmp_path / "three.onnx", [(0.3, 0.6)], names=("a", "b", "c"))
    with pytest.raises(InputError, match="its phases are a, b, c, those of the engine ferrite, bainite"):
        verify(VerifyOptions(engine, against=three))


def test_against_a_run(engine: Path, wafer: Callable[..., Path], tmp_path: Path) -> None:
    folder = wafer(2)
    run = tmp_path / "run"
    run.mkdir()

    def labels(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        return np.zeros_like(image)

    found = failed(verify(VerifyOptions(engine, folder, against=run), opens(labels)))
    assert found[0] == "fields against run: labels" and len(found) == 3
    with pytest.raises(InputError, match="Remedy: give FIELDS"):
        verify(VerifyOptions(engine, against=run), opens(labels))


def test_against_masks(engine: Path, tmp_path: Path) -> None:
    domain = tmp_path / "domain"
    for index in range(2):
        image = micrograph(48, 64, index)
        for name, pixels in (("images", image), ("masks", (image > 108).astype(np.uint8))):
            (domain / name).mkdir(parents=True, exist_ok=True)
            Image.fromarray(pixels).save(domain / name / f"{index}.png")
    assert failed(verify(VerifyOptions(engine, domain))) == []
    assert failed(verify(VerifyOptions(engine, domain, domain="dark"))) == ["fields against their masks: mIoU"]
    assert failed(verify(VerifyOptions(engine, domain, min_miou=1.0))) == ["fields against their masks: mIoU"]


def test_folders_without_images_or_masks(engine: Path, wafer: Callable[..., Path], tmp_path: Path) -> None:
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match=r"empty.*no images"):
        verify(VerifyOptions(engine, tmp_path / "empty"))
    with pytest.raises(InputError, match="no images"):
        verify(VerifyOptions(engine, tmp_path / "empty", against=engine))
    with pytest.raises(InputError, match="holds no masks to compare with"):
        verify(VerifyOptions(engine, wafer(1)))


def test_the_limits_are_those_of_the_precision(tiny_engine: Path, wafer: Callable[..., Path], tmp_path: Path) -> None:
    """Thresholds that move by 0.0007 are within INT8's limits and beyond float32's, on whichever side INT8 is."""
    folder = wafer(2, (180, 240))
    precise = write_threshold_engine(tmp_path / "precise.onnx", [(0.4007,), (0.4507,)])
    rough = rewrite_manifest(precise, tmp_path / "rough.onnx", precision="int8")
    assert failed(verify(VerifyOptions(precise, folder, against=tiny_engine)))
    assert not failed(verify(VerifyOptions(rough, folder, against=tiny_engine)))
    assert not failed(verify(VerifyOptions(tiny_engine, folder, against=rough)))


def test_a_student_beside_its_bag_has_limits_of_its_own(
    tiny_engine: Path, wafer: Callable[..., Path], tmp_path: Path
) -> None:
    """Thresholds that move by 0.0011: what a student may differ by, and no other engine."""
    folder = wafer(2, (180, 240))
    other = write_threshold_engine(tmp_path / "other.onnx", [(0.4011,), (0.4511,)])
    said = Distillation(
        run="bag", weights_sha256=[], learned=1, compared=[], agreement=1.0, heads=[], points={}, spread_points={},
        bag_spread_points={},
    )  # fmt: skip
    student = rewrite_manifest(other, tmp_path / "student.onnx", distillation=said)
    assert failed(verify(VerifyOptions(other, folder, against=tiny_engine)))
    assert not failed(verify(VerifyOptions(student, folder, against=tiny_engine)))
    assert not failed(verify(VerifyOptions(tiny_engine, folder, against=student)))

    def labels(image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        with open_engine(tiny_engine) as engine:
            return np.asarray(engine.run(image[None, None]).labels[0])

    run = tmp_path / "run"
    run.mkdir()
    assert not failed(verify(VerifyOptions(student, folder, against=run), opens(labels)))
    assert failed(verify(VerifyOptions(student, folder, against=run), opens(labels, is_student=True)))
