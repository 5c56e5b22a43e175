"""Fields through an engine: read, compute and write at the same time."""
