"""Engines behind one protocol: NumPy in, NumPy out. No PyTorch is needed."""

from microseg.runtime.engine import Engine, EngineOutput
from microseg.runtime.engine_file import EngineFile, read_manifest
from microseg.runtime.engine_metadata import is_plan
from microseg.runtime.opening import begin_loading, open_configured, open_engine
from microseg.runtime.runtime_config import Device, Runtime, RuntimeConfig, choose

__all__ = [
    "Device",
    "Engine",
    "EngineFile",
    "EngineOutput",
    "Runtime",
    "RuntimeConfig",
    "begin_loading",
    "choose",
    "is_plan",
    "open_configured",
    "open_engine",
    "read_manifest",
]
