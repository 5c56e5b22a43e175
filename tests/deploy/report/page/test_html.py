"""The page says the fraction and its evidence first, names what is not validated, holds few rows, and obeys no name."""

from __future__ import annotations

import json
import re
from dataclasses import replace
from typing import Any

import pytest

from microseg.core.pages.template import script_source
from microseg.deploy.report.page.html import MOST_CHAPTERS, report_html
from microseg.deploy.report.page.rows import PAPER_ROWS
from microseg.deploy.report.records import FailedField
from tests.deploy.report.page.made import findings, record


def _headings(page: str) -> list[str]:
    return re.findall(r"<h2 id=\"(\w+)\"", page)


def _data(page: str) -> dict[str, Any]:
    found = re.search(r'<script type="application/json" id="data">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    content: dict[str, Any] = json.loads(found[1])
    return content


def test_the_reader_s_order() -> None:
    fields = [record("a/1.png"), record("b/2.png", 50)]
    page = report_html(findings(fields, "validated", {"a": "validated", "b": "validated"}))
    assert _headings(page) == [
        "result",
        "budget",
        "sections",
        "fields",
        "sampling",
        "method",
        "engine",
        "statement",
        "viewed",
    ]
    first = page.index("38.00 to 43.00")
    assert page.index("40.00") < first < page.index("validated</span>", first) < page.index("Budget of the uncertainty")
    assert "ot validated" not in page.partition("<script")[0]


def test_not_validated_is_said_in_words_at_the_top_on_each_page_and_above_the_signatures() -> None:
    page = report_html(findings([record("1.png"), record("2.png", 50)]))
    assert "<title>Not validated: Phase fractions of lot</title>" in page
    stamp = page.index('<p class="stamp"')
    assert stamp < page.index("<table") and "Not validated</p>" in page[stamp : stamp + 120]
    assert page.count('<span class="evidence none">not validated</span>') == 2
    assert '@top-center { content: "NOT VALIDATED"' in page
    assert page.index("The fractions of this report are not validated.") < page.index("Reviewed by")


@pytest.mark.parametrize(
    ("evidence", "sections", "named"),
    [
        (["validated", "none"], {"a": "validated", "b": "validated"}, "Of the whole report: bainite."),
        ("validated", {"a": "validated", "<b>": "none"}, "Sections: &lt;b&gt;."),
    ],
)
def test_what_is_partly_validated_names_the_part(evidence: object, sections: object, named: str) -> None:
    fields = [record("a/1.png"), record("<b>/2.png", 50)]
    page = report_html(findings(fields, evidence, sections))  # type: ignore[arg-type]
    assert "Partly not validated</p>" in page and named in " ".join(page.split())
    assert "A part of the fractions of this report is not validated." in page


def test_of_many_fields_the_page_holds_the_first_rows_and_the_figures_of_all() -> None:
    page = report_html(findings([record(f"{index}.png", index % 90 + 5) for index in range(PAPER_ROWS + 50)]))
    assert page.count("<img ") == PAPER_ROWS + 2 and "data:image" not in page
    assert f"The first {PAPER_ROWS} of {PAPER_ROWS + 50} fields. fields.csv" in page
    assert len(_data(page)["rows"]["name"]) == PAPER_ROWS + 50
    assert "<noscript>" in page


def test_a_field_of_ten_thousand_takes_few_bytes() -> None:
    few, many = (report_html(findings([record(f"{index:05d}.png") for index in range(n)])) for n in (500, 1500))
    assert (len(many) - len(few)) / 1000 < 150


def test_sections_beyond_the_chapters_are_rows() -> None:
    names = {f"s{index:03d}": "validated" for index in range(MOST_CHAPTERS + 3)}
    page = report_html(findings([record(f"{name}/1.png") for name in names], "validated", names))  # type: ignore[arg-type]
    assert page.count('<div class="chapter"') == MOST_CHAPTERS
    assert "More sections" in page and f"s{MOST_CHAPTERS + 2:03d}" in page


HOSTILE = "</script><script>alert(1)</script><!--\u2028<img src=x onerror=alert(2)>&amp;"


def test_no_name_becomes_markup() -> None:
    shown = HOSTILE.replace("/", "\u2215")
    fields = [
        record(f"{shown}/1.png", notices=[HOSTILE], notice_kinds=["x"], pixel_size_source=HOSTILE),
        record("b/2.png"),
    ]
    made = findings(fields, "none", {shown: "none", "b": "none"}, not_counted={"b/2.png": HOSTILE}, left_out=(HOSTILE,))
    made = replace(
        made,
        outcomes=(*made.outcomes, FailedField(name=HOSTILE, reason=HOSTILE)),
        settings=made.settings.model_copy(update={"input": HOSTILE, "engine": HOSTILE}),
    )
    page = report_html(made)
    assert "<script>" not in page and "<!--" not in page and "<img src=x" not in page and "\u2028" not in page
    assert page.count("<script") == page.count("</script>") == 2
    assert _data(page)["sections"] == [shown.replace("\u2028", "\\u2028"), "b"]


def test_the_only_script_is_the_one_that_the_policy_names() -> None:
    page = report_html(findings([record("1.png")]))
    found = re.search(r'<script id="code">(.*?)</script>', page, re.DOTALL)
    assert found is not None
    assert f"script-src {script_source(found[1])}" in page and "'unsafe-inline'; img-src 'self' file: data:" in page
    assert not re.search(r"https?://|@import|url\(|\son\w+=", page)


def test_a_page_without_a_measured_field_claims_nothing_and_has_no_script() -> None:
    page = report_html(findings([]))
    assert "no fraction to state" in page and "<script" not in page and 'class="stamp"' not in page
