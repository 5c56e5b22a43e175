"""What names suggest as specimens, and that the rule gives these groups."""

from __future__ import annotations

from pathlib import Path

import pytest

from microseg.core.domains.fingerprint.names import suspected_groups
from microseg.core.domains.pairing import field_groups


@pytest.mark.parametrize(
    ("names", "rule", "groups"),
    [
        ([f"spot{spot}_{side}_{tile}.tif" for spot in (1, 2, 12) for side in ("0d", "180d") for tile in range(3)],
         "^(spot[0-9]+)", {"spot1", "spot2", "spot12"}),
        ([f"patch_{number}_{tile}.jpg" for number in (1, 2, 10) for tile in range(4)],
         "^(patch_[0-9]+)", {"patch_1", "patch_2", "patch_10"}),
        ([f"{sample}_{tile:03}.png" for sample in ("steelA", "alloy") for tile in range(4)],
         "^([A-Za-z]+)", {"steelA", "alloy"}),
        ([f"{sample}/{tile}.png" for sample in ("one", "two") for tile in range(3)], "folder", {"one", "two"}),
        ([f"{part}/S{spot}-{tile}.png" for part in ("train", "test") for spot in (1, 2) for tile in range(3)],
         "^(S[0-9]+)", {"S1", "S2"}),
    ],
)  # fmt: skip
def test_specimens(names: list[str], rule: str, groups: set[str]) -> None:
    found = suspected_groups(names)
    assert found is not None
    assert (found.rule, found.groups) == (rule, len(groups))
    assert set(field_groups(Path("d"), [Path(name) for name in names], found.rule)) == groups


@pytest.mark.parametrize(
    "names",
    [
        [f"img{number:03}.png" for number in range(12)],
        ["1070-10H.jpg", "1070-150H.jpg", "1070-300H.jpg", "1070-500H.jpg"],
        ["a.png", "b.png"],
        ["alone.png"],
        ["a1.png", "a2.png", "7.png", "8.png"],
        [f"{number}_field.tif" for number in range(9)],
    ],
)
def test_names_that_suggest_nothing(names: list[str]) -> None:
    assert suspected_groups(names) is None
