"""The fields of a folder that could be labelled, and what a committee says of them."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from microseg.core.domains.domain import Domain, load_domain
from microseg.core.domains.pairing import DomainField
from microseg.core.domains.pixel_sizes import open_field
from microseg.core.errors import FieldError, InputError
from microseg.core.images.folders import readable
from microseg.core.labelling.choice import NEAR_DUPLICATE, Candidate, thumbnail_of
from microseg.core.labelling.committee import Committee, Region, opinions
from microseg.core.labelling.suggestions import LeftOut, LeftOutKind
from microseg.core.preparation.field_scale import ScaleRules, assumed_size
from microseg.core.preparation.prepared_field import PreparedField
from microseg.core.schemas.preparation import Preparation
from microseg.core.system.files import sha256_of

# Of a large field, the regions with most disagreement are candidates.
_MOST_REGIONS = 8


@dataclass(frozen=True)
class Place:
    """Where a candidate comes from.

    Attributes:
        field: its field.
        sha256: of the field's file.
        region: its part of the field.
    """

    field: DomainField
    sha256: str
    region: Region

    @property
    def name(self) -> str:
        """Name of the field, with the place of a region."""
        if self.region.is_whole:
            return self.field.name
        return f"{self.field.name} at y {self.region.top}, x {self.region.left}"


@dataclass(frozen=True)
class Candidates:
    """What can be chosen in a folder.

    Attributes:
        domain: the folder as a domain without labels.
        preparation: how its fields are prepared. What its domain.yaml states wins over the committee's domain.
        scale: what decides the pixel size beside it and the files.
        places: where each candidate comes from.
        candidates: the candidates.
        left_out: fields that are none.
        unreadable: name and reason of fields that cannot be read.
    """

    domain: Domain
    preparation: Preparation
    scale: ScaleRules
    places: list[Place]
    candidates: list[Candidate]
    left_out: list[LeftOut]
    unreadable: list[LeftOut]

    def open(self, field: DomainField, committee: Committee) -> PreparedField:
        """Open one of the fields for the committee. Raises FieldError."""
        return open_field(field, self.preparation, committee.grid, self.scale)


def find_candidates(
    committee: Committee, folder: Path, labelled: Path | None, progress: Callable[[str], None]
) -> Candidates:
    """Ask a committee about every field of a folder that it was not trained on.

    Fields that cannot be read are listed, as are those that are labelled already: files of the training, copies of a file that
    came before, and pictures that nearly equal a labelled one.

    Args:
        committee: the committee.
        folder: a folder of images, a domain folder or a domain's YAML file. No mask is opened.
        labelled: the labelled domain that the committee was trained on, where it is at hand.
        progress: gets the name of each field before it is read.

    Raises:
        InputError: no images, or a broken domain.yaml.
    """
    domain = load_domain(folder, masks=False)
    preparation = domain.preparation_over(committee.entry.preparation.model_copy(update={"pixel_size_um": None}))
    scale = ScaleRules(assumed=assumed_size(committee.entry, committee.grid), trained=committee.trained)
    found = Candidates(domain, preparation, scale, [], [], [], [])
    known = _thumbnails(committee, labelled)
    seen: dict[str, tuple[LeftOutKind, str]] = {
        item.sha256: ("labelled already", f"labelled already ({item.name} of the training)")
        for item in committee.fields
    }
    for field in domain.fields:
        progress(field.name)
        try:
            sha256 = sha256_of(field.image)
            if sha256 in seen:
                kind, why = seen[sha256]
                found.left_out.append(LeftOut(field=field.name, kind=kind, reason=why))
                continue
            seen[sha256] = ("a copy", f"a copy of {field.name}")
            _add(found, committee, field, sha256, known)
        except FieldError as error:
            found.unreadable.append(LeftOut(field=field.name, kind="not read", reason=readable(str(error))))
        except OSError as error:
            why = f"{field.image}: cannot be read ({error.strerror or error}). Remedy: check the file and its rights."
            found.unreadable.append(LeftOut(field=field.name, kind="not read", reason=readable(why)))
    return found


def _add(
    found: Candidates,
    committee: Committee,
    field: DomainField,
    sha256: str,
    known: list[tuple[str, NDArray[np.float32]]],
) -> None:
    """Add a field, or regions of a large one, to the candidates."""
    with found.open(field, committee) as prepared:
        regions = []
        for each in opinions(committee, prepared):
            thumbnail = thumbnail_of(each.image)
            if each.region.is_whole:
                alike = next((name for name, other in known if float(thumbnail @ other) >= NEAR_DUPLICATE), None)
                if alike is not None:
                    why = f"nearly the same as {alike} of the training"
                    found.left_out.append(LeftOut(field=field.name, kind="nearly the same", reason=why))
                    return
            regions.append((each.disagreement, each.region, each.features, thumbnail))
    regions.sort(key=lambda item: -item[0])
    for disagreement, region, features, thumbnail in regions[:_MOST_REGIONS]:
        place = Place(field, sha256, region)
        share = disagreement if committee.folds > 1 else None
        found.places.append(place)
        found.candidates.append(Candidate(place.name, share, features, thumbnail))
    if not regions:
        why = "less than half of each region is measured"
        found.left_out.append(LeftOut(field=field.name, kind="hardly measured", reason=why))


def _thumbnails(committee: Committee, labelled: Path | None) -> list[tuple[str, NDArray[np.float32]]]:
    """Name and thumbnail of the labelled fields that are at hand. Fields that are not are known by their hashes alone."""
    if labelled is None:
        return []
    known = []
    with suppress(InputError, OSError):
        domain = load_domain(labelled, masks=False)
        preparation = domain.preparation_over(committee.entry.preparation.model_copy(update={"pixel_size_um": None}))
        scale = ScaleRules(assumed=assumed_size(committee.entry, committee.grid))
        for field in domain.training_fields:
            with suppress(FieldError, OSError), open_field(field, preparation, committee.grid, scale) as prepared:
                known.append((field.name, thumbnail_of(prepared.whole())))
    return known
