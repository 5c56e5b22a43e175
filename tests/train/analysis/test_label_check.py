"""`check DOMAIN --run RUN`: a blob that was relabelled is listed first, by the folds that did not learn from its field."""

from __future__ import annotations

import json
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from numpy.typing import NDArray
from PIL import Image

from microseg.core.domains.domain import load_domain, prepared_and_labels, read_labels
from microseg.core.schemas.run import Block, read_run
from microseg.core.system.files import write_yaml
from microseg.train.analysis import label_check
from tests.chain import microseg


@pytest.fixture
def networks_that_know(trained: Path, source: Path, unseen: Path, monkeypatch: pytest.MonkeyPatch) -> list[int]:
    """Networks that predict the true labels, moved by a pixel. Returns how many of them each field was shown to."""
    grid, asked = read_run(trained)[0].grid, []
    truth = {}
    for folder in (source, unseen):
        domain = load_domain(folder)
        for field in domain.fields:
            image, labels = prepared_and_labels(field, domain, grid)
            truth[image.tobytes()] = np.roll(labels, 1, axis=1)

    def predict(networks: Sequence[Any], image: NDArray[np.uint8], *sizes: int) -> tuple[NDArray[np.float32], None]:
        asked.append(len(networks))
        each = np.stack([np.where(truth[image.tobytes()] == phase, 0.9, 0.1) for phase in range(2)])
        return np.repeat(each[None], len(networks), axis=0).astype(np.float32), None

    monkeypatch.setattr(label_check, "predict_field", predict)
    return asked


def relabelled(folder: Path, out: Path, number: int) -> tuple[Path, str, tuple[int, int]]:
    """A copy of a domain in which a square of one phase is labelled as the other. Returns name and place of the square."""
    shutil.copytree(folder, out)
    domain = load_domain(out)
    field = domain.fields[number]
    labels = read_labels(field, domain)
    windows = np.lib.stride_tricks.sliding_window_view(labels, (24, 24))
    same = (windows == windows[..., :1, :1]).all(axis=(2, 3))
    top, left = (int(value) for value in np.argwhere(same)[len(np.argwhere(same)) // 2])
    assert field.mask is not None
    with Image.open(field.mask) as mask:
        pixels, palette = np.asarray(mask).copy(), mask.getpalette()
    pixels[top : top + 24, left : left + 24] = 1 - pixels[top, left]
    changed = Image.fromarray(pixels)
    if palette is not None:
        changed.putpalette(palette)
    changed.save(field.mask)
    return out, field.name, (top, left)


@pytest.mark.parametrize("known", [True, False])
def test_a_relabelled_square_is_listed_first(
    known: bool, trained: Path, source: Path, unseen: Path, networks_that_know: list[int], tmp_path: Path
) -> None:
    domain, name, (top, left) = relabelled(source if known else unseen, tmp_path / "steel", 1)
    page, json_path = tmp_path / "page.html", tmp_path / "check.json"
    done = microseg("check", domain, "--folds", 2, "--run", trained, "--out", page, "--json", json_path, columns=80)
    assert done.status == 0, done.err
    assert networks_that_know == ([1] * 4 if known else [2] * 2)
    found = json.loads(json_path.read_text(encoding="utf-8"))["labels_by_run"]
    assert found["checked"] == (4 if known else 2) and found["not_checked"] == []
    (doubt,) = found["doubtful"]
    assert doubt["field"] == name and doubt["folds"] == (1 if known else 2)
    assert {doubt["label"], doubt["folds_say"]} == {"ferrite", "lath-bainite"}
    assert abs(doubt["top_px"] - top) <= 2 and abs(doubt["left_px"] - left) <= 2
    assert 0.9 * 24 * 24 <= doubt["area_px"] <= 24 * 24 and doubt["confidence"] == pytest.approx(0.9)
    assert "Doubtful labels, of" in done.out and name in done.out and f"Pictures: {page}" in done.out
    assert page.read_text(encoding="utf-8").count("data:image/jpeg;base64,") == 4


def test_labels_that_the_folds_share_have_no_page(
    trained: Path, unseen: Path, networks_that_know: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    done = microseg("check", unseen, "--folds", 2, "--run", trained)
    assert done.status == 0 and "no region that they agree against" in done.out
    assert list(tmp_path.iterdir()) == []


def test_fields_that_every_fold_has_learned_are_named(
    trained: Path, source: Path, networks_that_know: list[int], tmp_path: Path
) -> None:
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    text = (run / "run.yaml").read_text(encoding="utf-8")
    (run / "run.yaml").write_text(text.replace("  fold: 1\n", "  fold: -1\n"), encoding="utf-8")
    done = microseg("check", source, "--folds", 2, "--run", run, "--out", tmp_path / "page.html")
    assert done.status == 0 and done.out.count("its labels are not checked: every fold has learned from it") == 2


def test_a_block_is_checked_by_the_fold_that_held_it_out(
    trained: Path, source: Path, networks_that_know: list[int], tmp_path: Path
) -> None:
    """A field of which fold 0 held out the left half and fold 1 the right one."""
    run = tmp_path / "run"
    shutil.copytree(trained, run)
    record = read_run(run)[0]
    field, grid = load_domain(source).fields[0], record.grid
    height, width = prepared_and_labels(field, load_domain(source), grid)[0].shape
    (sha256,) = (item.sha256 for item in record.fields if item.name == field.name)
    half = width // 2
    blocks = [
        Block(sha256=sha256, fold=0, top_px=0, left_px=0, height_px=height, width_px=half),
        Block(sha256=sha256, fold=1, top_px=0, left_px=half, height_px=height, width_px=width - half),
    ]
    write_yaml(run / "run.yaml", record.model_copy(update={"blocks": blocks}).model_dump(mode="json"))
    domain, name, _ = relabelled(source, tmp_path / "steel", 0)
    found, _ = label_check.check_labels_with_run(run, load_domain(domain))
    assert sorted(networks_that_know) == [1, 1, 1, 2] and found.checked == 4
    assert [(doubt.field, doubt.folds) for doubt in found.doubts] == [(name, 1)]
    each = np.arange(2 * 3 * height * width, dtype=np.float32).reshape(2, 3, height, width)
    joined = label_check._by_blocks(each, blocks)
    np.testing.assert_array_equal(joined[0, :, :, :half], each[0, :, :, :half])
    np.testing.assert_array_equal(joined[0, :, :, half:], each[1, :, :, half:])


def test_options_of_a_run_need_one(source: Path, tmp_path: Path) -> None:
    done = microseg("check", source, "--out", tmp_path / "page.html")
    assert done.status == 2 and "--out and --as are of --run" in done.err
    done = microseg("check", source, "--run", tmp_path / "none", "--out", tmp_path / "page.html")
    assert done.status == 2 and "is not a run folder" in done.err
