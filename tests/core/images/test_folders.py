"""Which files of a folder are micrographs."""

from __future__ import annotations

from pathlib import Path

import pytest

from microseg.core.errors import InputError
from microseg.core.images.folders import find_images, look_through


def _files(folder: Path, *names: str) -> None:
    for name in names:
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        (folder / name).write_bytes(b"")


def _names(folder: Path) -> list[str]:
    return [path.relative_to(folder).as_posix() for path in find_images(folder)]


@pytest.mark.parametrize(
    "name", ["masks", "Masks", "MASK", "labels", "Label", "GT", "annot", "Annotations", "labelsTr"]
)
def test_folders_named_as_masks_are_left_out_in_any_case(tmp_path: Path, name: str) -> None:
    _files(tmp_path, "Images/a.tif", f"{name}/a.png", f"deep/{name}/b.png", "deep/b.tif")
    assert _names(tmp_path) == ["Images/a.tif", "deep/b.tif"]
    (told,) = look_through(tmp_path).left_out
    assert f"1 file in {name}" in told and f"1 file in deep/{name}" in told
    with pytest.raises(InputError, match="masks"):
        find_images(tmp_path / name)
    assert find_images(tmp_path / name, stated=True) == [tmp_path / name / "a.png"]


@pytest.mark.parametrize("suffix", ["_mask", "_label", "_annot", "_cp_masks", "_Simple Segmentation", "_MASK", "_seg"])
def test_masks_beside_their_images_are_left_out(tmp_path: Path, suffix: str) -> None:
    _files(tmp_path, "a.tif", f"a{suffix}.png", f"alone{suffix}.tif")
    assert _names(tmp_path) == ["a.tif", f"alone{suffix}.tif"]
    assert look_through(tmp_path).left_out == (f"Left out as masks beside their images: a{suffix}.png.",)


@pytest.mark.parametrize(
    ("names", "fields", "is_doubtful"),
    [
        (("a.tif", "a.jpg"), ["a.tif"], False),
        (("a.png", "a.webp", "a.jpeg"), ["a.png"], False),
        (("a.tif", "a.lif"), ["a.tif"], False),
        (("a.jpg", "a.nd2"), ["a.jpg"], False),
        (("a.tif", "a.png"), ["a.tif"], False),
        (("a.png", "a.bmp"), ["a.bmp", "a.png"], True),
        (("a.tif", "a.tiff"), ["a.tif", "a.tiff"], True),
        (("a.tif", "a.dm3", "a.jpg"), ["a.dm3", "a.tif"], True),
        (("a.jpg", "a.webp"), ["a.jpg", "a.webp"], True),
        (("a.tif", "A.jpg", "sub/a.jpg"), ["A.jpg", "a.tif", "sub/a.jpg"], False),
    ],
)
def test_of_one_stem_the_file_nearest_to_the_original_is_the_field(
    tmp_path: Path, names: tuple[str, ...], fields: list[str], is_doubtful: bool
) -> None:
    _files(tmp_path, *names)
    assert _names(tmp_path) == fields
    assert bool(look_through(tmp_path).doubtful) == is_doubtful


def test_a_domain_yaml_names_folders_of_images_whatever_their_names_tell(tmp_path: Path) -> None:
    _files(tmp_path, "labels/a.tif", "truth/a.png")
    (tmp_path / "domain.yaml").write_text("images: labels\nmasks: truth\n")
    assert _names(tmp_path) == ["labels/a.tif"]
