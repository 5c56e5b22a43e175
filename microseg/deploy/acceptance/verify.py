"""`microseg verify`, the acceptance test of an installation: an engine must say here what it said when it was made."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

from microseg import __version__
from microseg.agreement.check_table import CheckTable
from microseg.agreement.fields import Labeller, OpenField, check_fields, check_masks, compare_fields
from microseg.agreement.reference_tiles import check_reference, check_tiles_against
from microseg.core.domains.domain import load_domain
from microseg.core.errors import FieldError, InputError
from microseg.core.preparation.prepared_field import open_prepared
from microseg.core.schemas.manifest import Manifest
from microseg.core.schemas.plan import PlanComparison, plan_manifest_path
from microseg.core.schemas.reference import Reference
from microseg.core.schemas.tolerance import LIMITS, STUDENT, limit_between
from microseg.core.system.files import write_text
from microseg.core.system.instructions import instruction_sets, saturation_notice
from microseg.core.system.machine import machine
from microseg.deploy.evaluate import evaluate_opened
from microseg.deploy.pipeline.inputs import resolve_input
from microseg.deploy.pipeline.tile_memory import max_tile_pixels
from microseg.deploy.tuning.profile import set_up
from microseg.runtime import (
    Device,
    Engine,
    EngineFile,
    Runtime,
    open_engine,
)
from microseg.runtime.engine_metadata import text_beside
from microseg.runtime.external import refuse_external_data
from microseg.runtime.tiled_prediction import label_field

VERIFY_VERSION = 1
# Labelled fields of an installation may be harder than those of training, but not by much.
_MIOU_SLACK = 0.05


@dataclass(frozen=True)
class VerifyOptions:
    """What the user asked for.

    against: an engine or a run that says what is right. fields: micrographs to compare on, or without `against`
    labelled ones. min_miou: what those must reach; by default 0.05 less than the worst fold on its held-out fields.
    against_student: whether the run `against` is one.
    """

    engine: Path
    fields: Path | None = None
    against: Path | None = None
    domain: str | None = None
    runtime: Runtime | None = None
    device: Device | None = None
    threads: int | None = None
    min_miou: float | None = None
    against_student: bool = False


def verify(
    options: VerifyOptions,
    run_labels: Labeller | None = None,
    progress: Callable[[str], None] = lambda step: None,
) -> dict[str, Any]:
    """Verify an installed engine; returns the record (the content of `verify.json`), whose `passed` is the verdict.

    The manifest of a plan that passes is marked as verified, where it can be written.
    run_labels: what the run that `against` names says; None where it names an engine. Raises InputError where nothing
    could be compared or the engine not be opened, FieldError where it cannot compute, MissingExtraError.
    """
    with EngineFile(options.engine).unchanged() as file:
        manifest, reference = file.manifest, file.reference
        _require_a_comparison(options, reference, run_labels)
        table = CheckTable([phase.name for phase in manifest.phases], LIMITS[manifest.precision])
        is_whole = file.is_network_intact
        if not is_whole and manifest.plan is None:
            refuse_external_data(options.engine)
        table.add("network's hash", "as exported" if is_whole else "CHANGED", "as exported", is_whole)
        is_told = file.is_manifest_intact
        table.add("manifest", "as exported" if is_told else "CHANGED", "as exported", is_told)
        runtime, figures = None, None
        # A network that is not the one exported is not run: what it says would mean nothing.
        if is_whole:
            progress("loading")
            try:
                # As `segment` runs it, for that is what is to be trusted.
                choice = set_up(
                    file,
                    runtime=options.runtime,
                    device=options.device,
                    threads=options.threads,
                    batch=None,
                    use_profile=False,
                ).choice
                with open_engine(file, choice.threads, choice.device, choice.runtime, choice.streams) as engine:
                    runtime = _runtime(engine)
                    table.add("provider", engine.provider, f"{engine.choice.runtime} on {engine.choice.device}", True)
                    if notice := saturation_notice(manifest.quantisation, instruction_sets()):
                        # Whether it matters is what the comparisons below tell.
                        table.add("processor", notice, "", True)
                    if reference is not None:
                        progress("reference tiles")
                        figures = check_reference(table, engine, reference)
                    _compare(table, options, engine, reference, run_labels, progress)
            except (InputError, FieldError) as error:
                if is_told:
                    raise
                # It fails in any case, and the record of that is what was asked for.
                table.add("comparison", str(error), "possible", False)
    if table.passed and (reference is not None or options.against is not None):
        _mark_verified(options.engine, manifest, reference, figures)
    return {
        "verify_version": VERIFY_VERSION,
        "passed": table.passed,
        "date": datetime.now(UTC).astimezone().isoformat(timespec="seconds"),
        "microseg": __version__,
        "machine": machine(),
        "engine": {
            "name": options.engine.name,
            "sha256": file.sha256,
            "model_sha256": manifest.model_sha256,
            "precision": manifest.precision,
        },
        "runtime": runtime,
        "reference": None if reference is None else {"origin": reference.origin, "tiles": len(reference.tiles)},
        "against": None if options.against is None else options.against.name,
        "fields": None if options.fields is None else options.fields.name,
        "checks": table.rows(),
    }


def markdown(content: dict[str, Any]) -> str:
    """The record of `verify` as a page to file."""
    engine, machine_facts, runtime = content["engine"], content["machine"], content["runtime"]
    lines = [
        f"# {engine['name']}: {'passed' if content['passed'] else 'FAILED'}",
        "",
        f"- {content['date']}, microseg {content['microseg']}",
        f"- engine: SHA-256 {engine['sha256']}, network {engine['model_sha256']}, {engine['precision']}",
        f"- machine: {', '.join([machine_facts['processor'], *machine_facts['gpus']])}, "
        f"{machine_facts['processors']} processors, {machine_facts['system']}, Python {machine_facts['python']}",
    ]
    if runtime is not None:
        lines.append(f"- computed by: {runtime['name']} {runtime['version']}, {runtime['provider']}")
    if content["fields"] is not None:
        lines.append(
            f"- fields: {content['fields']}" + (f" against {content['against']}" if content["against"] else "")
        )
    lines += ["", "| check | found | allowed | |", "| --- | --- | --- | --- |"]
    for check in content["checks"]:
        cells = [str(check[key]).replace("|", "\\|") for key in ("check", "found", "limit")]
        lines.append(f"| {' | '.join(cells)} | {'ok' if check['passed'] else '**FAILED**'} |")
    return "\n".join(lines) + "\n"


def _compare(
    table: CheckTable,
    options: VerifyOptions,
    engine: Engine,
    reference: Reference | None,
    run_labels: Labeller | None,
    progress: Callable[[str], None],
) -> None:
    """What `--against` and FIELDS ask for."""
    is_student = engine.manifest.distillation is not None
    if run_labels is not None:
        if is_student != options.against_student:
            table.limit = STUDENT
        _compare_fields(table, options, engine, run_labels, progress)
    elif options.against is not None:
        # A changed engine cannot say what is right.
        against = EngineFile(options.against).require_intact()
        with open_engine(against, options.threads) as other:
            _require_same_phases(options.against, engine.manifest, other.manifest)
            table.limit = limit_between(engine.manifest.precision, other.manifest.precision)
            if is_student != (other.manifest.distillation is not None):
                table.limit = STUDENT
            if options.fields is not None:
                _compare_fields(table, options, engine, _labeller(other, options.against), progress)
                return
            tiles = reference or against.reference
            if tiles is None:
                raise InputError(f"{options.against}: holds no reference tiles either. Remedy: give FIELDS.")
            check_tiles_against(table, engine, other, tiles, options.against.name)
    elif options.fields is not None:
        if not load_domain(options.fields).phases:
            raise InputError(
                f"{options.fields}: holds no masks to compare with. Remedy: --against ENGINE or RUN, or labelled fields."
            )
        scores = evaluate_opened(engine, options.engine, options.fields, options.domain, progress)
        worst = min(fold.miou for fold in engine.manifest.folds)
        least = max(0.0, worst - _MIOU_SLACK) if options.min_miou is None else options.min_miou
        check_masks(table, scores["miou"], least)


def _mark_verified(path: Path, manifest: Manifest, reference: Reference | None, figures: PlanComparison | None) -> None:
    """A plan may have been built without the card that it runs on; from now on its manifest says that it was tried."""
    if manifest.plan is None or manifest.plan.verified:
        return
    plan = manifest.plan.model_copy(update={"verified": True, "comparison": figures})
    # Who may run an installation need not be allowed to change it; the record of `verify` counts then.
    with suppress(OSError):
        write_text(plan_manifest_path(path), text_beside(manifest.model_copy(update={"plan": plan}), reference))


def _compare_fields(
    table: CheckTable, options: VerifyOptions, engine: Engine, theirs: Labeller, progress: Callable[[str], None]
) -> None:
    assert options.fields is not None and options.against is not None
    manifest = engine.manifest
    given = resolve_input(options.fields, manifest, options.domain, None)

    def opening(path: Path) -> OpenField:
        fallback_um = given.fallback_pixel_size_um
        return lambda: open_prepared(path, given.preparation, manifest.grid, fallback_pixel_size_um=fallback_um)

    fields = [(field.name, opening(field.path)) for field in given.fields]
    found = compare_fields(fields, len(manifest.phases), _labeller(engine, options.engine), theirs, progress)
    check_fields(table, found, options.against.name)


def _labeller(engine: Engine, path: Path) -> Labeller:
    largest = max_tile_pixels(engine.manifest, path.stat().st_size, None)
    return lambda image: label_field(engine, image, largest)[0]


def _require_a_comparison(options: VerifyOptions, reference: Reference | None, run_labels: Labeller | None) -> None:
    if run_labels is not None and options.fields is None:
        raise InputError(f"--against {options.against}: a run is compared on micrographs. Remedy: give FIELDS.")
    if reference is None and options.fields is None and options.against is None:
        raise InputError(
            f"{options.engine}: holds no reference tiles (exported without them, or by an earlier version), so there is "
            "nothing to compare with. Remedy: export it again, or give FIELDS with masks or with --against ENGINE or RUN."
        )


def _require_same_phases(path: Path, ours: Manifest, theirs: Manifest) -> None:
    names = [[phase.name for phase in manifest.phases] for manifest in (ours, theirs)]
    if names[0] != names[1]:
        raise InputError(
            f"--against {path}: tells {', '.join(names[1])} apart, this engine {', '.join(names[0])}. "
            "Remedy: an engine of the same run."
        )


def _runtime(engine: Engine) -> dict[str, Any]:
    choice = engine.choice
    return {
        "name": choice.runtime,
        "version": engine.version,
        "provider": engine.provider,
        "device": choice.device,
        "threads": choice.threads,
        "streams": choice.streams,
    }
