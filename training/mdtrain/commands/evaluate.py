"""`mdtrain eval`: accuracy of results and engines on labelled sets."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mdrun.errors import UsageError
from mdtrain.commands.evaluate_kaist import kaist
from mdtrain.commands.evaluate_segment import mfnet
from mdtrain.commands.shown import EXISTING, print_table, shown, thermal_size_option

if TYPE_CHECKING:
    from mdtrain.metrics.coco import Scores

# ruff: noqa: PLC0415  # numpy, OpenCV and pycocotools load when a command runs, not for --help


@click.group("eval", no_args_is_help=True)
def evaluate() -> None:
    """Measure accuracy on labelled sets."""


evaluate.add_command(kaist)
evaluate.add_command(mfnet)


@evaluate.command(
    epilog="Examples: `mdtrain eval msrs --data msrs --engine student.onnx --thermal-size 160x128`, "
    "`mdtrain eval msrs --data msrs --results runs/x/results.jsonl --json`"
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
@click.option("--json", "as_json", is_flag=True, help="Print JSON, scores in [0, 1].")
def msrs(
    *,
    data: Path,
    split: str,
    labels: str,
    engine: Path | None,
    results: Path | None,
    thermal_size: tuple[int, int] | None,
    as_json: bool,
) -> None:
    """Average precision of an engine or of its results on a set in the MSRS layout; higher is better."""
    source = engine or results
    if source is None or (engine and results):
        got = "neither" if source is None else "both"
        raise UsageError(f"got {got} of --engine and --results, wanted one; see `mdtrain eval msrs --help`")
    if thermal_size and not engine:
        raise UsageError("got --thermal-size with --results, which are made already; use it with --engine")
    from mdtrain.data.records import CLASSES, check_records
    from mdtrain.data.sets.msrs import read_msrs
    from mdtrain.metrics.pairs import pair_scores, run_engine
    from mdtrain.metrics.results import read_results

    records = read_msrs(data, split, labels)
    check_records(records, data)
    if engine:
        found = run_engine(engine, records, thermal_size)
    else:
        found = read_results(source, [record.name for record in records], CLASSES)
    scores = pair_scores(records, found)
    if as_json:
        click.echo(json.dumps({"split": split, "labels": labels, **scores}))
    else:
        _print_scores(f"{data.name} {split}, {labels} labels", scores)


@evaluate.command(
    epilog="Example: `mdtrain eval robustness --data msrs --engine student.onnx --thermal-size 160x128 --plot loss.png`"
)
@click.option("--data", type=EXISTING, required=True, help="Folder with vi/, ir/, labels/ and the lists of names.")
@click.option("--split", default="val", show_default=True, help="List of names to evaluate: SPLIT.txt in the folder.")
@click.option("--engine", type=EXISTING, required=True, help="Engine to run.")
@click.option(
    "--scenes",
    type=click.IntRange(min=0),
    default=40,
    show_default=True,
    help="Synthetic scenes for time differences; 0 leaves them out.",
)
@thermal_size_option
@click.option("--plot", type=click.Path(path_type=Path), help="PNG to write: AP50 against shift and age.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON, scores in [0, 1].")
def robustness(
    *,
    data: Path,
    split: str,
    engine: Path,
    scenes: int,
    thermal_size: tuple[int, int] | None,
    plot: Path | None,
    as_json: bool,
) -> None:
    """AP50 with a black, a shifted or a late image: what an engine loses when a pair is not as it was trained."""
    from mdtrain.data.records import check_records
    from mdtrain.data.sets.msrs import read_msrs
    from mdtrain.metrics.robustness import draw_curves, measure
    from mdtrain.outputs import result_file

    with result_file(plot) if plot is not None else nullcontext():
        records = read_msrs(data, split)
        check_records(records, data)
        outcomes = measure(engine, records, scenes, thermal_size, lambda condition: click.echo(condition, err=True))
        if plot is not None:
            draw_curves(outcomes, f"{engine.stem} on {data.name} {split}", plot)
    if as_json:
        click.echo(json.dumps([outcome._asdict() for outcome in outcomes]))
        return
    rows = []
    for outcome in outcomes:
        classes = outcome.scores["all"]["classes"]
        persons = [outcome.scores[group]["classes"]["person"]["ap50"] for group in ("all", "day", "night")]
        others = [classes[name]["ap50"] for name in ("bicycle", "car")]
        rows.append([outcome.condition, *map(shown, persons), *map(shown, others)])
    columns = ["condition", "person", "by day", "by night", "bicycle", "car"]
    print_table(f"AP50 of {engine.stem}, {data.name} {split}; ms rows on {scenes} synthetic scenes", columns, rows)


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
