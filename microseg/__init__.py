"""Phase fractions from micrographs: train, export, segment.

The Python API: `load_engine`, `connect`, `segment_folder`, `read_report` and `evaluate_engine` measure and need no torch;
`train_supervised`, `train_uda` and `export_engine` need it. Each is imported at its first use, so that `import microseg`
loads none of the libraries behind it.
"""

from __future__ import annotations

from importlib import import_module

TYPE_CHECKING = False  # true for type checkers; importing `typing` takes four times as long as all of this
if TYPE_CHECKING:
    from microseg.core.errors import (
        FieldError,
        GateError,
        InputError,
        MicrosegError,
        MissingExtraError,
        TrainingError,
    )
    from microseg.deploy.api import (
        FieldResult,
        LoadedEngine,
        Report,
        connect,
        evaluate_engine,
        load_engine,
        read_report,
        segment_folder,
    )
    from microseg.export.api import ExportedEngine, export_engine
    from microseg.train.api import Run, train_supervised, train_uda

__version__ = "0.1.0"

__all__ = [
    "ExportedEngine",
    "FieldError",
    "FieldResult",
    "GateError",
    "InputError",
    "LoadedEngine",
    "MicrosegError",
    "MissingExtraError",
    "Report",
    "Run",
    "TrainingError",
    "connect",
    "evaluate_engine",
    "export_engine",
    "load_engine",
    "read_report",
    "segment_folder",
    "train_supervised",
    "train_uda",
]

_HOMES = {
    "FieldError": "microseg.core.errors",
    "GateError": "microseg.core.errors",
    "InputError": "microseg.core.errors",
    "MicrosegError": "microseg.core.errors",
    "MissingExtraError": "microseg.core.errors",
    "TrainingError": "microseg.core.errors",
    "FieldResult": "microseg.deploy.api",
    "LoadedEngine": "microseg.deploy.api",
    "Report": "microseg.deploy.api",
    "connect": "microseg.deploy.api",
    "evaluate_engine": "microseg.deploy.api",
    "load_engine": "microseg.deploy.api",
    "read_report": "microseg.deploy.api",
    "segment_folder": "microseg.deploy.api",
    "Run": "microseg.train.api",
    "train_supervised": "microseg.train.api",
    "train_uda": "microseg.train.api",
    "ExportedEngine": "microseg.export.api",
    "export_engine": "microseg.export.api",
}

# Functions whose errors name arguments; of each, arguments whose options have other names.
_FUNCTIONS: dict[str, dict[str, str]] = {
    "load_engine": {"profile": "use_profile"},
    "connect": {},
    "segment_folder": {"as": "domain", "profile": "use_profile"},
    "evaluate_engine": {"as": "domain_name"},
    "train_supervised": {"set": "settings"},
    "train_uda": {"set": "settings", "source": "run"},
    "export_engine": {},
}


def __getattr__(name: str) -> object:
    """The API's names, each from its home (PEP 562)."""
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    found = getattr(import_module(_HOMES[name]), name)
    if name in _FUNCTIONS:
        from microseg.core.argument_names import naming_arguments

        found = naming_arguments(**_FUNCTIONS[name])(found)
        found.__module__ = __name__  # where other processes find it
    globals()[name] = found
    return found


def __dir__() -> list[str]:
    return sorted([*globals(), *__all__])
