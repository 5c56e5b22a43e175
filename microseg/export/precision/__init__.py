"""float32 graph to FP16 or INT8."""
