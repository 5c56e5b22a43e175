"""`microseg train pretrain`: classified micrographs to an encoder."""

from __future__ import annotations

from enum import StrEnum
from pathlib import Path
from typing import Annotated

import typer

from microseg.cli.progress import training_progress
from microseg.core.plain_text import plain_name


class BurnedIn(StrEnum):
    """What happens to images with burned-in text."""

    LIST = "list"
    REFUSE = "refuse"


def pretrain(
    folder: Annotated[Path, typer.Argument(help="Classified micrographs: one folder of images for each class.")],
    init: Annotated[
        str | None,
        typer.Option(help="First weights of the encoder: imagenet, none, or a file.", show_default="recipe's"),
    ] = None,
    recipe: Annotated[str, typer.Option(help="Name of a shipped recipe, or a YAML file.")] = "pretrain-small",
    out: Annotated[Path | None, typer.Option(help="Run folder to write.", show_default="runs/FOLDER-RECIPE")] = None,
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the recipe; repeatable.")
    ] = None,
    crop_bottom_px: Annotated[int, typer.Option(min=0, help="Native rows of data bar to cut off every image.")] = 0,
    annotated: Annotated[
        BurnedIn | None,
        typer.Option(
            help="Look for burned-in text: `list` such images, or `refuse` them.", show_default="not looked for"
        ),
    ] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of everything that is drawn.")] = None,
    resume: Annotated[bool, typer.Option("--resume", help="Continue an interrupted run.")] = False,
) -> None:
    """Train an encoder to classify micrographs. `supervised --set encoder.weights=RUN` begins with it."""
    from microseg.cli.tables import output_console, say
    from microseg.train.recipe_files import load_pretrain_recipe

    name, loaded = load_pretrain_recipe(recipe, settings or [], init=init, seed=seed)
    run = out or Path("runs") / f"{folder.resolve().name}-{name}"

    from microseg.train.pretraining.command import run_pretrain

    console = output_console()
    with training_progress("pre-training") as on_fold:
        found = run_pretrain(
            folder, name, loaded, run, resume=resume, crop_bottom_px=crop_bottom_px,
            annotated=annotated.value if annotated else None, progress=on_fold(0),
        )  # fmt: skip
    if found.annotated:
        treated = "left out" if annotated is BurnedIn.REFUSE else "used nevertheless"
        names = ", ".join(map(plain_name, found.annotated))
        say(console, f"Images with burned-in annotations, {treated}: {names}")
    summary = found.summary
    say(
        console,
        f"{summary.encoder} from {summary.init}: recognises {100 * summary.accuracy:.1f} % of unseen files, mean over "
        f"{len(summary.classes)} classes ({summary.seconds / 60:.1f} min). Run: {run}",
    )
    encoder = f"--set encoder.name={summary.encoder} --set encoder.weights={run}"
    say(console, f"Next: microseg train supervised DOMAIN {encoder}")
