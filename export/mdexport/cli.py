"""The command `mdexport`."""

from __future__ import annotations

import sys

import click

from mdexport.commands.bundle import bundle, everything
from mdexport.commands.check import check
from mdexport.commands.explain import explain
from mdexport.commands.fp16 import fp16
from mdexport.commands.int8 import int8
from mdexport.commands.onnx import onnx
from mdexport.commands.plan import plan
from mdexport.commands.triton import triton
from mdrun.command import run_command


@click.group("mdexport", no_args_is_help=True)
def mdexport() -> None:
    """Turn checkpoints into engines, each with proof that it still sees."""


for command in (everything, onnx, fp16, int8, check, bundle, plan, explain, triton):
    mdexport.add_command(command)


def main() -> None:
    """Entry point of the console script."""
    sys.exit(run_command(mdexport, "mdexport", clears_up=True))
