"""Engines behind one protocol: NumPy in, NumPy out. Nothing here needs torch."""

from microseg.runtime.choice import Choice, Device, Runtime, choose
from microseg.runtime.engine import Engine, EngineOutput
from microseg.runtime.engine_file import EngineFile, read_manifest
from microseg.runtime.engine_metadata import is_plan
from microseg.runtime.opening import begin_loading, open_engine

__all__ = [
    "Choice",
    "Device",
    "Engine",
    "EngineFile",
    "EngineOutput",
    "Runtime",
    "begin_loading",
    "choose",
    "is_plan",
    "open_engine",
    "read_manifest",
]
