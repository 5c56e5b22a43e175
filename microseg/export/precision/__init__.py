"""FP16 and INT8 graphs of a float32 graph, and the gate that an engine of any precision must pass."""
