"""The point grid in a browser: counted by keyboard and by touch, kept, compared, printed, and taken by `audit apply`."""

from __future__ import annotations

import csv
import json
import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

import cv2
import numpy as np
import pytest

from microseg.deploy.audit.apply import Applied, ApplyOptions, apply_audit
from microseg.deploy.audit.draw import Drawn, DrawOptions, draw_audit
from tests.browser.conftest import Open, breaches, pages_of
from tests.deploy.audit.conftest import Lot

if TYPE_CHECKING:
    from playwright.sync_api import Page

# Presses keys as a keyboard does, without the way from Python to the browser for each.
PRESS = "keys => keys.forEach(key => document.body.dispatchEvent(new KeyboardEvent('keydown', { key, bubbles: true })))"
PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}


@pytest.fixture
def drawn(lot: Lot) -> Drawn:
    """Eight fields of the lot, 100 points each."""
    return draw_audit(DrawOptions(lot.report, 8, seed=5, engine=lot.engine, images=lot.input))


def _page(drawn: Drawn) -> Path:
    return drawn.out / "audit.html"


def _content(drawn: Drawn) -> dict[str, Any]:
    text = _page(drawn).read_text(encoding="utf-8")
    found = re.search(r'<script type="application/json" id="content">(.*?)</script>', text)
    assert found is not None
    content: dict[str, Any] = json.loads(found[1])
    return content


def _true(drawn: Drawn, lot: Lot) -> list[int]:
    """What lies under each point, in the order of the page."""
    answers = []
    for field in _content(drawn)["fields"]:
        mask = cv2.imread(str(lot.true / Path(field["field"]).with_suffix(".png")), cv2.IMREAD_UNCHANGED)
        assert mask is not None
        answers += [int(mask[int(y), int(x)]) for x, y in field["points"]]
    return answers


def _keys(answers: list[int]) -> list[str]:
    return [str(answer + 1) for answer in answers]


def _saved(page: Page, key: str, folder: Path) -> Path:
    with page.expect_download() as waited:
        page.keyboard.press(key)
    path = folder / waited.value.suggested_filename
    waited.value.save_as(path)
    return path


def _told(page: Page) -> str:
    return page.locator("#count").inner_text()


def _apply(lot: Lot, *counts: Path) -> Applied:
    return apply_audit(ApplyOptions(lot.report, counts=counts, engine=lot.engine, images=lot.input))


def test_eight_fields_are_counted_by_keyboard_and_survive_the_end_of_the_browser(
    own_browser: Open, drawn: Drawn, lot: Lot, tmp_path: Path
) -> None:
    true = _true(drawn, lot)
    page = own_browser(_page(drawn))
    page.keyboard.press("Tab")
    page.keyboard.type("A. B.")
    page.keyboard.press("Enter")
    page.keyboard.press(_keys(true)[0])
    page.keyboard.press("0")  # not sure: of two phases both
    page.keyboard.press(str(2 - true[2]))  # a mistake, taken back
    page.keyboard.press("u")
    page.evaluate(PRESS, _keys(true)[2:400])
    assert _told(page) == "400 of 800 points counted"
    page.reload()
    assert _told(page) == "400 of 800 points counted"
    assert page.locator("#where").inner_text().startswith("Field 5 of 8, point 1 of 100: ")
    page.evaluate(PRESS, _keys(true)[400:600])
    # Nobody presses 200 keys and ends the browser within a millisecond: it writes what a page keeps a moment later.
    page.wait_for_timeout(1000)
    page = own_browser(_page(drawn))
    assert page.locator("#auditor").input_value() == "A. B."
    assert _told(page) == "600 of 800 points counted"
    page.evaluate(PRESS, _keys(true)[600:])
    assert page.locator("#ask").inner_text() == "All points are counted. Save counts.csv."
    table, points = _saved(page, "c", tmp_path), _saved(page, "j", tmp_path)
    assert (table.name, points.name) == ("counts.csv", "counts.json")
    saved = [point for field in json.loads(points.read_text(encoding="utf-8"))["fields"] for point in field["points"]]
    assert saved == [true[0], [0, 1], *true[2:]]
    with table.open(encoding="utf-8", newline="") as stream:
        rows = list(csv.DictReader(stream))
    assert {row["auditor"] for row in rows} == {"A. B."} and {row["points"] for row in rows} == {"100"}
    first = [1 - np.mean(true[:100]), np.mean(true[:100])]
    halves = [0.5 - (true[1] == phase) for phase in range(2)]
    assert [float(row["points_on_phase"]) for row in rows[:2]] == pytest.approx(np.multiply(first, 100) + halves)
    by_points, by_table = _apply(lot, points), _apply(lot, table)
    assert by_points.audit.fields == by_table.audit.fields
    assert by_table.summary["phases"]["bainite"]["reported"]["evidence"] == "audited"
    assert by_table.summary["audit"]["auditors"] == ["A. B."]


def test_two_people_at_one_grid_are_compared(open_page: Open, drawn: Drawn, lot: Lot, tmp_path: Path) -> None:
    true = _true(drawn, lot)
    page = open_page(_page(drawn))
    page.evaluate(PRESS, _keys(true))
    page.get_by_label("Who counts").fill("A. B.")
    page.keyboard.press("Enter")
    assert _told(page) == "800 of 800 points counted", "a count that began without a name goes on under it"
    one = _saved(page, "j", tmp_path).rename(tmp_path / "one.json")
    page.get_by_label("Who counts").fill("C. D.")
    page.keyboard.press("Enter")
    assert _told(page) == "0 of 800 points counted"
    assert page.locator("#told").inner_text() == "The count of A. B. (800 points) is kept. It comes back with the name."
    page.locator("#file").set_input_files(one)
    page.get_by_text("The file holds the count of A. B.: count first, then load it to compare.").wait_for()
    changed = list(true)
    for at in range(3, 800, 50):
        changed[at] = 1 - changed[at]
    page.evaluate(PRESS, _keys(changed))
    page.locator("#file").set_input_files(one)
    page.get_by_text("Agreement with A. B.: 784 of 800 points (98.0 %), Cohen's kappa 0.9").wait_for()
    page.keyboard.press("d")
    names = ["ferrite", "bainite"]
    assert page.locator("#where").inner_text().startswith("Field 1 of 8, point 4 of 100: ")
    assert page.locator("#ask").inner_text() == f"You: {names[changed[3]]}. A. B.: {names[true[3]]}."
    two = _saved(page, "j", tmp_path).rename(tmp_path / "two.json")
    agreement = _apply(lot, one, two).summary["audit"]["agreement"]
    assert "98.0 % of 800 points agree, Cohen's kappa 0.9" in agreement
    page.get_by_label("Who counts").fill("A. B.")
    page.keyboard.press("Enter")
    assert _told(page) == "800 of 800 points counted"


def test_an_unfinished_count_goes_on_elsewhere(open_page: Open, drawn: Drawn, tmp_path: Path) -> None:
    page = open_page(_page(drawn))
    page.get_by_label("Who counts").fill('=A "B"')
    page.keyboard.press("Enter")
    page.evaluate(PRESS, ["1"] * 250)
    page.keyboard.press("c")
    assert page.locator("#told").inner_text() == "550 points are open."
    part = _saved(page, "j", tmp_path)
    page.evaluate(
        "document.body.dispatchEvent(new KeyboardEvent('keydown', { key: '2', repeat: true, bubbles: true }))"
    )
    assert _told(page) == "250 of 800 points counted", "a key that is held down answers nothing"
    other = open_page(_page(drawn))
    assert _told(other) == "0 of 800 points counted"
    other.locator("#file").set_input_files(part)
    other.get_by_text("The count is loaded.").wait_for()
    assert _told(other) == "250 of 800 points counted"
    assert other.locator("#auditor").input_value() == '=A "B"'
    assert other.locator("#where").inner_text().startswith("Field 3 of 8, point 51 of 100: ")
    other.locator("#file").set_input_files(
        {"name": "x.json", "mimeType": "application/json", "buffer": b'{"fields": [0]}'}
    )
    other.get_by_text("This file is not a count of this page.").wait_for()


def test_by_touch_at_390_pixels(open_page: Open, drawn: Drawn) -> None:
    page = open_page(_page(drawn), **PHONE)
    for name in ("ferrite", "bainite", "Not sure", "ferrite"):
        page.get_by_role("button", name=name).tap()
    page.get_by_role("button", name="Undo").tap()
    assert _told(page) == "3 of 800 points counted"
    before = page.locator("#point").screenshot()
    page.get_by_role("button", name="Zoom in").tap()
    assert page.locator("#point").screenshot() != before
    small = page.evaluate(
        """() => [...document.querySelectorAll('button, input:not([type=file])')].filter(each => each.offsetParent !== null)
        .map(each => [each.id, each.getBoundingClientRect()]).filter(([_, box]) => box.width < 44 || box.height < 44)
        .map(([id]) => id)"""
    )
    assert small == []
    assert page.evaluate("document.documentElement.scrollWidth") == 390
    # The point and the phases are on the screen together.
    top, bottom = (page.locator(each).bounding_box() for each in ("#point", "#phases"))
    assert top is not None and bottom is not None
    assert bottom["y"] + bottom["height"] - top["y"] < 844


def test_nothing_of_the_prediction_is_in_the_page_and_everybody_can_use_it(open_page: Open, drawn: Drawn) -> None:
    content = _content(drawn)
    assert content.keys() == {"audit", "title", "phases", "fields"}
    assert {key for field in content["fields"] for key in field} == {
        "field",
        "shown",
        "sha256",
        "width",
        "height",
        "points",
    }
    page = open_page(_page(drawn))
    page.evaluate(PRESS, ["1"] * 30)
    assert breaches(page) == ""
    page.emulate_media(color_scheme="dark")
    assert breaches(page) == ""
    # As many pictures as fields, and each as grey as the micrograph: no phase is coloured.
    colours = page.evaluate(
        """() => [...document.images].map(image => {
        const canvas = new OffscreenCanvas(image.naturalWidth, image.naturalHeight), paper = canvas.getContext('2d');
        paper.drawImage(image, 0, 0);
        const data = paper.getImageData(0, 0, canvas.width, canvas.height).data;
        let most = 0;
        for (let at = 0; at < data.length; at += 4)
          most = Math.max(most, Math.abs(data[at] - data[at + 1]), Math.abs(data[at] - data[at + 2]));
        return most;
        })"""
    )
    assert colours == [0] * 8


def test_the_sheet_on_paper(open_page: Open, drawn: Drawn) -> None:
    page = open_page(_page(drawn))
    page.get_by_label("Who counts").fill("A. B.")
    page.keyboard.press("Enter")
    page.evaluate(PRESS, ["1"] * 60 + ["2"] * 39 + ["0"] + ["1"] * 10)
    assert pages_of(page.pdf(format="A4")) == 1
    page.emulate_media(media="print")
    first, second = (field["field"] for field in _content(drawn)["fields"][:2])
    rows = [row.split("\t") for row in page.locator(".sheet table").inner_text().splitlines()]
    assert rows[0] == ["110 of 800 points are counted."]
    assert rows[1:4] == [
        ["Field", "Points", "ferrite", "bainite", "Open"],
        [first, "100", "60.5", "39.5", "0"],
        [second, "100", "10", "0", "90"],
    ]
    text = page.locator("body").inner_text()
    assert all(each in text for each in ("A. B.", "Counted by", "Date", "Signature", drawn.draw.audit))
    assert "Undo" not in text
