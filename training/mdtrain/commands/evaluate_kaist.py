"""`mdtrain eval kaist`: miss rate of a result file, or of an engine that is run over the test images."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mdrun.errors import UsageError
from mdrun.numbers import FiniteRange
from mdtrain.commands.shown import (
    EXISTING,
    WORST,
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
    from mdtrain.metrics.kaist import Annotations, PersonDetections, Subset

# ruff: noqa: PLC0415  # numpy and OpenCV load when a command runs, not for --help

DISPLAY = 0.5  # threshold of pictures where there is neither a best F1 nor an engine to say it
SUBSETS = ("reasonable", "near", "medium", "far", "occlusion-none", "occlusion-partial", "occlusion-heavy")


@click.command(
    epilog="Examples: `mdtrain eval kaist --annotations KAIST_annotation.json --detections result.txt`, "
    "`mdtrain eval kaist --annotations KAIST_annotation.json --engine student.onnx --data kaist --write result.txt`"
)
@click.option("--annotations", type=EXISTING, required=True, help="Ground truth, COCO-style JSON; plain or .gz.")
@click.option("--detections", type=EXISTING, help="Lines `image_id(from 1),x,y,w,h,score` or COCO-style JSON list.")
@click.option("--engine", type=EXISTING, help="Engine to run instead, over the images of --annotations.")
@click.option(
    "--data", type=EXISTING, help="With --engine or --errors: folder with images/set06/V000/{visible,lwir}/I00019.jpg."
)
@thermal_size_option
@click.option(
    "--write",
    type=click.Path(path_type=Path),
    help="With --engine: file for its detections, as lines of the published format.",
)
@click.option(
    "--subset", type=click.Choice(SUBSETS), default="reasonable", show_default=True, help="Which persons count."
)
@errors_option
@worst_option
@click.option(
    "--error-threshold",
    type=FiniteRange(),
    help="With --errors: lowest score that counts. [default: that of the best F1]",
)
@click.option("--json", "as_json", is_flag=True, help="Print JSON with all, day, night in percent.")
def kaist(
    *,
    annotations: Path,
    detections: Path | None,
    engine: Path | None,
    data: Path | None,
    thermal_size: tuple[int, int] | None,
    write: Path | None,
    subset: str,
    errors: Path | None,
    worst: int | None,
    error_threshold: float | None,
    as_json: bool,
) -> None:
    """Log-average miss rate of pedestrian detections on KAIST, in percent; lower is better."""
    of_images = {"--data": data, "--thermal-size": thermal_size, "--write": write}
    _refuse_mixed(detections, engine, of_images, drawn=errors is not None)
    only_with_errors(errors, {"--worst": worst, "--error-threshold": error_threshold})
    from mdtrain.metrics import kaist as measure
    from mdtrain.metrics.box_pictures import draw_worst
    from mdtrain.metrics.error_folder import error_folder
    from mdtrain.metrics.kaist_errors import person_errors
    from mdtrain.metrics.kaist_files import read_annotations, read_detections

    truth, counted = read_annotations(annotations), measure.SUBSETS[subset]
    with error_folder(errors) if errors is not None else nullcontext() as folder:
        records = _records(data, truth) if data is not None else []
        if engine is not None:
            found = _run(engine, records, thermal_size, write)
        else:
            assert detections is not None  # noqa: S101  # refused above
            found = read_detections(detections, truth)
        rates = measure.miss_rates(truth, found, counted)
        if folder is not None:
            title = f"{engine.stem if engine else detections} on KAIST, {subset}"
            run = _shown_as(title, engine, thermal_size, _threshold(truth, found, counted, error_threshold))
            pairs = person_errors(truth, found, counted, run.thresholds[0])
            draw_worst(folder, records, pairs, run, worst or WORST)
    if as_json:
        drawn = folder and {"errors": {"pictures": folder.pictures, "thresholds": run.named_thresholds}}
        click.echo(json.dumps({**rates, **(drawn or {})}))
        return
    row = [shown(rate, "{:.2f}") for rate in rates.values()]
    print_table(f"KAIST miss rate, {subset} (%)", list(rates), [row])
    if folder is not None:
        click.echo(pictures_line(folder, len(records)))


def _refuse_mixed(
    detections: Path | None, engine: Path | None, of_engine: Mapping[str, object], *, drawn: bool
) -> None:
    """One source of detections, and only the options that go with it."""
    if (detections is None) == (engine is None):
        got = "neither" if engine is None else "both"
        raise UsageError(f"got {got} of --detections and --engine, wanted one; see `mdtrain eval kaist --help`")
    if engine is not None and of_engine["--data"] is None:
        raise UsageError("got --engine without --data, wanted the KAIST folder with images/ to run it on")
    if drawn and of_engine["--data"] is None:
        raise UsageError("got --errors without --data, wanted the KAIST folder with images/ to draw")
    given = [name for name, value in of_engine.items() if value is not None and not (drawn and name == "--data")]
    if engine is None and given:
        raise UsageError(f"got {given[0]} with --detections, which are made already; use it with --engine")


def _records(data: Path, truth: Annotations) -> list[Record]:
    """The pairs that the annotations name, their files looked at."""
    from mdtrain.data.records import check_records
    from mdtrain.metrics.kaist_engine import kaist_pairs, refuse_other_size

    records = kaist_pairs(data, truth)
    check_records(records, data)
    refuse_other_size(records[0])
    return records


def _run(
    engine: Path, records: list[Record], thermal_size: tuple[int, int] | None, write: Path | None
) -> PersonDetections:
    """Detections of the engine, written if that was asked for."""
    from tqdm import tqdm

    from mdtrain.metrics.kaist_engine import as_detections, person_rows, write_rows
    from mdtrain.outputs import result_file

    with result_file(write) if write is not None else nullcontext():
        found = person_rows(engine, records, thermal_size)
        rows = list(tqdm(found, total=len(records), desc=engine.stem, disable=None))
        if write is not None:
            write_rows(write, rows)
    return as_detections(rows)


def _threshold(truth: Annotations, found: PersonDetections, subset: Subset, fixed: float | None) -> float | None:
    """Lowest score that counts in pictures; None where neither the option nor a best F1 says it."""
    from mdtrain.metrics.kaist_errors import best_threshold

    return best_threshold(truth, found, subset) if fixed is None else fixed


def _shown_as(title: str, engine: Path | None, thermal_size: tuple[int, int] | None, threshold: float | None) -> BoxRun:
    """What the pictures say about the run; without a threshold it is the one that the engine draws from."""
    from mdrun.models import resolve
    from mdrun.onnx_file import read_manifest
    from mdtrain.metrics.box_pictures import ALARM, HIT, LEFT_OUT, MISS, BoxRun

    manifest = read_manifest(resolve(engine)) if engine is not None else None
    display = DISPLAY if manifest is None else manifest.thresholds.display
    thermal_used = manifest is None or "thermal" in manifest.needs
    thresholds = [display if threshold is None else threshold]
    return BoxRun(title, thermal_size, thermal_used, thresholds, ("person",), (HIT, MISS, ALARM, LEFT_OUT))
