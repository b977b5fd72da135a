"""`mdtrain street`: draw a training set of synthetic scenes."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(name="street", epilog="Example: mdtrain street --scenes 160 --validation 40 --output runs/street")
@click.option("--output", type=click.Path(path_type=Path), required=True, help="Folder to write, MSRS layout.")
@click.option(
    "--scenes", type=click.IntRange(1, 90_000), default=160, show_default=True, help="Pairs to draw, for train.txt."
)
@click.option(
    "--validation",
    type=click.IntRange(0, 10_000),
    default=0,
    show_default=True,
    help="Further pairs to draw, for val.txt; the same ones for any number of --scenes.",
)
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Another seed, other scenes.")
def street_set(output: Path, scenes: int, validation: int, seed: int) -> None:
    """Draw labelled visible + thermal street scenes by day and by night: boxes and label maps."""
    from tqdm import tqdm  # noqa: PLC0415

    from mdtrain.data.street_set import write_street_set  # noqa: PLC0415

    drawn = write_street_set(output, scenes, seed, validation)
    for _ in tqdm(drawn, total=scenes + validation, desc="street", disable=None):
        pass
    click.echo(f"{output}: {scenes} pairs" + (f" for training, {validation} for validation" if validation else ""))
