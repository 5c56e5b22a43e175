"""What `train uda` prints of a verdict."""

from __future__ import annotations

import io
from dataclasses import replace
from pathlib import Path

from rich.console import Console

from microseg.cli.train.uda import _print
from microseg.train.api import read_finished_run

ADAPTED = Path(__file__).parents[2] / "data" / "version-0.1.0" / "adapted"


def test_fields_to_label_come_with_the_command_that_writes_them() -> None:
    run = read_finished_run(ADAPTED)
    assert run.summary.adaptation is not None and run.record.adaptation is not None
    named = run.summary.adaptation.model_copy(update={"verdict": "label a few fields", "to_label": ["a.tif", "b.tif"]})
    adaptation = run.record.adaptation.model_copy(update={"target_source": "my lot"})
    shown = replace(
        run,
        path=Path("runs/lot-auto"),
        record=run.record.model_copy(update={"adaptation": adaptation}),
        summary=run.summary.model_copy(update={"adaptation": named}),
    )
    console = Console(file=io.StringIO(), width=200)
    _print(console, shown)
    text = console.file.getvalue()  # type: ignore[attr-defined]
    assert "Label these first: a.tif, b.tif" in text
    assert "microseg suggest runs/lot-auto 'my lot' --n 2 --out TODO" in text
