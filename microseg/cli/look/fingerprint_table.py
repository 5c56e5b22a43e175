"""The fingerprint of a domain as tables on the terminal."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from rich.console import Console

    from microseg.core.schemas.fingerprint import DatasetFingerprint, PhaseFingerprint


def print_fingerprint(console: Console, found: DatasetFingerprint) -> None:
    """Print the phases, then what the fields are like.

    Args:
        console: where to print.
        found: the fingerprint.
    """
    from microseg.cli.tables import TextTable, print_pairs

    has_um = any(phase.chord_um is not None for phase in found.phases)
    columns = ["area", "chord px", *(["chord um"] if has_um else []), "regions", "fields (groups)", "grey"]
    table = TextTable("Fingerprint (mean ± standard deviation)", ["phase"], columns, shortens=True)
    for phase in found.phases:
        table.add(phase.name, *_cells(phase, has_um))
    table.print(console)
    print_pairs(console, _lines(found))


def _cells(phase: PhaseFingerprint, has_um: bool) -> list[str]:
    micrometres = [_spread(phase.chord_um, phase.chord_std_um)] if has_um else []
    return [
        f"{100 * phase.area_share:.3g} %",
        _spread(phase.chord_px, phase.chord_std_px),
        *micrometres,
        str(phase.regions),
        f"{phase.fields} ({phase.groups})",
        _spread(phase.grey_mean, phase.grey_std),
    ]


def _spread(mean: float | None, std: float | None) -> str:
    return "-" if mean is None or std is None else f"{_figure(mean, 3)}±{_figure(std, 2)}"


def _figure(value: float, digits: int) -> str:
    """Without an exponent, which large intercepts would get."""
    return f"{value:.0f}" if value >= 10 ** (digits - 1) else f"{value:.{digits}g}"


def _lines(found: DatasetFingerprint) -> dict[str, str]:
    if found.focus_px is None:
        focus = "no edge stands out of the noise"
    else:
        focus = "sharper than pixels show" if found.focus_px < 0.5 else f"{found.focus_px:.1f} px"
    layers = "phases lie in layers" if found.orientation.is_layered else "no layers"
    place = f"rows explain {_percent(found.orientation.by_row)}, columns {_percent(found.orientation.by_column)}"
    lines = {
        "Grey values": f"{found.grey_mean:.0f} ± {found.grey_std:.0f}, 98 % from {found.grey_low:.0f} to {found.grey_high:.0f}",
        "Noise, sharpest edges": f"{found.noise_grey:.1f} grey values, {focus}",
        "Orientation": f"{layers} ({place})",
    }
    if found.unlabelled_share:
        lines["Unlabelled"] = _percent(found.unlabelled_share)
    if found.copies:
        across = sum(pair.is_across for pair in found.copies)
        lines["Copies and overlaps"] = f"{len(found.copies)} pairs, {across} of them of different groups"
    if found.shifted_masks:
        lines["Shifted masks"] = str(len(found.shifted_masks))
    return lines


def _percent(share: float) -> str:
    return f"{100 * share:.2g} %"
