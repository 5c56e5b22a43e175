"""Label files as LabelMe, COCO, CVAT and QuPath write them."""

from __future__ import annotations

import base64
import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from microseg.core.domains.checking import check_domain
from microseg.core.domains.domain import Domain, load_domain, read_labels
from microseg.core.errors import InputError
from microseg.core.images.orientation import shown
from tests.core.domains.imports.test_runs import compressed
from tests.core.samples import noise

SHAPE = (60, 80)
SQUARE = [[10, 10], [20, 10], [20, 20], [10, 20]]
FLAT = [10, 10, 20, 10, 20, 20, 10, 20]
HOLE = [[12, 12], [12, 15], [15, 15], [15, 12]]


def write_images(folder: Path, *names: str) -> Path:
    for number, name in enumerate(names):
        (folder / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(noise(*SHAPE, seed=number)).save(folder / name)
    return folder


def labelme(*shapes: dict[str, Any], **content: Any) -> str:
    usual = {"version": "5.4.1", "flags": {}, "imagePath": "..\\a.tif", "imageHeight": 60, "imageWidth": 80}
    return json.dumps(usual | {"shapes": list(shapes)} | content)


def outline(label: str, points: Any, kind: str = "polygon", **more: Any) -> dict[str, Any]:
    return {"label": label, "points": points, "shape_type": kind, "group_id": None, "flags": {}} | more


def coco(*annotations: dict[str, Any], names: tuple[str, ...] = ("a.tif",)) -> str:
    images = [{"id": 7 + n, "file_name": name, "height": 60, "width": 80} for n, name in enumerate(names)]
    items = [{"id": n, "image_id": 7, "category_id": 1, "iscrowd": 0} | item for n, item in enumerate(annotations)]
    categories = [{"id": 1, "name": "bainite"}, {"id": 2, "name": "pore"}]
    return json.dumps({"images": images, "annotations": items, "categories": categories})


def cvat(*shapes: str, names: tuple[str, ...] = ("a.tif",)) -> str:
    images = "".join(
        f'<image id="{n}" name="{name}" width="80" height="60">{"".join(shapes)}</image>'
        for n, name in enumerate(names)
    )
    return f'<?xml version="1.0" encoding="utf-8"?>\n<annotations><version>1.1</version><meta/>{images}</annotations>'


def qupath(*geometries: dict[str, Any], label: str = "bainite") -> str:
    features = [
        {
            "type": "Feature",
            "id": "1",
            "geometry": geometry,
            "properties": {"objectType": "annotation", "classification": {"name": label, "color": [200, 0, 0]}},
        }
        for geometry in geometries
    ]
    return json.dumps({"type": "FeatureCollection", "features": features})


def labels(folder: Path) -> NDArray[np.uint8]:
    domain = load_domain(folder)
    return read_labels(domain.fields[0], domain)


def square() -> NDArray[np.uint8]:
    expected = np.zeros(SHAPE, np.uint8)
    expected[10:20, 10:20] = 1
    return expected


RUNS_DOWN = [10 * 60 + 10, *[10, 50] * 9, 10, 80 * 60 - 19 * 60 - 20]
RUNS_ALONG = ",".join(map(str, [0, 100]))
WRITTEN: dict[str, tuple[str, str]] = {
    "LabelMe polygon": ("labels/a.json", labelme(outline("bainite", SQUARE))),
    "LabelMe rectangle": ("labels/a.json", labelme(outline("bainite", [[20, 10], [10, 20]], "rectangle"))),
    "LabelMe beside": ("images/a.json", labelme(outline("bainite", SQUARE), imageHeight=None, imageWidth=None)),
    "COCO polygon": ("annotations/instances_default.json", coco({"segmentation": [FLAT]})),
    "COCO runs": ("coco.json", coco({"segmentation": {"size": [60, 80], "counts": RUNS_DOWN}})),
    "COCO compressed": ("coco.json", coco({"segmentation": {"size": [60, 80], "counts": compressed(RUNS_DOWN)}})),
    "COCO beside": ("images/_annotations.coco.json", coco({"segmentation": [FLAT]}, names=("A.TIF",))),
    "CVAT polygon": (
        "annotations.xml",
        cvat('<polygon label="bainite" occluded="0" points="10.0,10.0;20.0,10.0;20.0,20.0;10.0,20.0" z_order="0"/>'),
    ),
    "CVAT box": ("annotations.xml", cvat('<box label="bainite" xtl="10" ytl="10" xbr="20" ybr="20"/>')),
    "CVAT turned box": (
        "cvat/x.xml",
        cvat('<box label="bainite" xtl="10" ytl="10" xbr="20" ybr="20" rotation="90.0"/>'),
    ),
    "CVAT mask": (
        "annotations.xml",
        cvat(f'<mask label="bainite" rle="{RUNS_ALONG}" left="10" top="10" width="10" height="10"/>'),
    ),
    "QuPath": ("labels/a.geojson", qupath({"type": "Polygon", "coordinates": [[*SQUARE, SQUARE[0]]]})),
    "QuPath beside": ("images/a.geojson", qupath({"type": "MultiPolygon", "coordinates": [[SQUARE]]})),
    "QuPath list": (
        "labels/a.tif.geojson",
        json.dumps(json.loads(qupath({"type": "Polygon", "coordinates": [SQUARE]}))["features"]),
    ),
}


def write(folder: Path, tool: str) -> Path:
    name, text = WRITTEN[tool]
    write_images(folder, "images/a.tif")
    (folder / name).parent.mkdir(exist_ok=True)
    (folder / name).write_text(text, encoding="utf-8")
    if tool == "CVAT turned box":
        (folder / "domain.yaml").write_text("labels: CVAT\nmasks: cvat\n")
    return folder


@pytest.mark.parametrize("tool", WRITTEN)
def test_a_square_covers_100_pixels_and_the_rest_is_the_other_phase(tmp_path: Path, tool: str) -> None:
    domain = load_domain(write(tmp_path, tool))
    assert [(phase.name, phase.values) for phase in domain.phases] == [
        ("background", ("other",)),
        ("bainite", ("bainite",)),
    ]
    assert domain.phases_inferred is False
    assert domain.notices == ("what lies in no shape (97.92 % of the area) is taken as the phase 'background'",)
    np.testing.assert_array_equal(read_labels(domain.fields[0], domain), square())
    assert load_domain(tmp_path, masks=False).fields[0].mask is None


@pytest.mark.parametrize("tool", ["LabelMe polygon", "COCO polygon", "CVAT polygon", "QuPath"])
@pytest.mark.parametrize("stated", [True, False])
def test_phases_as_the_domain_yaml_states_them(tmp_path: Path, tool: str, stated: bool) -> None:
    folder = write(tmp_path, tool)
    name = tool.split()[0].lower()
    described = f"labels: {name}\nmasks: {WRITTEN[tool][0]}\n" if stated else ""
    if stated and tool in ("LabelMe polygon", "QuPath"):
        described = f"labels: {name}\nmasks: labels\n"
    (folder / "domain.yaml").write_text(f"{described}phases:\n- {{name: Bainite}}\n- {{name: ferrite, value: other}}\n")
    domain = load_domain(folder)
    assert domain.labels == name
    np.testing.assert_array_equal(read_labels(domain.fields[0], domain), 1 - square())
    (folder / "domain.yaml").write_text(
        f"labels: {name}\nunlabelled: other\nphases:\n- {{name: x, value: bainite}}\n- {{name: y}}\n"
    )
    np.testing.assert_array_equal(labels(folder), np.where(square() == 1, 0, 255))
    assert "phase 'y' (mask value y) never occurs" in "\n".join(check_domain(load_domain(folder), 2).problems)


def test_several_labels_and_a_rest_show_the_domain_yaml_to_write(tmp_path: Path) -> None:
    folder = write_images(tmp_path, "images/a.tif")
    (folder / "images" / "a.json").write_text(labelme(outline("bainite", SQUARE), outline("a: b", HOLE)))
    with pytest.raises(
        InputError, match=r"labelme files hold 2 labels, and 97\.92 % of the area lie in no shape"
    ) as caught:
        load_domain(folder)
    (folder / "domain.yaml").write_text(str(caught.value).partition("\n\n")[2])
    expected = square() * 2
    expected[12:15, 12:15] = 1
    np.testing.assert_array_equal(labels(folder), expected)
    assert [phase.name for phase in load_domain(folder).phases] == ["background", "a: b", "bainite"]


def test_labels_that_cover_everything_need_no_domain_yaml(tmp_path: Path) -> None:
    folder = write_images(tmp_path, "images/a.tif")
    everything = [[0, 0], [80, 0], [80, 60], [0, 60]]
    (folder / "images" / "a.json").write_text(labelme(outline("ferrite", everything), outline("bainite", SQUARE)))
    domain = load_domain(folder)
    assert [phase.name for phase in domain.phases] == ["bainite", "ferrite"]
    np.testing.assert_array_equal(read_labels(domain.fields[0], domain), 1 - square())


def test_pixels_in_no_shape_need_a_meaning_and_labels_a_phase(tmp_path: Path) -> None:
    folder = write(tmp_path, "LabelMe polygon")
    (folder / "domain.yaml").write_text("phases:\n- {name: bainite}\n- {name: pore}\n")
    with pytest.raises(InputError, match=r"4700 pixels of a\.tif lie in no shape.*value: other.*unlabelled: other"):
        labels(folder)
    (folder / "domain.yaml").write_text("unlabelled: other\nphases:\n- {name: ferrite}\n- {name: pore}\n")
    np.testing.assert_array_equal(labels(folder), np.full(SHAPE, 255))
    (folder / "domain.yaml").write_text("labels: labelme\nphases:\n- {name: ferrite}\n- {name: pore}\n")
    with pytest.raises(InputError, match=r"a\.json: holds labels that no phase names: 'bainite'. Known: ferrite, pore"):
        labels(folder)
    (folder / "domain.yaml").write_text("phases:\n- {name: a, value: bainite}\n- {name: b, value: other}\n")
    with pytest.raises(InputError, match=r"'bainite' is no mask value.*name of a label needs `labels`"):
        load_domain(folder)


def test_later_shapes_win_and_holes_are_holes(tmp_path: Path) -> None:
    folder = write_images(tmp_path, "images/a.tif")
    (folder / "images" / "a.geojson").write_text(qupath({"type": "Polygon", "coordinates": [SQUARE, HOLE]}))
    expected = square()
    expected[12:15, 12:15] = 0
    np.testing.assert_array_equal(labels(folder), expected)
    shapes = (
        '<polygon label="pore" points="12,12;15,12;15,15;12,15" z_order="1"/>'
        '<polygon label="bainite" points="10,10;20,10;20,20;10,20" z_order="0"/>'
    )
    (folder / "images" / "a.geojson").unlink()
    (folder / "annotations.xml").write_text(cvat(shapes))
    (folder / "domain.yaml").write_text("phases:\n- {name: f, value: other}\n- {name: bainite}\n- {name: pore}\n")
    expected[12:15, 12:15] = 2
    np.testing.assert_array_equal(labels(folder), expected)


def test_masks_inside_labelme_files(tmp_path: Path) -> None:
    folder = write_images(tmp_path, "images/a.tif")
    stream = io.BytesIO()
    Image.fromarray(np.ones((10, 10), np.uint8) * 255).save(stream, "PNG")
    shape = outline("bainite", [[10, 10], [19, 19]], "mask", mask=base64.b64encode(stream.getvalue()).decode())
    (folder / "images" / "a.json").write_text(labelme(shape))
    np.testing.assert_array_equal(labels(folder), square())


def test_points_lines_and_boxes_outline_nothing_and_are_told(tmp_path: Path) -> None:
    folder = write_images(tmp_path, "images/a.tif")
    (folder / "images" / "a.json").write_text(
        labelme(outline("bainite", SQUARE), outline("scale", [[0, 0], [5, 5]], "line"), outline("x", [[1, 1]], "point"))
    )
    found = check_domain(load_domain(folder), 2)
    assert "a.tif: 2 points, lines or boxes outline no region and are left out" in found.notices
    (folder / "images" / "a.json").unlink()
    box = {"segmentation": [], "bbox": [1, 1, 5, 5]}
    (folder / "c.json").write_text(coco({"segmentation": [FLAT]}, box))
    found = check_domain(load_domain(folder), 2)
    assert "a.tif: 1 points, lines or boxes outline no region and are left out" in found.notices


@pytest.mark.parametrize("orientation", range(1, 9))
def test_shapes_are_drawn_on_the_image_as_viewers_show_it(tmp_path: Path, orientation: int) -> None:
    exif = Image.Exif()
    exif[274] = orientation
    expected = np.zeros(SHAPE, np.uint8)
    expected[3:17, 5:40] = 1
    viewed = shown(expected, orientation)
    rows, columns = np.flatnonzero(viewed.any(1)), np.flatnonzero(viewed.any(0))
    x0, y0, x1, y1 = (int(edge) for edge in (columns[0], rows[0], columns[-1] + 1, rows[-1] + 1))
    (tmp_path / "images").mkdir()
    Image.fromarray(noise(*SHAPE)).save(tmp_path / "images" / "a.jpg", exif=exif)
    box = outline("bainite", [[x0, y0], [x1, y1]], "rectangle")
    size = {"imageHeight": viewed.shape[0], "imageWidth": viewed.shape[1]}
    (tmp_path / "images" / "a.json").write_text(labelme(box, **size))
    np.testing.assert_array_equal(labels(tmp_path), expected)


def test_shapes_on_the_stored_grid_by_the_size_that_they_state(tmp_path: Path) -> None:
    exif = Image.Exif()
    exif[274] = 6
    (tmp_path / "images").mkdir()
    Image.fromarray(noise(*SHAPE)).save(tmp_path / "images" / "a.jpg", exif=exif)
    (tmp_path / "images" / "a.json").write_text(labelme(outline("bainite", SQUARE)))
    np.testing.assert_array_equal(labels(tmp_path), square())
    (tmp_path / "images" / "a.json").write_text(labelme(outline("bainite", SQUARE), imageHeight=61))
    with pytest.raises(InputError, match=r"a\.json: 80 x 61 px, its image a\.jpg has 60 x 80 px"):
        labels(tmp_path)


def test_names_in_label_files_find_their_images_and_open_nothing(tmp_path: Path) -> None:
    folder = write_images(tmp_path, "images/x/a.tif", "images/y/a.tif", "images/b.tif")
    names = ("C:\\data\\x\\a.tif", "/etc/y/a.tif", "../../../etc/b.jpg", "../../passwd")
    (folder / "c.json").write_text(coco({"segmentation": [FLAT]}, names=names))
    domain = load_domain(folder)
    assert {item.name: item.entry for item in domain.fields} == {
        "x/a.tif": names[0],
        "y/a.tif": names[1],
        "b.tif": names[2],
    }
    shares = {item.name: int((read_labels(item, domain) == 1).sum()) for item in domain.fields}
    assert shares == {"x/a.tif": 100, "y/a.tif": 0, "b.tif": 0}
    (folder / "c.json").write_text(coco(names=("a.tif", "b.tif")))
    with pytest.raises(InputError, match="not one to one"):
        load_domain(folder)
    (folder / "c.json").write_text(coco(names=("x/a.tif", "b.tif")))
    with pytest.raises(InputError, match="not one to one"):
        load_domain(folder)
    (folder / "c.json").write_text(coco(names=("x/a.tif", "y/a.tif")))
    with pytest.raises(InputError, match=r"1 of 3 images are not named in .*c\.json: b\.tif"):
        load_domain(folder)


def test_images_without_a_label_file(tmp_path: Path) -> None:
    folder = write(tmp_path, "LabelMe beside")
    write_images(folder, "images/b.tif")
    with pytest.raises(InputError, match=r"1 of 2 images have no mask in .*images: b\.tif"):
        load_domain(folder)


BROKEN: list[tuple[str, str, str]] = [
    ("images/a.json", labelme({"label": "b"}), "shape 1: is no shape of LabelMe"),
    ("images/a.json", labelme(outline("b", [[0, 0], [1, 1]])), "shape 1: is no outline"),
    ("images/a.json", labelme(outline("b", [[0, 0], [1, 10**400], [2, 2]])), "shape 1: is no outline"),
    ("images/a.json", labelme(outline("b", SQUARE, "cloud")), "is a 'cloud', which is not read"),
    ("images/a.json", labelme(outline("b", [[1, 1]], "mask", mask="AAAA")), "shape 1: its mask is no PNG"),
    ("c.json", coco({"image_id": 99, "segmentation": [[0, 0, 1, 1, 2, 2]]}), "annotation 1: is no annotation of COCO"),
    ("c.json", coco({"segmentation": [[0, 0, 1, 1, 2]]}), "annotation 1: is no annotation of COCO"),
    ("c.json", coco({"segmentation": {"size": [60, 80], "counts": [5]}}), "annotation 1: its runs"),
    ("c.json", coco({"segmentation": {"size": [1 << 20, 1 << 20], "counts": [5]}}), "annotation 1: its mask has"),
    ("c.json", coco({"segmentation": {"size": [61, 80], "counts": [4880]}}), "its mask is 80 x 61 px"),
    ("c.json", coco({"segmentation": {"size": [60, 80], "counts": "0" * 20000}}), "more runs than pixels"),
    ("a.xml", cvat('<polygon label="b" points="1;2;3"/>'), "shape 1: is no outline"),
    ("a.xml", cvat('<polygon points="0,0;1,1;2,2"/>'), "shape 1: is no shape of CVAT"),
    ("a.xml", cvat('<mask label="b" rle="1,x" left="0" top="0" width="2" height="2"/>'), "is no shape of CVAT"),
    ("a.xml", "<annotations><track/></annotations>", "is CVAT for video"),
    ("images/a.geojson", qupath({"type": "Polygon", "coordinates": [[0, 0]]}), "feature 1: is no outline"),
    ("images/a.geojson", qupath({"type": "Polygon"}), "feature 1: is no feature of GeoJSON"),
    ("images/a.geojson", qupath({"type": "Polygon", "coordinates": [SQUARE]}, label=""), "feature 1: has no class"),
]


@pytest.mark.parametrize(("name", "text", "message"), BROKEN)
def test_what_is_broken_names_file_and_place(tmp_path: Path, name: str, text: str, message: str) -> None:
    folder = write_images(tmp_path, "images/a.tif")
    (folder / name).write_text(text)
    with pytest.raises(InputError, match=message) as caught:
        load_domain(folder)
    assert Path(name).name in str(caught.value)
    assert "Remedy" in str(caught.value)


@pytest.mark.parametrize(
    "text",
    [
        '<!DOCTYPE annotations [<!ENTITY a "aaaa">]><annotations><image name="&a;"/></annotations>',
        '<!DOCTYPE annotations SYSTEM "file:///etc/passwd"><annotations/>',
    ],
)
def test_entities_and_document_types_are_refused(tmp_path: Path, text: str) -> None:
    folder = write_images(tmp_path, "images/a.tif")
    (folder / "a.xml").write_text(text)
    (folder / "domain.yaml").write_text("labels: cvat\nmasks: a.xml\n")
    with pytest.raises(InputError, match="declares a document type or entities"):
        load_domain(folder)


def test_other_files_beside_the_images_are_left_alone(tmp_path: Path) -> None:
    folder = write_images(tmp_path, "images/a.tif")
    for name, text in (("a.json", '{"HV": "15 kV"}'), ("b.json", "{"), ("c.xml", "<a/>"), ("dataset.json", "{}")):
        (folder / "images" / name).write_text(text)
    domain: Domain = load_domain(folder)
    assert domain.phases == () and domain.labels == "masks"


@pytest.mark.parametrize(
    ("described", "message"),
    [
        ("labels: coco", "labels: coco: .* holds no such files"),
        ("labels: coco\nmasks: images/a.json", "its images or categories are not those of COCO"),
        ("masks: images/x.json", "is no file of labelme, coco, cvat or qupath"),
        ("labels: pascal", "labels = 'pascal'"),
    ],
)
def test_labels_that_are_not_what_the_domain_yaml_says(tmp_path: Path, described: str, message: str) -> None:
    folder = write_images(tmp_path, "images/a.tif")
    if "masks" in described:
        (folder / "images" / "a.json").write_text(labelme(outline("b", SQUARE)))
        (folder / "images" / "x.json").write_text("{}")
    (folder / "domain.yaml").write_text(described)
    with pytest.raises(InputError, match=message):
        load_domain(folder)


def test_names_of_nnunet(tmp_path: Path) -> None:
    folder = write_images(tmp_path, "imagesTr/a_0000.png", "imagesTr/b_0000.png", "imagesTs/c_0000.png")
    for name in ("labelsTr/a.png", "labelsTr/b.png", "labelsTs/c.png"):
        (folder / name).parent.mkdir(exist_ok=True)
        Image.fromarray(np.where(square() == 1, np.uint8(1), np.uint8(0))).save(folder / name)
    (folder / "dataset.json").write_text(
        json.dumps(
            {
                "channel_names": {"0": "SEM"},
                "labels": {"background": 0, "bainite": 1, "ignore": 2},
                "file_ending": ".png",
            }
        )
    )
    domain = load_domain(folder)
    assert [(phase.name, phase.values) for phase in domain.phases] == [("background", (0,)), ("bainite", (1,))]
    assert domain.unlabelled == 2 and not domain.phases_inferred
    assert [(item.name, item.is_test) for item in domain.fields] == [
        ("imagesTr/a_0000.png", False),
        ("imagesTr/b_0000.png", False),
        ("imagesTs/c_0000.png", True),
    ]
    (folder / "dataset.json").write_text(json.dumps({"labels": {"0": "ferrite", "1": "bainite"}}))
    assert [phase.name for phase in load_domain(folder).phases] == ["ferrite", "bainite"]
    (folder / "dataset.json").write_text(json.dumps({"labels": {"0": "ferrite", "all": [0, 1]}}))
    assert [phase.name for phase in load_domain(folder).phases] == ["phase0", "phase1"]
    (folder / "imagesTr" / "a_0001.png").write_bytes((folder / "imagesTr" / "a_0000.png").read_bytes())
    with pytest.raises(InputError, match=r"several channels of a field: a_0000\.png and a_0001\.png"):
        load_domain(folder)
