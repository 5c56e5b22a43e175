"""The command line: `microseg --help` reads like the workflow and loads no framework."""

from __future__ import annotations

import atexit
import gc
import io
import os
import signal
import sys
from typing import Annotated, Any

import typer
import typer.core

from microseg import __version__
from microseg.cli.check import check
from microseg.cli.distill import distill
from microseg.cli.evaluate import evaluate
from microseg.cli.explain import explain
from microseg.cli.export import export
from microseg.cli.inspect import inspect
from microseg.cli.preview import preview
from microseg.cli.segment import segment
from microseg.cli.study import study
from microseg.cli.synth import synth
from microseg.cli.train import app as train
from microseg.cli.tune import tune
from microseg.cli.verify import verify
from microseg.core.errors import MicrosegError

LOOK, TRAIN, EXPORT, MEASURE = "Look at data", "Train", "Export", "Measure"
INTERRUPTED = 130
_STOPPED = "interrupted; what was finished is complete."


class InOrder(typer.core.TyperGroup):
    """Commands in the order of the workflow: typer lists groups of commands, as `train`, after all others."""

    def list_commands(self, ctx: Any) -> list[str]:
        """`train` before what needs its runs."""
        names = super().list_commands(ctx)
        names.remove("train")
        names.insert(names.index("distill"), "train")
        return names


app = typer.Typer(
    name="microseg",
    cls=InOrder,
    help="Phase fractions from micrographs: train on a few labelled fields, export one engine, measure on the station.",
    epilog="Exit status: 0 done, 2 wrong usage or input (nothing done), 3 some fields failed, 4 a gate failed, "
    "130 interrupted.",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,
)


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"microseg {__version__}")
        raise typer.Exit


@app.callback()
def _options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    pass


app.command(rich_help_panel=LOOK)(synth)
app.command(rich_help_panel=LOOK)(check)
app.command(rich_help_panel=LOOK)(preview)
app.add_typer(train, name="train", rich_help_panel=TRAIN)
app.command(rich_help_panel=TRAIN)(distill)
app.command(rich_help_panel=TRAIN)(study)
app.command(rich_help_panel=TRAIN)(evaluate)
app.command(rich_help_panel=TRAIN)(explain)
app.command(rich_help_panel=EXPORT)(export)
app.command(rich_help_panel=EXPORT)(inspect)
app.command(rich_help_panel=EXPORT)(verify)
app.command(rich_help_panel=EXPORT)(tune)
app.command(rich_help_panel=MEASURE)(segment)


def main() -> None:
    """Run the command line; every error that a user can mend is one message on standard error."""
    # Pydantic looks through every installed package for plugins of it, which no command needs and a start waits for.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    # Told to stop by a container or a service, it leaves no draft behind, as after Ctrl-C. Training saves first (StopRequest).
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    for stream in (sys.stdout, sys.stderr):
        if isinstance(stream, io.TextIOWrapper):
            # A log file on Windows knows fewer characters than phases and tables have.
            stream.reconfigure(errors="replace")
    # At its end the interpreter searches all that lives for garbage: a twentieth of a second, for what goes in any case.
    atexit.register(gc.freeze)
    try:
        app()
    except MicrosegError as error:
        _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        _fail(_STOPPED, INTERRUPTED)
    except SystemExit as stop:
        # Newer versions of typer turn Ctrl-C into this status without a word.
        if stop.code == INTERRUPTED:
            _fail(_STOPPED, INTERRUPTED)
        raise
    except ModuleNotFoundError as error:
        extra = _extra_of(error.name or "")
        if extra is None:
            raise
        _fail(f"needs the package {error.name!r}. Remedy: pip install 'microseg[{extra}]'", 2)
    except OSError as error:
        where = f"{error.filename}: " if error.filename else ""
        _fail(f"{where}{error.strerror or error}. Remedy: check the path, its rights and the free space.", 2)


def _extra_of(module: str) -> str | None:
    """The extra that brings a missing package."""
    extras = {
        "torch": "train",
        "torchvision": "train",
        "timm": "train",
        "segmentation_models_pytorch": "train",
        "albumentations": "train",
        "safetensors": "train",
        "matplotlib": "train",
        "onnx": "export",
        "onnxscript": "export",
        "psutil": "export",
        "onnxruntime": "cpu",
        "openvino": "openvino",
    }
    return extras.get(module.partition(".")[0])


def _fail(message: str, status: int) -> None:
    sys.stdout.flush()
    print(f"microseg: {message}", file=sys.stderr)
    # A second Ctrl-C or a thread that still computes must not turn this into a traceback.
    sys.stderr.flush()
    if status == INTERRUPTED:
        os._exit(status)
    raise SystemExit(status)


if __name__ == "__main__":
    main()
