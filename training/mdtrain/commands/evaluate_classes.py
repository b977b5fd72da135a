"""`mdtrain eval classes`: accuracy of an engine that gives one class a pair."""

from __future__ import annotations

import json
import math
from pathlib import Path
from typing import Any

import click

from mdrun.errors import DataError, UsageError
from mdtrain.commands.shown import EXISTING, camera, print_table, shown, thermal_size_option

# ruff: noqa: PLC0415  # numpy and OpenCV load when a command runs, not for --help

LAYOUTS = ("folders", "msrs", "mfnet", "street", "coco", "kaist")  # those whose pairs have a class, or a time of day


@click.command(
    epilog="Examples: `mdtrain eval classes --data msrs --engine daynight.onnx --thermal-size 80x64`, "
    "`mdtrain eval classes --data own --set folders --engine own.onnx --json`"
)
@click.option("--data", type=EXISTING, required=True, help="Folder of the set, with its lists of names.")
@click.option("--set", "name", type=click.Choice(LAYOUTS), help="Its layout. [default: the folder's name]")
@click.option("--split", default="val", show_default=True, help="List of names to evaluate: SPLIT.txt.")
@click.option("--engine", type=EXISTING, required=True, help="Engine to run; its task is classify.")
@thermal_size_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON, accuracies in [0, 1].")
def classes(
    *,
    data: Path,
    name: str | None,
    split: str,
    engine: Path,
    thermal_size: tuple[int, int] | None,
    as_json: bool,
) -> None:
    """Accuracy of an engine's classes on labelled pairs; higher is better.

    The class of a pair is that of its folder, or `day` or `night` in sets that know no more.
    """
    from mdrun.models import resolve
    from mdrun.onnx_file import read_manifest
    from mdtrain.data.records import check_command, check_records
    from mdtrain.data.sets import read_set
    from mdtrain.metrics.classes import class_scores, judge_classes
    from mdtrain.metrics.label_pairs import GROUPS

    layout: Any = name or data.resolve().name
    if layout not in LAYOUTS:
        raise UsageError(
            f"{data}: its name {layout!r} is no layout with classes; name it with --set: {', '.join(LAYOUTS)}"
        )
    records = read_set(layout, data, split)
    check_records(records, data, check_command(layout, data, split))
    if unknown := [record for record in records if record.class_name is None]:
        raise DataError(f"{unknown[0].visible_file.path}: its class is not known; choose a set that has classes")
    judged = judge_classes(engine, records, thermal_size)
    names = read_manifest(resolve(engine)).classes
    truth = [names.index(str(record.class_name)) for record in records]
    groups = {
        group: [index for index, record in enumerate(records) if night is None or record.night is night]
        for group, night in GROUPS.items()
    }
    scores = {
        group: class_scores([truth[index] for index in chosen], [judged.found[index] for index in chosen], names)
        for group, chosen in groups.items()
    }
    if as_json:
        plain = {group: {k: None if math.isnan(v) else v for k, v in of.items()} for group, of in scores.items()}
        click.echo(json.dumps({"set": layout, "split": split, "pairs": len(records), "within": judged.within, **plain}))
        return
    rows = [
        [row, *(shown(None if math.isnan(of[row]) else 100 * of[row], "{:.1f}") for of in scores.values())]
        for row in scores["all"]
    ]
    title = f"{engine.stem} on {data.name} {split}, {camera(thermal_size)}: accuracy in %"
    print_table(title, ["class", *(f"{group} ({len(chosen)})" for group, chosen in groups.items())], rows)
    if judged.within is not None:
        click.echo(f"{judged.within:.1%} of the pairs have an energy that the engine's threshold lets pass")
