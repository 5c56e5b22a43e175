"""A preparation in words, for tables and reports."""

from __future__ import annotations

from microseg.core.schemas.preparation import Crop, Intensity, Preparation


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
