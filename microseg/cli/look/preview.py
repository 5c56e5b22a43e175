"""`microseg preview DOMAIN`: training tiles as the network sees them."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from microseg.core.plain_text import plain_name


def preview(
    domain: Annotated[Path, typer.Argument(help="Labelled domain: a folder, or a YAML file that describes one.")],
    recipe: Annotated[str, typer.Option(help="Name of a shipped recipe, or a YAML file.")] = "auto",
    out: Annotated[Path, typer.Option(metavar="PNG", help="Picture to write.")] = Path("preview.png"),
    settings: Annotated[
        list[str] | None, typer.Option("--set", metavar="KEY=VALUE", help="Override a key of the recipe; repeatable.")
    ] = None,
    tiles: Annotated[int, typer.Option(min=1, max=50, help="Tiles to show.")] = 4,
    folds: Annotated[int | None, typer.Option(min=2, help="Folds of the cross-validation, by group.")] = None,
    seed: Annotated[int | None, typer.Option(min=0, help="Seed of everything that is drawn.")] = None,
) -> None:
    """Draw training tiles with their labels, before and after the augmentation."""
    from microseg.core.preparation.wording import domain_pixel_size_text
    from microseg.train.recipe_files import AUTO, load_recipe

    if recipe == AUTO:
        from microseg.train.auto.command import recipe_of_rules
        from microseg.train.auto.options import AutoOptions

        loaded = recipe_of_rules(domain, AutoOptions(settings=settings or (), folds=folds, seed=seed))
    else:
        loaded = load_recipe(recipe, settings or [], folds=folds, seed=seed)[1]

    from microseg.train.analysis.preview import preview as draw

    entry = draw(domain, loaded, out, tiles)
    typer.echo(f"Tiles before and after: {out}")
    typer.echo(f"Pixel size of the fields: {plain_name(domain_pixel_size_text(entry))}")
