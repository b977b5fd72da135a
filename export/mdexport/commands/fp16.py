"""`mdexport fp16`: an FP32 engine in half precision."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from mdexport.commands.options import (
    FILE,
    accept_option,
    failing_shown,
    json_option,
    list_option,
    output_option,
    pairs_option,
    show,
)
from mdtrain.commands.labelled import labels_option


@click.command(epilog="Example: mdexport fp16 student.onnx --pairs DATA/msrs --output student_fp16.onnx")
@click.argument("engine", type=FILE)
@output_option
@pairs_option
@list_option
@labels_option
@click.option(
    "--half",
    type=click.Choice(("auto", "fp16", "bf16")),
    default="auto",
    show_default=True,
    help="Kind of half precision; auto takes BF16 where FP16 overflows or loses too much.",
)
@accept_option
@json_option
def fp16(
    engine: Path,
    output: Path,
    pairs: str,
    split: str,
    labels: str | None,
    half: Any,
    accept: str | None,
    *,
    as_json: bool,
) -> None:
    """Convert an FP32 engine to half precision; boxes and scores are still computed in single."""
    from mdexport.fp16 import export_half  # noqa: PLC0415  # libraries load when a command runs, not for --help
    from mdexport.pairs import parse_pairs  # noqa: PLC0415
    from mdrun.models import resolve  # noqa: PLC0415

    with failing_shown(as_json=as_json):
        made = export_half(resolve(engine), output, parse_pairs(pairs, labels), half, split, accept)
    show(output, made, as_json=as_json)
