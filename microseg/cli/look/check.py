"""`microseg check DOMAIN`: a domain as training reads it."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any

import typer

from microseg.core.errors import InputError
from microseg.core.plain_text import plain, plain_name

if TYPE_CHECKING:
    from rich.console import Console

    from microseg.cli.tables import TextTable
    from microseg.core.domains.checking import DomainCheck

_MOST_DOUBTS = 20


def check(
    domain: Annotated[
        Path, typer.Argument(help="A domain folder, a folder of images, or a YAML file that describes one.")
    ],
    folds: Annotated[
        int | None,
        typer.Option(min=2, help="Number of folds of the training.", show_default="what the groups allow, up to 5"),
    ] = None,
    json_path: Annotated[Path | None, typer.Option("--json", help="Write the result to this file.")] = None,
    write_yaml: Annotated[
        bool, typer.Option("--write-yaml", help="Write the proposed domain.yaml into a folder that has none.")
    ] = False,
    run: Annotated[
        Path | None,
        typer.Option(
            help="Finished run: also list labels that its folds doubt, of fields that they did not learn from."
        ),
    ] = None,
    domain_name: Annotated[
        str | None,
        typer.Option("--as", metavar="NAME", help="With --run, prepare the fields as this domain of the run."),
    ] = None,
    out: Annotated[
        Path | None,
        typer.Option(metavar="HTML", help="With --run, the page of pictures.", show_default="DOMAIN-labels.html"),
    ] = None,
) -> None:
    """Print fields, sizes, phases, groups and folds as training reads them. Exit with 2 where training cannot run."""
    from microseg.cli.tables import output_console, say
    from microseg.core.domains.checking import check_domain
    from microseg.core.domains.domain import load_domain
    from microseg.core.domains.proposal import write_domain_file
    from microseg.core.system.files import require_writable, write_json, writing

    if run is None and (out is not None or domain_name is not None):
        raise InputError("--out and --as are of --run. Remedy: --run RUN, or leave them out.")
    for path in (json_path, out):
        if path is not None:
            require_writable(path, (domain,))
    console = output_console()
    if write_yaml:
        say(console, f"Written: {plain_name(str(write_domain_file(domain)))}")
    found = check_domain(load_domain(domain), folds)
    _print(console, found)
    content = found.as_json()
    if run is not None:
        content["labels_by_run"] = _check_by_run(console, found, run, domain_name, out)
    if json_path is not None:
        with writing(json_path):
            write_json(json_path, content)
    if found.problems:
        raise typer.Exit(2)


def _check_by_run(
    console: Console, found: DomainCheck, run: Path, domain_name: str | None, out: Path | None
) -> dict[str, Any]:
    """Print what the folds of a run doubt, and write the page. Returns the content for JSON."""
    from microseg.cli.progress import status
    from microseg.cli.tables import TextTable, say
    from microseg.core.labelling.label_check import doubts_page
    from microseg.core.system.files import write_text, writing
    from microseg.train.analysis.label_check import check_labels_with_run

    with status(f"reading {run}") as show:
        doubted, phases = check_labels_with_run(run, found.domain, domain_name, lambda name: show(f"predicting {name}"))
    for name, reason in doubted.not_checked:
        say(console, f"{name}: its labels are not checked: {reason}")
    if not doubted.doubts:
        say(console, f"Labels of {doubted.checked} fields by the folds of {run}: no region that they agree against.")
        return doubted.as_json()
    title = f"Doubtful labels, of {doubted.checked} fields ({len(doubted.doubts)} regions, the strongest first)"
    table = TextTable(title, ["field", "label", "folds say"], ["folds", "x, y", "px", "sure"], shortens=True)
    for item in doubted.doubts[:_MOST_DOUBTS]:
        place = f"{item.left_px + item.width_px // 2}, {item.top_px + item.height_px // 2}"
        sure = f"{100 * item.confidence:.0f} %"
        table.add(item.field, item.label, item.folds_say, str(item.folds), place, str(item.area_px), sure)
    table.print(console)
    if doubted.doubts[_MOST_DOUBTS:]:
        say(console, f"... and {len(doubted.doubts) - _MOST_DOUBTS} weaker ones.")
    page = out or Path(f"{found.domain.name}-labels.html")
    with writing(page):
        write_text(page, doubts_page(doubted, found.domain.name, str(run), phases))
    say(
        console, f"In these regions the folds that did not learn from a field agree against its label. Pictures: {page}"
    )
    return doubted.as_json()


def _print(console: Console, found: DomainCheck) -> None:
    from rich.markup import escape

    from microseg.cli.look.fingerprint_table import print_fingerprint
    from microseg.cli.tables import say

    domain = found.domain
    name, source = (escape(plain_name(text)) for text in (domain.name, str(domain.source)))
    console.print(f"[bold]{name}[/bold] ({source}): {len(found.fields)} fields", soft_wrap=True)
    for line in _preparation_lines(found):
        console.print(escape(line), soft_wrap=True)
    if domain.phases:
        _phase_table(found).print(console)
    if found.groups.keys() != {item.name for item in found.fields}:
        _group_table(found).print(console)
    else:
        say(console, "Groups: none stated, so every field is a group of its own.")
    _field_table(found).print(console)
    if found.fingerprint is not None:
        print_fingerprint(console, found.fingerprint)
    for title, style, lines in (("Notices", "yellow", found.notices), ("Problems", "red", found.problems)):
        if lines:
            console.print(f"[{style}]{title}[/{style}]")
        for line in lines:
            console.print(f"  - {escape(plain(line))}", soft_wrap=True)
    if domain.phases_inferred and domain.source.is_dir():
        say(console, "The phases have no names yet: --write-yaml writes a domain.yaml to correct.")
    say(console, "Training cannot run." if found.problems else "No problems found: training can run.")


def _preparation_lines(found: DomainCheck) -> list[str]:
    """Lines on the rule to 8 bit, inversion, crop and pixel size, as stated and as resolved."""
    from microseg.core.preparation.wording import crop_text, intensity_text, pixel_sizes_text

    stated, rule = found.domain.preparation, found.resolved
    cut = crop_text(stated.crop) or "nothing"
    # Bits stay open where every field is 8 bit already.
    is_8_bit = rule.rule == "significant_bits" and rule.bits is None
    to_8_bit = "nothing to convert" if is_8_bit else intensity_text(rule)
    origin = "stated" if "intensity" in found.domain.explicit else "default"
    read = [item for item in found.fields if item.dtype is not None]
    size = pixel_sizes_text((item.pixel_size_um, item.pixel_size_source) for item in read)
    return [
        f"Grey values to 8 bit: {to_8_bit} ({origin} rule: {stated.intensity.rule}).",
        f"Inverted: {'yes' if stated.invert else 'no'}. Cut off: {cut}. Pixel size: {size}.",
    ]


def _phase_table(found: DomainCheck) -> TextTable:
    from microseg.cli.tables import TextTable, phase_label
    from microseg.core.domains.checking import area_shares

    inferred = " (inferred from the values in the masks)" if found.domain.phases_inferred else ""
    table = TextTable(f"Phases{inferred}", ["phase", "colour", "mask values"], ["area", "fields"])
    for index, (phase, share) in enumerate(zip(found.domain.phases, area_shares(found.pixels), strict=True)):
        fields = sum(item.pixels is not None and item.pixels[index] > 0 for item in found.fields)
        values = ", ".join(str(value) for value in phase.values)
        area = "-" if share is None else f"{_percent(share)} %"
        table.add(phase.name, phase_label(phase.color, phase.color), values, area, str(fields))
    pixels = found.pixels
    if pixels[-1]:
        value = found.domain.unlabelled
        share = pixels[-1] / sum(pixels)
        table.add("unlabelled", "", "-" if value is None else str(value), f"{_percent(share)} % of all", "")
    return table


def _group_table(found: DomainCheck) -> TextTable:
    from microseg.cli.tables import TextTable

    table = TextTable("Groups", ["group"], ["fields", "held out by fold"], shortens=True)
    for group, number in found.groups.items():
        folds = sorted({item.fold for item in found.fields if item.group == group and item.fold is not None})
        is_test = any(item.is_test for item in found.fields if item.group == group)
        table.add(group, str(number), ", ".join(map(str, folds)) or ("test" if is_test else "-"))
    return table


def _field_table(found: DomainCheck) -> TextTable:
    """One row for each field. A column with one value for all fields goes into the title."""
    from microseg.cli.tables import TextTable
    from microseg.core.domains.checking import area_shares

    columns = {
        "px": [f"{item.width_px} x {item.height_px}" if item.width_px else "-" for item in found.fields],
        "type": [item.dtype or "-" for item in found.fields],
        "pixel um": [f"{item.pixel_size_um:.5g}" if item.pixel_size_um else "-" for item in found.fields],
    }
    units = {"px": " px", "type": "", "pixel um": " um a pixel"}
    same = [values[0] + units[name] for name, values in columns.items() if _is_common(values)]
    varying = {name: values for name, values in columns.items() if len(set(values)) > 1}
    names = [phase.name for phase in found.domain.phases]
    title = f"Fields (all {', '.join(same)}; area in %)" if same else "Fields (area in %)"
    table = TextTable(title, ["field"], ["fold", *varying, *map(plain_name, names)], shortens=True)
    for row, item in enumerate(found.fields):
        shares = area_shares(item.pixels) if item.pixels is not None else [None] * len(names)
        fold = "test" if item.is_test else "-" if item.fold is None else str(item.fold)
        cells = [item.name, fold, *(values[row] for values in varying.values()), *map(_percent, shares)]
        table.add(*cells, style="red" if item.problems else "")
    return table


def _is_common(values: list[str]) -> bool:
    return len(set(values)) == 1 and values[0] != "-"


def _percent(share: float | None) -> str:
    return "-" if share is None else f"{100 * share:.2f}"
