"""`mdtrain eval robustness`: accuracy of an engine with black, shifted and late images."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mdrun.errors import UsageError
from mdtrain.commands.labelled import (
    BOX_SETS,
    MAP_SETS,
    default_list,
    labels_option,
    layout_of,
    list_option,
    read_labelled,
)
from mdtrain.commands.shown import EXISTING, camera, print_table, shown, thermal_size_option

if TYPE_CHECKING:
    from mdtrain.data.sets import SetName
    from mdtrain.metrics.robustness import Outcome

# ruff: noqa: PLC0415  # numpy, OpenCV and pycocotools load when a command runs, not for --help

LAYOUTS: dict[str, tuple[SetName, ...]] = {"detect": BOX_SETS, "segment": MAP_SETS}  # by task
MEAN = "mean over all 9 classes as RTFNet defines it, an absent one counts as 0; person and car over all pairs"
RATED = "miss rate (MR): KAIST's log-average, reasonable persons, as a share; lower is better"
LABELS = {"detect": "boxes", "segment": "label maps"}


@click.command(
    epilog="Examples: `mdtrain eval robustness --data msrs --engine student.onnx --thermal-size 160x128 --plot "
    "loss.png`, `mdtrain eval robustness --data runs/street --set street --engine student-seg.onnx`"
)
@click.option("--data", type=EXISTING, required=True, help="Folder of the set, with its lists of names.")
@click.option(
    "--set",
    "name",
    type=click.Choice(sorted({*BOX_SETS, *MAP_SETS})),
    help="Its layout. [default: the folder's name; msrs for detectors where that is no layout]",
)
@list_option
@labels_option
@click.option("--engine", type=EXISTING, required=True, help="Engine to run; its task is detect or segment.")
@click.option(
    "--scenes",
    type=click.IntRange(min=0),
    default=40,
    show_default=True,
    help="Synthetic scenes for time differences; 0 leaves them out.",
)
@thermal_size_option
@click.option(
    "--plot",
    type=click.Path(path_type=Path),
    help="PNG to write: accuracy, on KAIST miss rates, by blackout, shift and age.",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, scores in [0, 1].")
def robustness(
    *,
    data: Path,
    name: str | None,
    split: str | None,
    labels: str | None,
    engine: Path,
    scenes: int,
    thermal_size: tuple[int, int] | None,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Accuracy with a black, a shifted or a late image: what an engine loses when a pair is not as it was trained.

    AP50 of detectors, on KAIST miss rates as well; class accuracy of engines that give label maps.
    """
    from mdrun.engine import check_inputs
    from mdrun.models import resolve
    from mdrun.onnx_file import read_manifest
    from mdrun.street import DETECTION_CLASSES
    from mdtrain.data.categories import indices_of
    from mdtrain.data.records import CLASSES
    from mdtrain.metrics.label_pairs import check_label_maps
    from mdtrain.metrics.robustness import draw_curves, measure
    from mdtrain.outputs import result_file

    with result_file(plot) if plot is not None else nullcontext():
        manifest = read_manifest(resolve(engine))
        check_inputs(manifest, engine)
        task = manifest.task
        if task not in LAYOUTS:
            raise UsageError(f"{engine}: its task is {task!r}, wanted {' or '.join(LAYOUTS)}; choose another engine")
        instead = "msrs" if task == "detect" else ""
        what = f"{LABELS[task]} to judge {engine.stem} by"
        layout = layout_of(name, data, LAYOUTS[task], what, instead=instead)
        split = split or default_list(layout)
        records = read_labelled(layout, data, split, labels, manifest.classes if task == "detect" else CLASSES)
        if task == "segment":
            check_label_maps(records, data)
        if task == "detect" and scenes and (indices_of(DETECTION_CLASSES, manifest.classes) < 0).all():
            click.echo(f"no time differences: scenes show {', '.join(DETECTION_CLASSES)} only", err=True)
            scenes = 0
        outcomes = measure(
            task, engine, records, scenes, thermal_size, lambda condition: click.echo(condition, err=True)
        )
        if plot is not None:
            draw_curves(task, outcomes, f"{engine.stem} on {data.name} {split}", plot)
    if as_json:
        click.echo(json.dumps([outcome._asdict() for outcome in outcomes]))
    else:
        _print(task, f"{engine.stem}, {data.name} {split}", thermal_size, scenes, outcomes)


def _print(task: str, run: str, thermal_size: tuple[int, int] | None, scenes: int, outcomes: Sequence[Outcome]) -> None:
    """One row a condition: AP50, or class accuracy in percent."""
    from mdtrain.metrics.robustness import MEASURES, MISS_RATE_COLUMNS

    columns = [MEASURES[task].columns(outcome.scores) for outcome in outcomes]
    skew = f"; ms rows on {scenes} synthetic scenes" if scenes else ""
    if task == "detect":
        rated = f"\n{RATED}" if MISS_RATE_COLUMNS[0] in columns[0] else ""
        title = f"AP50 of {run}{skew}{rated}"
        cells = [[shown(row.get(name)) for name in columns[0]] for row in columns]  # ms rows have no miss rate
    else:
        title = f"Acc (recall) in % of {run}, {camera(thermal_size)}{skew}\n{MEAN}"
        cells = [[shown(None if v is None else 100 * v, "{:.1f}") for v in row.values()] for row in columns]
    rows = [[outcome.condition, *row] for outcome, row in zip(outcomes, cells, strict=True)]
    print_table(title, ["condition", *columns[0]], rows)
