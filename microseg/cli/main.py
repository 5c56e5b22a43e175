"""The command line: `microseg --help` reads like the workflow and loads no framework."""

from __future__ import annotations

import atexit
import gc
import os
import signal
import sys
from collections.abc import Callable, Iterable
from importlib import import_module
from typing import Annotated, Any

import typer
import typer.core

from microseg import __version__
from microseg.cli.streams import columns, lost_output, settle_columns, settle_streams
from microseg.core.errors import MicrosegError
from microseg.core.plain_text import plain

# Command -> panel of the help, in the order of the workflow. Each panel has a folder, each command a module and a function of
# its name there. `train` is a group of commands: `app` in its module.
COMMANDS = {
    "synth": "Look at data",
    "check": "Look at data",
    "preview": "Look at data",
    "suggest": "Look at data",
    "train": "Train",
    "distill": "Train",
    "study": "Train",
    "evaluate": "Train",
    "explain": "Train",
    "export": "Export",
    "inspect": "Export",
    "validate": "Export",
    "verify": "Export",
    "tune": "Export",
    "segment": "Measure",
    "audit": "Measure",
    "list": "Measure",
    "merge": "Measure",
}
FOLDERS = {"Look at data": "look", "Train": "train", "Export": "export", "Measure": "measure"}
INTERRUPTED = 130
_PANEL_COLUMNS = 80
_STOPPED = "interrupted; finished results are complete."


class InOrder(typer.core.TyperGroup):
    """Commands in the order of the workflow: typer lists groups of commands, as `train`, after all others."""

    def list_commands(self, ctx: Any) -> list[str]:
        """Names of the commands in the order of `COMMANDS`."""
        return [name for name in COMMANDS if name in self.commands]


def command_line(names: Iterable[str] = COMMANDS) -> typer.Typer:
    """The command line.

    Args:
        names: the commands that it has; by default all.
    """
    app = typer.Typer(
        name="microseg",
        cls=InOrder,
        help="Phase fractions from micrographs: train on a few labelled fields, export one engine, measure on the station.",
        epilog="Exit status: 0 done, 2 wrong usage or input (nothing done), 3 some fields failed, 4 a gate failed, "
        "130 interrupted.",
        no_args_is_help=True,
        add_completion=False,
        # Panels lose text where they have no room.
        rich_markup_mode="rich" if (columns(sys.stdout) or _PANEL_COLUMNS) >= _PANEL_COLUMNS else None,
        pretty_exceptions_enable=False,
    )
    app.callback()(_options)
    for name in names:
        module = import_module(f"microseg.cli.{FOLDERS[COMMANDS[name]]}.{name}")
        if hasattr(module, "app"):
            app.add_typer(module.app, name=name, rich_help_panel=COMMANDS[name])
        else:
            app.command(rich_help_panel=COMMANDS[name])(getattr(module, name))
    return app


def _version(asked: bool) -> None:
    if asked:
        typer.echo(f"microseg {__version__}")
        raise typer.Exit


def _options(
    version: Annotated[bool, typer.Option("--version", callback=_version, is_eager=True, help="Print it.")] = False,
) -> None:
    pass


def main() -> None:
    """Run the command line. An error that a user can correct is one message on standard error."""
    # Pydantic searches every installed package for plugins, which takes time at the start and which no command needs.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    # A container or a service stops a command by SIGTERM. It ends as after Ctrl-C and leaves no temporary file; training
    # saves first (StopRequest).
    signal.signal(signal.SIGTERM, signal.default_int_handler)
    settle_streams()
    settle_columns()
    # Without this the interpreter collects garbage at its end, which takes 50 ms.
    atexit.register(gc.freeze)
    # A command starts sooner without the options of the others.
    named = [name for name in sys.argv[1:2] if name in COMMANDS]
    if named:
        _quieten_libraries()
    try:
        _run(command_line(named or COMMANDS))
    finally:
        if (lost := lost_output()) is not None:
            print(f"microseg: {lost}", file=sys.stderr)


def _run(command: Callable[[], Any]) -> None:
    """Run a command. What a user can correct becomes a message and a status."""
    try:
        command()
    except MicrosegError as error:
        _fail(str(error), error.exit_code)
    except KeyboardInterrupt:
        _fail(_STOPPED, INTERRUPTED)
    except SystemExit as stop:
        # Newer versions of typer turn Ctrl-C into this status without a message.
        if stop.code == INTERRUPTED:
            _fail(_STOPPED, INTERRUPTED)
        raise
    except ModuleNotFoundError as error:
        extra = _extra_of(error.name or "")
        if extra is None:
            raise
        _fail(f"needs the package {error.name!r}. Remedy: pip install 'microseg[{extra}]'", 2)
    except RuntimeError as error:
        # What `Path.resolve` raises up to Python 3.12.
        if not str(error).startswith("Symlink loop"):
            raise
        _fail(f"{str(error).partition(' from ')[2]}: its links lead in a circle. Remedy: another path.", 2)
    except OSError as error:
        from microseg.core.system.files import path_of

        where = f"{name}: " if (name := path_of(error)) else ""
        _fail(f"{where}{error.strerror or error}. Remedy: check the path, its rights and the free space.", 2)


def _quieten_libraries() -> None:
    """Silence warnings of image libraries. A command owns its process; the Python API does not do this."""
    import logging
    import warnings

    # Pillow warns at half of the size that it refuses; microseg reports the refusal.
    warnings.filterwarnings("ignore", "Image size .* exceeds limit", RuntimeWarning)
    # tifffile logs errors that it raises; the terminal shows one message for each file.
    logging.getLogger("tifffile").addHandler(logging.NullHandler())


def _extra_of(module: str) -> str | None:
    """The extra that brings a missing package; None for other packages."""
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
        "pyarrow": "archive",
    }
    return extras.get(module.partition(".")[0])


def _fail(message: str, status: int) -> None:
    sys.stdout.flush()
    print(f"microseg: {plain(message)}", file=sys.stderr)
    # No traceback after a second Ctrl-C, or from a thread that still computes.
    sys.stderr.flush()
    if status == INTERRUPTED:
        os._exit(status)
    raise SystemExit(status)


if __name__ == "__main__":
    main()
