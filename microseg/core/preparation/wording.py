"""A preparation in words, for tables and reports."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from microseg.core.images.pixel_size import ASSUMED, NO_SIZE
from microseg.core.schemas.preparation import Crop, DomainEntry, Intensity, Preparation

_LISTED = 5


def preparation_text(preparation: Preparation) -> str:
    """What is cut off, whether the grey values are inverted, and how they become 8 bit, in one line."""
    cut = crop_text(preparation.crop)
    return "; ".join(
        [
            f"cut off: {cut}" if cut else "nothing cut off",
            "inverted" if preparation.invert else "not inverted",
            f"{intensity_text(preparation.intensity)} to 8 bit",
        ]
    )


def crop_text(crop: Crop) -> str:
    """The sides that lose pixels: "60 px at the bottom"; empty where none does."""
    sides = {"top": crop.top_px, "bottom": crop.bottom_px, "left": crop.left_px, "right": crop.right_px}
    return ", ".join(f"{size} px at the {side}" for side, size in sides.items() if size)


def intensity_text(rule: Intensity) -> str:
    """The range of grey values that becomes 8 bit."""
    match rule.rule:
        case "percentiles":
            return f"percentiles {rule.low:g} to {rule.high:g} of each field"
        case "bit_depth" | "significant_bits" if rule.bits is not None:
            return f"{rule.bits} significant bits"
        case "bit_depth" | "significant_bits":
            return "significant bits"
        case _:
            return "full range"


def pixel_sizes_text(sizes: Iterable[tuple[float | None, str | None]]) -> str:
    """Pixel sizes with their sources, the most frequent first: "0.0277 um (domain.yaml)"; "unknown" without one.

    Args:
        sizes: edge along a row in micrometres and source of each field, None where it has none.
    """
    counts = Counter("unknown" if um is None else f"{um:.5g} um ({source})" for um, source in sizes)
    texts = [text if len(counts) == 1 else f"{text}: {_fields(count)}" for text, count in counts.most_common(_LISTED)]
    others = sum(counts.values()) - sum(count for _, count in counts.most_common(_LISTED))
    return "; ".join([*texts, *([f"others: {_fields(others)}"] if others else [])]) or "unknown"


def domain_pixel_size_text(entry: DomainEntry) -> str:
    """The pixel size of a domain of a run or an engine with its source: "0.0277 um (domain.yaml)"; no number is assumed."""
    size, source = entry.preparation.pixel_size_um, entry.pixel_size_source
    if size is None:
        return NO_SIZE
    if source == ASSUMED:
        return source
    return f"{size:.5g} um" + (f" ({source})" if source else "")


def sources_text(counts: Mapping[str, int]) -> str:
    """Sources of pixel sizes: "domain.yaml", or with the number of fields where there are several.

    Args:
        counts: number of fields by source, the most frequent first.
    """
    if len(counts) == 1:
        return next(iter(counts))
    listed = list(counts.items())
    texts = [f"{source} ({_fields(count)})" for source, count in listed[:_LISTED]]
    others = sum(count for _, count in listed[_LISTED:])
    return ", ".join([*texts, *([f"others ({_fields(others)})"] if others else [])])


def _fields(count: int) -> str:
    return "1 field" if count == 1 else f"{count} fields"
