"""The pipeline: it reads, computes and writes fields at the same time."""
