"""TensorRT plans of ONNX engines."""
