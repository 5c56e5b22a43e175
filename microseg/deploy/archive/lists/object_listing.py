"""The fields of a place in object storage, one folder in memory at a time."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from microseg.core.domains.layout import is_mask_folder, mask_suffix
from microseg.core.errors import InputError
from microseg.core.images.folders import IMAGE_SUFFIXES, standing
from microseg.core.storage.objects import file_system, patiently
from microseg.deploy.archive.lists.field_list import ListedField

# An object has no path; its content is fetched when it is measured.
_NOWHERE = Path()


def objects_in(url: str) -> Iterator[ListedField]:
    """The images below a URL, in the order of their names, as `ImageWalk` finds files. No domain.yaml is read.

    Args:
        url: a bucket, a folder in it, or an object.

    Raises:
        InputError: there is nothing, or it cannot be listed; also while the fields are read.
    """
    files, path = file_system(url)
    scheme, path = url.partition("://")[0], path.rstrip("/")

    def listed(folder: str) -> dict[str, Any]:
        found = patiently(lambda: files.ls(folder, detail=True, refresh=True))
        return {each["name"].rstrip("/").rpartition("/")[2]: each for each in found}

    def walk(folder: str) -> Iterator[ListedField]:
        entries = {name: each for name, each in listed(folder).items() if name and not name.startswith(".")}
        below = {name for name, each in entries.items() if each["type"] == "directory" and not is_mask_folder(name)}
        images = [name for name, each in entries.items() if each["type"] == "file" and _suffix(name) in IMAGE_SUFFIXES]
        chosen = _chosen(images)
        for name in sorted([*chosen, *below]):
            if name in below:
                yield from walk(f"{folder}/{name}")
            else:
                at = f"{folder}/{name}"
                yield field(at, at[len(path) + 1 :], entries[name], chosen[name])

    def field(at: str, name: str, entry: Any, problem: str | None) -> ListedField:
        place = f"{scheme}://{at}"
        etag = entry.get("ETag") or entry.get("etag")
        told = None if problem is None else f"{place}: {problem}"
        return ListedField(name=name, path=_NOWHERE, problem=told, url=place, size=entry["size"], etag=etag)

    try:
        entry = patiently(lambda: files.info(path, refresh=True))
        if entry["type"] == "file":
            yield field(path, path.rpartition("/")[2], entry, None)
        else:
            yield from walk(path)
    except OSError as error:
        what = (
            "does not exist"
            if isinstance(error, FileNotFoundError)
            else f"cannot be listed ({error.strerror or error})"
        )
        raise InputError(f"{url}: {what}. Remedy: check the URL, its rights and the credentials.") from error


def _suffix(name: str) -> str:
    return f".{name.rpartition('.')[2].lower()}" if "." in name else ""


def _stem(name: str) -> str:
    return name.rpartition(".")[0]


def _chosen(names: list[str]) -> dict[str, str | None]:
    """One image for each stem, without masks beside images, and why none can be measured where that does not decide."""
    stems = {_stem(name) for name in names}
    by_stem: dict[str, list[str]] = defaultdict(list)
    for name in sorted(names):
        end = mask_suffix(_stem(name))
        if not end or _stem(name).removesuffix(end) not in stems:
            by_stem[_stem(name)].append(name)
    found: dict[str, str | None] = {}
    for several in by_stem.values():
        best = [name for name in several if standing(name) == min(map(standing, several))]
        told = f"{' and '.join(best)} have one name: they may be one field, saved twice. Remedy: keep one"
        found[best[0]] = None if len(best) == 1 else told
    return found
