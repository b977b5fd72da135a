"""`mdexport onnx`: a checkpoint to an ONNX engine in single precision."""

from __future__ import annotations

from pathlib import Path

import click

from mdexport.commands.options import accept_option, failing_shown, json_option, show, sign_of_life
from mdrun.errors import UsageError


@click.command(
    epilog="Example: mdexport onnx runs/student/weights.safetensors --visible DATA/msrs/vi --thermal DATA/msrs/ir "
    "--output student.onnx"
)
@click.argument("weights", type=click.Path(path_type=Path))
@click.option("--output", type=click.Path(path_type=Path), required=True, help="ONNX file to write.")
@click.option("--visible", help="Visible images of the parity check; default of both: synthetic street.")
@click.option("--thermal", help="Thermal images of the parity check.")
@click.option("--pairs", type=click.IntRange(min=1), default=24, show_default=True, help="Pairs to compare.")
@click.option("--dynamic-batch", is_flag=True, help="Let the graph take any number of pairs at once, not one.")
@accept_option
@json_option
def onnx(
    weights: Path,
    output: Path,
    visible: str | None,
    thermal: str | None,
    pairs: int,
    accept: str | None,
    *,
    dynamic_batch: bool,
    as_json: bool,
) -> None:
    """Export a student to one ONNX file with its manifest and parity report inside."""
    if (visible is None) != (thermal is None):
        given, missing = ("--visible", "--thermal") if thermal is None else ("--thermal", "--visible")
        raise UsageError(
            f"got {given} without {missing}, wanted both or neither: pairs are of one scene; add {missing}"
        )
    from mdexport.onnx_export import STREET, export_onnx  # noqa: PLC0415  # torch loads in seconds, --help should not

    sources = visible or STREET, thermal or STREET
    with failing_shown(as_json=as_json), sign_of_life(f"exporting {weights}"):
        manifest = export_onnx(weights, output, *sources, pairs, accept, dynamic_batch=dynamic_batch)
    show(output, manifest, as_json=as_json)
