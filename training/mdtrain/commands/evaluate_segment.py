"""`mdtrain eval mfnet`: class accuracy and IoU of an engine that gives label maps."""

from __future__ import annotations

import json
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mdtrain.commands.shown import EXISTING, print_table, shown, thermal_size_option

if TYPE_CHECKING:
    from mdtrain.metrics.label_pairs import Group

# ruff: noqa: PLC0415  # numpy and OpenCV load when a command runs, not for --help

DEFINITION = (
    "Acc (recall) and IoU in %, as RTFNet defines them: one confusion matrix over all pixels, unlabelled\n"
    "included; the mean is over all 9 classes, an absent one (-) counts as 0"
)


@click.command(
    epilog="Examples: `mdtrain eval mfnet --data mfnet --engine student-seg.onnx --thermal-size 160x128`, "
    "`mdtrain eval mfnet --data runs/street --set street --engine student-seg.onnx --json`"
)
@click.option("--data", type=EXISTING, required=True, help="Folder with images/, labels/ and the lists of names.")
@click.option(
    "--set", "name", type=click.Choice(("mfnet", "street")), default="mfnet", show_default=True, help="Its layout."
)
@click.option("--split", help="List of names to evaluate: SPLIT.txt; default: test of mfnet, val of street.")
@click.option("--engine", type=EXISTING, required=True, help="Engine to run; its task is segment.")
@thermal_size_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON with every definition, scores in [0, 1].")
def mfnet(
    *,
    data: Path,
    name: str,
    split: str | None,
    engine: Path,
    thermal_size: tuple[int, int] | None,
    as_json: bool,
) -> None:
    """Class accuracy and IoU of an engine's label maps on MFNet's nine classes; higher is better."""
    from tqdm import tqdm

    from mdrun.errors import DataError
    from mdtrain.data.records import check_records
    from mdtrain.data.sets import read_set
    from mdtrain.metrics.label_pairs import group_json, group_pairs, pair_matrices

    split = split or ("test" if name == "mfnet" else "val")
    records = read_set("mfnet" if name == "mfnet" else "street", data, split)
    check_records(records, data)
    if any(record.label_map_file is None for record in records):
        raise DataError(f"{data}: has no label_maps/, which this version draws; run `mdtrain street` again")
    matrices = pair_matrices(engine, records, thermal_size)
    groups = group_pairs(records, list(tqdm(matrices, total=len(records), desc=engine.stem, disable=None)))
    if as_json:
        scores = {group: group_json(found) for group, found in groups.items()}
        click.echo(json.dumps({"set": name, "split": split, "definition": "RTFNet", **scores}))
    else:
        _print(f"{engine.stem} on {data.name} {split}", groups)


def _print(title: str, groups: dict[str, Group]) -> None:
    """One row a class: Acc and IoU of every group."""
    import numpy as np

    from mdtrain.data.records import LABEL_CLASSES
    from mdtrain.metrics.segmentation import rtfnet_scores

    scores = [rtfnet_scores(group.matrix) for group in groups.values()]
    table = np.array([values for s in scores for values in (s.accuracy, s.iou)]).T
    means = np.array([value for s in scores for value in (s.mean_accuracy, s.mean_iou)])
    rows = [
        [name, *(shown(None if np.isnan(value) else 100 * value, "{:.1f}") for value in values)]
        for name, values in zip((*LABEL_CLASSES, "mean"), (*table, means), strict=True)
    ]
    columns = ["class", "Acc", "IoU", "Acc day", "IoU day", "Acc night", "IoU night"]
    counts = f"{groups['all'].pairs} pairs, {groups['day'].pairs} by day, {groups['night'].pairs} by night"
    print_table(f"{title}: {counts}\n{DEFINITION}", columns, rows)
