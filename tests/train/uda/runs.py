"""Short adaptations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from microseg.core.schemas.run import RunSummary, read_run
from microseg.train.recipe_files import load_uda_recipe
from microseg.train.uda.command import AdaptationOptions, run_uda

SHORT = ["steps=4", "batch=1", "snapshot_every=2"]
ONCE = ["steps=2", "batch=1", "snapshot_every=2"]


def adapted(place: Path, out: Path, method: str, settings: list[str] | None = None, **options: Any) -> RunSummary:
    name, recipe = load_uda_recipe(f"uda-{method}", SHORT if settings is None else settings)
    given: dict[str, Any] = {"auto": method == "auto", "folds": 1, "control": False}
    target = place / ("labelled" if options.get("oracle") else "t2")
    resume = options.pop("resume", False)
    chosen = AdaptationOptions(**(given | options))
    return run_uda(target, place / "runs" / "s-tiny", name, recipe, out, chosen, resume=resume)


def adapted_once(place: Path, method: str) -> tuple[Path, RunSummary]:
    """The run of a method with the settings `ONCE`, which the first test that needs it makes and others read."""
    run = place / "once" / method
    return run, read_run(run)[1] if run.exists() else adapted(place, run, method, ONCE)
