"""The page of a study: rows of text and bars, unfinished rows, and names that stay text."""

from __future__ import annotations

from microseg.train.analysis.study_page import DomainPart, PageRow, study_html


def test_rows_bars_and_what_is_missing() -> None:
    source, target = DomainPart({"mIoU": "80.0 ± 2.0"}, 0.8, 0.02), DomainPart({"mIoU": "-", "RDT": "-9.0"}, None, None)
    done = PageRow("one", "<deeper>", {"source": source, "<T1>": target})
    rows = [done, PageRow("bad", "", {}, "<no> such file"), PageRow("later", "", {})]
    page = study_html(
        "a</title>b", 2, ["mIoU", "RDT"], [*rows, PageRow("Otsu", "", {"source": source}, is_baseline=True)]
    )
    assert "1 of 3 rows finished, 2 domains" in page and page.count('class="length"') == 2
    assert "width:80.00%" in page and "left:78.00%;width:4.00%" in page and "-9.0" in page
    assert "Failed: &lt;no&gt; such file" in page and "not finished" in page
    assert "&lt;deeper&gt;" in page and "&lt;T1&gt;" in page and "a&lt;/title&gt;b" in page
