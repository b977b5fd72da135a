"""`mdtrain eval boxes` and `eval msrs`: average precision of an engine or of results, and pictures of the errors."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping, Sequence
from contextlib import nullcontext
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mdrun.errors import UsageError
from mdtrain.commands.labelled import (
    BOX_SETS,
    categories_option,
    default_list,
    labels_option,
    layout_of,
    list_option,
    read_labelled,
)
from mdtrain.commands.shown import (
    EXISTING,
    WORST,
    camera,
    error_threshold_option,
    errors_option,
    only_with_errors,
    pictures_line,
    print_table,
    shown,
    thermal_size_option,
    worst_option,
)

if TYPE_CHECKING:
    from mdtrain.data.records import Record
    from mdtrain.metrics.box_pictures import BoxRun
    from mdtrain.metrics.coco import Found, Scores

# ruff: noqa: PLC0415  # numpy, OpenCV and pycocotools load when a command runs, not for --help

DISPLAY = 0.5  # threshold of a class without a best F1 where there are results only, which do not say it
LAYOUT_HELP = "Its layout. [default: the folder's name]"


@click.command(
    epilog="Examples: `mdtrain eval boxes --data llvip --list test --engine student.onnx --thermal-size 160x128`, "
    "`mdtrain eval boxes --data own --set coco --engine student.onnx --errors runs/errors`"
)
@click.option("--data", type=EXISTING, required=True, help="Folder of the set, with its lists of names.")
@click.option("--set", "name", type=click.Choice(BOX_SETS), help=LAYOUT_HELP)
@list_option
@labels_option
@click.option("--engine", type=EXISTING, required=True, help="Engine to run; its task is detect.")
@thermal_size_option
@errors_option
@worst_option
@error_threshold_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON, scores in [0, 1].")
def boxes(
    *,
    data: Path,
    name: str | None,
    split: str | None,
    labels: str | None,
    engine: Path,
    thermal_size: tuple[int, int] | None,
    errors: Path | None,
    worst: int | None,
    error_threshold: float | None,
    as_json: bool,
) -> None:
    """Average precision of an engine's boxes on any labelled set; higher is better."""
    layout = layout_of(name, data, BOX_SETS, "boxes")
    split = split or default_list(layout)
    facts = {"set": layout, "split": split} | ({"labels": labels} if labels else {})
    title = f"{engine.stem} on {data.name} {split}" + (f", {labels} labels" if labels else "")
    job = Job(title, facts, engine, None, None, thermal_size, errors, worst, error_threshold)
    job.run(lambda categories: read_labelled(layout, data, split, labels, categories), as_json)


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
@categories_option
@thermal_size_option
@errors_option
@worst_option
@error_threshold_option
@click.option("--json", "as_json", is_flag=True, help="Print JSON, scores in [0, 1].")
def msrs(
    *,
    data: Path,
    split: str,
    labels: str,
    engine: Path | None,
    results: Path | None,
    categories: tuple[str, ...] | None,
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
    if categories and engine:
        raise UsageError("got --classes with --engine, whose manifest names its own; leave it out")
    title = f"{engine.stem if engine else source} on {data.name} {split}, {labels} labels"
    facts = {"split": split, "labels": labels}
    job = Job(title, facts, engine, results, categories, thermal_size, errors, worst, error_threshold)
    job.run(lambda names: read_labelled("msrs", data, split, labels, names), as_json)


@dataclass(frozen=True)
class Job:
    """What is judged, and what is shown of it: the options of a command.

    Attributes:
        title: engine or results, set, list.
        facts: what the JSON says about the set.
        engine: to run; None for results.
        results: of `mdrun`; None for an engine.
        categories: of the results, by class index; None for the default ones. An engine has its own.
        thermal_size: width and height in pixels of the camera to simulate; None leaves the images.
        errors: folder for pictures, or None.
        worst: most pictures, or None.
        error_threshold: lowest score that counts in them; None takes that of the best F1.
    """

    title: str
    facts: Mapping[str, str]
    engine: Path | None
    results: Path | None
    categories: Sequence[str] | None
    thermal_size: tuple[int, int] | None
    errors: Path | None
    worst: int | None
    error_threshold: float | None

    def run(self, read: Callable[[Sequence[str]], list[Record]], as_json: bool) -> None:
        """Judge the pairs that `read` gives for the categories and print scores; pictures if they are asked for.

        Raises:
            UsageError: options that do not go together.
            MdrunError: as the readers and `run_engine`.
        """
        only_with_errors(self.errors, {"--worst": self.worst, "--error-threshold": self.error_threshold})
        from mdrun.engine import check_range
        from mdtrain.data.records import CLASSES
        from mdtrain.metrics.box_errors import find_errors
        from mdtrain.metrics.box_pictures import draw_worst
        from mdtrain.metrics.error_folder import error_folder
        from mdtrain.metrics.pairs import categories_of, pair_scores, truth_of

        check_range("--error-threshold", self.error_threshold, 0, 1)  # NaN is in every range of click
        with error_folder(self.errors) if self.errors is not None else nullcontext() as folder:
            categories = categories_of(self.engine) if self.engine is not None else self.categories or CLASSES
            records = read(categories)
            found = self._find(records, categories)
            scores = pair_scores(records, found, categories)
            if folder is not None:
                shown_as = self._shown_as(scores["all"])
                judged = zip(records, found, strict=True)
                pairs = [find_errors(truth_of(record), of, shown_as.thresholds) for record, of in judged]
                draw_worst(folder, records, pairs, shown_as, self.worst or WORST)
        if as_json:
            drawn = folder and {"errors": {"pictures": folder.pictures, "thresholds": shown_as.named_thresholds}}
            click.echo(json.dumps({**self.facts, **scores, **(drawn or {})}))
            return
        _print_scores(f"{self.title}, {camera(self.thermal_size)}" if self.engine else self.title, scores)
        if folder is not None:
            click.echo(pictures_line(folder, len(records)))

    def _find(self, records: list[Record], categories: Sequence[str]) -> list[Found]:
        """What the engine finds in each pair, or what the results say."""
        from mdtrain.metrics.pairs import run_engine
        from mdtrain.metrics.results import read_results

        if self.engine is not None:
            return run_engine(self.engine, records, self.thermal_size)
        assert self.results is not None  # noqa: S101  # a command sees to that
        return read_results(self.results, [record.name for record in records], categories)

    def _shown_as(self, scores: Scores) -> BoxRun:
        """What the pictures say about the run; thresholds as --error-threshold describes them."""
        from mdrun.models import resolve
        from mdrun.onnx_file import read_manifest
        from mdtrain.metrics.box_errors import class_thresholds
        from mdtrain.metrics.box_pictures import BoxRun

        if self.engine is None:
            thresholds = class_thresholds(scores, self.error_threshold, DISPLAY)
            return BoxRun(self.title, None, True, thresholds, list(scores["classes"]))
        manifest = read_manifest(resolve(self.engine))
        thresholds = class_thresholds(scores, self.error_threshold, manifest.thresholds.display)
        return BoxRun(self.title, self.thermal_size, "thermal" in manifest.needs, thresholds, manifest.classes)


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
