"""Whether a report may be changed."""

from __future__ import annotations

import stat
from pathlib import Path

from microseg.core.errors import InputError
from microseg.core.system.files import require_writable
from microseg.deploy.report.settings_file import WORKBOOK


def require_writable_report(report: Path) -> None:
    """Raise InputError where a report is read-only, before anything is changed.

    Args:
        report: its folder.
    """
    for folder in (report, report / "audit"):
        # Rights do not stop root, but whoever took them away meant everybody.
        if folder.is_dir() and not stat.S_IMODE(folder.stat().st_mode) & 0o222:
            raise InputError(
                f"{folder}: is read-only. Nothing is changed. Remedy: make it writable, or copy the report."
            )
    for name in ("summary.json", "fields.csv", "report.html", WORKBOOK, "audit/audit.json"):
        require_writable(report / name)
