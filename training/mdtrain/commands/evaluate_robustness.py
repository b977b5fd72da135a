"""`mdtrain eval robustness`: accuracy of an engine with black, shifted and late images."""

from __future__ import annotations

import json
from collections.abc import Sequence
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import click

from mdrun.errors import UsageError
from mdtrain.commands.shown import EXISTING, camera, print_table, shown, thermal_size_option

if TYPE_CHECKING:
    from mdtrain.data.records import Record
    from mdtrain.metrics.robustness import Outcome

# ruff: noqa: PLC0415  # numpy, OpenCV and pycocotools load when a command runs, not for --help

Layout = Literal["msrs", "mfnet", "street"]
LAYOUTS: dict[str, tuple[Layout, ...]] = {"detect": ("msrs", "street"), "segment": ("mfnet", "street")}  # by task
MEAN = "mean over all 9 classes as RTFNet defines it, an absent one counts as 0; person and car over all pairs"
LABELS = {"detect": "boxes", "segment": "label maps"}


@click.command(
    epilog="Examples: `mdtrain eval robustness --data msrs --engine student.onnx --thermal-size 160x128 --plot "
    "loss.png`, `mdtrain eval robustness --data runs/street --set street --engine student-seg.onnx`"
)
@click.option("--data", type=EXISTING, required=True, help="Folder of the set, with its lists of names.")
@click.option(
    "--set",
    "name",
    type=click.Choice(("msrs", "mfnet", "street")),
    help="Its layout. [default: msrs for detectors, else the folder's name]",
)
@click.option("--split", help="List of names to evaluate: SPLIT.txt. [default: test of mfnet, else val]")
@click.option("--engine", type=EXISTING, required=True, help="Engine to run; its task is detect or segment.")
@click.option(
    "--scenes",
    type=click.IntRange(min=0),
    default=40,
    show_default=True,
    help="Synthetic scenes for time differences; 0 leaves them out.",
)
@thermal_size_option
@click.option("--plot", type=click.Path(path_type=Path), help="PNG to write: accuracy against shift and age.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, scores in [0, 1].")
def robustness(
    *,
    data: Path,
    name: Layout | None,
    split: str | None,
    engine: Path,
    scenes: int,
    thermal_size: tuple[int, int] | None,
    plot: Path | None,
    as_json: bool,
) -> None:
    """Accuracy with a black, a shifted or a late image: what an engine loses when a pair is not as it was trained.

    AP50 of detectors; class accuracy of engines that give label maps.
    """
    from mdrun.engine import check_inputs
    from mdrun.models import resolve
    from mdrun.onnx_file import read_manifest
    from mdtrain.metrics.robustness import draw_curves, measure
    from mdtrain.outputs import result_file

    with result_file(plot) if plot is not None else nullcontext():
        manifest = read_manifest(resolve(engine))
        check_inputs(manifest, engine)
        task = manifest.task
        if task not in LAYOUTS:
            raise UsageError(f"{engine}: its task is {task!r}, wanted {' or '.join(LAYOUTS)}; choose another engine")
        layout = _layout(task, engine, data, name)
        split = split or ("test" if layout == "mfnet" else "val")
        records = _read(task, layout, data, split)
        outcomes = measure(
            task, engine, records, scenes, thermal_size, lambda condition: click.echo(condition, err=True)
        )
        if plot is not None:
            draw_curves(task, outcomes, f"{engine.stem} on {data.name} {split}", plot)
    if as_json:
        click.echo(json.dumps([outcome._asdict() for outcome in outcomes]))
    else:
        _print(task, f"{engine.stem}, {data.name} {split}", thermal_size, scenes, outcomes)


def _layout(task: str, engine: Path, data: Path, name: Layout | None) -> Layout:
    """How the folder is read: by --set, or as its help says.

    Raises:
        UsageError: that is no layout, or one without labels for the task.
    """
    folder = data.resolve().name
    wanted = name or ("msrs" if task == "detect" else folder)
    for layout in LAYOUTS[task]:
        if layout == wanted:
            return layout
    with_labels = " or ".join(LAYOUTS[task])
    if name is not None:
        raise UsageError(
            f"got --set {name}, which has no {LABELS[task]} to judge {engine.stem} by, wanted {with_labels}"
        )
    raise UsageError(
        f"{data}: its name {folder!r} is no layout with {LABELS[task]}, by which {engine.stem} is judged; "
        f"name the layout with --set: {with_labels}"
    )


def _read(task: str, layout: Layout, data: Path, split: str) -> list[Record]:
    """The pairs, which have what the task is judged by.

    Raises:
        SourceError, DataError: the set cannot be read.
    """
    from mdtrain.data.records import check_records
    from mdtrain.data.sets import read_set
    from mdtrain.metrics.label_pairs import check_label_maps

    records = read_set(layout, data, split)
    check_records(records, data)
    if task == "segment":
        check_label_maps(records, data)
    return records


def _print(task: str, run: str, thermal_size: tuple[int, int] | None, scenes: int, outcomes: Sequence[Outcome]) -> None:
    """One row a condition: AP50, or class accuracy in percent."""
    from mdtrain.metrics.robustness import MEASURES

    columns = [MEASURES[task].columns(outcome.scores) for outcome in outcomes]
    skew = f"ms rows on {scenes} synthetic scenes"
    if task == "detect":
        title = f"AP50 of {run}; {skew}"
        cells = [[*map(shown, row.values())] for row in columns]
    else:
        title = f"Acc (recall) in % of {run}, {camera(thermal_size)}; {skew}\n{MEAN}"
        cells = [[shown(None if v is None else 100 * v, "{:.1f}") for v in row.values()] for row in columns]
    rows = [[outcome.condition, *row] for outcome, row in zip(outcomes, cells, strict=True)]
    print_table(title, ["condition", *columns[0]], rows)
