"""Fold networks to one ONNX graph: the only part of export that imports torch."""
