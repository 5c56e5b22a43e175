"""`microseg export NEW.onnx --out NEW.plan --refit OLD.plan`: new weights in an existing plan. Needs its card."""

from __future__ import annotations

import hashlib
from pathlib import Path

from microseg.core.errors import InputError
from microseg.core.schemas.manifest import Manifest
from microseg.export.progress import ExportProgress
from microseg.export.tensorrt.build import parser_errors
from microseg.export.tensorrt.plan_file import require_out, require_portable, write_plan
from microseg.export.tensorrt.plan_graph import PROBABILITY, graph_sha256, plan_graph
from microseg.runtime import EngineFile, is_plan
from microseg.runtime.tensorrt.library import TITLES
from microseg.runtime.tensorrt.opening import load_plan


def refit_plan(source: Path, out: Path, old: Path, progress: ExportProgress) -> Manifest:
    """Write an existing plan with the weights of another engine. The new plan keeps profile and kernels of the old one.

    Args:
        source: the .onnx file whose weights are taken. The new plan is compared with it.
        out: the .plan file to write; its manifest goes beside it.
        old: the existing plan.
        progress: receives the phases of the export.

    Returns:
        The manifest of the new plan.

    Raises:
        InputError: `old` was not built with `refittable: true` or is for the lean runtime, `source` differs from it in more
            than weights, there is no card, or TensorRT refuses. Nothing is written.
        GateError: the new plan does not agree with `source`. Nothing is written.
        MissingExtraError: TensorRT is not installed.
    """
    require_out(out)
    if not is_plan(old):
        raise InputError(f"--refit {old}: is not a plan. Remedy: a .plan file that was built with refittable: true.")
    with EngineFile(source).unchanged() as file:
        manifest = require_portable(file, out)
        built = EngineFile(old).require_intact().manifest
        _require_fitting(source, manifest, old, built)
        assert built.plan is not None
        graph, reference = plan_graph(source, PROBABILITY in built.plan.outputs), file.reference
    if graph_sha256(graph) != built.plan.graph_sha256:
        raise InputError(
            f"{source}: is another network than that of {old}, or other layers of it are in lower precision. Only weights can "
            f"be exchanged. {_build_instead(out)}"
        )
    step = "exchanging the weights"
    progress.begin(step, 0)
    content = _refitted(source, graph, out, old, built)
    progress.end(step)
    plan = built.plan.model_copy(
        update={
            "onnx_sha256": file.sha256,
            "plan_sha256": hashlib.sha256(content).hexdigest(),
            "verified": False,
            "comparison": None,
        }
    )
    return write_plan(out, content, manifest.model_copy(update={"plan": plan}), source, reference, progress)


def _require_fitting(source: Path, new: Manifest, old: Path, built: Manifest) -> None:
    plan = built.plan
    assert plan is not None
    if not plan.refittable or plan.version_compatible:
        why = (
            "is for the lean runtime, which cannot refit" if plan.refittable else "was not built with refittable: true"
        )
        raise InputError(
            f"--refit {old}: {why}. Remedy: build it once by a profile with refittable: true and no version_compatible, or "
            "leave --refit out."
        )
    for what, theirs, ours in (
        ("phases", [phase.name for phase in built.phases], [phase.name for phase in new.phases]),
        ("precision", built.precision, new.precision),
        ("folds", len(built.folds), len(new.folds)),
        ("stride", built.stride, new.stride),
    ):
        if theirs != ours:
            raise InputError(
                f"{source}: {what} {_shown(ours)}, but {_shown(theirs)} in {old}. Remedy: a plan of an engine that differs "
                "only in its weights, or leave --refit out."
            )


def _refitted(source: Path, graph: bytes, out: Path, old: Path, built: Manifest) -> bytes:
    """The plan `old` with the weights of `graph`, serialised."""
    loaded = load_plan(old, built)
    library, engine = loaded.library, loaded.engine
    refitter = library.Refitter(engine, loaded.logger)
    parser = library.OnnxParserRefitter(refitter, loaded.logger)
    if not parser.refit_from_bytes(graph):
        raise InputError(
            f"{source}: {TITLES[loaded.name]} cannot put its weights into {old}. {parser_errors(parser)} "
            f"{_build_instead(out)}"
        )
    missing = refitter.get_missing_weights()
    if missing or not refitter.refit_cuda_engine():
        reason = f"no weights for {', '.join(missing)}" if missing else loaded.logger.last()
        raise InputError(
            f"{source}: {TITLES[loaded.name]} cannot put its weights into {old} ({reason}). {_build_instead(out)}"
        )
    config = engine.create_serialization_config()
    # By default newer versions write a plan that cannot be refitted again.
    if keep := getattr(library.SerializationFlag, "INCLUDE_REFIT", None):
        config.set_flag(keep)
    content = engine.serialize_with_config(config)
    if content is None:
        raise InputError(
            f"{old}: cannot be serialised with other weights ({loaded.logger.last()}). {_build_instead(out)}"
        )
    return bytes(content)


def _build_instead(out: Path) -> str:
    return f"Remedy: leave --refit out, so that {out.name} is built."


def _shown(value: object) -> str:
    return ", ".join(map(str, value)) if isinstance(value, list) else str(value)
