"""From a file to a loaded engine."""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import Executor
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from microseg.runtime.engine import Engine
from microseg.runtime.engine_file import EngineFile
from microseg.runtime.runtime_config import Device, Runtime, RuntimeConfig, choose

if TYPE_CHECKING:
    from microseg.core.schemas.manifest import Manifest


def open_engine(
    source: Path | EngineFile,
    threads: int | None = None,
    device: Device | None = None,
    runtime: Runtime | None = None,
    streams: int = 1,
) -> Engine:
    """Load an engine. None leaves threads, device and runtime to `choose`.

    Args:
        source: the engine's file.
        threads: CPU threads of the network.
        device: what computes.
        runtime: the library that computes.
        streams: as in `RuntimeConfig`.

    Raises:
        InputError: the file is no engine of microseg, is newer or damaged, keeps weights in other files, or is a plan for
            another card or version; the runtime or the device is not there, or does not load it.
        MissingExtraError: the runtime is not installed.
    """
    file = EngineFile.of(source)
    return _open(file, choose(file, runtime, device, threads, streams))


def open_configured(file: EngineFile, config: RuntimeConfig) -> Engine:
    """Load an engine as `config` says.

    Args:
        file: the engine's file.
        config: runtime, device, threads and streams.

    Raises:
        InputError: as `open_engine`.
        MissingExtraError: as `open_engine`.
    """
    return _open(file, choose(file, config.runtime, config.device, config.threads, config.streams))


def _open(file: EngineFile, config: RuntimeConfig) -> Engine:
    manifest = file.manifest
    load, make = _engine_for(config)
    return make(file.path, manifest, config, load(file.path, config))


def begin_loading(executor: Executor, file: EngineFile, config: RuntimeConfig) -> Callable[[], Engine]:
    """Start to load the network, which takes long and needs no manifest.

    Returns:
        A function that waits for the network and returns the engine. The caller makes sure that the file is intact: what
        is compiled may be kept beside it. It raises as `open_engine` does.

    Raises:
        MissingExtraError: the runtime is not installed.
    """
    load, make = _engine_for(config, keep=True)
    loaded = executor.submit(load, file.path, config)
    return lambda: make(file.path, file.manifest, config, loaded.result())


def _engine_for(
    config: RuntimeConfig, keep: bool = False
) -> tuple[Callable[[Path, RuntimeConfig], Any], Callable[[Path, Manifest, RuntimeConfig, Any], Engine]]:
    """The function that loads a network in this runtime, and the one that makes an engine of it."""
    match config.runtime:
        case "onnxruntime":
            from microseg.runtime.onnx_engine import OnnxEngine, open_session

            return open_session, OnnxEngine
        case "openvino":
            from microseg.runtime.openvino.engine import OpenVinoEngine, compile_network

            # `tune` tries settings that no later start asks for.
            return partial(compile_network, keep=keep), OpenVinoEngine
        case "tensorrt":
            from microseg.runtime.tensorrt.opening import open_plan

            # The manifest states the card and the version of a plan, so nothing of it is loaded before.
            return (lambda path, config: None), (lambda path, manifest, config, _: open_plan(path, manifest, config))
