"""`microseg list`: an input once through, with the names and sections that `segment` gives its fields."""

from __future__ import annotations

import sys
from pathlib import Path

import pyarrow.parquet as pq
import pytest
import yaml

from microseg.core.errors import InputError, MissingExtraError
from microseg.core.system.files import sha256_of
from microseg.deploy.archive.lists.field_list import FieldList, local_path, local_url
from microseg.deploy.archive.lists.listing import list_fields
from microseg.deploy.pipeline.inputs import resolve_input
from microseg.runtime import read_manifest
from tests.chain import microseg


def test_a_row_for_each_field_in_the_order_of_segment(archive: Path, tiny_engine: Path, tmp_path: Path) -> None:
    done = microseg("list", archive, "--out", tmp_path / "fields.parquet", "--sha256")
    assert done.status == 0 and "6 fields" in done.out
    table = pq.read_table(tmp_path / "fields.parquet").to_pylist()
    given = resolve_input(archive, read_manifest(tiny_engine), None, {})
    assert [row["field"] for row in table] == [field.name for field in given.fields]
    for row in table:
        path = archive / row["field"]
        found = path.stat()
        assert (row["url"], row["size"], row["mtime_ns"]) == (str(path), found.st_size, found.st_mtime_ns)
        assert row["sha256"] == sha256_of(path) and row["etag"] is None and row["problem"] is None
    assert {row["field"]: row["section"] for row in table}["top.png"] == "."
    info = FieldList(tmp_path / "fields.parquet").info
    assert (info.list_version, info.title, info.top_section) == (1, "lot", "lot")


def test_sections_by_a_pattern_and_fields_that_it_misses(archive: Path, tmp_path: Path) -> None:
    path = tmp_path / "fields.parquet"
    with pytest.raises(InputError, match=r"--sections \^\(\.\)/: gives no section to top\.png"):
        list_fields(archive, path, "^(.)/")
    assert not path.exists()
    list_fields(archive, path, "^(.)")
    assert [row["section"] for row in pq.read_table(path).to_pylist()] == ["a", "a", "b", "b", "b", "t"]


def test_what_domain_yaml_states_is_kept(archive: Path, tmp_path: Path) -> None:
    content = {"crop": {"bottom_px": 3}, "pixel_sizes": {"one two": 0.5}}
    (archive / "a" / "domain.yaml").write_text(yaml.safe_dump(content), encoding="utf-8")
    fields = FieldList(Path(list_fields(archive, tmp_path / "fields.parquet").place))
    stated = fields.info.domain_file("a/domain.yaml")
    assert stated is not None and stated.crop is not None and stated.crop.bottom_px == 3
    rows = {row["field"]: row for row in pq.read_table(fields.path).to_pylist()}
    assert rows["a/one two.png"]["pixel_size_um"] == 0.5 and rows["a/#1?.png"]["settings"] == "a/domain.yaml"
    assert rows["top.png"]["settings"] is None and fields.scan().pixel_sizes == {"a/one two.png": 0.5}


def test_the_identity_depends_on_the_rows_alone(listed: Path, archive: Path, tmp_path: Path) -> None:
    table = pq.read_table(listed)
    pq.write_table(table, tmp_path / "other.parquet", row_group_size=2, compression=None)
    one, other = FieldList(listed).scan(), FieldList(tmp_path / "other.parquet").scan()
    assert one.sha256 == other.sha256 and (one.digests == other.digests).all()
    pq.write_table(table.slice(1), tmp_path / "fewer.parquet")
    assert FieldList(tmp_path / "fewer.parquet").scan().sha256 != one.sha256


@pytest.mark.parametrize(
    ("field", "url", "words"),
    [
        ("../up.png", "/x.png", "is no path below the input"),
        ("/root.png", "/x.png", "is no path below the input"),
        ("a.png", "s3://key:secret@bucket/a.png", "a URL with a password or a signature"),
        ("a.png", "https://host/a.png?X-Amz-Signature=1", "a URL with a password or a signature"),
        ("a" * 9000, "/x.png", "more than 8192 bytes"),
        ("top.png", "/x.png", "several rows have the field 'top.png'"),
    ],
)
def test_a_row_that_cannot_be_used(listed: Path, tmp_path: Path, field: str, url: str, words: str) -> None:
    rows = [*pq.read_table(listed).to_pylist(), {"field": field, "url": url}]
    table = pq.read_table(listed)
    pq.write_table(type(table).from_pylist(rows, schema=table.schema), listed)
    with pytest.raises(InputError, match=words) as caught:
        FieldList(listed).scan()
    assert "secret" not in str(caught.value)


def test_what_is_no_list(tmp_path: Path, archive: Path) -> None:
    (tmp_path / "text.parquet").write_text("no table")
    with pytest.raises(InputError, match="cannot be read as a field list"):
        FieldList(tmp_path / "text.parquet")
    (tmp_path / "empty").mkdir()
    with pytest.raises(InputError, match="holds no images"):
        list_fields(tmp_path / "empty", tmp_path / "fields.parquet")
    assert not (tmp_path / "fields.parquet").exists()


def test_names_that_are_no_text_come_back(tmp_path: Path) -> None:
    path = Path("/x/\udcff a#?.png")
    assert local_path(local_url(path)) == path and local_url(path).isascii()
    assert local_url(Path("/x/ä #?%.png")) == "/x/ä #?%.png" and local_path("s3://bucket/key") is None


def test_a_missing_extra_prints_its_line(archive: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "pyarrow", None)
    with pytest.raises(MissingExtraError, match=r"pip install 'microseg\[archive\]'"):
        list_fields(archive, tmp_path / "fields.parquet")
