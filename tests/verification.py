"""`verify` for tests: the record as it is written, and runs that label as a function says."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from microseg.agreement.fields import Labeller
from microseg.deploy.acceptance.verify import OpenRun, RunLabeller, VerifyOptions
from microseg.deploy.acceptance.verify import verify as verify_engine


def no_run(run: Path, phases: list[str]) -> RunLabeller:
    raise AssertionError(f"{run} is no run")


def opens(labels: Labeller, *, is_student: bool = False) -> OpenRun:
    return lambda run, phases: RunLabeller(labels, is_student)


def verify(options: VerifyOptions, open_run: OpenRun = no_run) -> dict[str, Any]:
    return verify_engine(options, open_run).model_dump(mode="json")
