"""`mdtrain eval msrs`: average precision of an engine or of results, and pictures of the errors."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mdrun.errors import UsageError
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
    from mdtrain.metrics.box_pictures import BoxRun
    from mdtrain.metrics.coco import Scores

# ruff: noqa: PLC0415  # numpy, OpenCV and pycocotools load when a command runs, not for --help

DISPLAY = 0.5  # threshold of a class without a best F1 where there are results only, which do not say it


@click.command(
    epilog="Examples: `mdtrain eval msrs --data msrs --engine student.onnx --thermal-size 160x128`, "
    "`mdtrain eval msrs --data msrs --results runs/x/results.jsonl --errors runs/x/errors`"
)
@click.option("--data", type=EXISTING, required=True, help="Folder with vi/, ir/, labels/ and the lists of names.")
@click.option("--split", default="val", show_default=True, help="List of names to evaluate: SPLIT.txt in the folder.")
@click.option(
    "--labels",
    type=click.Choice(("fusion", "infrared", "visible")),
    default="fusion",
    show_default=True,
    help="View on which the labels were drawn.",
)
@click.option("--engine", type=EXISTING, help="Engine to run.")
@click.option("--results", type=EXISTING, help="Results of `mdrun` to judge instead.")
@thermal_size_option
@errors_option
@worst_option
@click.option(
    "--error-threshold",
    type=click.FloatRange(0, 1),
    help="With --errors: lowest score that counts. [default: that of the best F1, class by class]",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON, scores in [0, 1].")
def msrs(
    *,
    data: Path,
    split: str,
    labels: str,
    engine: Path | None,
    results: Path | None,
    thermal_size: tuple[int, int] | None,
    errors: Path | None,
    worst: int | None,
    error_threshold: float | None,
    as_json: bool,
) -> None:
    """Average precision of an engine or of its results on a set in the MSRS layout; higher is better."""
    source = engine or results
    if source is None or (engine and results):
        got = "neither" if source is None else "both"
        raise UsageError(f"got {got} of --engine and --results, wanted one; see `mdtrain eval msrs --help`")
    if thermal_size and not engine:
        raise UsageError("got --thermal-size with --results, which are made already; use it with --engine")
    only_with_errors(errors, {"--worst": worst, "--error-threshold": error_threshold})
    from mdrun.engine import check_range
    from mdtrain.data.records import CLASSES, check_records
    from mdtrain.data.sets.msrs import read_msrs
    from mdtrain.metrics.box_pictures import draw_worst
    from mdtrain.metrics.error_folder import error_folder
    from mdtrain.metrics.pairs import pair_scores, run_engine
    from mdtrain.metrics.results import read_results

    check_range("--error-threshold", error_threshold, 0, 1)  # NaN is in every range of click
    title = f"{engine.stem if engine else source} on {data.name} {split}, {labels} labels"
    with error_folder(errors) if errors is not None else nullcontext() as folder:
        records = read_msrs(data, split, labels)
        check_records(records, data)
        if engine:
            found = run_engine(engine, records, thermal_size)
        else:
            found = read_results(source, [record.name for record in records], CLASSES)
        scores = pair_scores(records, found)
        if folder is not None:
            run = _run(title, engine, thermal_size, scores["all"], error_threshold)
            draw_worst(folder, records, found, run, worst or WORST)
    if as_json:
        drawn = {} if folder is None else {"errors": {"pictures": folder.pictures, "thresholds": run.named_thresholds}}
        click.echo(json.dumps({"split": split, "labels": labels, **scores, **drawn}))
        return
    _print_scores(f"{title}, {camera(thermal_size)}" if engine else title, scores)
    if folder is not None:
        click.echo(pictures_line(folder, len(records)))


def _run(
    title: str, engine: Path | None, thermal_size: tuple[int, int] | None, scores: Scores, fixed: float | None
) -> BoxRun:
    """What the pictures say about the run; thresholds as --error-threshold describes them."""
    from mdrun.models import resolve
    from mdrun.onnx_file import read_manifest
    from mdtrain.metrics.box_errors import class_thresholds
    from mdtrain.metrics.box_pictures import BoxRun

    if engine is None:
        return BoxRun(title, None, True, class_thresholds(scores, fixed, DISPLAY))
    manifest = read_manifest(resolve(engine))
    thresholds = class_thresholds(scores, fixed, manifest.thresholds.display)
    return BoxRun(title, thermal_size, "thermal" in manifest.needs, thresholds)


def _print_scores(title: str, scores: Mapping[str, Scores]) -> None:
    """One row a class: AP50 of every group, then AP and the best F1 over all images."""
    overall = scores["all"]
    rows = []
    for name, of_class in overall["classes"].items():
        best = of_class["best_f1"]
        by_group = [shown(group["classes"][name]["ap50"]) for group in scores.values()]
        f1 = [shown(best["threshold"]), shown(best["f1"])] if best else ["-", "-"]
        rows.append([name, str(of_class["objects"]), *by_group, shown(of_class["ap"]), *f1])
    objects = sum(of_class["objects"] for of_class in overall["classes"].values())
    means = [shown(group["ap50"]) for group in scores.values()]
    rows.append(["mean", str(objects), *means, shown(overall["ap"]), "", ""])
    groups = [f"AP50 {name} ({group['images']})" for name, group in scores.items()]
    print_table(title, ["class", "objects", *groups, "AP", "best F1 at", "F1"], rows)
