"""`microseg train`: the group of the commands that train."""

from __future__ import annotations

import typer

from microseg.cli.train.pretrain import pretrain
from microseg.cli.train.supervised import supervised
from microseg.cli.train.uda import uda

app = typer.Typer(
    help="Train networks: on a labelled domain, by pre-training of an encoder, or by adaptation without labels.",
    no_args_is_help=True,
)
for command in (supervised, pretrain, uda):
    app.command()(command)
