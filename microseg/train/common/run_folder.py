"""The run folder: claimed by a new run, continued by the same one, read back."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from PIL import Image
from pydantic import BaseModel, ValidationError

from microseg.core.errors import InputError
from microseg.core.evaluation.metrics import iou, mean_iou
from microseg.core.preparation.tiling import extract, plan_tiles
from microseg.core.schemas.bag import Fingerprint, FoldInfo, PhaseInfo, TrainingField
from microseg.core.schemas.preparation import DomainEntry
from microseg.core.schemas.run import RunRecord, RunSummary, read_record, read_run
from microseg.core.system.files import replacing, sha256_of, write_json, write_text, write_yaml
from microseg.models.build import build_network, load_folds
from microseg.models.network import Network
from microseg.train.common import checkpoint
from microseg.train.common.datasets import LabelledField
from microseg.train.common.optimiser_step import training_device
from microseg.train.common.recipe import Recipe
from microseg.train.common.score import or_none

VERSIONS = ("microseg", "torch", "segmentation-models-pytorch", "timm", "albumentations", "numpy")
PARITY_TILES, PARITY_MAX_PIXELS = 2, 1 << 18
# What makes two runs the same: a run is continued only where all of these agree.
_IDENTITY = (
    "recipe", "phases", "domain", "grid", "fields", "blocks", "unlabelled", "dataset_sha256", "continued_from",
    "adaptation", "folds",
)  # fmt: skip


@dataclass(frozen=True)
class FoldResult:
    """What a finished fold leaves.

    info: Scores on the held-out fields, and the hash of the weights.
    fingerprint: Mean and standard deviation of the features over these fields.
    seconds: Time of training, interruptions left out.
    """

    info: FoldInfo
    fingerprint: Fingerprint
    seconds: float


def refuse_existing(out: Path, resume: bool) -> None:
    """Check a run folder before anything is read: it is new, or `resume` continues the run in it. Raises InputError."""
    if (out / "run.yaml").is_file():
        if not resume:
            raise InputError(f"{out}: exists. Remedy: --resume to continue it, or another --out.")
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out}: exists and is not a run folder. Remedy: another --out.")


def claim_folder(out: Path, record: Mapping[str, Any], difference: Callable[[], str | None]) -> None:
    """Write `run.yaml` into a new folder, or check that an existing one holds this very run.

    Args:
        out: The run folder.
        record: The content of `run.yaml`.
        difference: Names the first key in which an existing record is another; None where they agree.

    Raises:
        InputError: The folder holds another run.
    """
    if not (out / "run.yaml").is_file():
        write_yaml(out / "run.yaml", dict(record))
        write_text(out / ".gitignore", "*\n")
    elif key := difference():
        raise InputError(
            f"{out}: holds a run with another {key}. Remedy: the same command as before, or another --out."
        )


def claim_run(out: Path, record: RunRecord, recipe: type[BaseModel]) -> None:
    """`claim_folder` for runs of segmentation networks.

    Args:
        out: The run folder.
        record: The run's record.
        recipe: The kind of recipe that it holds.

    Raises:
        InputError: The folder holds another run.
    """

    def difference() -> str | None:
        try:
            ours, theirs = (_comparable(item, recipe) for item in (record, read_record(out)))
        except ValidationError as error:
            raise InputError(f"{out}: holds a run of another kind. Remedy: another --out.") from error
        return next((key for key in _IDENTITY if getattr(ours, key) != getattr(theirs, key)), None)

    claim_folder(out, record.model_dump(mode="json"), difference)


def _comparable(record: RunRecord, recipe: type[BaseModel]) -> RunRecord:
    """The record without a grey curve, and with the recipe's keys that a run of an older version lacks, at their defaults."""
    completed = recipe.model_validate(record.recipe).model_dump(mode="json")
    plain = with_tone(record.model_copy(update={"recipe": completed, "domain": _without_source(record.domain)}), None)
    if plain.adaptation is None:
        return plain
    target = _without_source(plain.adaptation.target)
    return plain.model_copy(update={"adaptation": plain.adaptation.model_copy(update={"target": target})})


def _without_source(entry: DomainEntry) -> DomainEntry:
    """A domain without the source of its pixel size, which runs of earlier versions do not name."""
    return entry.model_copy(update={"pixel_size_source": None})


def with_tone(record: RunRecord, tone: tuple[int, ...] | None) -> RunRecord:
    """The record with another grey curve in its target's preparation.

    The curve is found last. A run that was interrupted after that holds it, and is the same run.
    """
    if record.adaptation is None:
        return record
    entry = record.adaptation.target
    entry = entry.model_copy(update={"preparation": entry.preparation.model_copy(update={"tone": tone})})
    return record.model_copy(update={"adaptation": record.adaptation.model_copy(update={"target": entry})})


def finished_summary(out: Path) -> RunSummary | None:
    """The summary of a finished run; None where the run is not finished. Raises InputError."""
    return read_run(out)[1] if (out / "summary.json").is_file() else None


def provenance() -> dict[str, Any]:
    """When and by what a run is made: the keys `git_commit`, `created` and `versions` of its record."""
    return {
        "git_commit": _git_commit(),
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "versions": {name: _package_version(name) for name in VERSIONS},
    }


def recorded_field(item: LabelledField, fold: int) -> TrainingField:
    """A field as a run records it. fold: the one that holds it out, -1 for none."""
    return TrainingField(name=item.field.name, sha256=item.sha256, group=item.field.group, fold=fold)


def fold_info(index: int, confusion: NDArray[np.int64], phases: Sequence[PhaseInfo], weights: Path) -> FoldInfo:
    """Scores of a fold from its confusion (P, P) on the held-out fields, and the hash of its weights file."""
    values = iou(confusion)
    return FoldInfo(
        index=index,
        miou=mean_iou(confusion),
        iou={phase.name: or_none(value) for phase, value in zip(phases, values, strict=True)},
        weights_sha256=sha256_of(weights),
    )


def fingerprint_of(fold: int, features: NDArray[np.float32]) -> Fingerprint:
    """Mean and standard deviation of features (n, D) of a fold."""
    return Fingerprint(fold=fold, mean=features.mean(0).tolist(), std=features.std(0).tolist())


def write_fold(folder: Path, result: FoldResult) -> None:
    """Write `fold.json`, which marks a fold as finished."""
    written = {
        "info": result.info.model_dump(),
        "fingerprint": result.fingerprint.model_dump(),
        "seconds": result.seconds,
    }
    write_json(folder / "fold.json", written)


def read_fold(folder: Path) -> FoldResult:
    """Read what `write_fold` wrote."""
    data = json.loads((folder / "fold.json").read_text(encoding="utf-8"))
    return FoldResult(
        FoldInfo.model_validate(data["info"]), Fingerprint.model_validate(data["fingerprint"]), data["seconds"]
    )


def summary_of(results: Sequence[FoldResult]) -> RunSummary:
    """Scores of all folds, with mean and sample standard deviation."""
    infos = [result.info for result in results]
    mious = np.array([info.miou for info in infos])
    names = list(infos[0].iou)
    table = {name: [v for info in infos if (v := info.iou[name]) is not None] for name in names}
    return RunSummary(
        folds=infos,
        fingerprints=[result.fingerprint for result in results],
        miou_mean=float(mious.mean()),
        miou_std=float(mious.std(ddof=1)) if len(mious) > 1 else 0.0,
        iou_mean={name: float(np.mean(v)) if v else None for name, v in table.items()},
        iou_std={name: float(np.std(v, ddof=1)) if len(v) > 1 else None for name, v in table.items()},
        seconds=sum(result.seconds for result in results),
    )


def load_networks(run: Path, record: RunRecord, summary: RunSummary) -> list[Network]:
    """All networks of a run in evaluation mode, on the GPU where there is one. Raises InputError."""
    device = training_device()
    return [network.to(device) for network in load_folds(run, record, summary)]


def load_network(recipe: Recipe, phases: int, weights: Path) -> Network:
    """One network of a recipe with the weights of a file, in evaluation mode, on the CPU. Raises InputError."""
    encoder = recipe.encoder.model_dump() | {"weights": "none"}
    network = build_network(encoder, recipe.network.model_dump(), phases)
    checkpoint.load_model(weights, network)
    return network.eval()


def save_parity_tiles(folder: Path, fields: Sequence[LabelledField], stride: int) -> None:
    """Keep a few tiles of fields in the run. An export compares on these real pixels and needs no data set."""
    for field in fields[:PARITY_TILES]:
        height, width = field.shape
        tiles = plan_tiles(height, width, stride, 0, PARITY_MAX_PIXELS)
        tile = tiles[len(tiles) // 2]
        pixels = extract(lambda start, stop, f=field: f.image[start:stop], tile, height, width)  # type: ignore[misc]
        with replacing(folder / f"{field.sha256[:16]}.png") as part:
            Image.fromarray(pixels).save(part, format="PNG")


def source_of_adaptation(run: Path, trained_on: Path | None = None) -> Path | None:
    """The source run that an unfinished adaptation in the folder `run` began with.

    Args:
        run: A run folder, or one that does not exist yet.
        trained_on: The labelled domain that the source run must have been trained on, if the user named one.

    Returns:
        The source run; None where `run` holds no adaptation, or one of another domain.
    """
    record = read_record(run) if (run / "run.yaml").is_file() else None
    if record is None or record.adaptation is None:
        return None
    if trained_on is not None and trained_on.resolve() != Path(record.domain_source):
        return None
    return Path(record.adaptation.source_run)


def newest_supervised_run(runs: Path, trained_on: Path | None = None) -> Path:
    """The finished supervised run that was written last.

    Args:
        runs: The folder of run folders.
        trained_on: The labelled domain that the run must have been trained on, if the user named one.

    Raises:
        InputError: There is none.
    """
    if trained_on is not None and not trained_on.exists():
        raise InputError(
            f"{trained_on}: does not exist. Remedy: a run folder, or the labelled domain that one was trained on."
        )
    found = []
    for path in sorted(runs.glob("*/run.yaml")) if runs.is_dir() else []:
        if (path.parent / "summary.json").is_file():
            try:
                record = read_record(path.parent)
            except InputError:
                continue
            is_supervised = record.adaptation is None and record.distillation is None
            if is_supervised and (trained_on is None or trained_on.resolve() == Path(record.domain_source)):
                found.append(((path.parent / "summary.json").stat().st_mtime, path.parent))
    if not found:
        which = f" of {trained_on}" if trained_on else ""
        raise InputError(
            f"{runs}: holds no finished supervised run{which}. Remedy: `microseg train supervised "
            f"{trained_on or 'DOMAIN'}` first, or --source RUN."
        )
    return max(found)[1]


def _git_commit() -> str | None:
    """The commit of the checkout that the code runs from; None for an installed package."""
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def _package_version(package: str) -> str:
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"
