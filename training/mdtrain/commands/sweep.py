"""`mdtrain sweep`: the tables of the paper, one command each."""

from __future__ import annotations

import re
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import click

from mdrun.errors import UsageError
from mdtrain.commands.train import TASKS, command_line, config_file

if TYPE_CHECKING:
    from mdtrain.sweep import Row, Variant

SEED = re.compile(r"[0-9]{1,18}")  # below 2^63
TITLES = {
    "fusion": "Fusion stages (paper: Tables 1 and 2)",
    "thermal": "Thermal resolution, with and without distillation (paper: Tables 3 and 4)",
    "ablation": "Semantic transfer (S, MSE or focal MSE) and attention transfer (A) (paper: Tables 7 and 8)",
}


def parse_seeds(ctx: click.Context, param: click.Parameter, value: str) -> list[int]:
    """Seeds of a text such as `0,1,2`."""
    parts = [part.strip() for part in value.split(",")]
    seeds = [int(part) for part in parts if SEED.fullmatch(part)]
    if len(set(seeds)) < len(parts):
        raise click.BadParameter(f"got {value!r}, wanted different whole numbers such as 0,1,2.", ctx, param)
    return seeds


def choose(table: Sequence[Variant], names: str | None) -> Sequence[Variant]:
    """Rows of a table that a text such as `16x-native, 16x-distilled` names; None means all.

    Raises:
        UsageError: it names others.
    """
    if names is None:
        return table
    wanted = {name.strip() for name in names.split(",")}
    if unknown := wanted - {row.name for row in table}:
        raise UsageError(
            f"--rows names {', '.join(name or 'an empty one' for name in sorted(unknown))}, "
            f"wanted some of {', '.join(row.name for row in table)}"
        )
    return [row for row in table if row.name in wanted]


@click.command(
    "sweep",
    epilog="Example: mdtrain sweep thermal --teacher runs/teacher/weights.safetensors --data DATA/rgbt "
    "--seeds 0,1,2 --output runs/sweep",
)
@click.argument("table", type=click.Choice(list(TITLES)))
@click.option("--output", type=click.Path(path_type=Path), required=True, help="Folder of the sweep.")
@click.option("--task", type=click.Choice(TASKS), help="Boxes (default), a class a pixel, or a class a pair.")
@click.option("--teacher", "weights", type=click.Path(path_type=Path), help="weights.safetensors of the teacher.")
@click.option("--config", type=click.Path(path_type=Path), help="YAML file of every run, or `paper`.")
@click.option("--seeds", default="0", show_default=True, callback=parse_seeds, help="Seeds, separated by commas.")
@click.option(
    "--backbone-weights", type=click.Path(path_type=Path), help="ImageNet weights that every run starts from."
)
@click.option("--rows", "names", help="Only these rows, separated by commas: 16x-native,16x-distilled.")
@click.option("--data", type=click.Path(path_type=Path), help="Folder with a folder of each set; default: data/rgbt.")
@click.option("--street", type=click.Path(path_type=Path), help="Synthetic scenes of `mdtrain street`.")
@click.option("--iterations", type=click.IntRange(min=1), help="Length of every run; default: the recipe's own.")
@click.option("--set", "overrides", multiple=True, metavar="KEY=VALUE", help="Override a config key in every run.")
def sweep(
    table: Any, task: str | None, weights: Path | None, seeds: list[int], names: str | None, **options: Any
) -> None:
    """Train every variant of a table with every seed; what is finished is kept, what was killed goes on."""
    from mdtrain.config import load_config  # noqa: PLC0415  # keeps --help fast
    from mdtrain.outputs import result_folder  # noqa: PLC0415
    from mdtrain.sweep import (  # noqa: PLC0415
        Initial,
        Sweep,
        draw_thermal,
        refuse_other_table,
        run_sweep,
        variants,
        write_table,
    )
    from mdtrain.tasks import DivergedError, make_task  # noqa: PLC0415

    named = {"optimiser.iterations": "iterations", "data.root": "data", "data.street": "street"}
    common = options["overrides"] + tuple(
        f"{key}={options[option]}" for key, option in named.items() if options[option] is not None
    )
    common += (f"task={task}",) if task is not None else ()
    clashes = [
        override for override in options["overrides"] if override.partition("=")[0] in ("seed", "inputs", "task")
    ]
    if clashes:
        raise UsageError(
            f"got --set {clashes[0]}, which the sweep itself varies; use --seeds, --task, or mdtrain train"
        )

    def configure(variant: Variant, seed: int) -> Any:
        file = config_file("teacher" if variant.recipe == "teacher" else "student", task, options["config"])
        return load_config(file, (*common, *variant.overrides, f"seed={seed}"))

    plain = load_config(config_file("student", task, options["config"]), common)
    output, measured, title = options["output"], make_task(plain), TITLES[table]
    plan = Sweep(variants(table, plain), configure, output, Initial(weights, options["backbone_weights"]))
    refuse_other_table(output, plan.table, measured)
    found: list[Row] = []
    text, failure = "", None
    with result_folder(output):
        try:
            for found in run_sweep(plan, choose(plan.table, names), seeds, command_line(sys.argv[1:])):
                if found:
                    text = write_table(found, measured, title, output)
        except DivergedError as error:
            failure = error
        if found:
            click.echo(text)
        if found and table == "thermal":
            draw_thermal(found, measured, title, output / "thermal.png")
    if failure is not None:
        raise failure
