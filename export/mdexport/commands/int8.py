"""`mdexport int8`: an FP32 engine with INT8 weights and activations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from mdexport.commands.options import (
    FILE,
    accept_option,
    calibration_of,
    calibration_options,
    degraded_option,
    failing_shown,
    json_option,
    list_option,
    output_option,
    reduce_range_option,
    show,
)
from mdtrain.commands.labelled import labels_option


@click.command(epilog="Example: mdexport int8 student.onnx --calibration DATA/msrs --output student_int8.onnx")
@click.argument("engine", type=FILE)
@output_option
@calibration_options
@degraded_option
@click.option(
    "--pairs", metavar="PAIRS", help="Labelled pairs that judge the engine. [default: those of --calibration]"
)
@list_option
@labels_option
@click.option(
    "--target",
    type=click.Choice(("cpu", "tensorrt")),
    default="cpu",
    show_default=True,
    help="Who runs it: ONNX Runtime and OpenVINO, or TensorRT.",
)
@reduce_range_option
@accept_option
@json_option
def int8(
    engine: Path,
    output: Path,
    pairs: str | None,
    split: str,
    labels: str | None,
    target: Any,
    accept: str | None,
    *,
    reduce_range: bool,
    as_json: bool,
    **calibration: Any,
) -> None:
    """Quantise an FP32 engine; layers that would cost too much accuracy stay in single precision."""
    from mdexport.int8 import export_int8  # noqa: PLC0415  # see fp16.py
    from mdrun.models import resolve  # noqa: PLC0415

    ranges, judges = calibration_of(calibration, pairs, labels)
    with failing_shown(as_json=as_json):
        made = export_int8(resolve(engine), output, ranges, judges, split, target, accept, reduce_range=reduce_range)
    show(output, made, as_json=as_json)
