"""Texts from outside stay texts, in HTML and in inline JSON."""

from __future__ import annotations

import base64
import hashlib
import json
import re
from pathlib import Path

import pytest

from microseg.core.pages.template import inline_json, page_template, script_source

HOSTILE = ("</script><script>alert(1)</script>", "<!--", "\u2028\u2029", "]]>", "&lt;", "<img src=x onerror=alert(1)>")


@pytest.mark.parametrize("text", HOSTILE)
def test_inline_json_is_read_back_and_ends_no_script(text: str) -> None:
    written = inline_json({text: [text, 1.5, None]})
    assert not re.search("[<>&\u2028\u2029]", written) and written.isascii()
    assert json.loads(written) == {text: [text, 1.5, None]}


def test_inline_json_refuses_what_is_no_json() -> None:
    with pytest.raises(ValueError, match="not JSON compliant"):
        inline_json(float("nan"))


def test_a_page_extends_the_base_and_escapes(tmp_path: Path) -> None:
    (tmp_path / "own.html.j2").write_text(
        '{% extends "base.html.j2" %}\n{% block title %}{{ title | name }}{% endblock %}\n'
        "{% block main %}<p>{{ text }}</p>{% endblock %}\n"
    )
    text = page_template(tmp_path / "own.html.j2").render(title="a\nb", text="<b>\u202e\x1b[2J\n</b>")
    assert "<title>a\\nb</title>" in text and "<p>&lt;b&gt;\\u202e\\x1b[2J\n&lt;/b&gt;</p>" in text
    assert text.startswith("<!DOCTYPE html>") and text.rstrip().endswith("</html>")
    assert "default-src 'none'" in text and "prefers-color-scheme: dark" in text and "size: A4" in text
    assert not re.search(r"https?:|@import|url\(", text)


def test_the_policy_names_the_hash_of_the_script() -> None:
    digest = base64.b64encode(hashlib.sha256(b"let a = 1;").digest()).decode()
    assert script_source("let a = 1;") == f"'sha256-{digest}'"
