"""Networks that are no engine of ours, whatever runs them."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import onnx
import pytest
from onnx import numpy_helper

from microseg.core.errors import InputError
from microseg.core.schemas.keys import METADATA_KEY
from microseg.runtime import Runtime, open_engine, read_manifest
from tests.engines import write_with_metadata


@pytest.mark.parametrize("runtime", ["onnxruntime", "openvino"])
def test_three_channels(tiny_engine: Path, tmp_path: Path, runtime: Runtime) -> None:
    model = onnx.load(tiny_engine)
    model.graph.input[0].type.tensor_type.shape.dim[1].dim_value = 3
    kernel = next(tensor for tensor in model.graph.initializer if tensor.name == "mean_kernel")
    kernel.CopyFrom(numpy_helper.from_array(np.full((1, 3, 3, 3), 1 / 27, np.float32), "mean_kernel"))
    text = read_manifest(tiny_engine).model_dump_json()
    path = write_with_metadata(tmp_path / "rgb.onnx", model, {METADATA_KEY: text})
    with pytest.raises(InputError, match=r"takes tiles of shape .*\(N, 1, H, W\)"):
        open_engine(path, 1, runtime=runtime)
