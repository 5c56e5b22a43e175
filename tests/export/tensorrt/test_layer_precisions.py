"""What a built engine says of its layers. The network as parsed is counted on real ones in test_plan."""

from __future__ import annotations

import json

from microseg.export.tensorrt.layer_precisions import engine_precisions


def test_the_inspectors_spellings() -> None:
    layers = [
        {"Name": "a", "Outputs": [{"Name": "x", "Format/Datatype": "Row major linear FP32"}]},
        {
            "Name": "b",
            "Outputs": [{"Name": "x", "Format/Datatype": "Channel major FP16 format where channel % 8 == 0"}],
        },
        {"Name": "c", "Outputs": [{"Name": "x", "Format": "Row major linear", "Datatype": "Half"}]},
        {"Name": "d", "Outputs": [{"Name": "x", "Format/Datatype": "Thirty-two wide channel vectorized Int8 format"}]},
        {"Name": "e", "Outputs": [{"Name": "x", "Format/Datatype": "Row major linear UINT8 format"}]},
        {"Name": "f", "Outputs": []},
    ]
    assert engine_precisions(json.dumps({"Layers": layers})) == {"fp32": 1, "fp16": 2, "int8": 1}


def test_names_alone_tell_nothing() -> None:
    assert engine_precisions(json.dumps({"Layers": ["conv + relu", "softmax"]})) == {}
    assert engine_precisions("{}") == {}
