"""A run to an engine: ONNX graph, precision, TensorRT plan, and the gates that a result must pass."""
