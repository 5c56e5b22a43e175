"""Engines run by OpenVINO."""
