"""`mdexport plan`: an ONNX engine to an engine of TensorRT or of TensorRT for RTX."""

from __future__ import annotations

import json
from dataclasses import asdict, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mdexport.commands.options import sign_of_life
from mdexport.plan.options import HARDWARE_LEVELS, LEAST_SHARE, MOST_BATCH, MOST_WORKSPACE, TARGETS, PlanOptions
from mdrun.command import warn
from mdrun.manifest import PRECISIONS
from mdrun.numbers import FiniteRange
from mdrun.verified import find_doubt

if TYPE_CHECKING:
    from mdexport.plan.maker import Plan

FILE = click.Path(path_type=Path)
EPILOG = (
    "Examples: mdexport plan student_fp16.onnx --output student_fp16.plan; "
    "mdexport plan student_fp16.onnx --output engines --auto-name --target rtx"
)


@click.command(epilog=EPILOG)
@click.argument("onnx", type=FILE)
@click.option("--output", type=FILE, required=True, help="Engine to write; with --auto-name its folder.")
@click.option("--auto-name", is_flag=True, help="Name the file after engine, precision, GPU and version.")
@click.option(
    "--target",
    type=click.Choice(TARGETS),
    default="tensorrt",
    show_default=True,
    help="tensorrt: for the GPU here. rtx: TensorRT for RTX, for several desktop GPUs, built without one.",
)
@click.option("--precision", type=click.Choice(PRECISIONS), help="Refuse an ONNX file in another precision.")
@click.option(
    "--least-share",
    type=FiniteRange(0, 1),
    default=LEAST_SHARE,
    show_default=True,
    help="Share of convolution and matrix layers that must be in that precision.",
)
@click.option(
    "--compute-capability",
    "capabilities",
    multiple=True,
    metavar="X.Y",
    help="With rtx: a GPU generation to build for; may be repeated. [default: all from 8.0]",
)
@click.option(
    "--workspace", type=click.IntRange(1, MOST_WORKSPACE), metavar="MIB", help="Most scratch memory of a layer."
)
@click.option("--timing-cache", type=FILE, help="Measured kernel times, to read and to write: later builds are faster.")
@click.option("--max-batch", type=click.IntRange(1, MOST_BATCH), help="Largest batch, for a graph with a dynamic one.")
@click.option("--version-compatible", is_flag=True, help="Newer TensorRT may run it too, a little slower.")
@click.option("--hardware-compatible", type=click.Choice(HARDWARE_LEVELS), help="Other GPUs may run it too, slower.")
@click.option(
    "--allow-host-code",
    is_flag=True,
    help="With --version-compatible: put TensorRT's lean runtime into the plan. It is code that runs on loading.",
)
@click.option("--json", "as_json", is_flag=True, help="Print the report as JSON.")
def plan(
    onnx: Path,
    output: Path,
    target: str,
    precision: str | None,
    least_share: float,
    capabilities: tuple[str, ...],
    workspace: int | None,
    timing_cache: Path | None,
    max_batch: int | None,
    hardware_compatible: str | None,
    *,
    auto_name: bool,
    version_compatible: bool,
    allow_host_code: bool,
    as_json: bool,
) -> None:
    """Build an engine from an ONNX file, in that file's precision, with its manifest beside it."""
    options = PlanOptions(
        target=target,
        compute_capabilities=capabilities,
        workspace_mib=workspace,
        version_compatible=version_compatible,
        hardware_compatible=hardware_compatible,
        allow_host_code=allow_host_code,
        max_batch=max_batch,
        precision=precision,
        least_share=least_share,
        timing_cache=timing_cache,
    )
    from mdexport.plan.maker import make_plan  # noqa: PLC0415  # not for --help
    from mdexport.plan.shown import print_plan  # noqa: PLC0415  # rich
    from mdrun.models import resolve  # noqa: PLC0415

    onnx = resolve(onnx)
    with sign_of_life(f"building an engine of {onnx.name}"):
        made = make_plan(onnx, output, options, name_it=auto_name)
    if doubt := find_doubt(replace(made.manifest, build=None)):
        warn("mdexport", f"{made.path}: not verified, like {onnx.name}: {doubt}")
    if as_json:
        click.echo(json.dumps(to_dict(made)))
    else:
        print_plan(made)
        if not doubt:
            click.echo(f"{made.path}: not verified yet: {find_doubt(made.manifest)}")


def to_dict(made: Plan) -> dict[str, Any]:
    """The document of `--json`; keys are added, never renamed or removed."""
    manifest = made.manifest
    precision = str(manifest.origin.precision)
    return {
        "engine": str(made.path),
        "bytes": made.path.stat().st_size,
        "name": manifest.network_name(),
        "precision": precision,
        "counted": made.count.of,
        "counted_why": made.count.why,
        "layers": made.count.layers,
        "share": made.count.share(precision),
        "seconds": round(made.seconds, 3),
        "doubt": find_doubt(manifest),
        "build": None if manifest.build is None else asdict(manifest.build),
    }
