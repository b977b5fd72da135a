"""The command `mdexport`."""

from __future__ import annotations

import sys

import click

from mdexport.commands.onnx import onnx
from mdrun.command import run_command


@click.group("mdexport", no_args_is_help=True)
def mdexport() -> None:
    """Turn checkpoints into engines, each with proof that it still sees."""


for command in (onnx,):
    mdexport.add_command(command)


def main() -> None:
    """Entry point of the console script."""
    sys.exit(run_command(mdexport, "mdexport"))
