"""`microseg.connect`: what a server computes equals what is computed here."""

from __future__ import annotations

import socket
from pathlib import Path

import numpy as np
import pytest

import microseg
from microseg.core.errors import FieldError, InputError
from microseg.runtime import read_manifest
from microseg.runtime.triton.engine import MANIFEST_KEY, SIZE_KEY
from tests.runtime.triton.stub import Served, serving

FIELD = np.random.default_rng(0).integers(0, 256, (96, 120), np.uint8)


def served_engine(engine: Path) -> Served:
    size = str(engine.stat().st_size)
    return Served(engine, parameters={MANIFEST_KEY: read_manifest(engine).model_dump_json(), SIZE_KEY: size})


def test_tiles_share_requests_within_the_server_s_batch(tiny_engine: Path) -> None:
    served = served_engine(tiny_engine)
    served.max_batch = 2
    with (
        serving(served) as url,
        microseg.connect(url, streams=1) as far,
        microseg.load_engine(tiny_engine) as near,
    ):
        results = [result.labels for result in far.predict_many([FIELD] * 24)]
        expected = near.predict(FIELD).labels
    assert all(np.array_equal(labels, expected) for labels in results)
    assert len(results) == sum(served.batches) == 24 and max(served.batches) == 2


def test_the_latest_version_is_kept_and_headers_are_sent(tiny_engine: Path) -> None:
    served = served_engine(tiny_engine)
    served.versions = ["2", "10", "9"]
    with serving(served) as url, microseg.connect(url, headers={"Authorization": "Bearer secret"}) as far:
        assert far.shared.version == "10"
        far.predict(FIELD)
    assert all(headers["Authorization"] == "Bearer secret" for headers in served.headers)


def test_a_server_that_fails_fails_the_field_alone(tiny_engine: Path) -> None:
    served = served_engine(tiny_engine)
    with serving(served) as url, microseg.connect(url, headers={"Authorization": "secret"}) as far:
        served.fails = 500
        with pytest.raises(FieldError, match=r"the server failed on 1 tiles of .*out of memory.*Remedy") as failed:
            far.predict(FIELD)
        assert "secret" not in str(failed.value)
        served.fails = None
        assert far.predict(FIELD).labels.shape == FIELD.shape


@pytest.mark.parametrize(
    "changed",
    [
        {"labels": np.zeros((1, 8, 8), np.uint8)},
        {"votes": np.full((1, 2, 96, 96), 7, np.uint8)},
    ],
)
def test_answers_that_the_manifest_does_not_promise_are_refused(
    changed: dict[str, np.ndarray], tiny_engine: Path
) -> None:
    served = served_engine(tiny_engine)
    with serving(served) as url, microseg.connect(url) as far:
        served.changed = changed
        with pytest.raises(FieldError, match="phases that the manifest does not know"):
            far.predict(np.zeros((96, 96), np.uint8) + np.arange(96, dtype=np.uint8))


def test_what_is_no_server_or_no_model_of_microseg_is_told(tiny_engine: Path) -> None:
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        nowhere = f"triton://127.0.0.1:{free.getsockname()[1]}/steel"
    with pytest.raises(InputError, match=r"does not give the model's metadata .*Remedy: check the address"):
        microseg.connect(nowhere, timeout_s=2)
    bare = Served(tiny_engine)
    with serving(bare) as url:
        with pytest.raises(InputError, match="'copper' is not found"):
            microseg.connect(url.replace("steel", "copper"))
        with pytest.raises(InputError, match="holds no manifest of microseg"):
            microseg.connect(url)
        bare.parameters = {MANIFEST_KEY: "{"}
        with pytest.raises(InputError, match="its manifest is damaged"):
            microseg.connect(url)
        other = served_engine(tiny_engine)
        manifest = read_manifest(tiny_engine)
        bare.parameters = other.parameters | {
            MANIFEST_KEY: manifest.model_copy(update={"folds": manifest.folds[:1]}).model_dump_json()
        }
        with pytest.raises(InputError, match="has 2 folds and its manifest 1"):
            microseg.connect(url)


@pytest.mark.parametrize(("name", "value"), [("streams", 0), ("batch", 0), ("timeout_s", 0.0)])
def test_values_that_nothing_can_be_computed_with_are_refused(name: str, value: float) -> None:
    with pytest.raises(InputError, match=f"{name}={value!r}: is below"):
        microseg.connect("triton://127.0.0.1:1/steel", **{name: value})  # type: ignore[arg-type]


@pytest.mark.parametrize("versions", [3, ["1"], {"a": 1}])
def test_a_server_that_describes_its_model_otherwise_is_told(versions: object, tiny_engine: Path) -> None:
    served = served_engine(tiny_engine)
    served.versions = versions  # type: ignore[assignment]
    served.max_batch = "many"  # type: ignore[assignment]
    with serving(served) as url, pytest.raises(InputError, match="describes the model otherwise"):
        microseg.connect(url)
