"""`mdexport triton`: engines to a model repository of Triton Inference Server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

from mdrun.command import warn

FILE = click.Path(path_type=Path)
WHOLE_32, WHOLE_64 = click.IntRange(1, (1 << 31) - 1), click.IntRange(1, (1 << 63) - 1)  # what Triton's fields hold


@click.command(epilog="Example: mdexport triton student.onnx --output models --max-batch 8")
@click.argument("engines", type=FILE, nargs=-1, required=True)
@click.option("--output", type=FILE, required=True, help="The repository; other models in it stay.")
@click.option("--model-version", type=WHOLE_64, default=1, show_default=True, help="Triton serves the highest.")
@click.option("--instances", type=WHOLE_32, default=1, show_default=True, help="Copies that run side by side.")
@click.option(
    "--device", type=click.Choice(["cpu", "gpu"]), help="Where they run. [default: plans on the GPU, others on the CPU]"
)
@click.option(
    "--max-batch",
    type=WHOLE_32,
    help="Most pairs at once, for engines with a dynamic batch. [default: 8, or what a plan was built for]",
)
@click.option(
    "--queue-delay-us",
    type=click.IntRange(0, (1 << 64) - 1),
    default=2000,
    show_default=True,
    help="How long a request waits for others to run with, in microseconds.",
)
@click.option("--json", "as_json", is_flag=True, help="Print what was written as JSON.")
def triton(
    engines: tuple[Path, ...],
    output: Path,
    model_version: int,
    instances: int,
    device: str | None,
    max_batch: int | None,
    queue_delay_us: int,
    *,
    as_json: bool,
) -> None:
    """Put engines (ONNX files, TensorRT plans) into a model repository that Triton serves."""
    from mdexport.triton import write_repository  # noqa: PLC0415  # not for --help
    from mdexport.triton_config import ServeOptions  # noqa: PLC0415

    options = ServeOptions(model_version, instances, device, max_batch, queue_delay_us)
    from mdrun.models import resolve  # noqa: PLC0415

    served = write_repository([resolve(engine) for engine in engines], output, options)
    for remark in (remark for model in served for remark in model.remarks):
        warn("mdexport", remark)
    if as_json:
        click.echo(json.dumps([to_dict(model.path, model.config, model_version) for model in served]))
        return
    from mdexport.triton_config import device_of  # noqa: PLC0415
    from mdtrain.commands.shown import print_table  # noqa: PLC0415

    rows = [
        [
            path.name,
            str(model_version),
            config.platform,
            str(config.max_batch_size or 1),
            str(config.instance_group[0].count),
            device_of(config),
        ]
        for path, config, _ in served
    ]
    columns = ["model", "version", "platform", "most pairs at once", "instances", "device"]
    print_table(f"{output}: a model repository for Triton", columns, rows)


def to_dict(path: Path, config: Any, version: int) -> dict[str, Any]:
    """An entry of the document of `--json`; keys are added, never renamed or removed."""
    return {
        "model": str(path),
        "version": version,
        "platform": config.platform,
        "max_batch_size": config.max_batch_size,
    }
