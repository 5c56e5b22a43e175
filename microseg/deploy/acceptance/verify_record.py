"""The record of an acceptance test: `verify.json`, and the same as a page to file (`verify.md`)."""

from __future__ import annotations

from typing import Any, ClassVar, Literal

from pydantic import Field

from microseg.core.schemas.frozen_model import FrozenModel
from microseg.core.schemas.tolerance import Precision
from microseg.core.schemas.versioned import VersionedModel

VERIFY_VERSION = 1


class VerifiedEngine(FrozenModel):
    """The engine that was verified."""

    name: str = Field(description="Name of the file.")
    sha256: str = Field(description="SHA-256 of the whole file.")
    model_sha256: str = Field(description="SHA-256 of the network without its metadata, as the manifest states it.")
    precision: Precision = Field(description="What the engine computes in.")


class VerifiedRuntime(FrozenModel):
    """What computed the engine."""

    name: str = Field(description="Runtime: `onnxruntime`, `openvino` or `tensorrt`.")
    version: str = Field(description="Version of the runtime.")
    provider: str = Field(description="What the runtime computed on, as the runtime names it.")
    device: str = Field(description="`cpu`, `cuda` or `tensorrt`.")
    threads: int | None = Field(description="CPU threads of the network; null where the runtime decides.")
    streams: int = Field(description="Calls that may be computed at the same time.")


class ReferenceSummary(FrozenModel):
    """The reference tiles that the engine carries."""

    origin: Literal["synthetic", "real"] = Field(
        description="Whether the tiles are synthetic, or parts of micrographs."
    )
    tiles: int = Field(description="Number of tiles.")


class CheckRow(FrozenModel):
    """One check."""

    check: str = Field(description="What was compared.")
    found: str = Field(description="What was found, with its unit.")
    limit: str = Field(description="What is allowed, with its unit; empty for a notice.")
    passed: bool = Field(description="Whether the check passed.")


class VerifyRecord(VersionedModel):
    """The content of `verify.json`."""

    schema_name: ClassVar[str] = "verify-record"
    schema_version: ClassVar[tuple[int, int]] = (VERIFY_VERSION, 0)
    version_key: ClassVar[str] = "verify_version"

    verify_version: int = Field(VERIFY_VERSION, description="Version of this schema.")
    passed: bool = Field(description="Whether every check passed.")
    date: str = Field(description="Local date and time of the test with its offset, ISO 8601.")
    microseg: str = Field(description="Version of microseg.")
    machine: dict[str, Any] = Field(description="Processor, GPUs, system and Python of the machine.")
    engine: VerifiedEngine = Field(description="The engine that was verified.")
    runtime: VerifiedRuntime | None = Field(description="What computed it; null where the network was not run.")
    reference: ReferenceSummary | None = Field(description="Its reference tiles; null where it carries none.")
    against: str | None = Field(description="Name of the engine or run of `--against`; null without one.")
    fields: str | None = Field(description="Name of the folder or domain of FIELDS; null without one.")
    checks: list[CheckRow] = Field(description="The checks, in the order in which they were made.")

    def markdown(self) -> str:
        """The record as a page in Markdown."""
        facts = self.machine
        lines = [
            f"# {self.engine.name}: {'passed' if self.passed else 'FAILED'}",
            "",
            f"- {self.date}, microseg {self.microseg}",
            f"- engine: SHA-256 {self.engine.sha256}, network {self.engine.model_sha256}, {self.engine.precision}",
            f"- machine: {', '.join([facts['processor'], *facts['gpus']])}, {facts['processors']} processors, "
            f"{facts['system']}, Python {facts['python']}",
        ]
        if self.runtime is not None:
            lines.append(f"- computed by: {self.runtime.name} {self.runtime.version}, {self.runtime.provider}")
        if self.fields is not None:
            lines.append(f"- fields: {self.fields}" + (f" against {self.against}" if self.against else ""))
        lines += ["", "| check | found | allowed | |", "| --- | --- | --- | --- |"]
        for row in self.checks:
            cells = [text.replace("|", "\\|") for text in (row.check, row.found, row.limit)]
            lines.append(f"| {' | '.join(cells)} | {'ok' if row.passed else '**FAILED**'} |")
        return "\n".join(lines) + "\n"
