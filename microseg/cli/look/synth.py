"""`microseg synth`: a domain folder of synthetic micrographs with exact labels."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated

import typer

from microseg.core.errors import InputError

_SIDES = re.compile(r"(?P<width>[^x]+)(?:x(?P<height>[^x]+))?", re.IGNORECASE)


def synth(
    out: Annotated[
        Path,
        typer.Argument(help="Folder to write: images/, masks/, domain.yaml.", show_default=False),
    ],
    domain: Annotated[
        str,
        typer.Option(help="s, t1, t2 (SEM: source, other etchant, over-etched) or t3 (light microscope)."),
    ] = "s",
    fields: Annotated[int, typer.Option(help="Number of micrographs.")] = 10,
    field_um: Annotated[
        str | None,
        typer.Option(help="Width and height of a field in micrometres, W or WxH.", show_default="28.36x28.36"),
    ] = None,
    size: Annotated[
        str | None,
        typer.Option(help="Width and height of a field in native pixels, W or WxH, in place of --field-um."),
    ] = None,
    fraction: Annotated[float, typer.Option(help="Mean area fraction of lath bainite, 0 to 1.")] = 0.53,
    seed: Annotated[int, typer.Option(help="Seed; the same seed gives the same material in every domain.")] = 0,
) -> None:
    """Make synthetic micrographs of lath bainite and ferrite with exact labels."""
    from microseg.synthetic.folder import write_domain

    if field_um is not None and size is not None:
        raise InputError("--field-um and --size both state the size of a field. Remedy: give one of them.")
    width_height = _sides("--size", size, whole=True)
    images = write_domain(
        out,
        domain,
        fields,
        seed,
        field_um=_sides("--field-um", field_um),
        size_px=(int(width_height[0]), int(width_height[1])) if width_height else None,
        fraction=fraction,
    )
    typer.echo(f"{out}: {len(images)} field{'s' if len(images) > 1 else ''} of domain {domain.lower()}, with masks.")
    typer.echo(f"Next: microseg check {out}")


def _sides(option: str, text: str | None, whole: bool = False) -> tuple[float, float] | None:
    """Width and height from `W` or `WxH`. Raises InputError."""
    if text is None:
        return None
    match = _SIDES.fullmatch(text.strip())
    try:
        if match is None:
            raise ValueError
        width = float(match["width"])
        height = float(match["height"] or width)
        if whole and (width != int(width) or height != int(height)):
            raise ValueError
    except (ValueError, OverflowError):
        kind = "whole numbers of pixels" if whole else "um"
        raise InputError(f"{option} {text!r} is no size. Remedy: W or WxH in {kind}, such as 1024x717.") from None
    return width, height
