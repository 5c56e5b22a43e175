"""Engines that a Triton Inference Server computes."""
