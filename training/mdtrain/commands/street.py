"""`mdtrain street`: draw a training set of synthetic scenes."""

from __future__ import annotations

from pathlib import Path

import click


@click.command(name="street", epilog="Example: mdtrain street --scenes 160 --output runs/street")
@click.option("--output", type=click.Path(path_type=Path), required=True, help="Folder to write, MSRS layout.")
@click.option("--scenes", type=click.IntRange(min=1), default=160, show_default=True, help="Pairs to draw.")
@click.option("--seed", type=click.IntRange(min=0), default=0, show_default=True, help="Another seed, other scenes.")
def street_set(output: Path, scenes: int, seed: int) -> None:
    """Draw labelled visible + thermal street scenes by day and by night."""
    from tqdm import tqdm  # noqa: PLC0415

    from mdtrain.data.street_set import write_street_set  # noqa: PLC0415

    for _ in tqdm(write_street_set(output, scenes, seed), total=scenes, desc="street", disable=None):
        pass
    click.echo(f"{output}: {scenes} pairs")
