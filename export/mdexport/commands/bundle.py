"""`mdexport bundle` and `mdexport all`: one folder with every engine of a network and the proof."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from mdexport.commands.check import show_report
from mdexport.commands.options import (
    FILE,
    accept_option,
    calibration_of,
    calibration_options,
    degraded_as_trained_option,
    failing_shown,
    json_option,
    list_option,
    pairs_option,
    reduce_range_option,
)
from mdrun.errors import IncompleteError
from mdtrain.commands.labelled import labels_option

# ruff: noqa: PLC0415  # libraries load when a command runs, not for --help

folder_option = click.option("--output", "--out", "output", type=FILE, required=True, help="Folder to make.")


@click.command(
    epilog="Example: mdexport bundle student.onnx student_fp16.onnx student_fp16.plan --pairs DATA/msrs --output "
    "engines"
)
@click.argument("engines", type=FILE, nargs=-1, required=True)
@folder_option
@pairs_option
@list_option
@labels_option
@click.option("--checkpoint", type=FILE, help="weights.safetensors to compare with. [default: the FP32 engine]")
@json_option
def bundle(
    engines: tuple[Path, ...],
    output: Path,
    pairs: str,
    split: str,
    labels: str | None,
    checkpoint: Path | None,
    *,
    as_json: bool,
) -> None:
    """Check engines of one network together and pack them with manifests, report and picture."""
    from mdexport.bundle import write_bundle
    from mdexport.check import find_engines
    from mdexport.pairs import parse_pairs

    with failing_shown(as_json=as_json):
        report = write_bundle(find_engines(engines), output, parse_pairs(pairs, labels), split, checkpoint)
    show_report(report, as_json=as_json)
    if not as_json:
        click.echo(f"{output}: engines, manifests, parity.json, parity.jpg")


@click.command(
    "all", epilog="Example: mdexport all runs/student/weights.safetensors --calibration DATA/msrs --out student"
)
@click.argument("weights", type=FILE)
@folder_option
@calibration_options
@degraded_as_trained_option
@click.option(
    "--pairs", metavar="PAIRS", help="Labelled pairs that judge the engines. [default: those of --calibration]"
)
@list_option
@labels_option
@click.option(
    "--max-batch",
    type=click.IntRange(min=1),
    metavar="N",
    help="Graphs take any number of pairs at once, plans up to N.",
)
@reduce_range_option
@accept_option
@json_option
def everything(
    weights: Path,
    output: Path,
    pairs: str | None,
    split: str,
    labels: str | None,
    max_batch: int | None,
    accept: str | None,
    *,
    reduce_range: bool,
    as_json: bool,
    **calibration: Any,
) -> None:
    """Make every engine of a checkpoint: FP32, half, INT8 and plans, checked, in one folder.

    What cannot be made is left out and named with its reason; the exit code is 7 then.
    """
    from mdexport.chain import export_all

    ranges, judges = calibration_of(calibration, pairs, labels)

    def say(line: str) -> None:
        click.echo(line, err=as_json)

    with failing_shown(as_json=as_json):
        report = export_all(
            weights, output, ranges, judges, split, say, accept, reduce_range=reduce_range, max_batch=max_batch
        )
    show_report(report, as_json=as_json)
    if not as_json:
        click.echo(f"{output}: engines, manifests, parity.json, parity.jpg")
    if report.missing:
        names = ", ".join(missing.name for missing in report.missing)
        raise IncompleteError(f"{output}: written without {names}; parity.json there says why")
