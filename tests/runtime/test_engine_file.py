"""Reading the manifest out of an ONNX file without a network runtime."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import onnx
import pytest

from microseg.core.errors import FieldError, InputError
from microseg.core.schemas.keys import METADATA_KEY, REFERENCE_KEY
from microseg.core.schemas.manifest import MANIFEST_VERSION
from microseg.runtime import EngineFile, engine_file, read_manifest
from microseg.runtime.engine_metadata import append_metadata, read_metadata
from tests.engines import with_reference, write_with_metadata


def _with_manifest(engine: Path, path: Path, text: str | None) -> Path:
    return write_with_metadata(path, onnx.load(engine), {} if text is None else {METADATA_KEY: text})


def test_manifest_equals_what_onnxruntime_reads(tiny_engine: Path) -> None:
    import onnxruntime

    session = onnxruntime.InferenceSession(str(tiny_engine), providers=["CPUExecutionProvider"])
    text = session.get_modelmeta().custom_metadata_map[METADATA_KEY]
    assert read_manifest(tiny_engine).model_dump_json() == text


def test_model_hash_ignores_metadata(tiny_engine: Path, tmp_path: Path) -> None:
    other = _with_manifest(tiny_engine, tmp_path / "other.onnx", "something else")
    assert (
        EngineFile(other).hashes.network
        == EngineFile(tiny_engine).hashes.network
        == read_manifest(tiny_engine).model_sha256
    )
    assert EngineFile(other).sha256 != EngineFile(tiny_engine).sha256


def test_an_entry_is_appended(tiny_engine: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(tiny_engine, tmp_path / "more.onnx"))
    append_metadata(path, "first", "\N{GREEK SMALL LETTER ALPHA}" * 300)
    append_metadata(path, "second", "b")
    onnx.checker.check_model(path)
    append_metadata(path, "second", "c")
    assert EngineFile(path).hashes.network == EngineFile(tiny_engine).hashes.network
    assert EngineFile(path).require_intact().sha256 == EngineFile(path).sha256
    entries = {entry.key: entry.value for entry in onnx.load(path).metadata_props}
    assert entries == read_metadata(path)
    assert (len(entries["first"]), entries["second"]) == (300, "c")


def test_reference_tiles(tiny_engine: Path, tmp_path: Path) -> None:
    assert EngineFile(tiny_engine).reference is None
    reference = EngineFile(with_reference(tiny_engine, tmp_path / "e.onnx")).reference
    assert reference is not None and reference.origin == "synthetic" and len(reference.tiles) == 3
    assert reference.model_sha256 == read_manifest(tiny_engine).model_sha256
    append_metadata(tmp_path / "e.onnx", REFERENCE_KEY, "{}")
    with pytest.raises(InputError, match=r"e\.onnx: the entry of its reference tiles is damaged"):
        _ = EngineFile(tmp_path / "e.onnx").reference


def test_a_manifest_changed_by_hand_is_refused(tiny_engine: Path, tmp_path: Path) -> None:
    """Phases under each other's name: `segment`, `evaluate`, `tune` and the build of a plan ask this first."""
    manifest = read_manifest(tiny_engine)
    entries = read_metadata(tiny_engine)
    assert EngineFile(tiny_engine).is_manifest_intact
    changed = {METADATA_KEY: entries[METADATA_KEY].replace("ferrite", "bainite2")}
    path = write_with_metadata(tmp_path / "changed.onnx", onnx.load(tiny_engine), entries | changed)
    with pytest.raises(InputError, match=r"changed\.onnx: its manifest is not the one that was exported"):
        EngineFile(path).require_intact()
    # Nor is one without the hash taken at its word.
    bare = _with_manifest(tiny_engine, tmp_path / "bare.onnx", entries[METADATA_KEY])
    assert not EngineFile(bare).is_manifest_intact and EngineFile(bare).hashes.network == manifest.model_sha256
    with pytest.raises(InputError, match=r"bare\.onnx: its manifest"):
        EngineFile(bare).require_intact()


def test_changed_network(tiny_engine: Path, tmp_path: Path) -> None:
    assert EngineFile(tiny_engine).require_intact().sha256 == EngineFile(tiny_engine).sha256
    data = bytearray(tiny_engine.read_bytes())
    data[data.index(b"mean_kernel") + 40] ^= 1
    (tmp_path / "changed.onnx").write_bytes(data)
    with pytest.raises(InputError, match="damaged or changed"):
        EngineFile(tmp_path / "changed.onnx").require_intact()


def test_foreign_onnx(tiny_engine: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="without microseg's manifest"):
        read_manifest(_with_manifest(tiny_engine, tmp_path / "foreign.onnx", None))


def test_newer_manifest(tiny_engine: Path, tmp_path: Path) -> None:
    text = json.dumps({"manifest_version": MANIFEST_VERSION + 1, "news": True})
    with pytest.raises(InputError, match=rf"version {MANIFEST_VERSION + 1}.*upgrade"):
        read_manifest(_with_manifest(tiny_engine, tmp_path / "newer.onnx", text))


@pytest.mark.parametrize("text", ["{", "[]", "{}", json.dumps({"manifest_version": 1, "phases": []})])
def test_damaged_manifest(tiny_engine: Path, tmp_path: Path, text: str) -> None:
    with pytest.raises(InputError, match="manifest is damaged"):
        read_manifest(_with_manifest(tiny_engine, tmp_path / "damaged.onnx", text))


def test_a_default_domain_that_is_not_listed(tiny_engine: Path, tmp_path: Path) -> None:
    text = json.dumps(read_manifest(tiny_engine).model_dump(mode="json") | {"default_domain": "lom"})
    with pytest.raises(InputError, match=r"manifest is damaged .*'lom': the engine knows no such domain"):
        read_manifest(_with_manifest(tiny_engine, tmp_path / "lom.onnx", text))


@pytest.mark.parametrize("content", [b"", b"not an engine", b"\x89PNG\r\n\x1a\n" + bytes(100), bytes(64)])
def test_not_onnx(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "engine.onnx"
    path.write_bytes(content)
    with pytest.raises(InputError, match="no ONNX file, or is cut off"):
        read_manifest(path)


def test_truncated_engine(tiny_engine: Path, tmp_path: Path) -> None:
    path = tmp_path / "cut.onnx"
    data = tiny_engine.read_bytes()
    path.write_bytes(data[: len(data) // 2])
    with pytest.raises(InputError, match="cut off"):
        read_manifest(path)


def test_wrong_paths(tiny_engine: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        read_manifest(tmp_path / "none.onnx")
    with pytest.raises(InputError, match="is a folder"):
        read_manifest(tmp_path)
    plan = shutil.copy(tiny_engine, tmp_path / "bagged.plan")
    with pytest.raises(InputError, match=r"bagged\.plan\.json: is missing"):
        read_manifest(Path(plan))


def test_each_part_is_read_once(tiny_engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = with_reference(tiny_engine, tmp_path / "e.onnx")
    read: list[str] = []
    for name in ("read_entries", "file_hashes"):
        original = getattr(engine_file, name)

        def counted(path: Path, name: str = name, original: Any = original) -> Any:
            read.append(name)
            return original(path)

        monkeypatch.setattr(engine_file, name, counted)
    file = EngineFile(path)
    assert not read, "nothing is read before it is asked for"
    assert file.unchecked_manifest["model_sha256"] == file.manifest.model_sha256
    assert file.require_intact() is file and file.reference is not None and file.sha256
    assert sorted(read) == ["file_hashes", "read_entries"]
    assert EngineFile.of(file) is file and EngineFile.of(file.path).sha256 == file.sha256


def test_a_change_is_told_in_place_of_what_it_causes(tiny_engine: Path, tmp_path: Path) -> None:
    path = Path(shutil.copy(tiny_engine, tmp_path / "e.onnx"))
    with EngineFile(path).unchanged() as file:
        assert file.manifest
    with pytest.raises(InputError, match="something else"), EngineFile(path).unchanged():
        raise InputError("something else")
    for cause in (None, InputError("damaged"), FieldError("failed")):
        with pytest.raises(InputError, match=r"e\.onnx: changed while it was read. Remedy: repeat the command"):
            change_within(path, cause)
    with pytest.raises(KeyError):
        change_within(path, KeyError())


def change_within(path: Path, cause: Exception | None) -> None:
    """Change an engine while it is read, and raise what follows from that."""
    with EngineFile(path).unchanged():
        path.write_bytes(path.read_bytes() + bytes(1))
        if cause is not None:
            raise cause


def test_a_damaged_manifest_has_no_unchecked_values(tiny_engine: Path, tmp_path: Path) -> None:
    for text in ("{", "[]"):
        path = _with_manifest(tiny_engine, tmp_path / "damaged.onnx", text)
        assert EngineFile(path).unchecked_manifest == {}
