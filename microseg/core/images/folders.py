"""The images of a folder, without its masks."""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from microseg.core.domains.domain_file import DOMAIN_FILES, DomainFile, domain_file_in, expanded_path, read_domain_file
from microseg.core.domains.layout import is_mask_folder, mask_suffix
from microseg.core.errors import InputError
from microseg.core.images.formats.known import NOT_READ, READ_WITH_EXTRA
from microseg.core.system.listing import entries_of
from microseg.core.system.targets import resolved

IMAGE_SUFFIXES = frozenset(
    {".tif", ".tiff", ".png", ".bmp", ".jpg", ".jpeg", ".jfif", ".jp2", ".j2k", ".webp", *READ_WITH_EXTRA, *NOT_READ}
)
SIDECAR_SUFFIXES = frozenset({".txt", ".hdr"})
IMAGE_KINDS = "TIFF, PNG, BMP, JPEG, JPEG 2000, WebP, CZI or DM3/DM4"


# Beside a TIFF these are copies of it, and those that lose detail are previews.
_COPIES = frozenset({".png", ".bmp", ".jp2", ".j2k"})
_LOSSY = frozenset({".jpg", ".jpeg", ".jfif", ".webp"})
_LISTED = 3


@dataclass(frozen=True)
class FoundImages:
    """The images of a folder, and what is left out.

    Attributes:
        images: the files, sorted by relative path.
        doubtful: for each file whose field is stored in several files of equal standing: all of them.
        masks: what is left out as masks, one sentence for each kind.
        others: what else lies there and is no field, one sentence for each kind.
    """

    images: tuple[Path, ...]
    doubtful: Mapping[Path, tuple[Path, ...]] = field(default_factory=dict)
    masks: tuple[str, ...] = ()
    others: tuple[str, ...] = ()

    @property
    def left_out(self) -> tuple[str, ...]:
        """What lies there and is no field, one sentence for each kind."""
        return (*self.masks, *self.others)


@dataclass(frozen=True)
class _Masks:
    """Where a folder keeps its masks: in folders of their own, or beside the images with a suffix."""

    folders: frozenset[Path]
    suffix: str | None


def find_images(folder: Path, *, stated: bool = False) -> list[Path]:
    """The images of `look_through`, all files of doubtful fields included."""
    return list(look_through(folder, stated=stated).images)


def look_through(folder: Path, *, stated: bool = False) -> FoundImages:
    """Image files below a folder, sorted by relative path.

    Left out are hidden files and folders, reports of `segment`, folders named as masks are (`masks`, `labels`, `GT` ..., in any
    case), files named as masks beside their images are (`a_mask.png` beside `a.tif`), and what a domain.yaml names as masks. Of
    several files of one stem, the one that is nearest to the original is the field: TIFF, then PNG, then JPEG.

    Args:
        folder: a folder, or an image file, which is returned alone.
        stated: whether a domain.yaml names this folder as one of images, whatever its own name tells.

    Raises:
        InputError: the path does not exist, is no image, or is a folder of masks.
    """
    walk = ImageWalk(folder, stated=stated)
    images = sorted(walk, key=lambda path: path.relative_to(folder).parts)
    return FoundImages(tuple(images), walk.doubtful, *walk.left_out)


def find_masks(folder: Path) -> list[Path]:
    """Image files below a folder that holds masks, sorted by relative path."""
    walk = _Walk(folder, with_masks=True)
    return sorted(walk.images(folder), key=lambda path: path.relative_to(folder).parts)


def readable(name: str) -> str:
    r"""A file name as valid Unicode: bytes that are not UTF-8 become \xNN."""
    return name.encode("utf-8", "surrogateescape").decode("utf-8", "backslashreplace")


class ImageWalk:
    """The images below a folder as `look_through` finds them, one folder in memory at a time.

    Attributes:
        doubtful: as in `FoundImages`; complete for a field once its first file is given.
    """

    def __init__(self, folder: Path, *, stated: bool = False) -> None:
        """Args:
        folder: a folder, or an image file, which is given alone.
        stated: whether a domain.yaml names this folder as one of images, whatever its own name tells.

        Raises:
            InputError: the path does not exist, is no image, or is a folder of masks.
        """
        self._folder = folder
        self._walk = _Walk(folder)
        self.doubtful: Mapping[Path, tuple[Path, ...]] = self._walk.doubtful
        if folder.is_file():
            if folder.suffix.lower() not in IMAGE_SUFFIXES:
                raise InputError(f"{folder}: is no image file. Remedy: give a folder, or a {IMAGE_KINDS} file.")
            return
        if not folder.is_dir():
            raise InputError(f"{folder}: does not exist. Remedy: give a folder of images or an image file.")
        real = resolved(folder)
        if not stated and (is_mask_folder(real.name) or real in _masks_of(real.parent).folders):
            raise InputError(
                f"{folder}: holds the masks of a domain, as its name or a domain.yaml tells. Remedy: give the folder of "
                "images; or rename this one, or name it under `images` in a domain.yaml, if it holds them."
            )

    def __iter__(self) -> Iterator[Path]:
        """The files in the order of their relative paths. Raises InputError where a folder cannot be listed."""
        return iter((self._folder,)) if self._folder.is_file() else self._walk.images(self._folder)

    @property
    def left_out(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """After the last file: what is left out as masks, and what else lies there, one sentence for each kind."""
        return self._walk.left_out.sentences()


@dataclass
class LeftOut:
    """What a walk leaves out.

    Attributes:
        mask_folders: number of files in each folder of masks, by its name.
        masks_beside: masks beside their images.
        previews: second files of a field, each with the one that is taken.
        others: number of other files by their suffix.
    """

    mask_folders: dict[str, int] = field(default_factory=dict)
    masks_beside: list[str] = field(default_factory=list)
    previews: list[str] = field(default_factory=list)
    others: Counter[str] = field(default_factory=Counter)

    def sentences(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """What was left out so far as masks, and what else, one sentence for each kind."""
        masks = []
        if self.mask_folders:
            listed = [
                f"{count} {'file' if count == 1 else 'files'} in {name}"
                for name, count in sorted(self.mask_folders.items())
            ]
            masks.append(f"Left out as masks: {_list(listed)}.")
        if self.masks_beside:
            masks.append(f"Left out as masks beside their images: {_list(self.masks_beside)}.")
        others = []
        if self.previews:
            others.append(f"Left out as second files of a field: {_list(self.previews)}.")
        if self.others:
            kinds = sorted(self.others.items(), key=lambda item: (-item[1], item[0]))
            others.append(f"Passed over: {', '.join(f'{count} {kind}' for kind, count in kinds)} (no images).")
        return tuple(masks), tuple(others)


class _Walk:
    """Gives the images below a folder, and remembers what it leaves out."""

    def __init__(self, root: Path, *, with_masks: bool = False) -> None:
        self.doubtful: dict[Path, tuple[Path, ...]] = {}
        self._root = root
        self._with_masks = with_masks
        self._seen: set[Path] = set()
        self.left_out = LeftOut()

    def images(self, folder: Path) -> Iterator[Path]:
        """The images of `folder` and below, sorted by relative path. A linked folder is followed once."""
        real = resolved(folder)
        if real in self._seen:
            return
        self._seen.add(real)
        names, folders = self._listed(folder)
        if not self._with_masks:
            masks = _masks_of(folder)
            beside = masks_beside(names, masks.suffix)
            self.left_out.masks_beside += [self._name(folder / name) for name in sorted(beside)]
            names = self._chosen(folder, [name for name in names if name not in beside])
            for name in [name for name in folders if resolved(folder / name) in masks.folders]:
                folders.remove(name)
                self.left_out.mask_folders[self._name(folder / name)] = len(find_masks(folder / name))
        below = set(folders)
        for name in sorted([*names, *folders]):
            if name not in below:
                yield folder / name
            elif not _is_report(folder / name):
                yield from self.images(folder / name)

    def _listed(self, folder: Path) -> tuple[list[str], list[str]]:
        """Names of images and of folders; other files are counted."""
        images: list[str] = []
        folders: list[str] = []
        others: list[str] = []
        try:
            for entry in entries_of(folder):
                if entry.name.startswith("."):
                    continue
                # A broken link is kept, so that it fails by name. Pipes and devices are left out: reading them blocks.
                if entry.is_folder:
                    folders.append(entry.name)
                elif Path(entry.name).suffix.lower() in IMAGE_SUFFIXES and (entry.is_broken or entry.is_file):
                    images.append(entry.name)
                elif entry.name.lower() not in DOMAIN_FILES:
                    others.append(entry.name)
        except OSError as error:
            raise InputError(
                f"{folder}: cannot be listed ({error.strerror or error}). Remedy: check its rights."
            ) from error
        read = _texts_of_images(folder, images, others)
        self.left_out.others.update(kind_of(name) for name in others if name not in read)
        return sorted(images), sorted(folders)

    def _chosen(self, folder: Path, names: list[str]) -> list[str]:
        """One file for each stem; all, as doubtful, where that does not decide."""
        chosen = []
        for best, others in by_standing(names):
            chosen += best
            if len(best) > 1:
                paths = tuple(folder / name for name in best)
                self.doubtful |= dict.fromkeys(paths, paths)
            self.left_out.previews += [f"{self._name(folder / name)} ({best[0]} is taken)" for name in others]
        return chosen

    def _name(self, path: Path) -> str:
        return readable(path.relative_to(self._root).as_posix())


def _texts_of_images(folder: Path, images: Sequence[str], others: Sequence[str]) -> set[str]:
    """Which of the other files are texts beside an image that state its pixel size."""
    if not any(Path(name).suffix.lower() in SIDECAR_SUFFIXES for name in others):
        return set()
    # Imported here: it needs this module.
    from microseg.core.images.scale.sidecars import sidecar_paths, states_scale

    names = {path.name for image in images for path in sidecar_paths(folder / image)}
    return {name for name in others if name in names and states_scale(folder / name)}


def by_standing(names: Sequence[str]) -> Iterator[tuple[list[str], list[str]]]:
    """The files of each stem: those without loss, of which several are of equal standing, and the others.

    Args:
        names: names of images of one folder.
    """
    by_stem: dict[str, list[str]] = defaultdict(list)
    for name in names:
        by_stem[Path(name).stem].append(name)
    for several in by_stem.values():
        least = min(map(standing, several))
        yield (
            [name for name in several if standing(name) == least],
            [name for name in several if standing(name) != least],
        )


def kind_of(name: str) -> str:
    """What a file is called that is no image: its suffix."""
    return Path(name).suffix.lower() or "without suffix"


def standing(name: str) -> int:
    """How far a file stands from the original: 0 for files of microscopes and TIFF, the last for formats that are not read."""
    suffix = Path(name).suffix.lower()
    if suffix in _LOSSY:
        return 2
    return 3 if suffix in NOT_READ else int(suffix in _COPIES)


def _list(names: Sequence[str]) -> str:
    return ", ".join(names[:_LISTED]) + (f" and {len(names) - _LISTED} more" if names[_LISTED:] else "")


def _is_report(folder: Path) -> bool:
    return (folder / "settings.json").is_file() and any((folder / each).is_dir() for each in ("records", "fields"))


def masks_beside(names: Sequence[str], suffix: str | None) -> set[str]:
    """The files that are masks of others: their stem is that of another one with a suffix of masks.

    Args:
        names: names of images of one folder.
        suffix: the suffix that a domain.yaml states, or None.
    """
    stems = {Path(name).stem for name in names}
    found = set()
    for name in names:
        stem = Path(name).stem
        end = suffix if suffix and stem.endswith(suffix) else mask_suffix(stem)
        if end and stem.removesuffix(end) in stems:
            found.add(name)
    return found


def _described(folder: Path) -> Path | None:
    """The domain.yaml of a folder; None without one, and for two of them, which `load_domain` reports."""
    try:
        return domain_file_in(folder)
    except InputError:
        return None


def _folders_of_masks(folder: Path) -> list[Path]:
    """The folders below `folder` that have the names of folders of masks."""
    try:
        return [folder / entry.name for entry in entries_of(folder) if is_mask_folder(entry.name) and entry.is_folder]
    except OSError:  # listing its images says why
        return []


def _masks_of(folder: Path) -> _Masks:
    """The mask folders that the domain.yaml of `folder` states, and those that their names tell."""
    named = _folders_of_masks(folder)
    suffix = None
    described = _described(folder)
    if described is not None:
        try:
            content = read_domain_file(described)
            stated = [expanded_path(text, folder, folder) for text in content.mask_folders(folder)]
            images = {resolved(expanded_path(text, folder, folder)) for text in content.images or ()}
        except InputError:
            content, stated, images = DomainFile(), [], set()  # `load_domain` reports a broken domain.yaml
        named = [path for path in named if resolved(path) not in images] + stated
        if any(resolved(path) == resolved(folder) for path in stated):
            suffix = content.mask_suffix
    return _Masks(frozenset(resolved(path) for path in named), suffix)
