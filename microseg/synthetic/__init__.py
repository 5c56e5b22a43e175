"""Synthetic micrographs with exact labels: one structure, four renderings (microseg/docs/design.md). No PyTorch is needed."""
