"""Engines behind one protocol: NumPy in, NumPy out. Nothing here needs torch."""

from microseg.runtime.choice import Choice, Device, Runtime, choose
from microseg.runtime.engine import Engine, EngineOutput
from microseg.runtime.engine_file import (
    FileHashes,
    engine_sha256,
    file_hashes,
    is_intact,
    is_plan,
    model_sha256,
    read_manifest,
    require_engine_file,
    unchanged,
    verified_sha256,
)
from microseg.runtime.opening import begin_loading, open_engine

__all__ = [
    "Choice",
    "Device",
    "Engine",
    "EngineOutput",
    "FileHashes",
    "Runtime",
    "begin_loading",
    "choose",
    "engine_sha256",
    "file_hashes",
    "is_intact",
    "is_plan",
    "model_sha256",
    "open_engine",
    "read_manifest",
    "require_engine_file",
    "unchanged",
    "verified_sha256",
]
