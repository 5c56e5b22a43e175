"""Run to engine."""
