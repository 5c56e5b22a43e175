"""`python -m microseg.export.triton_repository ENGINE REPOSITORY`: an engine as a model of NVIDIA's Triton Inference Server.

Triton takes only a configuration whose fixed dimensions are the engine's, and those differ between bags: so it is written
from the manifest.
"""

from __future__ import annotations

import argparse
import re
import shutil
import sys
from pathlib import Path

from microseg.core.errors import InputError, MicrosegError
from microseg.core.schemas.manifest import Manifest
from microseg.core.system.files import replacing, write_text
from microseg.runtime import EngineFile

# Of an ONNX engine, whose memory grows with what it gets; a plan says itself.
_MAX_BATCH = 8
_VARIES = -1


def triton_config(engine: Path, manifest: Manifest, name: str) -> str:
    """The text of `config.pbtxt`: every tensor without its first dimension, which Triton batches over.

    Raises InputError for a plan of TensorRT for RTX, which Triton has no backend for, and for an engine whose manifest
    does not say how long its features are.
    """
    plan = manifest.plan
    if plan is not None and plan.flavour != "tensorrt":
        raise InputError(
            f"{engine}: is a plan of TensorRT for RTX; Triton runs those of full TensorRT. Remedy: the .onnx file, or a plan "
            "built on the server by --profile a100, l4 or t4."
        )
    if not manifest.fingerprints:
        raise InputError(f"{engine}: does not say how long its features are. Remedy: export it from its run again.")
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


def fill_repository(engine: Path, repository: Path, name: str) -> Path:
    """Write REPOSITORY/NAME/config.pbtxt and 1/model.onnx or 1/model.plan; returns the model's folder.

    Raises InputError: no intact engine, none that Triton runs, a model of that name is there already.
    """
    manifest = EngineFile(engine).require_intact().manifest
    text = triton_config(engine, manifest, name)
    model = repository / name
    if not re.fullmatch(r"[A-Za-z0-9_.-]+", name):
        raise InputError(f"--name {name!r}: is no name of a model. Remedy: letters, digits, '_', '-' and '.' alone.")
    if model.exists():
        raise InputError(f"{model}: exists. Remedy: another --name, or remove it.")
    try:
        with replacing(model / "1" / f"model{'.onnx' if manifest.plan is None else '.plan'}") as part:
            shutil.copyfile(engine, part)
        # Last: Triton takes a folder for a model once this is in it.
        write_text(model / "config.pbtxt", text)
    except BaseException:
        shutil.rmtree(model, ignore_errors=True)
        raise
    return model


def _tensor(kind: str, name: str, dtype: str, dims: list[int]) -> str:
    return f'{kind} [ {{ name: "{name}" data_type: TYPE_{dtype} dims: [ {", ".join(map(str, dims))} ] }} ]'


def main() -> None:
    """Fill a repository from an engine, or exit with 2 and one message."""
    parser = argparse.ArgumentParser(prog="python -m microseg.export.triton_repository", description=__doc__)
    parser.add_argument("engine", type=Path, help="bagged.onnx, or a plan of full TensorRT with its manifest beside it")
    parser.add_argument("repository", type=Path, help="Triton's --model-repository")
    parser.add_argument("--name", default="microseg", help="of the model (default: microseg)")
    options = parser.parse_args()
    try:
        print(fill_repository(options.engine, options.repository, options.name))
    except MicrosegError as error:
        message = str(error)
    except OSError as error:
        where = error.filename2 or error.filename
        message = f"{where}: {error.strerror}. Remedy: check the path, its rights and the free space."
    else:
        return
    print(f"microseg: {message}", file=sys.stderr)
    raise SystemExit(2)


if __name__ == "__main__":
    main()
