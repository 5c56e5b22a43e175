"""A TensorRT plan from its file to an engine, or one message that says why it cannot run here."""

from __future__ import annotations

import hashlib
from pathlib import Path
from typing import TYPE_CHECKING, Any, NamedTuple

from microseg.core.errors import InputError
from microseg.core.system.files import unreadable
from microseg.runtime.runtime_config import RuntimeConfig
from microseg.runtime.tensorrt.device import CudaError, GpuInfo, cuda_runtime, require_gpu
from microseg.runtime.tensorrt.engine import TensorRTEngine
from microseg.runtime.tensorrt.library import EXTRAS, TITLES, Library, collecting_logger, load_library

if TYPE_CHECKING:
    from microseg.core.schemas.manifest import Manifest
    from microseg.core.schemas.plan import PlanInfo

_AMPERE = 8


class LoadedPlan(NamedTuple):
    """A plan on a device.

    Attributes:
        name: the library.
        library: its module.
        logger: its logger.
        runtime: its runtime, which the engine lives in.
        engine: the engine.
        gpu: the device.
    """

    name: Library
    library: Any
    logger: Any
    runtime: Any
    engine: Any
    gpu: GpuInfo


def load_plan(path: Path, manifest: Manifest) -> LoadedPlan:
    """Load a plan onto the first device that this process may use.

    Args:
        path: the plan.
        manifest: its manifest.

    Raises:
        InputError: not the plan of this manifest, no GPU or driver, built for another GPU or version, or refused by TensorRT.
        MissingExtraError: the TensorRT that runs it is not installed.
    """
    plan = manifest.plan
    assert plan is not None
    content = _content(path, plan)
    name: Library = "tensorrt_lean" if plan.version_compatible else plan.flavour
    gpu = require_gpu(
        f"{path}: a TensorRT plan",
        "Remedy: use the .onnx file that it was built from, which runs on the CPU.",
        EXTRAS[name],
    )
    library = load_library(name)
    _require_gpu_of(path, plan, gpu)
    _require_version_of(path, plan, library.__version__)
    logger = collecting_logger(library)
    runtime = library.Runtime(logger)
    if plan.flavour == "tensorrt_rtx":
        _require_valid(path, plan, gpu, library, runtime.get_engine_validity(content[: runtime.engine_header_size]))
    engine = runtime.deserialize_cuda_engine(content)
    if engine is None:
        raise InputError(f"{path}: {TITLES[name]} cannot open it ({logger.last()}). {_rebuild(plan)}")
    _require_tensors(path, manifest, library, engine)
    return LoadedPlan(name, library, logger, runtime, engine, gpu)


def open_plan(path: Path, manifest: Manifest, config: RuntimeConfig) -> TensorRTEngine:
    """Load a plan and make it ready to run.

    Args:
        path: the plan.
        manifest: its manifest.
        config: what computes it.

    Raises:
        InputError: as `load_plan`, or the device has not enough memory.
        MissingExtraError: as `load_plan`.
    """
    loaded = load_plan(path, manifest)
    try:
        return TensorRTEngine(
            path=path,
            manifest=manifest,
            config=config,
            version=loaded.library.__version__,
            provider=f"{TITLES[loaded.name]} on {loaded.gpu.name}",
            library=loaded.library,
            runtime=loaded.runtime,
            engine=loaded.engine,
            logger=loaded.logger,
            cuda=cuda_runtime(EXTRAS[loaded.name]),
        )
    except CudaError as error:
        raise InputError(
            f"{path}: does not fit on {loaded.gpu.name} ({error}). Remedy: close what else uses the GPU, or build it for "
            "smaller tiles and batches (--profile)."
        ) from error


def _content(path: Path, plan: PlanInfo) -> bytes:
    """The file, after a check that it is the built one: TensorRT trusts what it opens."""
    try:
        content = path.read_bytes()
    except OSError as error:
        raise unreadable(path, error) from error
    if hashlib.sha256(content).hexdigest() != plan.plan_sha256:
        raise InputError(
            f"{path}: is not the plan of the manifest beside it (damaged, cut off or changed). "
            f"Remedy: copy both files again. {_rebuild(plan)}"
        )
    return content


def _require_gpu_of(path: Path, plan: PlanInfo, gpu: GpuInfo) -> None:
    here = f"this GPU is {gpu.name} of compute capability {gpu.compute_capability}"
    if plan.flavour == "tensorrt_rtx":
        if plan.target_capabilities and gpu.compute_capability not in plan.target_capabilities:
            targets = ", ".join(plan.target_capabilities)
            raise InputError(f"{path}: was built for compute capability {targets}, but {here}. {_rebuild(plan)}")
        return
    match plan.hardware_compatibility:
        case "ampere_plus":
            fits = int(gpu.compute_capability.partition(".")[0]) >= _AMPERE
        case "same_compute_capability":
            fits = gpu.compute_capability == plan.compute_capability
        case "none":
            fits = (gpu.name, gpu.compute_capability) == (plan.gpu, plan.compute_capability)
    if not fits:
        built = f"{plan.gpu} of compute capability {plan.compute_capability}"
        raise InputError(
            f"{path}: was built on {built} (hardware compatibility {plan.hardware_compatibility}), but {here}. "
            f"{_rebuild(plan)}"
        )


def _require_version_of(path: Path, plan: PlanInfo, version: str) -> None:
    """TensorRT for RTX checks versions itself (`_require_valid`)."""
    if plan.flavour == "tensorrt_rtx":
        return
    if plan.version_compatible:
        fits = version.split(".")[0] == plan.tensorrt.split(".")[0] and _numbers(version) >= _numbers(plan.tensorrt)
    else:
        fits = version == plan.tensorrt
    if not fits:
        raise InputError(f"{path}: was built by TensorRT {plan.tensorrt}, this is {version}. {_rebuild(plan)}")


def _numbers(version: str) -> list[int]:
    return [int(part) for part in version.split(".") if part.isdigit()]


def _require_valid(path: Path, plan: PlanInfo, gpu: GpuInfo, library: Any, answer: tuple[Any, int]) -> None:
    """Check the plan's header with TensorRT for RTX."""
    validity, diagnostics = answer
    if validity != library.EngineValidity.INVALID:
        return
    flags = library.EngineInvalidityDiagnostics
    reasons = {
        flags.VERSION_MISMATCH: f"it was built by version {plan.tensorrt}, this is {library.__version__}",
        flags.UNSUPPORTED_CC: f"it does not serve {gpu.name} of compute capability {gpu.compute_capability}",
        flags.OLD_CUDA_DRIVER: f"the driver is too old (it serves CUDA {gpu.cuda_driver})",
        flags.OLD_CUDA_RUNTIME: "the CUDA runtime is too old",
        flags.INSUFFICIENT_GPU_MEMORY: f"{gpu.name} has too little memory",
        flags.MALFORMED_ENGINE: "its header is damaged",
        flags.CUDA_ERROR: "CUDA fails",
    }
    found = [text for flag, text in reasons.items() if diagnostics & int(flag)]
    remedy = _rebuild(plan)
    if diagnostics & int(flags.UNSUPPORTED_CC):
        remedy = (
            "Remedy: full TensorRT serves that card: pip install 'microseg[tensorrt]', then microseg export ENGINE.onnx "
            "--out NEW.plan --profile a100 (or l4, t4); or use the .onnx file."
        )
    raise InputError(
        f"{path}: {TITLES['tensorrt_rtx']} cannot run it: {'; '.join(found) or 'no reason given'}. {remedy}"
    )


def _require_tensors(path: Path, manifest: Manifest, library: Any, engine: Any) -> None:
    """The manifest decides the memory of every tensor, and TensorRT writes as much as the engine gives."""
    plan = manifest.plan
    assert plan is not None
    folds, phases = len(manifest.folds), len(manifest.phases)
    types = library.DataType
    # Type, number of dimensions, and the second of them where it does not vary.
    described: dict[str, tuple[Any, int, int | None]] = {
        "tiles": (types.UINT8, 4, 1),
        "labels": (types.UINT8, 3, None),
        "votes": (types.UINT8, 4, folds),
        "features": (types.FLOAT, 3, folds),
        "probability": (types.FLOAT, 4, phases),
    }
    names = [engine.get_tensor_name(index) for index in range(engine.num_io_tensors)]
    wrong = {"tiles", *plan.outputs} ^ set(names)
    for name in set(names) - wrong:
        dtype, dimensions, second = described.get(name, (None, 0, None))
        shape = tuple(engine.get_tensor_shape(name))
        if engine.get_tensor_dtype(name) != dtype or len(shape) != dimensions or second not in (None, shape[1]):
            wrong.add(name)
    sizes = zip(*((size.min, size.opt, size.max) for size in (plan.batch, plan.tile_px)), strict=True)
    if "tiles" in names and [tuple(shape) for shape in engine.get_tensor_profile_shape("tiles", 0)] != [
        (count, 1, side, side) for count, side in sizes
    ]:
        wrong.add("sizes of tiles and batches")
    if wrong:
        raise InputError(
            f"{path}: is not what the manifest beside it describes ({', '.join(sorted(wrong))}), which was changed by hand. "
            f"Remedy: copy both files again. {_rebuild(plan)}"
        )


def _rebuild(plan: PlanInfo) -> str:
    return f"Remedy: build it for this machine: microseg export ENGINE.onnx --out NEW.plan --profile {plan.profile}"
