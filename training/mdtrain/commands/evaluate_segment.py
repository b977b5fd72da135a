"""`mdtrain eval mfnet`: class accuracy and IoU of an engine that gives label maps."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mdtrain.commands.shown import (
    EXISTING,
    WORST,
    camera,
    errors_option,
    only_with_errors,
    pictures_line,
    print_table,
    shown,
    thermal_size_option,
    worst_option,
)

if TYPE_CHECKING:
    from mdtrain.data.sets import SetName
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
@errors_option
@worst_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON with every definition, scores in [0, 1].")
def mfnet(
    *,
    data: Path,
    name: str,
    split: str | None,
    engine: Path,
    thermal_size: tuple[int, int] | None,
    errors: Path | None,
    worst: int | None,
    as_json: bool,
) -> None:
    """Class accuracy and IoU of an engine's label maps on MFNet's nine classes; higher is better."""
    only_with_errors(errors, {"--worst": worst})
    from tqdm import tqdm

    from mdrun.models import resolve
    from mdrun.onnx_file import read_manifest
    from mdtrain.data.records import check_command, check_records
    from mdtrain.data.sets import read_set
    from mdtrain.metrics.error_folder import error_folder
    from mdtrain.metrics.error_frame import Run
    from mdtrain.metrics.label_pairs import check_label_maps, group_json, group_pairs, judge_labels
    from mdtrain.metrics.label_pictures import draw_worst_labels

    split = split or ("test" if name == "mfnet" else "val")
    title = f"{engine.stem} on {data.name} {split}, {camera(thermal_size)}"
    with error_folder(errors) if errors is not None else nullcontext() as folder:
        layout: SetName = "mfnet" if name == "mfnet" else "street"
        records = read_set(layout, data, split)
        check_records(records, data, check_command(layout, data, split))
        check_label_maps(records, data)
        judged = tqdm(judge_labels(engine, records, thermal_size), total=len(records), desc=engine.stem, disable=None)
        matrices = [pair.matrix for pair in judged]
        groups = group_pairs(records, matrices)
        if folder is not None:
            run = Run(title, thermal_size, "thermal" in read_manifest(resolve(engine)).needs)
            draw_worst_labels(folder, engine, records, matrices, run, worst or WORST)
    if as_json:
        scores = {group: group_json(found) for group, found in groups.items()}
        drawn = {} if folder is None else {"errors": {"pictures": folder.pictures}}
        click.echo(json.dumps({"set": name, "split": split, "definition": "RTFNet", **scores, **drawn}))
        return
    _print(title, groups)
    if folder is not None:
        click.echo(pictures_line(folder, len(records)))


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
