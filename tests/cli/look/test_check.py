"""`microseg check`, as typed."""

from __future__ import annotations

import io
import json
from pathlib import Path

import numpy as np
import pytest
import tifffile
import typer
from PIL import Image
from rich.console import Console
from typer.testing import CliRunner, Result

from microseg.cli.look.check import _print, check
from microseg.cli.look.fingerprint_table import print_fingerprint
from microseg.cli.tables import output_console, shortened
from microseg.core.domains.checking import check_domain
from microseg.core.domains.domain import load_domain
from microseg.core.domains.fingerprint.field_source import FieldSource
from microseg.core.domains.fingerprint.fingerprint import fingerprint_of_fields
from microseg.core.schemas.fingerprint import PhaseFingerprint
from tests.core.domains.fingerprint.samples import picture_of, structure
from tests.core.samples import halves, noise, write_domain

NAMED = [{"name": "ferrite"}, {"name": "bainite"}]


def run(*arguments: str | Path) -> Result:
    app = typer.Typer()
    app.command()(check)
    return CliRunner().invoke(app, [str(argument) for argument in arguments], env={"COLUMNS": "200"})


def steel(folder: Path, number: int = 6, **described: object) -> Path:
    masks = {f"spot{index // 2}_{index}": halves() for index in range(number)}
    return write_domain(folder, masks, {"phases": NAMED, "groups": "^(spot[0-9]+)", **described})


def test_a_domain_that_can_be_trained_on(tmp_path: Path) -> None:
    result = run(steel(tmp_path / "steel"), "--folds", "3", "--json", tmp_path / "found.json")
    assert result.exit_code == 0, result.output
    for text in ("ferrite", "bainite", "50.00 %", "spot2", "40 x 32 px, uint8", "bit_depth", "training can run"):
        assert text in result.output
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["can_train"] is True
    assert found["problems"] == []
    assert found["groups"] == {"spot0": 2, "spot1": 2, "spot2": 2}
    assert [phase["area_share"] for phase in found["phases"]] == [0.5, 0.5]
    first = found["fields"][0]
    assert (first["name"], first["group"], first["width_px"], first["height_px"]) == ("spot0_0.tif", "spot0", 40, 32)
    assert first["area_shares"] == {"ferrite": 0.5, "bainite": 0.5}
    assert sorted({item["fold"] for item in found["fields"]}) == [0, 1, 2]


def test_the_fingerprint_is_shown_and_named_in_json(tmp_path: Path) -> None:
    masks = {f"s{group}_{tile}": structure(10 * group + tile) for group in (1, 2) for tile in (1, 2, 3)}
    folder = write_domain(tmp_path / "steel", masks, {"phases": NAMED})
    for place, (name, labels) in enumerate(masks.items()):
        source = labels if name != "s2_2" else np.roll(labels, 6, 0)
        picture = picture_of(source, place) if name != "s2_1" else picture_of(structure(11), 0)[::-1]
        (folder / "images" / f"{name}.tif").unlink()
        Image.fromarray(np.ascontiguousarray(picture)).save(folder / "images" / f"{name}.png")
    result = run(folder, "--folds", "2", "--json", tmp_path / "found.json")
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "found.json").read_text())["fingerprint"]
    assert [phase["name"] for phase in found["phases"]] == ["ferrite", "bainite"]
    assert found["fields"] == 6 and found["suspected_groups"] == {"rule": "^(s[0-9]+)", "groups": 2}
    assert [(pair["first"], pair["second"]) for pair in found["copies"]] == [("s1_1.png", "s2_1.png")]
    assert {item["field"] for item in found["shifted_masks"]} == {"s2_2.png"}
    for text in ("chord px", "Noise, sharpest edges", "mirrored, turned by 180 degrees", "groups: '^(s[0-9]+)'"):
        assert text in result.output
    assert "s2_2.png (labels 6 px down, 0 px right)" in result.output


def test_the_fingerprint_fits_80_columns() -> None:
    chords = {"chord_px": 123.4, "chord_std_px": 117.2, "chord_um": 12.34, "chord_std_um": 11.72}
    phase = PhaseFingerprint(
        name="bainite", area_share=0.5123, labelled_px=1, regions=12345, fields=100, groups=12, grey_mean=123.4, grey_std=22.2,
        **chords,
    )  # fmt: skip
    picture = np.tile(np.arange(64, dtype=np.uint8), (64, 1))
    made = fingerprint_of_fields([(FieldSource("a", "a"), picture, picture // 32)], ["a", "b"], groups_stated=False)
    text = io.StringIO()
    print_fingerprint(Console(file=text, width=80, height=25), made.model_copy(update={"phases": [phase, phase]}))
    lines = text.getvalue().splitlines()
    assert max(map(len, lines)) <= 80 and any(
        "123±117" in line and "12.3±12" in line and "100 (12)" in line for line in lines
    )


def test_fewer_groups_than_folds(tmp_path: Path) -> None:
    folder = steel(tmp_path)
    stated = run(folder, "--folds", "5")
    assert stated.exit_code == 2
    assert "3 groups of fields (spot0, spot1, spot2) cannot be split into 5 folds" in stated.output
    assert "Training cannot run." in stated.output
    left = run(folder)
    assert left.exit_code == 0
    assert "the fields are of 3 groups: 3 folds, not 5" in " ".join(left.output.split())


def test_one_field_can_be_trained_on(tmp_path: Path) -> None:
    result = run(steel(tmp_path, 1), "--json", tmp_path / "found.json")
    assert result.exit_code == 0, result.output
    assert json.loads((tmp_path / "found.json").read_text())["can_train"] is True
    assert "one labelled field: folds hold out blocks" in " ".join(result.output.split())


def test_every_problem_is_listed_at_once(tmp_path: Path) -> None:
    folder = steel(tmp_path / "steel", phases=[*NAMED, {"name": "crack", "value": 9}])
    (folder / "images" / "spot0_0.tif").write_bytes(b"")
    Image.fromarray(halves(30, 40)).save(folder / "masks" / "spot0_1.png")
    Image.fromarray(halves(values=(0, 77))).save(folder / "masks" / "spot1_2.png")
    colour = np.dstack([noise(32, 40, seed=seed) for seed in range(3)])
    tifffile.imwrite(folder / "images" / "spot1_3.tif", colour, photometric="rgb")
    result = run(folder, "--folds", "3", "--json", tmp_path / "found.json")
    assert result.exit_code == 2
    problems = "\n".join(json.loads((tmp_path / "found.json").read_text())["problems"])
    for text in (
        "spot0_0.tif: is empty",
        "40 x 30 px, its image spot0_1.tif has 40 x 32 px",
        "spot1_2.png: 640 pixels have values that no phase names: 77 (640 px)",
        "are coloured, in rows 0 to 31 and columns 0 to 39",
        "phase 'crack' (mask value 9) never occurs",
    ):
        assert text in problems
    assert all(line[:40] in result.output for line in problems.splitlines())


def test_a_bare_folder_never_takes_masks_for_images(tmp_path: Path) -> None:
    folder = steel(tmp_path / "steel")
    result = run(folder, "--folds", "2", "--json", tmp_path / "found.json")
    assert result.exit_code == 0
    assert len(json.loads((tmp_path / "found.json").read_text())["fields"]) == 6


def test_an_unlabelled_domain_is_understood_but_no_training(tmp_path: Path) -> None:
    Image.fromarray(noise(32, 32)).save(tmp_path / "a.tif")
    Image.fromarray(noise(32, 32)).save(tmp_path / "b.png")
    result = run(tmp_path)
    assert result.exit_code == 2
    assert "2 fields" in result.output
    assert "has no masks, so training is impossible" in result.output


def test_a_file_that_is_left_out_is_named(tmp_path: Path) -> None:
    folder = steel(tmp_path / "steel")
    Image.fromarray(noise(32, 40)).save(folder / "images" / "spot1_2.png")
    (folder / "images" / "notes.db").touch()
    result = run(folder, "--folds", "2")
    assert result.exit_code == 0
    assert "Left out as second files of a field: spot1_2.png (spot1_2.tif is taken)." in result.output
    assert "Passed over: 1 .db" in result.output


def test_unlabelled_pixels_and_notices_are_shown(tmp_path: Path) -> None:
    masks = {name: halves(values=(0, 1, 255, 255)) for name in "ab"}
    folder = write_domain(tmp_path / "steel", masks, {"phases": NAMED, "unlabelled": 255})
    tifffile.imwrite(folder / "images" / "a.tif", noise(32, 40, "uint16") >> 4)
    result = run(folder, "--folds", "2", "--json", tmp_path / "found.json")
    assert result.exit_code == 0
    assert "12 significant bits" in result.output
    assert "50.00 % of all" in result.output
    assert "a.tif: 16 bit are read with 12 significant bits" in result.output
    found = json.loads((tmp_path / "found.json").read_text())
    assert found["unlabelled_share"] == 0.5
    assert found["intensity_resolved"]["bits"] == 12


def test_pixel_sizes_are_shown(tmp_path: Path) -> None:
    folder = steel(tmp_path / "steel")
    path = folder / "images" / "spot0_0.tif"
    tifffile.imwrite(path, noise(32, 40), imagej=True, resolution=(10, 10), metadata={"unit": "um"})
    result = run(folder, "--folds", "3")
    assert "Pixel size: unknown: 5 fields; 0.1 um (ImageJ (pixels per µm)): 1 field." in result.output
    assert "pixel size unknown for 5 of 6 fields" in result.output
    assert (
        "Pixel size: 1.5 um (domain.yaml)." in run(steel(tmp_path / "other", pixel_size_um=1.5), "--folds", "3").output
    )


@pytest.mark.parametrize("name", ["with [brackets] and spaces", "Gefüge Größe", "two\nlines"])
def test_any_name(tmp_path: Path, name: str) -> None:
    try:
        folder = write_domain(tmp_path / name, {name: halves(), "b": halves()}, {"phases": NAMED})
    except OSError:
        pytest.skip("this file system does not take the name")
    result = run(folder, "--folds", "2", "--json", tmp_path / "found.json")
    assert result.exit_code == 0, result.output
    assert f"{name}.tif" in [item["name"] for item in json.loads((tmp_path / "found.json").read_text())["fields"]]


LONG = [f"Wafer-2024-11-07_specimen-A17-etched-with-nital_magnification-20000x_field-{n:03}.tif" for n in range(4)]


def printed(folder: Path, terminal: bool) -> list[str]:
    """The lines of `check` at 80 columns, on a terminal or in a log file."""
    out = io.StringIO()
    console = Console(file=out, width=80, force_terminal=True, color_system=None) if terminal else Console(file=out)
    found = check_domain(load_domain(folder), 2)
    _print(console if terminal else Console(file=out, width=10_000), found)
    return out.getvalue().splitlines()


def test_long_names_take_one_line_at_80_columns_and_are_whole_in_a_log_file(tmp_path: Path) -> None:
    folder = tmp_path / "steel"
    masks = {Path(name).stem: halves() for name in LONG}
    write_domain(folder, masks, {"phases": [{"name": "lath bainite"}, {"name": "martensite-austenite"}]})
    lines = printed(folder, terminal=True)
    rows = [line for line in lines if line.startswith("│")]
    assert all(len(line) <= 80 for line in rows)
    for number in range(4):
        assert sum(f"field-{number:03}.tif" in line and "50.00" in line for line in rows) == 1
    rows = [line for line in printed(folder, terminal=False) if line.startswith("│")]
    for name in LONG:
        assert sum(name in line for line in rows) == 1


def test_a_log_file_has_no_width(
    tmp_path: Path, capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.delenv("COLUMNS", raising=False)
    check(steel(tmp_path / "steel"), 2, None)
    assert "spot0_0.tif" in capsys.readouterr().out
    assert output_console().width == 10_000


def test_shortened() -> None:
    assert shortened("field.tif", 9) == "field.tif"
    assert shortened("specimen-17-field-3.tif", 12) == "spec…d-3.tif"
    assert [len(shortened("x" * 40, columns)) for columns in (12, 13, 39)] == [12, 13, 39]


def test_a_field_without_a_label_stops_training_unless_it_is_a_test(tmp_path: Path) -> None:
    masks = {"a": halves(), "b": halves(), "c": halves(values=(255,))}
    folder = write_domain(tmp_path / "steel", masks, {"phases": NAMED, "unlabelled": 255})
    result = run(folder, "--folds", "2")
    assert result.exit_code == 2
    assert "c.png: every pixel is unlabelled. Remedy: label some, or list the field under `test`" in result.output
    described = {"phases": NAMED, "unlabelled": 255, "test": ["c"]}
    assert run(write_domain(tmp_path / "other", masks, described), "--folds", "2").exit_code == 0


def test_one_hot_masks_are_named_once_for_all_fields(tmp_path: Path) -> None:
    folder = write_domain(tmp_path, {"a": halves(), "b": halves()}, {"phases": NAMED})
    for name in "ab":
        (folder / "masks" / f"{name}.png").unlink()
        tifffile.imwrite(
            folder / "masks" / f"{name}.tif", np.stack([halves() == 0, halves() == 1]), photometric="minisblack"
        )
    result = run(folder, "--folds", "2")
    assert result.exit_code == 0, result.output
    assert "2 fields (a.tif ...): one-hot mask: of its pages or channels, 1 is ferrite, 2 is bainite" in result.output


def test_0_of_scribbles_is_told_and_can_be_declared_unlabelled(tmp_path: Path) -> None:
    scribbles = np.zeros((32, 40), np.uint8)
    scribbles[4:8, :20], scribbles[4:8, 20:] = 1, 2
    folder = write_domain(tmp_path, {"a": scribbles, "b": scribbles})
    assert (
        "where it means that nothing is labelled (scribbles), write `unlabelled: 0`"
        in run(folder, "--folds", "2").output
    )
    (folder / "domain.yaml").write_text("unlabelled: 0\n")
    result = run(folder, "--folds", "2", "--json", tmp_path / "found.json")
    assert result.exit_code == 0, result.output
    found = json.loads((tmp_path / "found.json").read_text())
    assert [phase["area_share"] for phase in found["phases"]] == [0.5, 0.5]
    assert [phase["values"] for phase in found["phases"]] == [[1], [2]]
    assert found["unlabelled_share"] == 0.875


def test_a_domain_yaml_is_written_once(tmp_path: Path) -> None:
    folder = write_domain(tmp_path / "steel", {"a": halves(values=(0, 128, 255)), "b": halves(values=(0, 128, 255))})
    result = run(folder, "--folds", "2", "--write-yaml")
    assert result.exit_code == 0, result.output
    assert "Written: " in result.output and "domain.yaml" in result.output
    assert "35.00 %" in result.output and "training can run" in result.output
    again = run(folder, "--folds", "2", "--write-yaml")
    assert again.exit_code != 0
    assert "is there already" in str(again.exception)


def test_unnamed_phases_show_the_way_to_name_them(tmp_path: Path) -> None:
    folder = write_domain(tmp_path, {"a": halves(), "b": halves()})
    assert "--write-yaml writes a domain.yaml to correct" in run(folder, "--folds", "2").output
    assert "--write-yaml" not in run(steel(tmp_path / "named"), "--folds", "3").output
