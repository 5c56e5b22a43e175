"""`microseg list`: an input once through, to a field list."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from itertools import islice
from pathlib import Path
from typing import Any

from microseg import __version__
from microseg.core.domains.domain_file import DomainFile
from microseg.core.errors import InputError
from microseg.core.images.folders import IMAGE_KINDS, ImageWalk, readable
from microseg.core.storage.objects import Objects, url_of
from microseg.core.system.files import file_identity, replacing, require_writable, sha256_of, writing
from microseg.deploy.archive.extra import arrow
from microseg.deploy.archive.lists.field_list import (
    BATCH_ROWS,
    FieldListInfo,
    ListedField,
    local_url,
    schema,
    to_metadata,
)
from microseg.deploy.archive.lists.object_listing import ObjectWalk
from microseg.deploy.measurement.sections import folder_of, require_sections, section_rule, top_section
from microseg.deploy.pipeline.inputs import (
    InputField,
    described_fields,
    described_input,
    doubtful_problem,
    image_folders,
    refuse_one_name,
    with_nearest,
)
from microseg.deploy.pipeline.nearby import NearbyFiles
from microseg.deploy.report.names import absolute

# Stations wait for network shares, not for the processor.
_THREADS = 16
_LISTED = 3


@dataclass(frozen=True)
class ListResult:
    """What was listed.

    Attributes:
        place: the field list, a path or a URL.
        fields: number of fields.
        total_bytes: bytes of their files.
        left_out: what lies in the input and is no field, one sentence for each kind.
    """

    place: str
    fields: int
    total_bytes: int
    left_out: tuple[str, ...]


@dataclass
class Listing:
    """The fields of an input, and what is known of all of them once the last is given.

    Attributes:
        fields: the fields in the order of their names.
        title: name of the input.
        info: what the list says of all fields, complete after the last one; its argument is the section of those in no folder.
    """

    fields: Iterator[InputField]
    title: str
    info: Callable[[str], FieldListInfo]


def list_fields(
    source: Path,
    out: Path,
    sections: str | None = None,
    *,
    with_sha256: bool = False,
    on_advance: Callable[[int], None] = lambda count: None,
) -> ListResult:
    """List the fields of an input. Memory depends on its largest folder alone.

    Args:
        source: a file, a folder, a domain folder, or a domain's YAML file.
        out: the Parquet file to write, or its URL.
        sections: as `segment --sections`.
        with_sha256: whether the content of every file is hashed.
        on_advance: gets numbers of listed fields.

    Raises:
        InputError: wrong input or rule, or `out` cannot be written. Nothing is written.
        MissingExtraError: pyarrow is not installed, or what reads and writes object storage.
    """
    arrow()
    url = url_of(source)
    if url is not None and with_sha256:
        raise InputError(f"--sha256: objects are known by their ETag. Remedy: list {url} without it.")
    target = url_of(out)
    if target is None:
        require_writable(out, (source if source.is_file() else None,))
        with writing(out), replacing(out) as part:
            return _listed(source, part, str(out), (sections, with_sha256, on_advance))
    folder, _, name = target.rpartition("/")
    place = Objects(folder)
    place.require_writable()
    with place.temporary() as part:
        found = _listed(source, part, target, (sections, with_sha256, on_advance))
        place.put(name, part)
    return found


def _listed(source: Path, part: Path, place: str, how: tuple[str | None, bool, Callable[[int], None]]) -> ListResult:
    """Write the list of an input to the file `part`."""
    sections, with_sha256, on_advance = how
    url = url_of(source)
    listing = found_in(source) if url is None else _objects(url)
    given = _Sections(sections)
    with ThreadPoolExecutor(_THREADS) as threads:
        rows = _rows(listing.fields, given, threads, with_sha256)
        count, total = _write(part, rows, lambda: listing.info(given.top(listing.title)), on_advance)
        if not count:
            raise InputError(f"{source}: holds no images ({IMAGE_KINDS}). Remedy: give a file or folder with images.")
        given.require()
    return ListResult(place, count, total, tuple(listing.info("").left_out))


def found_in(source: Path) -> Listing:
    """The fields of an input that lies on a file system.

    Args:
        source: as in `list_fields`.

    Raises:
        InputError: wrong input; also while the fields are read.
    """
    settings: dict[str, dict[str, Any]] = {}
    described = described_input(source)
    start = absolute(source)
    title = readable(start.name or start.anchor)
    base = start.parent if source.is_file() else start
    nearby = NearbyFiles(start.parent.parent if source.is_file() else start.parent)
    own = None if described is None else described[0]
    is_yaml = described is not None and source.is_file()
    if described is None:
        walk = ImageWalk(source)
        walks = [walk]
        fields: Iterable[InputField] = _walked(source, walk)
    else:
        settings[""] = _stated(described[1])
        walks = [ImageWalk(folder, stated=True) for folder in image_folders(*described)]
        named = described_fields(*described)
        refuse_one_name(source, tuple(named))
        for each in walks:
            for _ in each:  # what is left out is known at the end
                pass
        doubtful = {path: paths for each in walks for path, paths in each.doubtful.items()}
        fields = _one_of_each(named, doubtful)

    def placed() -> Iterator[InputField]:
        for field in fields:
            found, content = (field, None) if is_yaml else with_nearest(nearby, field, start, own)
            if content is not None and found.settings is not None:
                settings.setdefault(found.settings, _stated(content))
            yield found

    def info(top: str) -> FieldListInfo:
        left_out = [text for each in walks for texts in each.left_out for text in texts]
        return FieldListInfo.model_validate(
            {
                "microseg": __version__,
                "title": title,
                "root": readable(str(base)),
                "shown_root": readable(str(source.parent if source.is_file() else source)),
                "top_section": top,
                "settings": settings,
                "left_out": list(dict.fromkeys(left_out)),
            }
        )

    return Listing(placed(), title, info)


def _objects(url: str) -> Listing:
    """The fields of a place in object storage."""
    title = url.rstrip("/").rpartition("/")[2]
    walk = ObjectWalk(url)

    def info(top: str) -> FieldListInfo:
        masks, others = walk.left_out.sentences()
        settings = {name: _stated(content) for name, content in walk.settings.items()}
        return FieldListInfo(
            microseg=__version__, title=title, top_section=top, settings=settings, left_out=[*masks, *others]
        )

    return Listing(iter(walk), title, info)


def _walked(source: Path, walk: ImageWalk) -> Iterator[InputField]:
    named = ((readable(path.relative_to(source).as_posix() if path != source else path.name), path) for path in walk)
    return _one_of_each((InputField(name, path) for name, path in named), walk.doubtful)


def _one_of_each(fields: Iterable[InputField], doubtful: Any) -> Iterator[InputField]:
    """The fields, of which each that is stored in several files is one that cannot be measured."""
    for field in fields:
        paths = doubtful.get(field.path)
        if paths is None:
            yield field
        elif field.path == paths[0]:
            yield InputField(field.name, field.path, doubtful_problem(paths), field.pixel_size_um, field.settings)


def _stated(content: DomainFile) -> dict[str, Any]:
    """What a domain.yaml states, less the pixel sizes of single fields, which their rows hold."""
    return content.model_dump(mode="json", exclude_unset=True, exclude={"pixel_sizes"})


class _Sections:
    """The sections of the listed fields, and the fields that have none."""

    def __init__(self, rule: str | None) -> None:
        self._rule = rule
        self._of = folder_of if rule is None else section_rule(rule)
        self._folders: set[str] = set()
        self._missing: list[str] = []
        self._count = 0

    def of(self, name: str) -> str | None:
        """The section of a field."""
        section = self._of(name)
        if section is None:
            self._count += 1
            if len(self._missing) < _LISTED:
                self._missing.append(name)
        elif self._rule is None:
            self._folders.add(section)
        return section

    def top(self, title: str) -> str:
        """The section of fields in no folder; `title` is the input's name."""
        return top_section(title, self._folders) if self._rule is None else "."

    def require(self) -> None:
        """Raise InputError where a rule gives a field no section."""
        if self._rule is not None:
            require_sections(self._rule, self._missing, self._count)


def _rows(
    fields: Iterator[InputField],
    sections: _Sections,
    threads: ThreadPoolExecutor,
    with_sha256: bool,
) -> Iterator[list[dict[str, Any]]]:
    """The rows of the list, some thousand at a time."""

    def row(field: InputField) -> dict[str, Any]:
        if isinstance(field, ListedField):
            known = {
                "field": field.name,
                "url": field.url,
                "size": field.size,
                "etag": field.etag,
                "problem": field.problem,
                "pixel_size_um": field.pixel_size_um,
                "settings": field.settings,
                "beside": field.beside,
            }
            return {**dict.fromkeys(schema().names), **known}
        size, mtime, sha256 = None, None, None
        try:
            size, mtime = file_identity(field.path)
            sha256 = sha256_of(field.path) if with_sha256 else None
        except OSError:
            pass  # measuring it says why it cannot be read
        return {
            "field": field.name,
            "url": local_url(absolute(field.path)),
            "size": size,
            "mtime_ns": mtime,
            "etag": None,
            "section": None,
            "sha256": sha256,
            "problem": field.problem,
            "pixel_size_um": field.pixel_size_um,
            "settings": field.settings,
            "beside": None,
        }

    while batch := list(islice(fields, BATCH_ROWS)):
        found = list(threads.map(row, batch))
        for each in found:
            each["section"] = sections.of(each["field"])
        yield found


def _write(
    path: Path,
    batches: Iterator[list[dict[str, Any]]],
    info: Callable[[], FieldListInfo],
    on_advance: Callable[[int], None],
) -> tuple[int, int]:
    """Write the rows; returns the number of fields and their bytes."""
    pa, pq = arrow()
    columns = schema()
    count = total = 0
    with pq.ParquetWriter(path, columns, compression="zstd") as file:
        for rows in batches:
            file.write_table(pa.Table.from_pylist(rows, schema=columns))
            count += len(rows)
            total += sum(row["size"] or 0 for row in rows)
            on_advance(len(rows))
        # It is known after the last field, and kept at the end of the file.
        file.add_key_value_metadata({key.decode(): value.decode() for key, value in to_metadata(info()).items()})
    return count, total
