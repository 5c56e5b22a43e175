"""An archive in object storage: from and to URLs, through errors that pass and errors that stay."""

from __future__ import annotations

import io
import itertools
import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import fsspec
import pandas as pd
import pyarrow as pa
import pyarrow.parquet as pq
import pytest
from PIL import Image

from microseg.core.errors import InputError
from microseg.core.storage import objects
from microseg.core.storage.objects import Objects, patiently, url_of
from microseg.deploy.archive.lists.field_list import FieldList
from microseg.deploy.archive.merging.merge import merge
from microseg.deploy.segment import segment
from microseg.deploy.segment_options import SegmentOptions
from tests.chain import microseg
from tests.deploy.archive.conftest import NAMES
from tests.deploy.archive.test_archive import same
from tests.deploy.conftest import micrograph


@pytest.fixture
def bucket(archive: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """The archive in memory, with a cut answer, a time-out and an error in every third request."""
    files = fsspec.filesystem("memory")
    files.store.clear()
    for name in NAMES:
        files.pipe_file(f"/lots/{name}", (archive / name).read_bytes())
    number = itertools.count()
    plain = type(files).cat_file

    def flaky(self: Any, path: str, start: int | None = None, end: int | None = None, **more: Any) -> Any:
        match next(number) % 9:
            case 0:
                return plain(self, path, start, end, **more)[:-1]
            case 3:
                raise TimeoutError("too slow")
            case 6:
                raise RuntimeError("503 Slow Down")
        return plain(self, path, start, end, **more)

    monkeypatch.setattr(type(files), "cat_file", flaky)
    monkeypatch.setattr(objects, "_FIRST_DELAY_S", 0.0)
    yield files
    files.store.clear()


def test_from_and_to_urls_equals_one_process_on_files(
    bucket: Any, archive: Path, tiny_engine: Path, tmp_path: Path
) -> None:
    one = segment(SegmentOptions(archive, tiny_engine, tmp_path / "one")).summary
    listed = "memory://lists/lots.parquet"
    told = microseg("list", "memory://lots", "--out", listed)
    assert told.status == 0 and listed in told.out
    for part in ("1/2", "2/2"):
        done = microseg("segment", listed, "--engine", tiny_engine, "--shard", part, "--out", "memory://results/a")
        assert done.status == 0 and "memory://results/a" in done.out
    assert microseg("merge", "memory://results/a").status == 0
    merged = merge(Objects("memory://results/a"))
    # Tables of sections differ in the name of what lies in no folder.
    assert merged["fields"] == one["fields"] and merged["phases"] == one["phases"]
    (part_name,) = Objects("memory://results/a").names("fields")
    table = pd.read_parquet(io.BytesIO(Objects("memory://results/a").read(part_name) or b""))
    assert sorted(table["field"]) == sorted(NAMES) and table["mask"].notna().all()
    for row in table.to_dict("records"):
        assert Objects("memory://results/a").read(row["mask"]) == (tmp_path / "one" / row["mask"]).read_bytes()


def put(files: Any, folder: Path, at: str) -> None:
    for path in folder.rglob("*"):
        if path.is_file():
            files.pipe_file(f"{at}/{path.relative_to(folder).as_posix()}", path.read_bytes())


def described(folder: Path) -> Path:
    """A domain with settings, texts beside images, masks, a report, and files that are none."""
    images = folder / "images"
    for index, name in enumerate(("a.tif", "b.png", "c.png", "deep/d.png", "deep/e.png", "deep/e_mask.png", "b.jpg")):
        (images / name).parent.mkdir(parents=True, exist_ok=True)
        Image.fromarray(micrograph(60, 70, index)).save(images / name)
    (images / "c.txt").write_text("$CM_MAG 1000\n$$SM_MICRON_BAR 100\n$$SM_MICRON_MARKER 20um\n")
    (images / "notes.docx").write_bytes(b"")
    (images / "deep" / "domain.yaml").write_text("crop: {bottom_px: 8}\npixel_sizes: {d: 0.4}\n")
    (folder / "masks").mkdir()
    Image.fromarray(micrograph(60, 70, 0) // 200).save(folder / "masks" / "a.png")
    (folder / "domain.yaml").write_text("invert: true\npixel_sizes: {b.png: 0.25}\n")
    (images / "old-report" / "records").mkdir(parents=True)
    (images / "old-report" / "settings.json").write_text("{}")
    (images / "old-report" / "records" / "a.png").write_bytes(b"x")
    return folder


@pytest.mark.parametrize("part", ["", "/images", "/images/deep", "/images/deep/d.png"])
def test_a_domain_is_listed_as_on_files(bucket: Any, tmp_path: Path, tiny_engine: Path, part: str) -> None:
    folder = described(tmp_path / "steel")
    put(bucket, folder, "/works/steel")
    listed = [tmp_path / "files.parquet", tmp_path / "objects.parquet"]
    for source, path in zip((f"{folder}{part}", f"memory://works/steel{part}"), listed, strict=True):
        assert microseg("list", source, "--out", path).status == 0
    rows = [pd.read_parquet(path).drop(columns=["url", "mtime_ns", "beside"]) for path in listed]
    pd.testing.assert_frame_equal(*rows)
    infos = [FieldList(path).info for path in listed]
    assert infos[0].settings == infos[1].settings and infos[0].left_out == infos[1].left_out
    done = [segment(SegmentOptions(path, tiny_engine, path.with_suffix(""))).summary for path in listed]
    assert same(done[0]) == same(done[1])
    fields = [pd.read_parquet(path.with_suffix("") / "fields").sort_values("field") for path in listed]
    columns = ["field", "pixel_size_um", "pixel_size_source", "measured_height_px", "counts", "key"]
    pd.testing.assert_frame_equal(*(each[columns].reset_index(drop=True) for each in fields))


def test_a_list_of_another_program_names_no_file_but_texts_beside(
    bucket: Any, tmp_path: Path, tiny_engine: Path
) -> None:
    listed = tmp_path / "fields.parquet"
    microseg("list", "memory://lots", "--out", listed)
    table = pq.read_table(listed)
    hostile = pa.array(["../../../escaped.txt", "\0", "top.png/.."] * 2, pa.string())
    pq.write_table(table.set_column(table.schema.get_field_index("beside"), "beside", hostile), listed)
    done = segment(SegmentOptions(listed, tiny_engine, tmp_path / "out", shard="1/1")).summary
    assert done["measured"] == len(NAMES) and not done["failed"]


def test_a_domain_yaml_that_cannot_be_used_is_named(bucket: Any, tmp_path: Path) -> None:
    for content, told in (
        ("images: [../other]", "names the folder '../other'"),
        ("pixel_sizes: {z: 1.0}", "no image has the name 'z'"),
        ("invert: perhaps", "memory://works/x/domain.yaml"),
    ):
        bucket.pipe_file("/works/x/domain.yaml", content.encode())
        bucket.pipe_file("/works/x/a.png", b"")
        done = microseg("list", "memory://works/x", "--out", tmp_path / "fields.parquet")
        assert done.status == 2 and told in done.err and not list(tmp_path.glob("*.parquet"))


def test_a_folder_to_a_url_and_back(bucket: Any, archive: Path, tiny_engine: Path, tmp_path: Path) -> None:
    one = segment(SegmentOptions(archive, tiny_engine, tmp_path / "one")).summary
    there = segment(SegmentOptions(archive, tiny_engine, Path("memory://results/b"), masks="none"))
    assert same(there.summary) == same(one) and there.place == "memory://results/b"


def test_an_object_that_is_gone_or_changed_fails_alone(bucket: Any, tiny_engine: Path, tmp_path: Path) -> None:
    listed = tmp_path / "fields.parquet"
    microseg("list", "memory://lots", "--out", listed)
    bucket.rm_file("/lots/top.png")
    bucket.pipe_file("/lots/b/ä.png", b"another")
    done = segment(SegmentOptions(listed, tiny_engine, tmp_path / "out", shard="1/1")).summary
    reasons = {each["field"]: each["reason"] for each in done["failed"]}
    assert set(reasons) == {"top.png", "b/ä.png"} and done["measured"] == 4
    assert "changed since it was listed" in reasons["b/ä.png"] and "memory:" in reasons["top.png"]


def test_errors_that_stay_are_told_at_once_and_others_after_some_tries(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(objects, "_FIRST_DELAY_S", 0.0)
    tries: list[int] = []

    def gone() -> None:
        tries.append(1)
        raise FileNotFoundError("gone")

    def broken() -> None:
        tries.append(1)
        raise RuntimeError("500")

    with pytest.raises(FileNotFoundError):
        patiently(gone)
    assert len(tries) == 1
    with pytest.raises(OSError, match="RuntimeError after 7 tries"):
        patiently(broken)
    assert len(tries) == 8


def test_what_is_a_url(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    assert url_of(Path("s3://bucket/a b#?%")) == "s3://bucket/a b#?%"
    assert url_of(Path("C:/x")) is None and url_of(Path("/a/b")) is None and url_of(Path("lots")) is None
    for secret in ("s3://key:word@bucket/a", "https://host/a?X-Amz-Signature=word"):
        with pytest.raises(InputError, match="a password or a signature") as caught:
            url_of(Path(secret))
        assert "word@" not in str(caught.value) and "=word" not in str(caught.value)
    monkeypatch.chdir(tmp_path)
    os.mkdir("s3:")  # noqa: PTH102 - a folder of that name is a folder
    assert url_of(Path("s3:/bucket")) is None


def test_what_is_not_there(bucket: Any, tiny_engine: Path, tmp_path: Path) -> None:
    with pytest.raises(InputError, match="does not exist"):
        segment(SegmentOptions(Path("memory://nowhere"), tiny_engine, tmp_path / "out"))
    with pytest.raises(InputError, match="--out: is missing"):
        segment(SegmentOptions(Path("memory://lots"), tiny_engine))
    assert microseg("merge", "memory://lots").status == 2


def test_an_s3_server(archive: Path, tiny_engine: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    from moto.server import ThreadedMotoServer

    server = ThreadedMotoServer(ip_address="127.0.0.1", port=0, verbose=False)
    server.start()
    try:
        host, port = server.get_host_and_port()
        for key, value in {
            "AWS_ENDPOINT_URL": f"http://{host}:{port}", "AWS_ACCESS_KEY_ID": "testing", "AWS_DEFAULT_REGION": "us-east-1",
            "AWS_SECRET_ACCESS_KEY": "hidden-word",
        }.items():  # fmt: skip
            monkeypatch.setenv(key, value)
        files = fsspec.filesystem("s3", use_listings_cache=False)
        files.mkdir("lots")
        for name in NAMES:
            files.pipe_file(f"lots/in/{name}", (archive / name).read_bytes())
        listed = tmp_path / "fields.parquet"
        assert microseg("list", "s3://lots/in", "--out", listed).status == 0
        assert pd.read_parquet(listed)["etag"].notna().all()
        one = segment(SegmentOptions(archive, tiny_engine, tmp_path / "one")).summary
        for part in ("1/2", "2/2"):
            segment(SegmentOptions(listed, tiny_engine, Path("s3://lots/out"), shard=part))
        merged = merge(Objects("s3://lots/out"))
        assert merged["phases"] == one["phases"] and merged["fields"]["measured"] == len(NAMES)
        written = [Objects("s3://lots/out").read(name) for name in ("archive.json", "summary.json", "report.html")]
        assert all(data and b"hidden-word" not in data for data in written)
        with pytest.raises(InputError, match="cannot be written"):
            segment(SegmentOptions(listed, tiny_engine, Path("s3://no-such-bucket/out"), shard="1/1"))
    finally:
        server.stop()
