"""ONNX engine to TensorRT plan."""
