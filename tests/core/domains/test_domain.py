"""Domain folders: what is inferred, what is stated, and a message for everything that is wrong."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import tifffile
import yaml
from PIL import Image

from microseg.core.domains.checking import check_domain
from microseg.core.domains.domain import (
    Domain,
    load_domain,
    native_labels,
    prepared_and_labels,
    read_labels,
    resolve_intensity,
    resolved_rule,
)
from microseg.core.errors import InputError
from microseg.core.images.orientation import shown
from microseg.core.pictures.png import MaskWriter
from microseg.core.schemas.bag import PhaseInfo
from microseg.core.schemas.preparation import Crop, Grid, Intensity, Preparation
from tests.core.samples import halves, noise, write_domain

REPOSITORY = Path(__file__).parents[3]
DATA = Path(os.environ.get("MICROSEG_DATA") or REPOSITORY / "../shared/data")
DESCRIBED = sorted((REPOSITORY / "benchmarks" / "data").glob("*.yaml"))
TWO_PHASES = [{"name": "ferrite"}, {"name": "bainite"}]


def labelled(folder: Path, *names: str, **described: Any) -> Path:
    return write_domain(folder, {name: halves() for name in names}, described or None)


# What is inferred


def test_images_and_masks_without_a_domain_yaml(tmp_path: Path) -> None:
    domain = load_domain(labelled(tmp_path / "steel", "a", "b"))
    assert domain.name == "steel"
    assert domain.phases_inferred
    assert [(phase.name, phase.values) for phase in domain.phases] == [("phase0", (0,)), ("phase1", (1,))]
    assert [(item.name, item.group) for item in domain.fields] == [("a.tif", "a.tif"), ("b.tif", "b.tif")]
    assert domain.explicit == frozenset()
    np.testing.assert_array_equal(read_labels(domain.fields[0], domain), halves())


def test_a_bare_folder_of_images_is_an_unlabelled_domain(tmp_path: Path) -> None:
    (tmp_path / "sub").mkdir()
    for name in ("a.tif", "b.png", "sub/a.tif"):
        Image.fromarray(noise(20, 20)).save(tmp_path / name)
    domain = load_domain(tmp_path)
    assert domain.phases == ()
    assert [item.name for item in domain.fields] == ["a.tif", "b.png", "sub/a.tif"]
    assert all(item.mask is None for item in domain.fields)


def test_masks_in_the_folder_of_the_images_themselves(tmp_path: Path) -> None:
    domain = labelled(tmp_path, "a")
    (domain / "images" / "a.tif").rename(tmp_path / "a.tif")
    (domain / "images").rmdir()
    assert [item.name for item in load_domain(tmp_path).fields] == ["a.tif"]


def test_phases_may_be_names_alone(tmp_path: Path) -> None:
    domain = load_domain(write_domain(tmp_path, {"a": halves()}, {"phases": ["ferrite", "bainite"]}))
    assert [(phase.name, phase.values) for phase in domain.phases] == [("ferrite", (0,)), ("bainite", (1,))]


@pytest.mark.parametrize("suffix", ["_mask", "_annot", "_label"])
def test_a_usual_mask_suffix_is_inferred(tmp_path: Path, suffix: str) -> None:
    folder = labelled(tmp_path, "a", "b")
    for path in (folder / "masks").iterdir():
        path.rename(path.with_stem(path.stem + suffix))
    assert [item.mask.stem for item in load_domain(folder).fields if item.mask] == ["a" + suffix, "b" + suffix]


def test_inferred_phases_become_the_engines(tmp_path: Path) -> None:
    domain = load_domain(labelled(tmp_path, "a"))
    engine = [PhaseInfo(name=name, color="#123456") for name in ("matrix", "secondary", "tertiary")]
    named = domain.with_phases(engine)
    assert [(phase.name, phase.values) for phase in named.phases] == [
        ("matrix", (0,)),
        ("secondary", (1,)),
        ("tertiary", (2,)),
    ]
    assert not named.phases_inferred
    with pytest.raises(InputError, match="masks hold 2 values, the engine knows 1"):
        domain.with_phases(engine[:1])


def test_grey_values_show_the_domain_yaml_to_write(tmp_path: Path) -> None:
    folder = write_domain(tmp_path, {"a": halves(values=(0, 128, 255, 255))})
    with pytest.raises(InputError, match="their meaning is unknown") as caught:
        load_domain(folder)
    proposed = str(caught.value).partition("\n\n")[2]
    assert [entry["value"] for entry in yaml.safe_load(proposed)["phases"]] == [0, 128, 255]
    assert "50.00 % of the area" in proposed


def test_colours_show_the_domain_yaml_to_write(tmp_path: Path) -> None:
    pixels = np.dstack([noise(20, 20)] * 3)
    pixels[:5] = (0, 0, 255)
    folder = write_domain(tmp_path, {"a": pixels})
    with pytest.raises(InputError, match="their meaning is unknown") as caught:
        load_domain(folder)
    proposed = yaml.safe_load(str(caught.value).partition("\n\n")[2])
    assert [entry["value"] for entry in proposed["phases"]] == ["#0000ff", "grey"]


@pytest.mark.parametrize(
    "names", [("train/a.tif", "train_annot/a.tif"), ("a.tif", "b.tif", "a_mask.tif"), ("x/a.tif", "x/labels/a.png")]
)
def test_masks_that_look_like_images_show_the_domain_yaml_to_write(tmp_path: Path, names: tuple[str, ...]) -> None:
    for name in names:
        (tmp_path / name).parent.mkdir(exist_ok=True, parents=True)
        Image.fromarray(noise(20, 20)).save(tmp_path / name)
    with pytest.raises(InputError, match="look like masks among the images") as caught:
        load_domain(tmp_path)
    assert set(yaml.safe_load(str(caught.value).partition("\n\n")[2])) == {"images", "masks", "mask_suffix", "phases"}


def test_a_folder_called_unlabelled_is_no_folder_of_labels(tmp_path: Path) -> None:
    (tmp_path / "unlabelled").mkdir()
    Image.fromarray(noise(20, 20)).save(tmp_path / "unlabelled" / "a.tif")
    assert len(load_domain(tmp_path).fields) == 1


# What is stated


def test_everything_that_a_domain_yaml_says(tmp_path: Path) -> None:
    folder = labelled(
        tmp_path / "lom",
        "spot1_a",
        "spot1_b",
        "spot2_a",
        name="T3",
        phases=[{"name": "ferrite", "value": 1, "color": "#FF0000"}, {"name": "bainite", "values": [0, 2]}],
        unlabelled=7,
        pixel_size_um=0.1266,
        invert=True,
        crop={"bottom_px": 3},
        intensity={"rule": "percentiles", "low": 1},
        groups="^(spot[0-9])",
        test=["spot2"],
    )
    domain = load_domain(folder)
    assert domain == load_domain(folder / "domain.yaml")
    assert domain.name == "T3"
    assert [(phase.name, phase.color, phase.values) for phase in domain.phases] == [
        ("ferrite", "#ff0000", (1,)),
        ("bainite", "#e69f00", (0, 2)),
    ]
    assert domain.unlabelled == 7
    assert domain.preparation == Preparation(
        invert=True,
        crop=Crop(bottom_px=3),
        pixel_size_um=0.1266,
        intensity=Intensity(rule="percentiles", low=1),
    )
    assert domain.explicit == {"invert", "crop", "pixel_size_um", "intensity"}
    assert [item.group for item in domain.fields] == ["spot1", "spot1", "spot2"]
    assert [item.name for item in domain.training_fields] == ["spot1_a.tif", "spot1_b.tif"]
    np.testing.assert_array_equal(native_labels(domain.fields[0], domain), 1 - halves()[:-3])


def test_what_is_stated_wins_over_a_manifest(tmp_path: Path) -> None:
    domain = load_domain(labelled(tmp_path, "a", phases=TWO_PHASES, invert=False))
    manifest = Preparation(invert=True, pixel_size_um=0.5)
    assert domain.preparation_over(manifest) == Preparation(invert=False, pixel_size_um=0.5)


def test_groups_by_table_and_by_folder(tmp_path: Path) -> None:
    folder = labelled(tmp_path / "a", "x", "y", "z", groups={"one": ["x", "z"], "two": ["y"]})
    assert [item.group for item in load_domain(folder).fields] == ["one", "two", "one"]
    for specimen in ("s1", "s2"):
        (tmp_path / "b" / specimen).mkdir(parents=True)
        Image.fromarray(noise(20, 20)).save(tmp_path / "b" / specimen / "x.tif")
    (tmp_path / "b" / "domain.yaml").write_text("groups: folder\n")
    assert [(item.name, item.group) for item in load_domain(tmp_path / "b").fields] == [
        ("s1/x.tif", "s1"),
        ("s2/x.tif", "s2"),
    ]


def test_several_folders_are_named_from_what_they_share(tmp_path: Path) -> None:
    for part in ("train", "val"):
        labelled(tmp_path / part, "a")
    described = {
        "images": ["train/images", "val/images"],
        "masks": ["train/masks", "val/masks"],
        "phases": TWO_PHASES,
    }
    (tmp_path / "both.yaml").write_text(yaml.safe_dump(described))
    domain = load_domain(tmp_path / "both.yaml")
    assert domain.name == "both"
    assert [item.name for item in domain.fields] == ["train/images/a.tif", "val/images/a.tif"]
    assert all(item.mask and item.mask.parent.parent == item.image.parent.parent for item in domain.fields)


def test_masks_beside_the_images_and_inside_their_folder(tmp_path: Path) -> None:
    folder = labelled(tmp_path / "beside", "a", "b")
    for name in ("a", "b"):
        (folder / "masks" / f"{name}.png").rename(folder / "images" / f"{name}_m.png")
    (folder / "x.yaml").write_text("images: images\nmasks: images\nmask_suffix: _m\n")
    assert [(i.image.name, i.mask.name) for i in load_domain(folder / "x.yaml").fields if i.mask] == [
        ("a.tif", "a_m.png"),
        ("b.tif", "b_m.png"),
    ]
    (folder / "x.yaml").write_text("images: images\nmasks: images\n")
    with pytest.raises(InputError, match=r"one folder.*mask_suffix"):
        load_domain(folder / "x.yaml")
    inside = labelled(tmp_path / "inside", "a")
    (inside / "masks").rename(inside / "images" / "truth")
    (inside / "x.yaml").write_text("images: images\nmasks: images/truth\n")
    assert [item.name for item in load_domain(inside / "x.yaml").fields] == ["a.tif"]


def test_paths_are_relative_to_the_yaml_and_take_variables(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    labelled(tmp_path / "data", "a")
    (tmp_path / "deep").mkdir()
    described = tmp_path / "deep" / "x.yaml"
    described.write_text('images: "${ROOT:-../data}/images"\nmasks: null\n')
    monkeypatch.delenv("ROOT", raising=False)
    assert len(load_domain(described).fields) == 1
    monkeypatch.setenv("ROOT", "data")  # relative to where the user is, as in a shell
    monkeypatch.chdir(tmp_path)
    assert len(load_domain(described).fields) == 1
    monkeypatch.setenv("ROOT", "elsewhere")
    with pytest.raises(InputError, match=r"folders do not exist: .*elsewhere"):
        load_domain(described)
    described.write_text('images: "${NOWHERE}/images"\n')
    with pytest.raises(InputError, match=r"NOWHERE in .* is not set"):
        load_domain(described)


@pytest.mark.parametrize(
    "text", ["0,0277", "27.7 nm", "27,7nm", "277e-4", "2.77e-2", '"0.0277"', "0.0277 µm", "27700 pm"]
)
def test_pixel_sizes_as_people_write_them(tmp_path: Path, text: str) -> None:
    folder = labelled(tmp_path, "a")
    (folder / "domain.yaml").write_text(f"pixel_size_um: {text}\n", encoding="utf-8")
    assert load_domain(folder).preparation.pixel_size_um == pytest.approx(0.0277, rel=1e-12)


@pytest.mark.parametrize("name", ["domain.yml", "Domain.yaml", "DOMAIN.YML"])
def test_names_of_the_domain_yaml(tmp_path: Path, name: str) -> None:
    folder = labelled(tmp_path / "steel", "a")
    (folder / name).write_text("unlabelled: 9  # value: #0000ff\n")
    assert load_domain(folder).unlabelled == 9
    assert load_domain(folder).name == load_domain(folder / name).name == "steel"
    (folder / "domain.yaml").write_text("")
    if len(list(folder.glob("*.y*"))) + len(list(folder.glob("*.Y*"))) > 1:
        with pytest.raises(InputError, match=r"domain\.yaml.*Remedy: keep the one"):
            load_domain(folder)


def test_null_masks_make_a_domain_unlabelled(tmp_path: Path) -> None:
    folder = labelled(tmp_path, "a", masks=None)
    assert load_domain(folder).fields[0].mask is None
    assert load_domain(folder).phases == ()


# What is wrong


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("test: [040617_3]", r"test\.0 = 134267: .* in quotes: YAML takes it for a number"),
        ("test: [no]", r"test\.0 = False: .* in quotes: YAML takes it for .*truth value"),
        ("phasess: []", r"unknown key 'phasess'; allowed here: .*channel, crop, groups, images, .*, phases"),
        ("crop: {botom_px: 3}", r"unknown key 'crop\.botom_px'; allowed here: bottom_px, left_px, right_px, top_px"),
        (
            "phases: [{name: a, values: 0, colour: red}]",
            r"unknown key 'phases\.0\.colour'; allowed here: color, name, value",
        ),
        ("phases: [{name: a, value: 0}]", "1 given, 2 to 250 needed"),
        ("phases: [{name: a, value: 0}, {name: a, value: 1}]", "name a is used twice"),
        ("phases: [{name: a, value: 0}, {name: b, value: 0}]", "mask value 0 is used twice"),
        ("phases: [{name: a}, {name: b}]\nunlabelled: 1", "mask value 1 is used twice"),
        ("phases: [ferrite, 7]", "phases.1 = 7: a phase is a name, or keys such as `name` and `value`"),
        ("phases: [{name: a, value: 0, values: [1]}, {name: b}]", "both `value` and `values`"),
        ("phases: [{name: a, value: blue}, {name: b}]", "'blue' is no mask value"),
        ("phases: [{name: a, value: -1}, {name: b}]", "-1 is no mask value"),
        ("phases: [{name: a, value: 0, color: red}, {name: b}]", "color 'red' is not"),
        ("pixel_size_um: 0", r"pixel_size_um = 0: .*greater than 0"),
        ("pixel_size_um: 27.7 miles", r"pixel_size_um = '27\.7 miles': .* is no size: .*27\.7 nm"),
        ("pixel_size_um: 1,234.5", "is no size"),
        ("pixel_size_um: 0.1\npixel_size_um: 0.2", "key 'pixel_size_um' is given twice, in lines 1 and 2"),
        ("phases: [{name: no, value: 0}, {name: yes}]", r'phases\.0\.name = False: .* in quotes.* write it as "no"'),
        (
            "phases: [{name: 2024-01-05, value: 0}, {name: b}]",
            r"phases\.0\.name = .* in quotes: YAML takes it for a date",
        ),
        (
            "phases:\n- {name: a, value: #0000ff}\n- {name: b}",
            r"line 2 has 'value: #0000ff', where # begins a comment.*quotes",
        ),
        ("phases:\n- name: a\n  value: #0000ff\n- {name: b}", r"line 3 has 'value: #0000ff'"),
        (
            "intensity: {rule: full_range}",
            r"intensity\.rule = 'full_range': .*'full', 'significant_bits' or 'percentiles'",
        ),
        ("- a\n- b", r"holds no `key: value` pairs"),
        ("a: [", "not valid YAML"),
        ("groups: '('", "no regular expression"),
        ("groups: spot", "0 capture groups"),
        ("groups: '^(x[0-9])'", r"does not match a, b"),
        ("groups: {one: [a]}", r"does not list b"),
        ("test: [c]", "c is neither a stem nor a group"),
        ("images: [images, images]", "2 image folders, 1 mask folders"),
    ],
)
def test_a_wrong_domain_yaml_names_key_value_and_remedy(tmp_path: Path, content: str, message: str) -> None:
    folder = labelled(tmp_path, "a", "b")
    (folder / "domain.yaml").write_text(content)
    with pytest.raises(InputError, match=message) as caught:
        load_domain(folder)
    assert "domain.yaml" in str(caught.value)


def test_wrong_paths(tmp_path: Path) -> None:
    for name in ("nowhere", "nowhere.yaml"):
        with pytest.raises(InputError, match="does not exist"):
            load_domain(tmp_path / name)
    (tmp_path / "a.tif").touch()
    with pytest.raises(InputError, match="is no domain"):
        load_domain(tmp_path / "a.tif")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no images"):
        load_domain(tmp_path / "empty")


def test_files_that_do_not_belong_together(tmp_path: Path) -> None:
    folder = labelled(tmp_path / "missing", "a", "b", "c")
    (folder / "masks" / "b.png").unlink()
    with pytest.raises(InputError, match=r"1 of 3 images have no mask in .*masks: b\.tif\."):
        load_domain(folder)
    folder = labelled(tmp_path / "twins", "a")
    Image.fromarray(noise(32, 40)).save(folder / "images" / "a.tiff")
    with pytest.raises(InputError, match=r"images with the same stem: a\.tif and a\.tiff"):
        load_domain(folder)
    folder = labelled(tmp_path / "mask-twins", "a")
    Image.fromarray(halves()).save(folder / "masks" / "a.tif")
    with pytest.raises(InputError, match=r"masks with the same stem: a\.png and a\.tif"):
        load_domain(folder)
    folder = labelled(tmp_path / "no-masks", "a")
    (folder / "masks" / "a.png").unlink()
    with pytest.raises(InputError, match="holds no masks"):
        load_domain(folder)
    (folder / "masks" / "a.npy").touch()
    with pytest.raises(InputError, match=r"holds no masks \(TIFF.*\), but 1 \.npy\. Remedy: save them as PNG"):
        load_domain(folder)


def test_a_mask_without_image_is_left_alone(tmp_path: Path) -> None:
    folder = labelled(tmp_path, "a", "b")
    (folder / "images" / "b.tif").unlink()
    assert [item.name for item in load_domain(folder).fields] == ["a.tif"]


def test_a_mask_of_another_size(tmp_path: Path) -> None:
    folder = labelled(tmp_path, "a", phases=TWO_PHASES)
    Image.fromarray(halves(30, 40)).save(folder / "masks" / "a.png")
    domain = load_domain(folder)
    with pytest.raises(InputError, match=r"a\.png: 40 x 30 px, its image a\.tif has 40 x 32 px"):
        read_labels(domain.fields[0], domain)


def turned_domain(folder: Path, orientation: int, suffix: str = ".png") -> tuple[Path, Any]:
    """A domain of one image that states an orientation; the labels on its stored grid."""
    labels = noise(32, 40) % 2
    (folder / "images").mkdir(parents=True)
    (folder / "masks").mkdir()
    exif = Image.Exif()
    exif[274] = orientation
    image = Image.fromarray(noise(32, 40))
    if suffix == ".tif":
        tifffile.imwrite(folder / "images" / "a.tif", noise(32, 40), extratags=[(274, "H", 1, orientation, True)])
    else:
        image.save(folder / "images" / f"a{suffix}", exif=exif)
    return folder, labels


@pytest.mark.parametrize("suffix", [".png", ".jpg", ".tif"])
@pytest.mark.parametrize("orientation", range(1, 9))
def test_labels_drawn_on_the_picture_as_viewers_turn_it(tmp_path: Path, orientation: int, suffix: str) -> None:
    folder, labels = turned_domain(tmp_path, orientation, suffix)
    Image.fromarray(shown(labels, orientation)).save(folder / "masks" / "a.png")
    domain = load_domain(folder)
    np.testing.assert_array_equal(read_labels(domain.fields[0], domain), labels)
    image, truth = prepared_and_labels(domain.fields[0], domain, Grid())
    assert image.shape == truth.shape == (32, 40)


@pytest.mark.parametrize("orientation", range(1, 9))
def test_masks_that_state_the_orientation_of_their_image(tmp_path: Path, orientation: int) -> None:
    folder, labels = turned_domain(tmp_path, orientation)
    with (folder / "masks" / "a.png.png").open("wb") as stream:
        writer = MaskWriter(stream, 32, 40, ["#0072b2", "#e69f00"], orientation)
        writer.write(labels)
        writer.finish()
    domain = load_domain(folder)
    np.testing.assert_array_equal(read_labels(domain.fields[0], domain), labels)


def test_a_mask_that_fits_the_stored_grid_alone_was_drawn_on_it(tmp_path: Path) -> None:
    folder, labels = turned_domain(tmp_path, 6)
    Image.fromarray(labels).save(folder / "masks" / "a.png")
    domain = load_domain(folder)
    np.testing.assert_array_equal(read_labels(domain.fields[0], domain), labels)
    Image.fromarray(labels[:-1]).save(folder / "masks" / "a.png")
    with pytest.raises(
        InputError, match=r"40 x 31 px, its image a\.png has 32 x 40 px as viewers show it \(orientation 6\)"
    ):
        read_labels(domain.fields[0], domain)


def problems(domain: Domain, folds: int = 2) -> str:
    return "\n".join(check_domain(domain, folds).problems)


def test_a_phase_that_never_occurs(tmp_path: Path) -> None:
    domain = load_domain(labelled(tmp_path, "a", "b", phases=[*TWO_PHASES, {"name": "crack", "value": 5}]))
    assert "phase 'crack' (mask value 5) never occurs" in problems(domain)


def test_an_index_that_is_skipped_is_a_phase_that_never_occurs(tmp_path: Path) -> None:
    domain = load_domain(write_domain(tmp_path, {"a": halves(values=(0, 2)), "b": halves(values=(0, 2))}))
    assert "phase 'phase1' (mask value 1) never occurs" in problems(domain)


@pytest.mark.skipif(os.name == "nt", reason="Windows keeps names in UTF-16")
def test_a_name_that_is_no_utf_8_becomes_readable(tmp_path: Path) -> None:
    path = tmp_path / "a.tif"
    Image.fromarray(noise(20, 20)).save(path)
    try:
        path.rename(os.fsdecode(bytes(tmp_path) + b"/gef\xfcge.tif"))
    except OSError:
        pytest.skip("this file system takes only UTF-8")
    assert [item.name for item in load_domain(tmp_path).fields] == ["gef\\xfcge.tif"]


# What training asks for


def test_image_and_labels_on_the_networks_grid(tmp_path: Path) -> None:
    domain = load_domain(labelled(tmp_path, "a", phases=TWO_PHASES, crop={"bottom_px": 2, "left_px": 1}, invert=True))
    image, labels = prepared_and_labels(domain.fields[0], domain, Grid())
    np.testing.assert_array_equal(image, 255 - noise(32, 40)[:-2, 1:])
    np.testing.assert_array_equal(labels, halves()[:-2, 1:])
    image, labels = prepared_and_labels(domain.fields[0], domain, Grid(scale=0.5))
    assert image.shape == labels.shape == (15, 20)


def test_an_unreadable_field_stops_training_as_wrong_input(tmp_path: Path) -> None:
    folder = labelled(tmp_path, "a", phases=TWO_PHASES)
    (folder / "images" / "a.tif").write_bytes(b"")
    domain = load_domain(folder)
    for call in (lambda: prepared_and_labels(domain.fields[0], domain, Grid()), lambda: resolve_intensity(domain)):
        with pytest.raises(InputError, match=r"a\.tif: is empty"):
            call()


def test_bits_are_resolved_over_all_fields(tmp_path: Path) -> None:
    for name, shift in (("dark", 6), ("bright", 4)):
        tifffile.imwrite(tmp_path / f"{name}.tif", noise(32, 32, "uint16") >> shift)
    domain = load_domain(tmp_path)
    assert resolve_intensity(domain).bits == 12
    assert check_domain(domain, 2).resolved.bits == 12


def test_a_field_of_other_bits_is_named_and_does_not_decide(tmp_path: Path) -> None:
    for name, factor in (("a", 16), ("b", 16), ("c", 16), ("odd", 257)):
        tifffile.imwrite(tmp_path / f"{name}.tif", noise(32, 32).astype(np.uint16) * np.uint16(factor))
    found = check_domain(load_domain(tmp_path), 2)
    assert found.resolved.bits == 12
    assert resolved_rule(load_domain(tmp_path))[0].bits == 12
    assert "odd.tif" in resolved_rule(load_domain(tmp_path))[1][0]
    named = [text for text in found.notices if "and the domain has 12: it keeps its own" in text]
    assert len(named) == 1 and named[0].startswith("odd.tif: 16 significant bits")


def test_8_bit_and_float_need_no_bits(tmp_path: Path) -> None:
    for name, dtype in (("byte", "uint8"), ("float", "float32")):
        (tmp_path / name).mkdir()
        tifffile.imwrite(tmp_path / name / "a.tif", noise(32, 32, dtype))
    assert resolve_intensity(load_domain(tmp_path / "byte")) == Intensity()
    assert resolve_intensity(load_domain(tmp_path / "float")) == Intensity()


# The real data


@pytest.mark.skipif(not DATA.is_dir(), reason="no ../shared/data: the real micrographs are not in the repository")
@pytest.mark.parametrize("path", DESCRIBED, ids=lambda path: path.stem)
def test_published_data_read_as_they_are(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("MICROSEG_DATA", str(DATA))
    expected: dict[str, tuple[int, int, list[float]]] = {
        "superalloy": (14, 6, [0.485, 0.494, 0.021]),
        "superalloy-test": (4, 1, [0.478, 0.496, 0.026]),
        "superalloy-binary": (14, 6, [0.485, 0.515]),
        "superalloy-aged": (4, 4, [0.428, 0.572]),
        "superalloy-0d": (18, 7, [0.4833, 0.4943, 0.0224]),
        "superalloy-180d": (18, 7, [0.4833, 0.4943, 0.0224]),
        "coating": (16, 10, [0.822, 0.175, 0.003]),
        "coating-050317-3": (6, 6, [0.791, 0.207, 0.002]),
        "coating-040617-3": (16, 10, [0.822, 0.175, 0.003]),
        "coating-without-040617-3": (16, 10, [0.822, 0.175, 0.003]),
        "titanium": (43, 7, [0.337, 0.663]),
    }
    fields, groups, shares = expected[path.stem]
    domain = load_domain(path)
    assert len(domain.fields) == fields
    assert len({item.group for item in domain.fields}) == groups
    counts = [np.bincount(read_labels(item, domain).ravel(), minlength=256) for item in domain.fields]
    found = np.sum(counts, axis=0) / np.sum(counts)
    np.testing.assert_allclose(found[: len(shares)], shares, atol=6e-4)


def test_every_described_domain_has_its_place() -> None:
    assert {path.stem for path in DESCRIBED} == {
        "superalloy",
        "superalloy-test",
        "superalloy-binary",
        "superalloy-aged",
        "superalloy-0d",
        "superalloy-180d",
        "coating",
        "coating-050317-3",
        "coating-040617-3",
        "coating-without-040617-3",
        "titanium",
    }
