"""`mdexport int8`: an FP32 engine with INT8 weights and activations."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from mdexport.commands.options import (
    FILE,
    accept_option,
    json_option,
    list_option,
    output_option,
    reduce_range_option,
    show,
)


@click.command(epilog="Example: mdexport int8 student.onnx --calibration DATA/msrs --output student_int8.onnx")
@click.argument("engine", type=FILE)
@output_option
@click.option(
    "--calibration",
    metavar="PAIRS",
    required=True,
    help="Pairs that scales are measured on: a folder such as DATA/msrs, or SET=FOLDER. Never random.",
)
@click.option("--calibration-list", default="train", show_default=True, help="List of these pairs.")
@click.option(
    "--calibration-pairs",
    type=click.IntRange(min=1),
    default=64,
    show_default=True,
    help="How many of them at most, half by night where there are both.",
)
@click.option("--degraded", is_flag=True, help="Measure also with a black or frozen camera, for engines that bear it.")
@click.option(
    "--pairs", metavar="PAIRS", help="Labelled pairs that judge the engine. [default: those of --calibration]"
)
@list_option
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
    calibration: str,
    calibration_list: str,
    calibration_pairs: int,
    pairs: str | None,
    split: str,
    target: Any,
    accept: str | None,
    *,
    degraded: bool,
    reduce_range: bool,
    as_json: bool,
) -> None:
    """Quantise an FP32 engine; layers that would cost too much accuracy stay in single precision."""
    from mdexport.int8 import Calibration, export_int8  # noqa: PLC0415  # see fp16.py
    from mdexport.pairs import parse_pairs  # noqa: PLC0415

    ranges = Calibration(parse_pairs(calibration), calibration_list, calibration_pairs, degraded)
    judges = ranges.pairs if pairs is None else parse_pairs(pairs)
    made = export_int8(engine, output, ranges, judges, split, target, accept, reduce_range=reduce_range)
    show(output, made, as_json=as_json)
