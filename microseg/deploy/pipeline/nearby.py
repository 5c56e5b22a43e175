"""Settings of a `domain.yaml` near a micrograph: one folder above the input, or in a folder below it."""

from __future__ import annotations

from pathlib import Path

from microseg.core.domains.domain_file import DomainFile, domain_file_in, read_domain_file
from microseg.core.domains.pixel_sizes import refuse_unknown_names


class NearbyFiles:
    """Finds the nearest `domain.yaml` of each micrograph: in its folder, or above, up to one folder above the input."""

    def __init__(self, top: Path) -> None:
        """Args:
        top: the last folder to look into, absolute.
        """
        self._top = top
        self._found: dict[Path, tuple[Path, DomainFile] | None] = {}

    def of(self, folder: Path) -> tuple[Path, DomainFile] | None:
        """The nearest file of a folder below `top`, absolute, and its content; None without one.

        Raises:
            InputError: the file cannot be read, or holds problems.
        """
        if folder not in self._found:
            described = domain_file_in(folder)
            if described is not None:
                content = read_domain_file(described)
                refuse_unknown_names(content.pixel_sizes, described)
                self._found[folder] = described, content
            elif folder in (self._top, folder.parent):
                self._found[folder] = None
            else:
                self._found[folder] = self.of(folder.parent)
        return self._found[folder]
