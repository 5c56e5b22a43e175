"""A report of `segment`, read back: for notebooks and scripts."""

from __future__ import annotations

import csv
from functools import cached_property
from html import escape
from os import PathLike
from pathlib import Path
from typing import TYPE_CHECKING

from microseg.core.errors import InputError, MissingExtraError
from microseg.deploy.report.names import report_path
from microseg.deploy.report.records import mask_path, overlay_path
from microseg.deploy.report.summary_file import ReportSummary, SummaryPhase
from microseg.deploy.report.table import TEXT_COLUMNS, read_cell, read_rows, separator

if TYPE_CHECKING:
    import pandas

_NOTHING = "\N{EN DASH}"


class Report:
    """A finished report folder.

    Attributes:
        path: the folder.
        summary: the content of `summary.json`.
    """

    def __init__(self, path: Path, summary: ReportSummary) -> None:
        """Args:
        path: the folder.
        summary: the content of its `summary.json`.
        """
        self.path = path
        self.summary = summary

    @cached_property
    def fields(self) -> pandas.DataFrame:
        """The table of `fields.csv`: one row per field, failed ones with the reason; fractions are 0-1.

        Raises:
            MissingExtraError: pandas is not installed.
            InputError: the table cannot be read.
        """
        try:
            import pandas
        except ImportError as error:
            raise MissingExtraError("The table of a report's fields", "notebook") from error
        table = self.path / "fields.csv"
        try:
            has_commas = separator(table) == ";"
            # A field or phase may be called NA; only an empty cell is missing.
            found = pandas.read_csv(
                table,
                sep=";" if has_commas else ",",
                decimal="," if has_commas else ".",
                dtype=dict.fromkeys(TEXT_COLUMNS, str),
                keep_default_na=False,
                na_values=[""],
                encoding="utf-8-sig",
            )
            for column in TEXT_COLUMNS:
                if column in found:  # a report of an earlier version has fewer
                    found[column] = found[column].map(read_cell, na_action="ignore")
            return found
        except (OSError, ValueError) as error:
            raise _unreadable(table, error) from error

    def mask_path(self, field: str) -> Path:
        """Path of the mask of a measured field: a PNG of phase indices, 255 where nothing is measured."""
        return self.path / (self._pictures.get(field, ("", ""))[0] or mask_path(report_path(field)))

    def overlay_path(self, field: str) -> Path:
        """Path of the overlay of a measured field: a JPEG."""
        return self.path / (self._pictures.get(field, ("", ""))[1] or overlay_path(report_path(field)))

    @cached_property
    def _pictures(self) -> dict[str, tuple[str, str]]:
        """Paths of mask and overlay by field, as `fields.csv` states them."""
        table = self.path / "fields.csv"
        try:
            return {row["field"]: (row["mask"], row["overlay"]) for row in read_rows(table)}
        except (OSError, ValueError, KeyError, csv.Error) as error:
            raise _unreadable(table, error) from error

    def __repr__(self) -> str:
        fields = self.summary.fields
        return f"<Report {self.path}: {fields.measured} of {fields.total} fields measured>"

    def _repr_html_(self) -> str:
        """A small table for notebooks. It loads nothing; all names are escaped."""
        summary = self.summary
        rows = "".join(
            "<tr>"
            f'<td><span style="display:inline-block;width:0.8em;height:0.8em;background:{escape(phase.color)}"></span> '
            f"{escape(name)}</td>" + "".join(f"<td>{text}</td>" for text in _cells(phase)) + "</tr>"
            for name, phase in summary.phases.items()
        )
        notices = [f"{failed.field}: {failed.reason}" for failed in summary.failed] + summary.notices
        notices += [f"{each.text} ({each.count} fields)" for each in summary.field_notices]
        listed = f"<ul>{''.join(f'<li>{escape(notice)}</li>' for notice in notices)}</ul>" if notices else ""
        heads = ("Phase", "Fraction %", "95 % interval", "Evidence", "Raw %", "± sampling (E562)", "n")
        head = "".join(f"<th>{text}</th>" for text in heads)
        return (
            f"<div><p><b>{escape(summary.input)}</b>: {summary.fields.measured} of {summary.fields.total} fields measured, "
            f"engine {escape(summary.engine.name)}</p><table><thead><tr>{head}</tr></thead><tbody>{rows}</tbody></table>"
            f"{listed}</div>"
        )


def read_report(folder: str | PathLike[str]) -> Report:
    """Read a report that `microseg segment` or `segment_folder` wrote.

    Args:
        folder: the report's folder.

    Returns:
        The report.

    Raises:
        InputError: the folder holds no finished report, one of a newer microseg, or a damaged one.
    """
    path = Path(folder)
    file = path / "summary.json"
    if not file.is_file():
        raise InputError(
            f"{path}: holds no finished report (summary.json is missing). Remedy: give the folder that `microseg segment` "
            "wrote, or repeat the command, which finishes it."
        )
    return Report(
        path, ReportSummary.read_json(file, "the summary", "repeat `microseg segment`, which writes it again")
    )


def _unreadable(table: Path, error: Exception) -> InputError:
    return InputError(f"{table}: cannot be read ({error}). Remedy: repeat `microseg segment`, which writes it again.")


def _cells(phase: SummaryPhase) -> list[str]:
    """What is reported of a phase; then what sampling alone says."""
    claim = phase.claim
    span = _NOTHING if claim.interval is None else f"{100 * claim.interval[0]:.2f} to {100 * claim.interval[1]:.2f}"
    evidence = "not validated" if claim.evidence == "none" else claim.evidence
    return [_percent(claim.fraction), span, evidence, _percent(claim.raw), _percent(phase.ci95), str(phase.n)]


def _percent(fraction: float | None) -> str:
    return _NOTHING if fraction is None else f"{100 * fraction:.2f}"
