"""The field list: a Parquet table with one row for each field, and what is known of all of them."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING, Any, ClassVar
from urllib.parse import unquote_to_bytes

from pydantic import Field

from microseg.core.domains.domain_file import DomainFile
from microseg.core.errors import InputError
from microseg.core.schemas.versioned import VersionedModel
from microseg.deploy.archive.extra import arrow
from microseg.deploy.pipeline.inputs import InputField

if TYPE_CHECKING:
    import numpy as np
    import pyarrow
    from numpy.typing import NDArray

LIST_VERSION = 1
METADATA_KEY = b"microseg.list"
BATCH_ROWS = 10_000
# What decides which fields these are, in the order in which it is hashed.
_IDENTITY = (
    "field",
    "url",
    "size",
    "mtime_ns",
    "etag",
    "section",
    "sha256",
    "problem",
    "pixel_size_um",
    "settings",
    "beside",
)
_TEXTS = ("field", "url", "etag", "section", "sha256", "problem", "settings", "beside")
_MOST_TEXT = 8192
# A path from the root, or one that leads up. Expressions of RE2.
_ESCAPES = r"^/|(^|/)\.{1,2}(/|$)|\x00"
# A password before the host, and the queries by which Amazon, Azure and Google sign.
_SECRET = r"(?i)^[a-z0-9+.-]+://[^/?#]*:[^/?#]*@|^[a-z0-9+.-]+://[^?#]*\?.*(signature|[?&]sig=|credential|token|secret|password)"
_PLAIN_URL = "URLs alone, and credentials from the environment"


class FieldListInfo(VersionedModel):
    """What a field list says of all its fields, in the metadata entry `microseg.list` of the Parquet file."""

    schema_name: ClassVar[str] = "field-list"
    schema_version: ClassVar[tuple[int, int]] = (LIST_VERSION, 0)
    version_key: ClassVar[str] = "list_version"

    list_version: int = Field(LIST_VERSION, description="Major version of this schema.")
    microseg: str = Field("", description="Version of microseg that wrote the list.")
    title: str = Field("", description="Name of the input.")
    root: str = Field("", description="The input's folder, from the root; empty for objects.")
    shown_root: str = Field("", description="The same as the user named it, which messages do.")
    top_section: str = Field(
        ".", description='Section of the fields whose column `section` is ".": they lie in no folder.'
    )
    settings: dict[str, dict[str, Any]] = Field(
        default_factory=dict,
        description='What each domain.yaml states, by its path as in the column `settings`; "" is that of the input.',
    )
    left_out: list[str] = Field(
        default_factory=list, description="What lies in the input and is no field, one sentence for each kind."
    )

    def domain_file(self, name: str) -> DomainFile | None:
        """What the domain.yaml of that name states; None without one. Raises InputError where the list is damaged."""
        content = self.settings.get(name)
        if content is None:
            return None
        try:
            return DomainFile.model_validate(content)
        except ValueError as error:
            raise InputError(
                f"the list's settings {name!r} are damaged ({error}). Remedy: microseg list again."
            ) from error

    def fields_of(self, table: pyarrow.Table) -> Iterator[ListedField]:
        """The fields of a table of `FieldList.tables`."""
        columns = [table.column(name).to_pylist() for name in (*_IDENTITY, "row", "digest", "has_result")]
        for name, url, size, mtime, etag, section, sha256, problem, pixel, settings, beside, *known in zip(
            *columns, strict=True
        ):
            row, digest, has_result = known
            yield ListedField(
                name=name,
                path=local_path(url) or Path(url),
                problem=problem,
                pixel_size_um=pixel,
                settings=settings,
                row=row,
                url=url,
                size=size,
                mtime_ns=mtime,
                etag=etag,
                section=self.top_section if section in (None, ".") else section,
                sha256=sha256,
                digest=digest,
                beside=beside,
                shown=self._shown(url),
                has_result=has_result,
            )

    def _shown(self, url: str) -> str:
        """What messages call a file: as the user named the input, or the URL."""
        path = local_path(url)
        if path is None:
            return url
        text = str(path)
        is_below = bool(self.root) and text.startswith(self.root.rstrip("/") + "/")
        return str(Path(self.shown_root, text[len(self.root) :].lstrip("/"))) if is_below else text


@dataclass(frozen=True)
class ListedField(InputField):
    """A field of a list.

    Attributes:
        row: its row, from 0.
        url: where the file is.
        size: bytes of the file; None where it could not be read.
        mtime_ns: time of its change in ns; None for objects.
        etag: what object storage calls its content; None for files.
        section: its section.
        sha256: SHA-256 of its content; None where it was not asked for.
        digest: hash of the row, which puts it into a shard.
        beside: of an object, the names of the texts beside it that may state its scale, with / between; None without one.
        shown: what messages call the file.
        has_result: whether an earlier run measured it.
    """

    row: int = 0
    url: str = ""
    size: int | None = None
    mtime_ns: int | None = None
    etag: str | None = None
    section: str = "."
    sha256: str | None = None
    digest: int = 0
    beside: str | None = None
    shown: str = ""
    has_result: bool = False


@dataclass(frozen=True)
class ListScan:
    """What one pass over a list finds.

    Attributes:
        sha256: identity of the list: a hash of its rows.
        digests: hash of each row, uint64 (n,).
        sizes: bytes of each file, int64 (n,); 0 where unknown.
        pixel_sizes: pixel sizes that are stated for single fields, µm, by name.
        alike: hashes of names that differ only in case from another one, uint64, sorted.
    """

    sha256: str
    digests: NDArray[np.uint64]
    sizes: NDArray[np.int64]
    pixel_sizes: dict[str, float]
    alike: NDArray[np.uint64]


def schema() -> pyarrow.Schema:
    """The columns of a field list."""
    pa, _ = arrow()
    text, number = pa.string(), pa.int64()
    return pa.schema(
        [
            pa.field("field", text, nullable=False),
            pa.field("url", text, nullable=False),
            ("size", number),
            ("mtime_ns", number),
            ("etag", text),
            ("section", text),
            ("sha256", text),
            ("problem", text),
            ("pixel_size_um", pa.float64()),
            ("settings", text),
            ("beside", text),
        ]
    )


@dataclass
class FieldList:
    """A field list, read in batches. Other programs may have written it: `field` and `url` are enough.

    Attributes:
        path: the Parquet file.
        info: what it says of all fields.
        rows: number of fields.
    """

    path: Path
    info: FieldListInfo = field(init=False)
    rows: int = field(init=False)

    def __post_init__(self) -> None:
        """Raises InputError where the file is no field list."""
        _, pq = arrow()
        try:
            with pq.ParquetFile(self.path) as file:
                metadata = file.metadata.metadata or {}
                names = file.schema_arrow.names
                self.rows = file.metadata.num_rows
        except (OSError, ValueError) as error:
            raise self._unreadable(error) from error
        if missing := [name for name in ("field", "url") if name not in names]:
            raise InputError(f"{self.path}: has no column {missing[0]!r}. Remedy: a list of `microseg list`.")
        if not self.rows:
            raise InputError(f"{self.path}: lists no field. Remedy: microseg list INPUT with micrographs.")
        stated = metadata.get(METADATA_KEY)
        self.info = FieldListInfo(title=self.path.stem)
        if stated is not None:
            self.info = FieldListInfo.parsed(stated, self.path, "what it says of its fields", "microseg list again")

    def scan(self) -> ListScan:
        """One pass over all rows. Raises InputError where a row cannot be used."""
        import numpy as np

        from microseg.deploy.archive.lists.hashing import combined, number_hashes, text_hashes

        digests, names, forms, lengths = [], [], [], []
        sizes: dict[str, float] = {}
        start = 0
        for batch in self._batches():
            self._check(batch, start)
            hashed = [text_hashes(batch[name]) if name in _TEXTS else number_hashes(batch[name]) for name in _IDENTITY]
            digests.append(combined(hashed))
            names.append(hashed[0])
            forms.append(text_hashes(_caseless(batch["field"])))
            lengths.append(batch["size"].fill_null(0).to_numpy(zero_copy_only=False).astype(np.int64))
            if batch["pixel_size_um"].null_count < len(hashed[0]):
                known = batch["pixel_size_um"].is_valid()
                stated = batch["pixel_size_um"].filter(known).to_pylist()
                sizes |= zip(batch["field"].filter(known).to_pylist(), stated, strict=True)
            start += len(hashed[0])
        rows, of_names = np.concatenate(digests), np.concatenate(names)
        unique, counts = np.unique(of_names, return_counts=True)
        if counts.max() > 1:
            raise self._same_name(unique[counts.argmax()])
        _, inverse, counts = np.unique(np.concatenate(forms), return_inverse=True, return_counts=True)
        alike = np.sort(of_names[counts[inverse] > 1])
        return ListScan(hashlib.sha256(rows.tobytes()).hexdigest(), rows, np.concatenate(lengths), sizes, alike)

    def tables(self, scan: ListScan, chosen: NDArray[np.bool_], done: frozenset[int]) -> Iterator[pyarrow.Table]:
        """Some of the rows, in their order, some thousand at a time.

        Args:
            scan: what `scan` found.
            chosen: which rows, bool (n,).
            done: the rows that have a result.

        Returns:
            Tables with the columns of a list, and `row`, `digest` and `has_result`.
        """
        import numpy as np

        pa, _ = arrow()
        start = 0
        for batch in self._batches():
            stop = start + len(batch["field"])
            rows = start + np.flatnonzero(chosen[start:stop])
            if len(rows):
                mask = pa.array(chosen[start:stop])
                yield pa.table(
                    {name: batch[name].filter(mask) for name in _IDENTITY}
                    | {"row": rows, "digest": scan.digests[rows], "has_result": [row in done for row in rows.tolist()]}
                )
            start = stop

    def _batches(self) -> Iterator[dict[str, Any]]:
        """The rows, some thousand at a time, as Arrow arrays by column; columns that the list lacks hold nothing."""
        pa, pq = arrow()
        wanted = schema()
        try:
            with pq.ParquetFile(self.path) as file:
                there = [name for name in wanted.names if name in file.schema_arrow.names]
                for batch in file.iter_batches(BATCH_ROWS, columns=there):
                    yield {
                        each.name: batch.column(each.name).cast(each.type)
                        if each.name in there
                        else pa.nulls(batch.num_rows, each.type)
                        for each in wanted
                    }
        except (OSError, ValueError) as error:
            raise self._unreadable(error) from error

    def _check(self, batch: dict[str, Any], start: int) -> None:
        """Raise InputError where a row is none: other people's programs write lists, too."""
        pa, _ = arrow()
        compute = pa.compute
        names, urls = (compute.fill_null(batch[key], "") for key in ("field", "url"))
        known = pa.array(["", *self.info.settings], pa.string())
        for is_bad, what, remedy in (
            (
                compute.or_(compute.match_substring_regex(names, _ESCAPES), compute.equal(names, "")),
                "is no path below the input",
                "relative names without '..'",
            ),
            (compute.equal(urls, ""), "has no URL", "a path or URL in each row"),
            (
                compute.greater(compute.max_element_wise(*map(compute.binary_length, (names, urls))), _MOST_TEXT),
                f"has a name of more than {_MOST_TEXT} bytes",
                "shorter names",
            ),
            (compute.match_substring_regex(urls, _SECRET), "has a URL with a password or a signature", _PLAIN_URL),
            (
                compute.invert(compute.is_in(compute.fill_null(batch["settings"], ""), known)),
                "names settings that the list lacks",
                "microseg list again",
            ),
        ):
            if compute.any(is_bad).as_py():
                row = compute.index(is_bad, True).as_py()
                name = names[row].as_py()
                raise InputError(f"{self.path}: row {start + row + 1}, {name[:80]!r}: {what}. Remedy: {remedy}.")

    def _same_name(self, hashed: np.uint64) -> InputError:
        import numpy as np

        from microseg.deploy.archive.lists.hashing import text_hashes

        for batch in self._batches():
            if len(found := np.flatnonzero(text_hashes(batch["field"]) == hashed)):
                name = batch["field"][int(found[0])].as_py()
        return InputError(f"{self.path}: several rows have the field {name!r}. Remedy: list each field once.")

    def _unreadable(self, error: Exception) -> InputError:
        what = getattr(error, "strerror", None) or str(error).splitlines()[0]
        return InputError(f"{self.path}: cannot be read as a field list ({what}). Remedy: a list of `microseg list`.")


def is_list(path: Path | str) -> bool:
    """Whether an input is a field list, by its name."""
    return str(path).lower().endswith(".parquet")


def name_hash(name: str) -> np.uint64:
    """The hash of a field's name, as `ListScan.alike` holds it."""
    from microseg.deploy.archive.lists.hashing import text_hashes

    pa, _ = arrow()
    found: np.uint64 = text_hashes(pa.array([name], pa.string()))[0]
    return found


def local_path(url: str) -> Path | None:
    """The path of a local file; None for objects.

    Args:
        url: a path, or `file://` with its bytes after `%` where these are no text.
    """
    if url.startswith("file://"):
        return Path(unquote_to_bytes(url.removeprefix("file://")).decode("utf-8", "surrogateescape"))
    return None if "://" in url else Path(url)


def local_url(path: Path) -> str:
    """What a list calls a local file: its path, or `file://` where the path is no text.

    Args:
        path: from the root.
    """
    text = str(path)
    try:
        text.encode("utf-8")
    except UnicodeEncodeError:
        return path.as_uri()
    return text if "://" not in text else path.as_uri()


def to_metadata(info: FieldListInfo) -> dict[bytes, bytes]:
    """The metadata entry of a list."""
    return {METADATA_KEY: json.dumps(info.model_dump(mode="json"), ensure_ascii=False).encode("utf-8")}


def _caseless(names: Any) -> Any:
    """Names in the form that some file systems take for equal."""
    from microseg.deploy.report.names import caseless

    pa, _ = arrow()
    if pa.compute.all(pa.compute.string_is_ascii(names)).as_py():
        return pa.compute.ascii_lower(names)
    return pa.array([caseless(name) for name in names.to_pylist()], pa.string())
