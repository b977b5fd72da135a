"""`mdtrain eval`: accuracy of results and engines on labelled sets."""

from __future__ import annotations

import click

from mdtrain.commands.evaluate_classes import classes
from mdtrain.commands.evaluate_kaist import kaist
from mdtrain.commands.evaluate_pairs import boxes, msrs
from mdtrain.commands.evaluate_robustness import robustness
from mdtrain.commands.evaluate_segment import mfnet


@click.group("eval", no_args_is_help=True)
def evaluate() -> None:
    """Measure accuracy on labelled sets."""


for command in (boxes, classes, kaist, mfnet, msrs, robustness):
    evaluate.add_command(command)
