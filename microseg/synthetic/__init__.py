"""Micrographs made with exact labels: one structure, four renderings (DESIGN.md). numpy, scipy and opencv only."""
