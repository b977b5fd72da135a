"""`mdexport triton`: engines to a model repository of Triton Inference Server."""

from __future__ import annotations

from pathlib import Path

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
def triton(
    engines: tuple[Path, ...],
    output: Path,
    model_version: int,
    instances: int,
    device: str | None,
    max_batch: int | None,
    queue_delay_us: int,
) -> None:
    """Put engines (ONNX files, TensorRT plans) into a model repository that Triton serves."""
    from mdexport.triton import write_repository  # noqa: PLC0415  # not for --help
    from mdexport.triton_config import ServeOptions  # noqa: PLC0415

    options = ServeOptions(model_version, instances, device, max_batch, queue_delay_us)
    for path, config in write_repository(list(engines), output, options):
        batch = f"batches up to {config.max_batch_size}" if config.max_batch_size else "one pair at a time"
        click.echo(f"{path}/: version {model_version}, {config.platform}, {batch}")
