"""Report, contact sheet and study in a browser: what a reader sees, finds, prints, and cannot be harmed by."""

from __future__ import annotations

import base64
from pathlib import Path
from typing import TYPE_CHECKING

import cv2
import numpy as np
from numpy.typing import NDArray

from benchmarks.page_reports import Wanted, findings_of, write_page
from benchmarks.pages import Busy, pages_of
from microseg.core.labelling.page import Card, Page, page_html
from microseg.core.plain_text import plain_name
from microseg.core.schemas.bag import PhaseInfo
from microseg.deploy.audit.apply import ApplyOptions, apply_audit
from microseg.deploy.audit.draw import DrawOptions, draw_audit
from microseg.deploy.report.table import read_rows
from microseg.deploy.segment import segment
from microseg.deploy.segment_options import SegmentOptions
from microseg.train.analysis.study_page import DomainPart, PageRow, study_html
from tests.browser.conftest import Open, breaches
from tests.deploy.audit.conftest import Lot

if TYPE_CHECKING:
    from playwright.sync_api import Page as Tab

PHONE = {"viewport": {"width": 390, "height": 844}, "has_touch": True, "is_mobile": True}
# So high that the table shows all fields of the lot.
ALL_ROWS = {"width": 1280, "height": 1700}
HOSTILE = (
    "</script><script>fail()</script>",
    "<img src=x onerror=fail()>",
    "<!--",
    "\"'`${fail()}",
    "a\u2028b\u202ec",
    "&lt;",
)
# Scrolls a table of fields by so many pixels a frame.
SCROLL = """async ([px, frames]) => {
  const grid = document.getElementById("grid");
  for (let at = 1; at <= frames; at++) { grid.scrollTop = at * px; await new Promise(requestAnimationFrame); }
}"""


def _shown(tab: Tab) -> list[str]:
    """Names of the rows in the document, from top to bottom."""
    return tab.locator("#grid .open b").all_inner_texts()


def _saturation(picture: bytes) -> NDArray[np.float64]:
    """How far the colours of a picture are from grey, float64 (h, w)."""
    image = cv2.imdecode(np.frombuffer(picture, np.uint8), cv2.IMREAD_COLOR)
    assert image is not None
    return np.asarray(image.max(2).astype(np.float64) - image.min(2), np.float64)


def _picture(seed: int = 1) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    grey = np.random.default_rng(seed).integers(0, 255, (60, 80), np.uint8)
    return grey, (grey > 127).astype(np.uint8)


def test_sort_search_and_jump(open_page: Open, lot: Lot) -> None:
    rows = list(read_rows(lot.report / "fields.csv"))
    fraction = {row["field"]: float(row["fraction_bainite"]) for row in rows}
    tab = open_page(lot.report / "report.html", viewport=ALL_ROWS)
    assert tab.locator("#found").inner_text() == "14 fields"
    assert _shown(tab) == [row["field"] for row in rows]
    head = tab.get_by_role("columnheader", name="bainite")
    for direction in ("ascending", "descending"):
        head.get_by_role("button").click()
        assert head.get_attribute("aria-sort") == direction
        assert _shown(tab) == sorted(fraction, key=fraction.__getitem__, reverse=direction == "descending")
    tab.get_by_label("Search").fill("S1 f0")
    wanted = [name for name in fraction if name.startswith("s1/f0")]
    assert sorted(_shown(tab)) == sorted(wanted)
    assert tab.locator("#found").inner_text() == f"{len(wanted)} of 14 fields"
    tab.get_by_label("Search").fill("nothing like it")
    assert _shown(tab) == [] and tab.locator("#found").inner_text() == "0 of 14 fields"
    # A dot leads to its field, also where the search has left the field out.
    dot = tab.locator(".strip[data-phase='1'] .dot").first
    name = rows[int(dot.get_attribute("data-row") or "")]["field"]
    dot.click(force=True)
    focused = tab.locator("#grid .open:focus b")
    assert focused.inner_text() == name
    assert tab.locator("#found").inner_text() == "14 fields"
    # So does the plot by keyboard: it begins in the middle, and Home is the smallest fraction.
    tab.locator(".strip[data-phase='1']").focus()
    tab.keyboard.press("Home")
    tab.keyboard.press("Enter")
    assert focused.inner_text() == min(fraction, key=fraction.__getitem__)


def test_pictures_slide_and_follow_each_other_by_keyboard(open_page: Open, lot: Lot) -> None:
    tab = open_page(lot.report / "report.html", viewport=ALL_ROWS)
    names = _shown(tab)
    tab.locator("#grid .open").first.focus()
    tab.keyboard.press("ArrowDown")
    tab.keyboard.press("Enter")
    viewed = tab.locator("#viewed")
    assert viewed.inner_text().splitlines()[0] == names[1]
    tab.wait_for_function(
        "[...document.querySelectorAll('.pair img')].every(each => each.complete && each.naturalWidth)"
    )
    pair, slider = tab.locator(".pair"), tab.locator("#slider")
    colours = {}
    for share in ("0", "50", "100"):
        slider.fill(share)
        colours[share] = _saturation(pair.screenshot())
    width = colours["50"].shape[1]
    assert colours["0"].max() < 12, "the micrograph alone is grey"
    assert (colours["100"] > 12).mean() > 0.9, "the overlay colours every phase"
    assert colours["50"][:, : width // 2 - 3].max() < 12
    assert (colours["50"][:, width // 2 + 3 :] > 12).mean() > 0.9
    tab.get_by_label("fade").check()
    slider.fill("100")
    assert (_saturation(pair.screenshot()) > 12).mean() > 0.9
    tab.locator("#stage").focus()
    for key, at in (
        ("ArrowRight", 2),
        ("n", 3),
        ("p", 2),
        ("End", 13),
        ("ArrowRight", 13),
        ("Home", 0),
        ("ArrowLeft", 0),
    ):
        tab.keyboard.press(key)
        assert viewed.inner_text().splitlines()[0] == names[at], key
    tab.keyboard.press("Escape")
    assert not tab.locator("#viewer").is_visible()
    # The browser itself puts the focus back to where the viewer was opened; the page hears that it is closed a moment later.
    tab.locator("#grid .open:focus b").filter(has_text=names[0]).wait_for()


def test_not_validated_is_said_first_on_screen_and_on_paper(open_page: Open, lot: Lot) -> None:
    tab = open_page(lot.report / "report.html")
    for media in ("screen", "print"):
        tab.emulate_media(media=media)
        text = tab.locator("main").inner_text().lower()
        assert text.index("not validated") < text.index("area fraction") < text.index("fields that do not overlap")
        assert tab.locator(".banner").is_visible()
    assert text.count("not validated") >= 4, "beside each fraction and above the signature, too"
    # On paper the table of the page itself, with a picture of every field.
    assert not tab.locator("#grid").is_visible()
    assert tab.locator(".paper tbody tr").count() == 14
    pdf = tab.pdf(prefer_css_page_size=True)
    assert 2 <= pages_of(pdf) <= 5
    tab.emulate_media(media="screen")
    drawn = draw_audit(DrawOptions(lot.report, 6, seed=5, engine=lot.engine, images=lot.input))
    masks = lot.masks(lot.report.parent / "labels", [field.name for field in drawn.draw.fields])
    apply_audit(ApplyOptions(lot.report, masks, engine=lot.engine, images=lot.input))
    tab.reload()
    text = tab.locator("main").inner_text().lower()
    assert "not validated" not in text
    assert text.index("audited") < text.index("budget of the uncertainty") < text.index("± folds")


def test_everybody_can_read_it(open_page: Open, tmp_path: Path) -> None:
    tab = open_page(write_page(tmp_path, findings_of(Wanted(5, "none", 2), 1), _picture()))
    assert breaches(tab) == ""
    tab.emulate_media(color_scheme="dark")
    tab.locator("#grid .open").nth(1).click()
    assert breaches(tab) == ""


def test_on_a_phone_nothing_is_wider_than_the_screen(open_page: Open, tmp_path: Path) -> None:
    wanted = Wanted(5, "validated", 2, title="lot-" + "x" * 60, phases=("ferrite", "bainite-" + "y" * 30))
    tab = open_page(write_page(tmp_path, findings_of(wanted, 1), _picture()), color_scheme="dark", **PHONE)
    assert breaches(tab) == ""
    assert tab.evaluate("document.documentElement.scrollWidth") == 390
    tab.locator("#grid .open").nth(1).tap()
    assert tab.evaluate("document.getElementById('viewer').scrollWidth") <= 390


def test_without_scripts_the_fractions_and_fields_are_there(open_page: Open, tmp_path: Path) -> None:
    page = write_page(tmp_path, findings_of(Wanted(5, "validated"), 1), _picture())
    tab = open_page(page, java_script_enabled=False)
    text = tab.locator("main").inner_text()
    assert "fields.csv beside this page holds all fields" in text and "section 001/field-00004.tif" in text
    assert not tab.locator(".tools").is_visible()


def test_names_and_texts_are_shown_and_do_nothing(open_page: Open, tmp_path: Path, faults: list[str]) -> None:
    phases = (HOSTILE[0], HOSTILE[1])
    wanted = Wanted(len(HOSTILE), "none", 2, phases=phases, title=HOSTILE[0], names=HOSTILE, notices=HOSTILE)
    tab = open_page(write_page(tmp_path, findings_of(wanted, 1), _picture()))
    tab.on("dialog", lambda dialog: faults.append(dialog.message))
    assert _shown(tab) == [plain_name(name) for name in HOSTILE]
    assert tab.locator("h1").inner_text() == HOSTILE[0]
    for at, name in enumerate(HOSTILE):
        tab.locator("#grid .open").nth(at).click()
        assert tab.locator("#viewed").inner_text().splitlines()[0] == plain_name(name)
        tab.keyboard.press("Escape")
    tab.get_by_label("Search").fill(HOSTILE[0])
    assert _shown(tab)[0] == HOSTILE[0]
    assert tab.locator("script").count() == 2
    assert tab.locator("[onerror]").count() == 0
    sheet = tmp_path / "suggest.html"
    sheet.write_text(_contact_sheet(HOSTILE), encoding="utf-8")
    tab.goto(sheet.as_uri())
    assert tab.locator("h2").all_inner_texts() == [f"{at + 1}. {plain_name(name)}" for at, name in enumerate(HOSTILE)]
    assert tab.locator("script").count() == tab.locator("[onerror]").count() == 0


def _contact_sheet(names: tuple[str, ...]) -> str:
    _, data = cv2.imencode(".png", _picture()[0])
    address = f"data:image/png;base64,{base64.b64encode(data.tobytes()).decode('ascii')}"
    phases = [PhaseInfo(name=names[0], color="#0072b2"), PhaseInfo(name=names[1], color="#e69f00")]
    cards = [Card(name, [name], [(name, address), ("what is found", address)]) for name in names]
    return page_html(Page("Fields to label", names[0], names[1], [names[2]], phases, cards, names[3]))


def test_contact_sheet_and_study(open_page: Open, tmp_path: Path) -> None:
    long = "c" * 80
    (tmp_path / "suggest.html").write_text(_contact_sheet(("lot", "a.tif", "b.tif", long)), encoding="utf-8")
    parts = {name: DomainPart({"mIoU": "80.0 ± 2.0", "RDT": "-9.0"}, 0.8, 0.02) for name in ("source", long)}
    rows = [PageRow("one", long, parts), PageRow("two", "", {}, long), PageRow("Otsu", "", parts, is_baseline=True)]
    (tmp_path / "study.html").write_text(study_html(long, 2, ["mIoU", "RDT"], rows), encoding="utf-8")
    tab = open_page(tmp_path / "suggest.html", color_scheme="dark", **PHONE)
    assert tab.evaluate("[...document.images].every(each => each.naturalWidth === 80)")
    for name in ("suggest", "study"):
        tab.goto((tmp_path / f"{name}.html").as_uri())
        assert breaches(tab) == ""
        assert tab.evaluate("document.documentElement.scrollWidth") == 390
        assert pages_of(tab.pdf(prefer_css_page_size=True)) <= 3


def test_the_page_of_an_archive(open_page: Open, listed: Path, tiny_engine: Path, tmp_path: Path) -> None:
    segment(SegmentOptions(listed, tiny_engine, tmp_path / "out"))
    tab = open_page(tmp_path / "out" / "report.html", color_scheme="dark", **PHONE)
    text = tab.locator("main").inner_text().lower()
    assert text.index("not validated") < text.index("area fraction")
    assert "b/<b>.png" in text
    assert breaches(tab) == ""
    assert tab.evaluate("document.documentElement.scrollWidth") == 390


def test_ten_thousand_fields(open_page: Open, tmp_path: Path, faults: list[str]) -> None:
    findings = findings_of(Wanted(10_000, "validated", 20), 1)
    page = write_page(tmp_path, findings, _picture(), 0)
    assert page.stat().st_size < 20e6
    tab = open_page(page)
    busy = Busy(tab)
    tab.reload()
    assert busy.seconds() < 2, "the processor's time until the page is shown"
    assert len(_shown(tab)) < 60
    before = busy.seconds()
    tab.evaluate(SCROLL, [280, 40])
    assert (busy.seconds() - before) / 40 < 0.05, "no frame of a scroll is a long task"
    by_fraction = sorted(range(10_000), key=lambda row: findings.measured[row].fractions[1])
    tab.get_by_role("columnheader", name="lath-bainite").get_by_role("button").click()
    assert _shown(tab)[0] == findings.measured[by_fraction[0]].name
    tab.locator("#grid .open").first.focus()
    tab.keyboard.press("End")
    assert tab.locator("#grid .open:focus b").inner_text() == findings.measured[by_fraction[-1]].name
    tab.get_by_label("Search").fill("section 020 field-0999")
    assert sorted(_shown(tab)) == [f"section 020/field-{row:05d}.tif" for row in range(9990, 10_000)]
    tab.get_by_label("Search").fill("")
    tab.locator("#section").select_option("section 007")
    assert tab.locator("#found").inner_text() == "500 of 10000 fields"
    assert len(_shown(tab)) < 60
