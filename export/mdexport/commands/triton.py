"""`mdexport triton`: engines to a model repository of Triton Inference Server."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import click

FILE = click.Path(path_type=Path)


@click.command(epilog="Example: mdexport triton student.onnx --output models --max-batch 8")
@click.argument("engines", type=FILE, nargs=-1, required=True)
@click.option("--output", type=FILE, required=True, help="The repository; other models in it stay.")
@click.option(
    "--model-version", type=click.IntRange(min=1), default=1, show_default=True, help="Triton serves the highest."
)
@click.option(
    "--instances", type=click.IntRange(min=1), default=1, show_default=True, help="Copies that run side by side."
)
@click.option(
    "--device", type=click.Choice(["cpu", "gpu"]), help="Where they run. [default: plans on the GPU, others on the CPU]"
)
@click.option(
    "--max-batch",
    type=click.IntRange(min=1),
    help="Most pairs at once, for engines with a dynamic batch. [default: 8, or what a plan was built for]",
)
@click.option(
    "--queue-delay-us",
    type=click.IntRange(min=0),
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
    served = write_repository(list(engines), output, options)
    if as_json:
        click.echo(json.dumps([to_dict(path, config, model_version) for path, config in served]))
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
        for path, config in served
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
