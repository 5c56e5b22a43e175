"""The modules of TensorRT, imported where they are needed, and their log."""

from __future__ import annotations

import importlib
from typing import Any, Literal

from microseg.core.errors import MissingExtraError
from microseg.core.schemas.plan import Flavour

Library = Literal["tensorrt", "tensorrt_rtx", "tensorrt_lean"]

TITLES: dict[Library, str] = {
    "tensorrt": "TensorRT",
    "tensorrt_rtx": "TensorRT for RTX",
    "tensorrt_lean": "TensorRT lean runtime",
}
EXTRAS: dict[Library, str] = {
    "tensorrt": "tensorrt",
    "tensorrt_rtx": "tensorrt-rtx",
    "tensorrt_lean": "tensorrt-lean",
}
_LOGGED = 5


def load_library(library: Library) -> Any:
    """The module of a TensorRT library.

    Without a driver nothing of `tensorrt` and `tensorrt_lean` may be called: a call ends the process. `tensorrt_rtx` builds
    without one.

    Args:
        library: its name.

    Raises:
        MissingExtraError: it cannot be imported; the message holds the reason.
    """
    reasons = []
    # The vendor's images and metapackages bring the first name, the wheels alone the second.
    for name in (library, f"{library}_bindings"):
        try:
            return importlib.import_module(name)
        except ImportError as error:
            reasons.append(str(error))
    raise MissingExtraError(f"{TITLES[library]} ({reasons[-1]})", EXTRAS[library])


def installed_flavour() -> Flavour:
    """The flavour to build with: TensorRT for RTX, which needs no card, else full TensorRT. Raises MissingExtraError."""
    try:
        load_library("tensorrt_rtx")
    except MissingExtraError as missing:
        try:
            load_library("tensorrt")
        except MissingExtraError:
            raise missing from None
        return "tensorrt"
    return "tensorrt_rtx"


def collecting_logger(library: Any) -> Any:
    """A logger that prints nothing and keeps errors; `last()` gives the latest of them.

    Args:
        library: the module of TensorRT.
    """

    class Logger(library.ILogger):  # type: ignore[misc]
        def __init__(self) -> None:
            library.ILogger.__init__(self)
            self.errors: list[str] = []

        def log(self, severity: Any, message: str) -> None:
            if severity <= library.ILogger.ERROR:
                self.errors.append(" ".join(message.split()))

        def last(self) -> str:
            return "; ".join(self.errors[-_LOGGED:]) or "TensorRT gave no reason"

    return Logger()
