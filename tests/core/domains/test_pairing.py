"""Names by which masks belong to images."""

from __future__ import annotations

from pathlib import Path

import pytest
from PIL import Image

from microseg.core.domains.domain import load_domain
from microseg.core.domains.layout import is_mask_folder, mask_suffix
from microseg.core.errors import InputError
from tests.core.samples import halves, noise


def domain(root: Path, images: tuple[str, ...], masks: tuple[str, ...]) -> Path:
    for names, pixels in ((images, noise(32, 40)), (masks, halves())):
        for name in names:
            (root / name).parent.mkdir(exist_ok=True, parents=True)
            Image.fromarray(pixels).save(root / name)
    return root


@pytest.mark.parametrize(
    ("image", "mask"),
    [
        ("a.tif", "a.png"),
        ("a.tif", "a.tif.png"),  # masks of a report
        ("a.tif", "a_cp_masks.png"),  # Cellpose
        ("a.tif", "a_Simple Segmentation.tiff"),  # ilastik
        ("a.tif", "A.PNG"),
        ("Gefu\u0308ge.tif", "Gef\u00fcge.png"),
        ("a.tif", "A_Mask.png"),
        ("a_0000.png", "a.png"),  # nnU-Net
        ("a.b.tif", "a.b_label.png"),
    ],
)
def test_the_mask_of_an_image(tmp_path: Path, image: str, mask: str) -> None:
    domain(tmp_path, (f"images/{image}",), (f"masks/{mask}",))
    (field,) = load_domain(tmp_path).fields
    assert (field.image.name, field.mask and field.mask.name) == (image, mask)


@pytest.mark.parametrize(
    ("images", "masks"),
    [
        ("Images", "Masks"),
        ("images", "labels"),
        ("img", "GT"),
        ("imagesTr", "labelsTr"),
        ("IMG", "Annotations"),
        (".", "annot"),
    ],
)
def test_folders_by_their_names(tmp_path: Path, images: str, masks: str) -> None:
    domain(tmp_path, (f"{images}/a.tif", f"{images}/b.tif"), (f"{masks}/a.png", f"{masks}/b.png"))
    found = load_domain(tmp_path)
    assert [field.name for field in found.fields] == ["a.tif", "b.tif"]
    assert [field.mask for field in found.fields] == [tmp_path / masks / "a.png", tmp_path / masks / "b.png"]
    assert [field.name for field in load_domain(tmp_path, masks=False).fields] == ["a.tif", "b.tif"]


@pytest.mark.parametrize("suffix", ["_mask", "_annot", "_cp_masks", "_Simple Segmentation", "_LABEL"])
def test_masks_beside_the_images(tmp_path: Path, suffix: str) -> None:
    domain(tmp_path, ("a.tif", "b.tif"), (f"a{suffix}.png", f"b{suffix}.png"))
    assert [(field.name, field.mask) for field in load_domain(tmp_path).fields] == [
        ("a.tif", tmp_path / f"a{suffix}.png"),
        ("b.tif", tmp_path / f"b{suffix}.png"),
    ]
    assert [field.name for field in load_domain(tmp_path, masks=False).fields] == ["a.tif", "b.tif"]


def test_names_that_differ_by_case_alone_stay_apart(tmp_path: Path) -> None:
    domain(tmp_path, ("images/a.tif", "images/A.tif"), ("masks/a.png", "masks/A.png"))
    if len(list((tmp_path / "images").iterdir())) < 2:
        pytest.skip("this file system does not tell cases apart")
    assert {(field.image.stem, field.mask and field.mask.stem) for field in load_domain(tmp_path).fields} == {
        ("a", "a"),
        ("A", "A"),
    }
    (tmp_path / "masks" / "A.png").unlink()
    with pytest.raises(InputError, match=r"images with the same stem: A\.tif and a\.tif"):
        load_domain(tmp_path)


def test_two_folders_that_may_hold_the_masks(tmp_path: Path) -> None:
    domain(tmp_path, ("images/a.tif",), ("labels/a.png", "GT/a.png"))
    with pytest.raises(InputError, match=r"folders GT, labels may all hold the masks.*domain\.yaml"):
        load_domain(tmp_path)
    domain(tmp_path, (), ("masks/a.png",))
    assert load_domain(tmp_path).fields[0].mask == tmp_path / "masks" / "a.png"


def test_names_alone() -> None:
    assert [name for name in ("Masks", "labelsTr", "GT", "images", "unlabelled") if is_mask_folder(name)] == [
        "Masks",
        "labelsTr",
        "GT",
    ]
    assert [mask_suffix(stem) for stem in ("a_Mask", "a_cp_masks", "a_labels", "mask", "a")] == [
        "_Mask",
        "_cp_masks",
        "_labels",
        "",
        "",
    ]
