"""`microseg suggest`: the fields of a folder whose labels would help most, as a folder to label."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from microseg.core.errors import FieldError, InputError
from microseg.core.images.folders import readable
from microseg.core.images.pixel_size import PixelSize
from microseg.core.labelling.candidates import Candidates, find_candidates
from microseg.core.labelling.choice import Chosen, choose
from microseg.core.labelling.committee import Committee, known_features, opinions
from microseg.core.labelling.label_folder import LabelImage, file_hashes, label_images, write_domain_files, write_image
from microseg.core.labelling.page import Card, Page, page_html
from microseg.core.labelling.pictures import marked_picture, phase_picture, plain_picture
from microseg.core.labelling.suggestions import FILE_NAME, LeftOut, SuggestedRegion, Suggestion, Suggestions
from microseg.core.labelling.wording import instructions, nothing_found, notices_of, reason_of
from microseg.core.system.files import write_json, write_text, writing
from microseg.core.system.targets import resolved

PAGE_NAME = "suggest.html"
METHOD = (
    "Query by committee with an ensemble: a labelled field covers fields with alike bottleneck features, and each choice is "
    "the one that covers most of the folds' disagreement that is not covered yet (Beluch et al. 2018; Yang et al. 2017)."
)


@dataclass(frozen=True)
class Suggested:
    """What `suggest` did.

    Attributes:
        out: the folder to label.
        suggestions: the content of its `suggest.json`.
        unreadable: name and reason of fields that cannot be read.
        notices: what the user should know.
        init: the run to continue with the corrected masks.
    """

    out: Path
    suggestions: Suggestions
    unreadable: Sequence[LeftOut]
    notices: Sequence[str]
    init: str


def suggest_fields(
    committee: Committee,
    folder: Path,
    count: int,
    out: Path,
    *,
    init: str,
    labelled: Path | None = None,
    progress: Callable[[str], None] = lambda name: None,
) -> Suggested:
    """Choose fields to label, and write them with their predictions as a domain folder.

    Large fields are divided into regions, of which each may be chosen. The folder appears complete or not at all. The same
    fields and networks give the same choice.

    Args:
        committee: the run or engine.
        folder: where the fields are. Those that are labelled already are left out.
        count: the most fields to choose.
        out: the folder to write, which must not exist.
        init: the run to continue with the corrected masks, for instructions.
        labelled: the labelled domain of the run, where it is at hand: nearly equal pictures are left out.
        progress: gets a line on what is under way.

    Returns:
        What was chosen, and what was left out.

    Raises:
        InputError: `out` exists or cannot be written, no images, or none that could be labelled.
    """
    _refuse_folder(out, folder)
    found = find_candidates(committee, folder, labelled, lambda name: progress(f"predicting {name}"))
    order, duplicates = choose(found.candidates, count, known_features(committee))
    if not order:
        raise InputError(nothing_found(folder, found))
    found.left_out.extend(
        LeftOut(
            field=found.places[place].name,
            kind="nearly the same",
            reason=f"nearly the same as {found.places[chosen].name}",
        )
        for place, chosen in duplicates
    )
    images = label_images([found.places[each.place] for each in order], found.preparation)
    chosen = [_describe(each, item, found) for each, item in zip(order, images, strict=True)]
    with _new_folder(out) as part:
        written = [_write(part, each, committee, found, progress) for each in chosen]
        sizes = {each.item.stem: size for each, (_, size) in zip(chosen, written, strict=True)}
        write_domain_files(
            part, images, found, committee.phases, sizes, title=out.name, head=instructions(committee, out, init)
        )
        suggestions = _record(part, committee, folder, found, chosen)
        write_json(part / FILE_NAME, suggestions.model_dump(mode="json"))
        notices = notices_of(found, committee, count, len(order), sizes)
        page = Page(
            kind="Fields to label",
            title=out.name,
            sub=f"{len(order)} of {len(found.candidates)} candidates in {readable(str(folder))}, by {committee.name}",
            notices=[*notices, *(each.reason for each in found.unreadable)],
            phases=committee.phases,
            cards=[card for card, _ in written],
            footer=METHOD,
        )
        write_text(part / PAGE_NAME, page_html(page))
    return Suggested(out, suggestions, found.unreadable, notices, init)


@dataclass(frozen=True)
class _Description:
    """A choice with its picture and its reason."""

    choice: Chosen
    item: LabelImage
    disagreement: float | None
    reason: str


def _describe(choice: Chosen, item: LabelImage, found: Candidates) -> _Description:
    disagreement = found.candidates[choice.place].disagreement
    return _Description(choice, item, disagreement, reason_of(choice, disagreement, found))


def _write(
    part: Path, chosen: _Description, committee: Committee, found: Candidates, progress: Callable[[str], None]
) -> tuple[Card, PixelSize | None]:
    """Write a picture with its pre-labels. Returns its card of the page, and its pixel size. Raises InputError."""
    item = chosen.item
    progress(f"writing {item.place.name}")
    try:
        with found.open(item.place.field, committee) as prepared:
            region = item.place.region
            (opinion,) = opinions(committee, prepared, [region])
            write_image(part, item, prepared, opinion, committee.phases)
            grey = prepared.native_rows(region.top, region.top + region.height)[:, region.columns]
            size = prepared.pixel_size
    except FieldError as error:
        raise InputError(str(error)) from error
    pictures = [
        ("the field", plain_picture(grey)),
        ("its prediction, the label to correct", phase_picture(grey, opinion.labels, committee.phases)),
    ]
    if committee.folds > 1:
        pictures.append(("red: the folds do not agree", marked_picture(grey, opinion.disagrees)))
    return Card(item.place.name, [chosen.reason], pictures), size


def _record(
    part: Path, committee: Committee, folder: Path, found: Candidates, chosen: Sequence[_Description]
) -> Suggestions:
    """The content of `suggest.json`."""
    fields = []
    for each in chosen:
        item, region = each.item, each.item.place.region
        mask, outlines = file_hashes(part, item)
        cut = SuggestedRegion(
            top_px=region.top, left_px=region.left, height_px=region.height, width_px=region.width
        )  # fmt: skip
        fields.append(
            Suggestion(
                field=item.place.field.name,
                sha256=item.place.sha256,
                region=None if region.is_whole else cut,
                image=item.image,
                mask=item.mask,
                mask_sha256=mask,
                outlines=item.outlines,
                outlines_sha256=outlines,
                disagreement=each.disagreement,
                distance=each.choice.distance,
                represents=each.choice.represents,
                reason=each.reason,
            )
        )
    return Suggestions(
        model=committee.name,
        folder=readable(str(resolved(folder))),
        candidates=len(found.candidates),
        fields=fields,
        left_out=[*found.left_out, *found.unreadable],
    )


def _refuse_folder(out: Path, folder: Path) -> None:
    """Raise InputError where the folder to write exists, or lies where the next call looks for fields."""
    if os.path.lexists(out):
        raise InputError(f"{out}: exists. Remedy: another --out, or remove it if its masks are not needed.")
    source = resolved(folder if folder.is_dir() else folder.parent)
    if folder.is_dir() and resolved(out).is_relative_to(source):
        raise InputError(
            f"{out}: lies inside of {folder}, where it would be searched next time. Remedy: another --out."
        )


@contextmanager
def _new_folder(out: Path) -> Iterator[Path]:
    """A block that fills a temporary folder, which gets the name `out` at the end. Raises InputError."""
    part = out.with_name(f"{out.name}.{os.getpid()}-{os.urandom(4).hex()}.part")
    try:
        with writing(out):
            part.mkdir(parents=True)
            yield part
            part.rename(out)
    finally:
        shutil.rmtree(part, ignore_errors=True)
