"""The command `mdtrain`."""

from __future__ import annotations

import os
import sys

import click

from mdrun.command import run_command
from mdtrain.commands.data import data_group
from mdtrain.commands.evaluate import evaluate
from mdtrain.commands.report import report_group
from mdtrain.commands.street import street_set
from mdtrain.commands.sweep import sweep
from mdtrain.commands.train import train_group


@click.group("mdtrain", no_args_is_help=True)
def mdtrain() -> None:
    """Train and judge detectors, segmenters and classifiers for visible and thermal image pairs."""


mdtrain.add_command(street_set)
mdtrain.add_command(data_group)
mdtrain.add_command(train_group)
mdtrain.add_command(sweep)
mdtrain.add_command(evaluate)
mdtrain.add_command(report_group)


def main() -> None:
    """Entry point of the console script.

    Of several processes only the one that a user has started clears up: a helper may hang in what it has in common with
    the others, where no exception of Python's is raised, and has no files.
    """
    sys.exit(run_command(mdtrain, "mdtrain", clears_up="LOCAL_RANK" not in os.environ))
