"""What masks show without a domain.yaml, and what is refused with a reason."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import yaml
from numpy.typing import NDArray
from PIL import Image

from microseg.core.domains.domain import load_domain, read_labels
from microseg.core.domains.inference import infer_phases, is_numbered_by_object
from microseg.core.errors import InputError
from microseg.core.pictures.png import MaskWriter
from microseg.core.schemas.bag import PhaseInfo
from tests.core.samples import halves, noise, write_domain


def inferred(folder: Path, *masks: NDArray[Any], unlabelled: int | None = None) -> tuple[list[Any], Any]:
    """The values of the phases and the value without label."""
    paths = []
    for number, mask in enumerate(masks):
        paths.append(folder / f"{number}.tif")
        tifffile.imwrite(paths[-1], mask)
    found = infer_phases(folder, paths, unlabelled)
    assert [phase.name for phase in found.phases] == [f"phase{index}" for index in range(len(found.phases))]
    return [phase.values[0] for phase in found.phases], found.unlabelled


@pytest.mark.parametrize(
    ("values", "unlabelled", "expected"),
    [
        ((0, 1), None, ([0, 1], None)),
        ((0,), None, ([0, 1], None)),
        ((0, 2), None, ([0, 1, 2], None)),
        ((1,), None, ([0, 1], None)),
        ((1, 2, 3), None, ([1, 2, 3], None)),  # ilastik
        ((0, 1, 2), 0, ([1, 2], 0)),  # scribbles
        ((1, 2), 0, ([1, 2], 0)),
        ((0, 255), None, ([0, 255], None)),
        ((0, 1, 255), None, ([0, 1], 255)),  # masks of a report
        ((0, 1, 255), 255, ([0, 1], 255)),
        ((1, 2, 255), None, ([1, 2], 255)),
    ],
)
def test_values_that_need_no_domain_yaml(tmp_path: Path, values: Any, unlabelled: Any, expected: Any) -> None:
    assert inferred(tmp_path, halves(values=values), unlabelled=unlabelled) == expected


@pytest.mark.parametrize("dtype", ["bool", "int32", "int64", "float32", "float64", "uint16"])
def test_any_number_type_counts_as_its_values(tmp_path: Path, dtype: str) -> None:
    expected = [0, 255] if dtype == "bool" else [0, 1]
    assert inferred(tmp_path, halves().astype(dtype)) == (expected, None)


def test_white_of_16_bit(tmp_path: Path) -> None:
    assert inferred(tmp_path, halves().astype(np.uint16) * 65535) == ([0, 65535], None)


@pytest.mark.parametrize("values", [(0, 14), (254, 255), (0, 128, 255), (100, 200)])
def test_other_values_are_refused_with_the_file_to_write(tmp_path: Path, values: tuple[int, ...]) -> None:
    with pytest.raises(InputError, match="meaning is unknown") as caught:
        inferred(tmp_path, halves(values=values))
    proposed = yaml.safe_load(str(caught.value).partition("\n\n")[2])
    assert [entry["value"] for entry in proposed["phases"]] == list(values)


def test_values_of_blurred_borders_are_refused_without_a_file_that_cannot_help(tmp_path: Path) -> None:
    blurred = halves(values=(0, 255))
    blurred[:, 19] = np.arange(32) * 7 + 5
    with pytest.raises(InputError, match=r"34 different values; .*0.* cover .* without anti-aliasing") as caught:
        inferred(tmp_path, blurred)
    assert "phases:" not in str(caught.value)


def objects(number: int, seed: int = 0) -> NDArray[np.int32]:
    """Instance labels: `number` discs, each with a value of its own."""
    rng = np.random.default_rng(seed)
    mask = np.zeros((120, 160), np.int32)
    rows, columns = np.mgrid[:120, :160]
    for value in range(1, number + 1):
        row, column = rng.integers(5, 115), rng.integers(5, 155)
        mask[(rows - row) ** 2 + (columns - column) ** 2 < 20] = value
    return mask


@pytest.mark.parametrize("number", [7, 40])
def test_instance_labels_are_no_phases(tmp_path: Path, number: int) -> None:
    with pytest.raises(InputError, match=r"0\.tif holds instance labels: \d+ values") as caught:
        inferred(tmp_path, objects(number))
    assert 'value: "other"' in str(caught.value)


def test_instance_labels_become_a_phase_where_the_domain_yaml_says_so(tmp_path: Path) -> None:
    mask = objects(40)
    phases = [{"name": "rest", "value": 0}, {"name": "grain", "value": "other"}]
    folder = write_domain(tmp_path, {"a": mask.astype(np.uint16)}, {"phases": phases})
    domain = load_domain(folder)
    np.testing.assert_array_equal(read_labels(domain.fields[0], domain), mask > 0)


def test_many_phases_with_many_parts_are_no_instance_labels() -> None:
    assert not is_numbered_by_object(noise(60, 80) % 7)
    assert is_numbered_by_object(objects(7))


def test_unlabelled_0_counts_phases_from_1(tmp_path: Path) -> None:
    phases = [{"name": "ferrite"}, {"name": "bainite"}]
    domain = load_domain(write_domain(tmp_path, {"a": halves(values=(0, 1, 2))}, {"phases": phases, "unlabelled": 0}))
    assert [phase.values for phase in domain.phases] == [(1,), (2,)]
    np.testing.assert_array_equal(read_labels(domain.fields[0], domain), halves(values=(255, 0, 1)))


def indexed(path: Path, mask: NDArray[np.uint8], *levels: int) -> None:
    """A palette image of the mask's values; the palette lists the values in the order given."""
    order = np.zeros(256, np.uint8)
    order[list(levels)] = np.arange(len(levels))
    image = Image.fromarray(order[mask], mode="P")
    image.putpalette([channel for level in levels for channel in (level, level, level)])
    image.save(path)


def test_palettes_that_number_the_values_differently_mean_the_values(tmp_path: Path) -> None:
    folder = write_domain(tmp_path, {"a": halves(values=(0, 255)), "b": halves(values=(0, 255))})
    indexed(folder / "masks" / "a.png", halves(values=(0, 255)), 0, 255)
    indexed(folder / "masks" / "b.png", halves(values=(0, 255)), 255, 0)
    domain = load_domain(folder)
    assert [phase.values for phase in domain.phases] == [(0,), (255,)]
    for field in domain.fields:
        np.testing.assert_array_equal(read_labels(field, domain), halves())


def test_inferred_values_become_the_engines_phases_in_order(tmp_path: Path) -> None:
    engine = [PhaseInfo(name=name, color="#123456") for name in ("matrix", "secondary", "tertiary")]
    domain = load_domain(write_domain(tmp_path, {"a": halves(values=(1, 2, 3))}))
    assert [phase.values for phase in domain.with_phases(engine).phases] == [(1,), (2,), (3,)]
    domain = load_domain(write_domain(tmp_path / "two", {"a": halves(values=(1, 2))}))
    with pytest.raises(InputError, match=r"hold 2 values \(1, 2\), the engine knows 3 phases"):
        domain.with_phases(engine)
    domain = load_domain(write_domain(tmp_path / "three", {"a": halves(values=(0, 1))}))
    assert [phase.values for phase in domain.with_phases(engine).phases] == [(0,), (1,), (2,)]


def test_a_transparent_ground_is_a_value_of_its_own(tmp_path: Path) -> None:
    pixels = np.zeros((32, 40, 4), np.uint8)
    pixels[:, 20:] = (255, 0, 0, 255)
    folder = write_domain(tmp_path, {"a": pixels})
    with pytest.raises(InputError, match="meaning is unknown") as caught:
        load_domain(folder)
    proposed = yaml.safe_load(str(caught.value).partition("\n\n")[2])
    assert [entry["value"] for entry in proposed["phases"]] == ["#ff0000", "transparent"]
    described = {"phases": [{"name": "a", "value": "transparent"}, {"name": "b", "value": "#ff0000"}]}
    domain = load_domain(write_domain(tmp_path / "described", {"a": pixels}, described))
    np.testing.assert_array_equal(read_labels(domain.fields[0], domain), halves())


def test_the_masks_of_a_report_need_no_domain_yaml(tmp_path: Path) -> None:
    folder = write_domain(tmp_path, {"a": halves(), "b": halves()})
    for name, values in (("a", (0, 1, 255)), ("b", (0, 255))):
        (folder / "masks" / f"{name}.png").unlink()
        with (folder / "masks" / f"{name}.tif.png").open("wb") as stream:
            writer = MaskWriter(stream, 32, 40, ["#0072b2", "#e69f00"])
            writer.write(halves(values=values))
            writer.finish()
    domain = load_domain(folder)
    assert [phase.values for phase in domain.phases] == [(0,), (1,)]
    np.testing.assert_array_equal(read_labels(domain.fields[0], domain), halves(values=(0, 1, 255)))
    np.testing.assert_array_equal(read_labels(domain.fields[1], domain), halves(values=(0, 255)))


def test_a_palette_of_one_bit_with_white_first_means_what_viewers_show(tmp_path: Path) -> None:
    folder = write_domain(tmp_path, {"a": halves(), "b": halves()})
    for name in "ab":
        indexed(folder / "masks" / f"{name}.png", halves(values=(0, 255)), 255, 0)
    domain = load_domain(folder)
    assert [phase.values for phase in domain.phases] == [(0,), (255,)]
    np.testing.assert_array_equal(read_labels(domain.fields[0], domain), halves())
    # In the order of the indices, they count as before.
    for name in "ab":
        indexed(folder / "masks" / f"{name}.png", halves(values=(0, 100, 255)), 0, 100, 255)
    assert [phase.values for phase in load_domain(folder).phases] == [(0,), (1,), (2,)]


def test_what_may_be_meant_otherwise_is_told(tmp_path: Path) -> None:
    domain = load_domain(write_domain(tmp_path / "a", {"a": halves(values=(0, 0, 1, 2, 0))}))
    assert "write `unlabelled: 0`" in domain.notices[0]
    domain = load_domain(write_domain(tmp_path / "b", {"a": halves(values=(0, 1, 255))}))
    assert domain.notices == ("mask value 255 beside indices is taken as pixels without label",)
    assert load_domain(write_domain(tmp_path / "c", {"a": halves(values=(0, 1, 2))})).notices == ()


def test_few_objects_are_instance_labels_where_cellpose_names_the_file(tmp_path: Path) -> None:
    folder = write_domain(tmp_path, {"a": halves(values=(0, 1, 0, 2))})
    assert len(load_domain(folder).phases) == 3
    (folder / "masks" / "a.png").rename(folder / "masks" / "a_cp_masks.png")
    with pytest.raises(InputError, match=r"a_cp_masks\.png holds instance labels: 3 values"):
        load_domain(folder)


@pytest.mark.parametrize(("first", "number"), [(0, 20), (1, 20), (0, 250)])
def test_many_indices_without_a_gap_are_proposed(tmp_path: Path, first: int, number: int) -> None:
    """They may be grey values: the user names them. A blurred border leaves gaps."""
    mask = np.tile(np.repeat(np.arange(first, first + number, dtype=np.uint8), 2), (64, 2))
    with pytest.raises(InputError, match=f"the values {first} to {first + number - 1} without a gap") as caught:
        inferred(tmp_path, mask)
    proposed = yaml.safe_load(str(caught.value).partition("\n\n")[2])
    assert [entry["value"] for entry in proposed["phases"]] == list(range(first, first + number))
