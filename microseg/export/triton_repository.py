"""`microseg export ENGINE --triton REPOSITORY`: an engine as a model of NVIDIA's Triton Inference Server.

The manifest is a parameter of the model, so that `microseg.connect` needs the address alone. Triton accepts a configuration
only if its fixed dimensions are those of the engine. They differ between bags, so it is written from the manifest.
"""

from __future__ import annotations

import json
import re
import shutil
from collections.abc import Mapping
from pathlib import Path

from microseg.core.errors import InputError
from microseg.core.schemas.manifest import Manifest
from microseg.core.system.files import replacing, write_text
from microseg.runtime import EngineFile
from microseg.runtime.triton.engine import MANIFEST_KEY, SIZE_KEY

DEFAULT_NAME = "microseg"
# Tiles at once of an ONNX engine, whose memory grows with them. A plan states its own number.
_MAX_BATCH = 8
_VARIES = -1


def triton_config(engine: Path, manifest: Manifest, name: str) -> str:
    """The text of `config.pbtxt`. It lists every tensor without its first dimension, over which Triton batches.

    Args:
        engine: the file, for messages.
        manifest: its manifest.
        name: of the model.

    Returns:
        The configuration.

    Raises:
        InputError: the engine is a plan of TensorRT for RTX, for which Triton has no backend, or its manifest does not state
            the length of its features.
    """
    plan = manifest.plan
    if plan is not None and plan.flavour != "tensorrt":
        raise InputError(
            f"{engine}: is a plan of TensorRT for RTX. Triton runs plans of full TensorRT. Remedy: the .onnx file, or a plan "
            "built on the server with --profile a100, l4 or t4."
        )
    if not manifest.fingerprints:
        raise InputError(
            f"{engine}: its manifest does not state the length of its features. Remedy: export it from its run again."
        )
    folds, features = len(manifest.folds), len(manifest.fingerprints[0].mean)
    outputs = {
        "labels": ("UINT8", [_VARIES, _VARIES]),
        "votes": ("UINT8", [folds, _VARIES, _VARIES]),
        "features": ("FP32", [folds, features]),
        "probability": ("FP32", [len(manifest.phases), _VARIES, _VARIES]),
    }
    given = list(outputs) if plan is None else plan.outputs
    batch, best = (_MAX_BATCH, _MAX_BATCH) if plan is None else (plan.batch.max, plan.batch.opt)
    blocks = [
        f'name: "{name}"',
        f'backend: "{"onnxruntime" if plan is None else "tensorrt"}"',
        f"max_batch_size: {batch}",
        _tensor("input", "tiles", "UINT8", [1, _VARIES, _VARIES]),
        *(_tensor("output", output, *outputs[output]) for output in given),
        # Requests of one tile size are joined; sizes do not mix.
        f"dynamic_batching {{ preferred_batch_size: [ {best} ] max_queue_delay_microseconds: 2000 }}",
    ]
    return "\n".join(blocks) + "\n"


def write_model(engine: Path, repository: Path, name: str | None = None) -> Path:
    """Write REPOSITORY/NAME/config.pbtxt and 1/model.onnx or 1/model.plan.

    Args:
        engine: the engine to serve.
        repository: Triton's `--model-repository`.
        name: of the model. Default: `microseg`.

    Returns:
        The folder of the model.

    Raises:
        InputError: the engine is not intact, Triton does not run its kind, or the repository holds a model of that name.
        OSError: a file cannot be written. Nothing of the model is left then.
    """
    name = DEFAULT_NAME if name is None else name
    manifest = EngineFile(engine).require_intact().manifest
    text = triton_config(engine, manifest, name)
    text += _parameter(MANIFEST_KEY, json.dumps(manifest.model_dump(mode="json"))) + _parameter(
        SIZE_KEY, str(engine.stat().st_size)
    )
    model = repository / name
    if not re.fullmatch(r"[A-Za-z0-9_.-]+", name):
        raise InputError(f"--name {name!r}: is not a name for a model. Remedy: only letters, digits, '_', '-' and '.'.")
    if model.exists():
        raise InputError(f"{model}: exists. Remedy: another --name, or remove it.")
    try:
        with replacing(model / "1" / f"model{'.onnx' if manifest.plan is None else '.plan'}") as part:
            shutil.copyfile(engine, part)
        # Written last: Triton takes a folder for a model once it holds this file.
        write_text(model / "config.pbtxt", text)
    except BaseException:
        shutil.rmtree(model, ignore_errors=True)
        raise
    return model


def require_triton_alone(repository: Path | None, name: str | None, others: Mapping[str, object]) -> None:
    """Raise InputError where `--triton` is combined with options of an export, or `--name` stands without it.

    Args:
        repository: the value of `--triton`.
        name: the value of `--name`.
        others: values of the other options by name; None or False where the user did not give them.
    """
    if repository is None:
        if name is not None:
            raise InputError(f"--name {name}: names a model of --triton. Remedy: --triton REPOSITORY, or leave it out.")
        return
    given = [option for option, value in others.items() if value]
    if given:
        raise InputError(
            f"{', '.join(given)}: --triton takes an engine as it is. Remedy: export the engine first, then run "
            f"microseg export ENGINE --triton {repository}."
        )


def _tensor(kind: str, name: str, dtype: str, dims: list[int]) -> str:
    return f'{kind} [ {{ name: "{name}" data_type: TYPE_{dtype} dims: [ {", ".join(map(str, dims))} ] }} ]'


def _parameter(key: str, text: str) -> str:
    """An entry of the model's parameters. The escapes of JSON in ASCII, on one line, are those of protobuf's text format."""
    return f'parameters {{ key: "{key}" value {{ string_value: {json.dumps(text)} }} }}\n'
