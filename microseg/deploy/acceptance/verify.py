"""`microseg verify`, the acceptance test of an installation: the engine must compute here what it computed at its export."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path

from microseg import __version__
from microseg.agreement.check_table import CheckTable
from microseg.agreement.fields import Labeller, OpenField, check_fields, check_masks, compare_fields
from microseg.agreement.reference_tiles import check_reference, check_tiles_against
from microseg.core.domains.domain import load_domain
from microseg.core.errors import FieldError, InputError
from microseg.core.preparation.field_scale import ScaleRules
from microseg.core.preparation.prepared_field import open_prepared
from microseg.core.schemas.manifest import Manifest
from microseg.core.schemas.plan import PlanComparison, plan_manifest_path
from microseg.core.schemas.reference import Reference
from microseg.core.schemas.tolerance import LIMITS, STUDENT_LIMIT, limit_between
from microseg.core.system.files import require_writable, write_json, write_text, writing
from microseg.core.system.machine import machine
from microseg.core.system.processor import instruction_sets, saturation_notice
from microseg.core.system.targets import resolved
from microseg.deploy.acceptance.verify_record import (
    CheckRow,
    ReferenceSummary,
    VerifiedEngine,
    VerifiedRuntime,
    VerifyRecord,
)
from microseg.deploy.evaluate import evaluate_opened
from microseg.deploy.pipeline.inputs import InputField, resolve_input
from microseg.deploy.pipeline.tile_memory import max_tile_pixels
from microseg.deploy.tuning.profile import segment_config
from microseg.runtime import Device, Engine, EngineFile, Runtime, open_configured, open_engine
from microseg.runtime.engine_metadata import text_beside
from microseg.runtime.external import refuse_external_data
from microseg.runtime.tiled_prediction import label_field

# Labelled fields of an installation may be harder than the held-out fields of training; a larger loss of mIoU is a fault.
_MIOU_SLACK = 0.05
# Names that `--out` may have: the page's name stands for the record too.
_SUFFIXES = (".json", ".md", "")


@dataclass(frozen=True)
class VerifyOptions:
    """What the user asked for.

    Attributes:
        engine: the engine to verify.
        fields: micrographs to compare on with `against`; labelled fields (a domain) without it.
        against: another engine or a run to compare with.
        domain: name of the domain whose preparation applies; None for the engine's default.
        runtime: the runtime that runs the engine; None: chosen by the file and the hardware.
        device: the device that it computes on; None as above.
        threads: CPU threads of the network; None as above.
        min_miou: mean IoU that labelled fields must reach, 0-1; None for that of the worst fold less 0.05.
    """

    engine: Path
    fields: Path | None = None
    against: Path | None = None
    domain: str | None = None
    runtime: Runtime | None = None
    device: Device | None = None
    threads: int | None = None
    min_miou: float | None = None


@dataclass(frozen=True)
class RunLabeller:
    """A run that an engine is compared with.

    Attributes:
        label: the labels of its networks, uint8 (h, w), for a prepared field uint8 (h, w).
        is_student: whether the run is a student (`microseg distill`).
    """

    label: Labeller
    is_student: bool


OpenRun = Callable[[Path, list[str]], RunLabeller]
"""Opens a run, given its folder and the phases of the engine by index. It needs torch, so the caller passes it in."""


def verify_to_file(
    options: VerifyOptions, out: Path, open_run: OpenRun, progress: Callable[[str], None] = lambda step: None
) -> tuple[VerifyRecord, Path, Path]:
    """Verify an installed engine and write the record.

    Args:
        options: what to verify, and on what.
        out: the record (.json). The same as a page goes beside it (.md). Both are replaced if they exist.
        open_run: opens the run of `options.against`.
        progress: called with the name of each step as it begins.

    Returns:
        The record, the path of the record, and the path of the page.

    Raises:
        InputError: `out` cannot be used, or as `verify` raises.
    """
    if out.suffix.lower() not in _SUFFIXES:
        raise InputError(f"--out {out}: the record is a .json file. Remedy: --out {out.name}.json.")
    path, page = out.with_suffix(".json"), out.with_suffix(".md")
    for engine in (options.engine, options.against):
        if engine is not None and resolved(path) == resolved(plan_manifest_path(engine)):
            raise InputError(f"--out {out}: would replace the manifest of {engine}. Remedy: another --out.")
    require_writable(path)
    record = verify(options, open_run, progress)
    with writing(path):
        write_json(path, record.model_dump(mode="json"))
        write_text(page, record.markdown())
    return record, path, page


def verify(
    options: VerifyOptions, open_run: OpenRun, progress: Callable[[str], None] = lambda step: None
) -> VerifyRecord:
    """Verify an installed engine.

    The manifest of a plan that passes is marked as verified, where the file can be written.

    Args:
        options: what to verify, and on what.
        open_run: opens the run of `options.against`; not called where that is an engine.
        progress: called with the name of each step as it begins.

    Returns:
        The record; its `passed` is the verdict.

    Raises:
        InputError: there is nothing to compare with, or a file cannot be used.
        FieldError: the engine cannot compute a tile.
        MissingExtraError: the runtime is not installed.
    """
    with EngineFile(options.engine).unchanged() as file:
        manifest, reference = file.manifest, file.reference
        run = None
        if options.against is not None and options.against.is_dir():
            run = open_run(options.against, [phase.name for phase in manifest.phases])
            _require_fields(options)
        _require_a_comparison(options, reference)
        table = CheckTable([phase.name for phase in manifest.phases], LIMITS[manifest.precision])
        is_intact = file.is_network_intact
        if not is_intact and manifest.plan is None:
            refuse_external_data(options.engine)
        for part, is_whole in (("network's hash", is_intact), ("manifest", file.is_manifest_intact)):
            table.add(part, "as exported" if is_whole else "CHANGED", "as exported", is_whole)
        runtime, figures = None, None
        # A network that is not the exported one is not run: its labels would mean nothing.
        if is_intact:
            progress("loading")
            try:
                with _opened(file, options) as engine:
                    runtime = _runtime(engine)
                    table.add("provider", engine.provider, f"{engine.config.runtime} on {engine.config.device}", True)
                    if notice := saturation_notice(manifest.quantisation, instruction_sets()):
                        # A notice: the comparisons below show whether it matters.
                        table.add("processor", notice, "", True)
                    if reference is not None:
                        progress("reference tiles")
                        figures = check_reference(table, engine, reference)
                    _compare(table, options, engine, reference, run, progress)
            except (InputError, FieldError) as error:
                if file.is_manifest_intact:
                    raise
                # The test has failed already. The user asked for a record of that.
                table.add("comparison", str(error), "possible", False)
    if table.passed and (reference is not None or options.against is not None):
        _mark_verified(options.engine, manifest, reference, figures)
    return _record(options, file, runtime, table)


def _opened(file: EngineFile, options: VerifyOptions) -> Engine:
    """The engine as `segment` opens it, because `segment` is what the test is about."""
    config = segment_config(
        file,
        runtime=options.runtime,
        device=options.device,
        threads=options.threads,
        batch=None,
        use_profile=False,
    )
    return open_configured(file, config.runtime_config)


def _record(
    options: VerifyOptions, file: EngineFile, runtime: VerifiedRuntime | None, table: CheckTable
) -> VerifyRecord:
    manifest, reference = file.manifest, file.reference
    return VerifyRecord(
        passed=table.passed,
        date=datetime.now(UTC).astimezone().isoformat(timespec="seconds"),
        microseg=__version__,
        machine=machine(),
        engine=VerifiedEngine(
            name=options.engine.name,
            sha256=file.sha256,
            model_sha256=manifest.model_sha256,
            precision=manifest.precision,
        ),
        runtime=runtime,
        reference=None if reference is None else ReferenceSummary(origin=reference.origin, tiles=len(reference.tiles)),
        against=None if options.against is None else options.against.name,
        fields=None if options.fields is None else options.fields.name,
        checks=[CheckRow(check=row.check, found=row.found, limit=row.limit, passed=row.passed) for row in table.checks],
    )


def _compare(
    table: CheckTable,
    options: VerifyOptions,
    engine: Engine,
    reference: Reference | None,
    run: RunLabeller | None,
    progress: Callable[[str], None],
) -> None:
    """Add the checks that `--against` and FIELDS ask for."""
    is_student = engine.manifest.distillation is not None
    if run is not None:
        if is_student != run.is_student:
            table.limit = STUDENT_LIMIT
        _compare_fields(table, options, engine, run.label, progress)
    elif options.against is not None:
        against = EngineFile(options.against).require_intact()
        with open_engine(against, options.threads) as other:
            _require_same_phases(options.against, engine.manifest, other.manifest)
            table.limit = limit_between(engine.manifest.precision, other.manifest.precision)
            if is_student != (other.manifest.distillation is not None):
                table.limit = STUDENT_LIMIT
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
        scores = evaluate_opened(engine, options.engine.stat().st_size, options.fields, options.domain, progress)
        worst = min(fold.miou for fold in engine.manifest.folds)
        least = max(0.0, worst - _MIOU_SLACK) if options.min_miou is None else options.min_miou
        check_masks(table, scores["miou"], least)


def _compare_fields(
    table: CheckTable, options: VerifyOptions, engine: Engine, theirs: Labeller, progress: Callable[[str], None]
) -> None:
    assert options.fields is not None and options.against is not None
    manifest = engine.manifest
    given = resolve_input(options.fields, manifest, options.domain, {})

    rules = ScaleRules(assumed=given.assumed, trained=manifest.known_pixel_sizes)

    def opening(field: InputField) -> OpenField:
        preparation = given.preparation_of(field)
        return lambda: open_prepared(field.path, preparation, manifest.grid, rules)

    fields = [(field.name, opening(field)) for field in given.fields]
    found = compare_fields(fields, len(manifest.phases), _labeller(engine, options.engine), theirs, progress)
    check_fields(table, found, options.against.name)


def _labeller(engine: Engine, path: Path) -> Labeller:
    largest = max_tile_pixels(engine.manifest, path.stat().st_size, None)
    return lambda image: label_field(engine, image, largest)[0]


def _mark_verified(path: Path, manifest: Manifest, reference: Reference | None, figures: PlanComparison | None) -> None:
    """Mark a plan as verified in its manifest: it may have been built on a machine without the card that runs it."""
    if manifest.plan is None or manifest.plan.verified:
        return
    plan = manifest.plan.model_copy(update={"verified": True, "comparison": figures})
    # A user who may run the installation may not be allowed to change it. The record of `verify` is enough then.
    with suppress(OSError):
        write_text(plan_manifest_path(path), text_beside(manifest.model_copy(update={"plan": plan}), reference))


def _require_fields(options: VerifyOptions) -> None:
    if options.fields is None:
        raise InputError(f"--against {options.against}: a run is compared on micrographs. Remedy: give FIELDS.")


def _require_a_comparison(options: VerifyOptions, reference: Reference | None) -> None:
    if reference is None and options.fields is None and options.against is None:
        raise InputError(
            f"{options.engine}: holds no reference tiles (exported without them, or by an earlier version), and no other "
            "comparison was asked for. Remedy: export it again, or give FIELDS with masks or with --against ENGINE or RUN."
        )


def _require_same_phases(path: Path, ours: Manifest, theirs: Manifest) -> None:
    names = [[phase.name for phase in manifest.phases] for manifest in (ours, theirs)]
    if names[0] != names[1]:
        raise InputError(
            f"--against {path}: its phases are {', '.join(names[1])}, those of the engine {', '.join(names[0])}. "
            "Remedy: an engine of the same run."
        )


def _runtime(engine: Engine) -> VerifiedRuntime:
    config = engine.config
    return VerifiedRuntime(
        name=config.runtime,
        version=engine.version,
        provider=engine.provider,
        device=config.device,
        threads=config.threads,
        streams=config.streams,
    )
