"""Parses an ONNX graph and builds a TensorRT plan. Both flavours share one path; the profile says where they differ."""

from __future__ import annotations

from contextlib import suppress
from pathlib import Path
from typing import Any, NamedTuple

from microseg.core.errors import InputError
from microseg.core.system.files import write_bytes
from microseg.export.progress import ExportProgress
from microseg.export.tensorrt.layer_precisions import Precisions, engine_precisions, network_precisions
from microseg.export.tensorrt.plan_profile import FullProfile, PlanProfile, RtxProfile
from microseg.runtime.tensorrt.device import CudaError, GpuInfo, find_gpu, require_gpu
from microseg.runtime.tensorrt.library import EXTRAS, TITLES, collecting_logger, load_library

_MEGABYTE = 1 << 20


class Built(NamedTuple):
    """A plan and its properties.

    Attributes:
        plan: the serialised plan.
        version: of TensorRT.
        gpu: the card of this machine; None where there is none.
        outputs: names of the outputs.
        precisions: layers of the parsed network by precision.
        engine_precisions: layers of the built engine by precision; None where no card could open it.
    """

    plan: bytes
    version: str
    gpu: GpuInfo | None
    outputs: list[str]
    precisions: Precisions
    engine_precisions: dict[str, int] | None


def build(graph: bytes, source: Path, name: str, profile: PlanProfile, cache: Path, progress: ExportProgress) -> Built:
    """Build a plan.

    Args:
        graph: the serialised ONNX model, from `plan_graph`.
        source: the file that it was read from, for messages.
        name: of the profile.
        profile: what the plan is built for.
        cache: file of the timing cache.
        progress: receives the phases of the export.

    Returns:
        The plan and its properties.

    Raises:
        InputError: TensorRT refuses the graph or the profile, or the build needs a card and there is none.
        MissingExtraError: TensorRT is not installed.
    """
    gpu = _gpu_for(name, profile)
    library = load_library(profile.flavour)
    logger = collecting_logger(library)
    builder = library.Builder(logger)
    # TensorRT 11 types every network strongly and ignores the flag. TensorRT 10 needs it to take the precision from the graph.
    network = builder.create_network(1 << int(library.NetworkDefinitionCreationFlag.STRONGLY_TYPED))
    parser = library.OnnxParser(network, logger)
    if not parser.parse(graph):
        raise InputError(
            f"{source}: {TITLES[profile.flavour]} cannot parse its graph. {parser_errors(parser)} "
            "Remedy: export the engine again with this version."
        )
    config = builder.create_builder_config()
    monitor = _monitor(library, progress)
    config.progress_monitor = monitor
    config.profiling_verbosity = library.ProfilingVerbosity.DETAILED
    _configure(library, config, profile)
    timing = _timing_cache(config, profile, cache)
    shapes = builder.create_optimization_profile()
    shapes.set_shape(
        "tiles", *((n, 1, s, s) for n, s in zip(_bounds(profile.batch), _bounds(profile.tile_px), strict=True))
    )
    config.add_optimization_profile(shapes)
    plan = builder.build_serialized_network(network, config)
    if monitor.interrupted:
        raise KeyboardInterrupt
    if plan is None:
        raise InputError(
            f"{source}: {TITLES[profile.flavour]} cannot build it for profile {name}: {logger.last()}. "
            "Remedy: a profile with smaller tiles or batches, or with another workspace_mb."
        )
    content = bytes(plan)
    if timing is not None:
        try:
            write_bytes(cache, bytes(timing.serialize()))
        except OSError as error:
            progress.notice(
                f"{cache}: cannot be written ({error.strerror or error}). The plan is built; the next build measures again."
            )
    return Built(
        plan=content,
        version=library.__version__,
        gpu=gpu,
        outputs=[network.get_output(index).name for index in range(network.num_outputs)],
        precisions=network_precisions(network),
        engine_precisions=None if gpu is None else _inspected(library, logger, content, profile),
    )


def _gpu_for(name: str, profile: PlanProfile) -> GpuInfo | None:
    """The card; None where there is none and the build needs none. Raises InputError where it needs one.

    It is searched before TensorRT is loaded, because TensorRT crashes without a driver.
    """
    remedy = (
        "Remedy: build on the machine that the plan is for. For RTX cards, --profile rtx-station builds on any machine."
    )
    extra = EXTRAS[profile.flavour]
    if isinstance(profile, FullProfile):
        return require_gpu(f"profile {name}: building with {TITLES['tensorrt']}", remedy, extra)
    if profile.refittable:
        return require_gpu(f"profile {name}: building a refittable plan", remedy, extra)
    # The card only opens the finished plan, so a build goes on without one.
    with suppress(CudaError):
        return find_gpu(extra)
    return None


def _configure(library: Any, config: Any, profile: PlanProfile) -> None:
    flags = library.BuilderFlag
    if not profile.tf32:
        config.clear_flag(flags.TF32)
    if profile.refittable:
        config.set_flag(flags.REFIT)
    if profile.workspace_mb is not None:
        config.set_memory_pool_limit(library.MemoryPoolType.WORKSPACE, profile.workspace_mb * _MEGABYTE)
    match profile:
        case RtxProfile():
            config.num_compute_capabilities = len(profile.compute_capabilities)
            for index, capability in enumerate(profile.compute_capabilities):
                target = getattr(library.ComputeCapability, f"SM{capability.replace('.', '')}")
                config.set_compute_capability(target, index)
        case FullProfile():
            if profile.hardware_compatibility != "none":
                level = getattr(library.HardwareCompatibilityLevel, profile.hardware_compatibility.upper())
                config.hardware_compatibility_level = level
            if profile.version_compatible:
                config.set_flag(flags.VERSION_COMPATIBLE)
                # A runtime inside the plan would be code that runs when the plan is opened.
                config.set_flag(flags.EXCLUDE_LEAN_RUNTIME)


def _timing_cache(config: Any, profile: PlanProfile, path: Path) -> Any:
    """The cache that the build reads and fills, or None. A cache of another card or version is replaced by an empty one."""
    # TensorRT for RTX times nothing while it builds.
    if not isinstance(profile, FullProfile) or not profile.timing_cache:
        return None
    known = b""
    with suppress(OSError):
        known = path.read_bytes()
    cache = config.create_timing_cache(known)
    if cache is None or not config.set_timing_cache(cache, False):
        cache = config.create_timing_cache(b"")
        config.set_timing_cache(cache, False)
    return cache


def _monitor(library: Any, progress: ExportProgress) -> Any:
    class Monitor(library.IProgressMonitor):  # type: ignore[misc]
        def __init__(self) -> None:
            library.IProgressMonitor.__init__(self)
            self.interrupted = False

        def phase_start(self, phase: str, parent: str | None, steps: int) -> None:
            self._tell(lambda: progress.begin(phase, steps))

        def step_complete(self, phase: str, step: int) -> bool:
            self._tell(lambda: progress.step(phase))
            return not self.interrupted

        def phase_finish(self, phase: str) -> None:
            self._tell(lambda: progress.end(phase))

        def _tell(self, report: Any) -> None:
            # An exception would pass through TensorRT's frames and end the interpreter. Returning False stops the build.
            try:
                report()
            except KeyboardInterrupt:
                self.interrupted = True

    return Monitor()


def _bounds(size: Any) -> tuple[int, int, int]:
    return size.min, size.opt, size.max


def parser_errors(parser: Any) -> str:
    """The errors of TensorRT's ONNX parser or refitter as text."""
    errors = [parser.get_error(index) for index in range(parser.num_errors)]
    texts = [f"{error.node_operator()} {error.node_name()}: {' '.join(error.desc().split())}" for error in errors]
    return f"{'; '.join(texts) or 'No reason is given'}."


def _inspected(library: Any, logger: Any, plan: bytes, profile: PlanProfile) -> dict[str, int] | None:
    """Layers of the built engine by precision; None where it is for another runtime or for other cards."""
    if isinstance(profile, FullProfile) and profile.version_compatible:
        return None
    runtime = library.Runtime(logger)
    engine = runtime.deserialize_cuda_engine(plan)
    if engine is None:
        if isinstance(profile, RtxProfile):
            return None
        raise InputError(
            f"the plan that was built does not open on this card: {logger.last()}. Remedy: another --profile, or the "
            ".onnx file."
        )
    inspector = engine.create_engine_inspector()
    return engine_precisions(inspector.get_engine_information(library.LayerInformationFormat.JSON))
