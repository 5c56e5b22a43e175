"""The run folder: made, resumed, read back. The whole of `train supervised` on a domain stands in `run_supervised`."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from datetime import UTC, datetime
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path

import numpy as np
from PIL import Image
from pydantic import BaseModel, ValidationError

from microseg.core.errors import InputError
from microseg.core.preparation.tiling import extract, plan_tiles
from microseg.core.schemas.bag import Fingerprint, FoldInfo, TrainingField
from microseg.core.schemas.run import RunRecord, RunSummary, read_record, read_run
from microseg.core.system.files import replacing, write_json, write_text, write_yaml
from microseg.models.build import load_folds
from microseg.models.network import Network
from microseg.train.common.curves import plot_histories
from microseg.train.common.data import load_training_data
from microseg.train.common.datasets import LabelledField, with_labels
from microseg.train.common.parallel import FoldJob, default_workers, train_folds
from microseg.train.common.ranks import ranks_of_torchrun
from microseg.train.common.recipe import Recipe
from microseg.train.supervised.continued import read_earlier, refuse_other_phases
from microseg.train.supervised.loop import FoldResult, Report

VERSIONS = ("microseg", "torch", "segmentation-models-pytorch", "timm", "albumentations", "numpy")
PARITY_TILES, PARITY_MAX_PIXELS = 2, 1 << 18


def run_supervised(
    source: Path,
    recipe_name: str,
    recipe: Recipe,
    out: Path,
    *,
    resume: bool,
    only_folds: list[int] | None = None,
    on_fold: Callable[[int], Report] = lambda fold: lambda step, steps, text: None,
    workers: int | None = None,
    init: Path | None = None,
) -> RunSummary | None:
    """Train every fold of `source` into `out`; returns the summary, or None while folds are missing (`only_folds`).

    init: a finished run whose folds' weights are the start and whose labelled domain stays in the mix, half of the tiles.

    A finished run is left as it is. workers: processes that train, by default one for each GPU; under `torchrun` its
    ranks do, all together on fold after fold. Raises InputError: `out` exists without `resume`, or holds another run; the
    domain cannot be trained on.
    """
    ranks = ranks_of_torchrun()
    if ranks.writes:
        refuse_existing(out, resume)
    earlier = read_earlier(init, recipe) if init is not None else None
    data = earlier.read(source, recipe) if earlier else load_training_data(source, recipe.scale, recipe.folds)
    fields, held, phases, stride = data.fields, data.folds, data.phases, recipe.network.stride
    if earlier:
        refuse_other_phases(earlier, source, phases)
    record = RunRecord(
        recipe_name=recipe_name,
        recipe=recipe.model_dump(mode="json"),
        seed=recipe.seed,
        folds=recipe.folds,
        phases=phases,
        domain=data.entry,
        domain_source=str(source.resolve()),
        grid=data.grid,
        tile_core_px=recipe.tile.core_px,
        halo_px=recipe.halo_px,
        stride=stride,
        fields=[
            TrainingField(name=item.field.name, sha256=item.sha256, group=item.field.group, fold=fold)
            for item, fold in zip(fields, held, strict=True)
        ]
        + (earlier.held_out(recipe.folds) if earlier else []),
        continued_from=str(earlier.run.resolve()) if earlier else None,
        earlier_domains=earlier.domains_beside(data.entry.name) if earlier else [],
        dataset_sha256=data.sha256,
        git_commit=git_commit(),
        created=datetime.now(UTC).isoformat(timespec="seconds"),
        versions={name: package_version(name) for name in VERSIONS},
    )
    if ranks.writes:
        claim(out, record, Recipe)
    ranks.wait()
    if (out / "summary.json").is_file():
        return read_run(out)[1]
    jobs = []
    every = list(only_folds if only_folds is not None else range(recipe.folds))
    for fold in every:
        folder = out / f"fold{fold}"
        if (folder / "fold.json").is_file():
            continue
        others = [field for field, k in zip(fields, held, strict=True) if k != fold]
        seen = with_labels(others, recipe.label_share, recipe.seed)
        unseen = [field for field, k in zip(fields, held, strict=True) if k == fold]
        if ranks.writes:
            save_parity_tiles(folder / "parity", unseen, stride)
        start = None
        if earlier:
            seen, start = earlier.mixed(seen, fold), earlier.weights(fold)
        jobs.append(FoldJob(recipe, phases, seen, unseen, fold, folder, start))
    if ranks.size > 1:
        for job in jobs:
            job.run(on_fold(job.fold), ranks)
    else:
        train_folds(jobs, workers or default_workers(), on_fold, every)
    folders = [out / f"fold{fold}" for fold in range(recipe.folds)]
    if not all((folder / "fold.json").is_file() for folder in folders):
        return None
    summary = summary_of([read_fold(folder) for folder in folders])
    if earlier:
        summary = summary.model_copy(update={"earlier_miou": earlier.score(folders)})
    if ranks.writes:
        plot_histories(out / "history.png", folders)
        write_json(out / "summary.json", summary.model_dump(mode="json"))
    return summary


def read_fold(folder: Path) -> FoldResult:
    """What a finished fold left."""
    data = json.loads((folder / "fold.json").read_text(encoding="utf-8"))
    return FoldResult(
        FoldInfo.model_validate(data["info"]), Fingerprint.model_validate(data["fingerprint"]), data["seconds"]
    )


def load_networks(run: Path, record: RunRecord, summary: RunSummary) -> list[Network]:
    """The run's networks as `load_folds` gives them, on the GPU where the machine has one. Raises InputError."""
    import torch

    device = "cuda" if torch.cuda.is_available() else "cpu"
    return [network.to(device) for network in load_folds(run, record, summary)]


def summary_of(results: list[FoldResult]) -> RunSummary:
    """Scores of all folds, with mean and standard deviation."""
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


def refuse_existing(out: Path, resume: bool) -> None:
    """Before anything is read: `out` must be new, or a run to be resumed."""
    if (out / "run.yaml").is_file():
        if not resume:
            raise InputError(f"{out}: exists. Remedy: --resume to continue it, or another --out.")
    elif out.exists() and (not out.is_dir() or any(out.iterdir())):
        raise InputError(f"{out}: exists and is not a run folder. Remedy: another --out.")


def claim(out: Path, record: RunRecord, recipe: type[BaseModel]) -> None:
    """Write run.yaml into a new folder, or make sure that an existing one is this very run. recipe: the kind it has."""
    if (out / "run.yaml").is_file():
        before = read_record(out)
        # A run of an older version lacks the keys that came since; their defaults are what it did.
        try:
            completed = recipe.model_validate(before.recipe).model_dump(mode="json")
        except ValidationError as error:
            raise InputError(f"{out}: holds a run of another kind. Remedy: another --out.") from error
        before = before.model_copy(update={"recipe": completed})
        for key in ("recipe", "phases", "domain", "grid", "fields", "dataset_sha256", "continued_from"):
            if getattr(before, key) != getattr(record, key):
                raise InputError(
                    f"{out}: holds a run with another {key}. Remedy: the same command as before, or another --out."
                )
    else:
        write_yaml(out / "run.yaml", record.model_dump(mode="json"))
        write_text(out / ".gitignore", "*\n")


def save_parity_tiles(folder: Path, fields: list[LabelledField], stride: int) -> None:
    """Keep a few held-out tiles in the run, so that an export compares on real pixels without the data set."""
    for field in fields[:PARITY_TILES]:
        height, width = field.image.shape
        tiles = plan_tiles(height, width, stride, 0, PARITY_MAX_PIXELS)
        tile = tiles[len(tiles) // 2]
        pixels = extract(lambda start, stop, f=field: f.image[start:stop], tile, height, width)  # type: ignore[misc]
        with replacing(folder / f"{field.sha256[:16]}.png") as part:
            Image.fromarray(pixels).save(part, format="PNG")


def git_commit() -> str | None:
    """The checkout's commit, where the code runs from one."""
    try:
        done = subprocess.run(
            ["git", "rev-parse", "HEAD"], cwd=Path(__file__).parent, capture_output=True, text=True, timeout=10
        )
    except (OSError, subprocess.TimeoutExpired):
        return None
    return done.stdout.strip() or None


def package_version(package: str) -> str:
    """The installed version of a package."""
    try:
        return version(package)
    except PackageNotFoundError:
        return "not installed"


def begun_with(run: Path, trained_on: Path | None = None) -> Path | None:
    """The source run that an adaptation in the folder `run` began with, if there is one, and of that domain if asked."""
    record = read_record(run) if (run / "run.yaml").is_file() else None
    if record is None or record.adaptation is None:
        return None
    if trained_on is not None and trained_on.resolve() != Path(record.domain_source):
        return None
    return Path(record.adaptation.source_run)


def newest_supervised_run(runs: Path, trained_on: Path | None = None) -> Path:
    """The finished supervised run under `runs` that was written last, of one labelled domain if asked. Raises InputError."""
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
