"""The fields of a place in object storage, one folder in memory at a time."""

from __future__ import annotations

import posixpath
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from tempfile import TemporaryDirectory
from typing import Any

from microseg.core.domains.domain_file import DOMAIN_FILES, DomainFile, read_domain_file
from microseg.core.domains.layout import IMAGE_FOLDERS, is_mask_folder
from microseg.core.domains.pixel_sizes import size_of_field, sizes_of_fields
from microseg.core.errors import InputError
from microseg.core.images.folders import IMAGE_SUFFIXES, LeftOut, by_standing, kind_of, masks_beside
from microseg.core.images.scale.sidecars import sidecar_paths
from microseg.core.storage.objects import file_system, patiently, read_object
from microseg.deploy.archive.lists.field_list import ListedField

# An object has no path; its content is fetched when it is measured.
_NOWHERE = Path()
# More than a file of settings has; reading it says so.
_MOST_BYTES = 32 << 20


@dataclass
class _Described:
    """A domain.yaml, and what lies below its folder.

    Attributes:
        folder: its folder.
        content: what it states.
        label: what messages call it.
        settings: what fields call it; None for the one of the input itself.
        names: names of the fields below its folder, where it states pixel sizes of single ones.
    """

    folder: str
    content: DomainFile
    label: str
    settings: str | None
    names: list[str] = field(default_factory=list)

    def size_of(self, at: str) -> float | None:
        """The pixel size that it states for a field alone, in micrometres."""
        if not self.content.pixel_sizes:
            return None
        name = at[len(self.folder) + 1 :]
        self.names.append(name)
        return size_of_field(self.content.pixel_sizes, name)

    def require_names(self) -> None:
        """Raise InputError where it states a pixel size for what is no field."""
        if self.content.pixel_sizes:
            sizes_of_fields(self.content.pixel_sizes, self.names, Path(self.label))


class ObjectWalk:
    """The images below a URL, in the order of their names, as `ImageWalk` finds files.

    Attributes:
        settings: after the last field, each domain.yaml that counts, as `FieldListInfo.settings` names it.
        left_out: what is no field.
    """

    def __init__(self, url: str) -> None:
        """Args:
        url: a bucket, a folder in it, or an object.
        """
        self.settings: dict[str, DomainFile] = {}
        self.left_out = LeftOut()
        self._url = url
        self._scheme = url.partition("://")[0]
        self._files, path = file_system(url)
        self._root = path.rstrip("/")

    def __iter__(self) -> Iterator[ListedField]:
        """The fields. Raises InputError where there is nothing, or it cannot be listed."""
        try:
            entry = patiently(lambda: self._files.info(self._root, refresh=True))
            if entry["type"] == "file":
                yield from self._single(entry)
            else:
                yield from self._top()
        except OSError as error:
            what = (
                "does not exist"
                if isinstance(error, FileNotFoundError)
                else f"cannot be listed ({error.strerror or error})"
            )
            raise InputError(f"{self._url}: {what}. Remedy: check the URL, its rights and the credentials.") from error

    def _single(self, entry: Mapping[str, Any]) -> Iterator[ListedField]:
        """An object alone, with what lies beside it."""
        folder, _, name = self._root.rpartition("/")
        entries = self._listed(folder)
        described = self._described(folder, entries, "domain.yaml") or self._above(folder)
        yield self._field((folder, name), {name: entry} | entries, described, folder)

    def _top(self) -> Iterator[ListedField]:
        """The fields of the input's folder, or of the folders of images that its domain.yaml or their names tell."""
        entries = self._listed(self._root)
        own = self._described(self._root, entries, None)
        if own is None:
            yield from self._walk(self._root, entries, self._above(self._root), self._root)
            return
        folders = self._image_folders(own, entries)
        base = posixpath.commonpath(folders)
        for folder in folders:
            yield from self._walk(folder, self._listed(folder), own, base)
        own.require_names()

    def _image_folders(self, own: _Described, entries: Mapping[str, Any]) -> list[str]:
        """The folders of images of the input. Raises InputError for names of others than folders below it."""
        stated = own.content.images
        if stated is None:
            named = sorted(name for name in entries if name.lower() in IMAGE_FOLDERS and _is_folder(entries[name]))
            if len(named) > 1 and "images" not in named:
                raise InputError(
                    f"{self._url}: the folders {', '.join(named)} may all hold the images. Remedy: state `images` in "
                    "domain.yaml."
                )
            stated = ["images" if "images" in named else named[0]] if named else ["."]
        return [self._below(own, text) for text in stated]

    def _below(self, described: _Described, text: str) -> str:
        """A folder that a domain.yaml names. Raises InputError where it is none below its own."""
        path = posixpath.normpath(text)
        if "$" in text or "\\" in text or path.startswith(("/", "~")) or path.split("/")[0] == "..":
            raise InputError(
                f"{described.label}: names the folder {text!r}, and in object storage folders lie below the domain.yaml. "
                "Remedy: a relative path without '..' and variables."
            )
        return described.folder if path == "." else f"{described.folder}/{path}"

    def _walk(
        self, folder: str, entries: Mapping[str, Any], nearest: _Described | None, base: str
    ) -> Iterator[ListedField]:
        """The images of a folder, which has these entries, and below. Their names are relative to `base`."""
        name_of_settings = posixpath.relpath(f"{folder}/domain.yaml", self._root)
        own = None if folder == self._root else self._described(folder, entries, name_of_settings)
        nearest = own or nearest
        folders = {name for name, each in entries.items() if _is_folder(each)}
        images = sorted(name for name in entries if name not in folders and _suffix(name) in IMAGE_SUFFIXES)
        masks, suffix = self._masks(folder, folders, nearest)
        beside = masks_beside(images, suffix)
        shown = folder[len(base) + 1 :]
        self.left_out.masks_beside += [posixpath.join(shown, name) for name in sorted(beside)]
        doubtful: dict[str, list[str]] = {}
        for best, others in by_standing([name for name in images if name not in beside]):
            doubtful[best[0]] = best
            self.left_out.previews += [f"{posixpath.join(shown, name)} ({best[0]} is taken)" for name in others]
        for name in masks:
            self.left_out.mask_folders[posixpath.join(shown, name)] = self._count(f"{folder}/{name}")
        self._pass_over(entries, folders, images)
        for name in sorted([*doubtful, *(folders - masks)]):
            if name not in folders:
                yield self._field((folder, name), entries, nearest, base, _problem(doubtful[name]))
                continue
            below = self._listed(f"{folder}/{name}")
            if not _is_report(below):
                yield from self._walk(f"{folder}/{name}", below, nearest, base)
        if own is not None:
            own.require_names()

    def _masks(self, folder: str, folders: set[str], nearest: _Described | None) -> tuple[set[str], str | None]:
        """The folders of masks in a folder, and the suffix of masks beside images that a domain.yaml states."""
        named = {name for name in folders if is_mask_folder(name)}
        if nearest is None:
            return named, None
        images = {self._below(nearest, text) for text in nearest.content.images or ()}
        stated = {self._below(nearest, text) for text in nearest.content.masks or ()}
        found = {name for name in named if f"{folder}/{name}" not in images}
        found |= {name for name in folders if f"{folder}/{name}" in stated}
        return found, nearest.content.mask_suffix if folder in stated else None

    def _pass_over(self, entries: Mapping[str, Any], folders: set[str], images: list[str]) -> None:
        """Count what is neither image nor settings nor a text beside an image."""
        texts = {path.name for name in images for path in sidecar_paths(Path(name))}
        others = (name for name in entries if name not in folders and _suffix(name) not in IMAGE_SUFFIXES)
        self.left_out.others.update(
            kind_of(name) for name in others if name not in texts and name.lower() not in DOMAIN_FILES
        )

    def _field(
        self,
        at: tuple[str, str],
        entries: Mapping[str, Any],
        nearest: _Described | None,
        base: str,
        problem: str | None = None,
    ) -> ListedField:
        """A field of the folder and name `at`."""
        folder, name = at
        path, entry = f"{folder}/{name}", entries[name]
        place = self._shown(path)
        beside = [each.name for each in sidecar_paths(Path(name)) if each.name in entries]
        return ListedField(
            name=path[len(base) + 1 :],
            path=_NOWHERE,
            problem=None if problem is None else f"{place}: {problem}",
            pixel_size_um=None if nearest is None else nearest.size_of(path),
            settings=None if nearest is None else nearest.settings,
            url=place,
            size=entry["size"],
            etag=entry.get("ETag") or entry.get("etag"),
            beside="/".join(beside) or None,
        )

    def _described(self, folder: str, entries: Mapping[str, Any], settings: str | None) -> _Described | None:
        """The domain.yaml of a folder; None without one. Raises InputError."""
        found = sorted(name for name in entries if name.lower() in DOMAIN_FILES and not _is_folder(entries[name]))
        if len(found) > 1:
            raise InputError(
                f"{self._shown(folder)}: has {' and '.join(found)}. Remedy: keep the one that describes it."
            )
        if not found:
            return None
        path = f"{folder}/{found[0]}"
        label = self._shown(path)
        data = read_object(self._files, path, min(entries[found[0]]["size"], _MOST_BYTES))
        with TemporaryDirectory(prefix="microseg-") as temporary:
            copy = Path(temporary, "domain.yaml")
            copy.write_bytes(data)
            try:
                content = read_domain_file(copy)
            except InputError as error:
                raise InputError(str(error).replace(str(copy), label)) from error
        named = None if settings is None else posixpath.join(posixpath.dirname(settings), found[0])
        self.settings[named or ""] = content
        return _Described(folder, content, label, named)

    def _above(self, folder: str) -> _Described | None:
        """The domain.yaml one folder above; None without one, or where nothing there may be read."""
        parent = folder.rpartition("/")[0]
        if not parent:
            return None
        for name in DOMAIN_FILES:
            try:
                entry = patiently(lambda at=f"{parent}/{name}": self._files.info(at, refresh=True))  # type: ignore[misc]
            except (FileNotFoundError, PermissionError):
                continue
            return self._described(parent, {name: entry}, f"../{name}")
        return None

    def _listed(self, folder: str) -> dict[str, Any]:
        """What lies in a folder by name, without what is hidden."""
        found = patiently(lambda: self._files.ls(folder, detail=True, refresh=True))
        names = {each["name"].rstrip("/").rpartition("/")[2]: each for each in found}
        # Consoles mark an empty folder by an object of its own name.
        return {
            name: each for name, each in names.items() if name and not name.startswith(".") and each["name"] != folder
        }

    def _count(self, folder: str) -> int:
        """Number of images in a folder of masks and below."""
        entries = self._listed(folder)
        below = [self._count(f"{folder}/{name}") for name, each in entries.items() if _is_folder(each)]
        return sum(below) + sum(
            _suffix(name) in IMAGE_SUFFIXES for name, each in entries.items() if not _is_folder(each)
        )

    def _shown(self, path: str) -> str:
        return f"{self._scheme}://{path.lstrip('/')}"


def _is_folder(entry: Mapping[str, Any]) -> bool:
    return bool(entry["type"] == "directory")


def _is_report(entries: Mapping[str, Any]) -> bool:
    return "settings.json" in entries and not entries.keys().isdisjoint(("records", "fields"))


def _suffix(name: str) -> str:
    return Path(name).suffix.lower()


def _problem(best: list[str]) -> str | None:
    """Why none of several objects of one stem is measured."""
    if len(best) == 1:
        return None
    return f"{' and '.join(best)} have one name: they may be one field, saved twice. Remedy: keep one"
