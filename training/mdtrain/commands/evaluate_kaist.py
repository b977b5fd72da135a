"""`mdtrain eval kaist`: miss rate of a result file, or of an engine that is run over the test images."""

from __future__ import annotations

import json
from contextlib import nullcontext
from pathlib import Path
from typing import TYPE_CHECKING

import click

from mdrun.errors import UsageError
from mdtrain.commands.shown import EXISTING, print_table, shown, thermal_size_option

if TYPE_CHECKING:
    from mdtrain.metrics.kaist import Annotations, PersonDetections

# ruff: noqa: PLC0415  # numpy and OpenCV load when a command runs, not for --help

SUBSETS = ("reasonable", "near", "medium", "far", "occlusion-none", "occlusion-partial", "occlusion-heavy")


@click.command(
    epilog="Examples: `mdtrain eval kaist --annotations KAIST_annotation.json --detections result.txt`, "
    "`mdtrain eval kaist --annotations KAIST_annotation.json --engine student.onnx --data kaist --write result.txt`"
)
@click.option("--annotations", type=EXISTING, required=True, help="Ground truth, COCO-style JSON; plain or .gz.")
@click.option("--detections", type=EXISTING, help="Lines `image_id(from 1),x,y,w,h,score` or COCO-style JSON list.")
@click.option("--engine", type=EXISTING, help="Engine to run instead, over the images of --annotations.")
@click.option("--data", type=EXISTING, help="With --engine: folder with images/set06/V000/{visible,lwir}/I00019.jpg.")
@thermal_size_option
@click.option(
    "--write",
    type=click.Path(path_type=Path),
    help="With --engine: file for its detections, as lines of the published format.",
)
@click.option(
    "--subset", type=click.Choice(SUBSETS), default="reasonable", show_default=True, help="Which persons count."
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
    as_json: bool,
) -> None:
    """Log-average miss rate of pedestrian detections on KAIST, in percent; lower is better."""
    _refuse_mixed(detections, engine, {"--data": data, "--thermal-size": thermal_size, "--write": write})
    from mdtrain.metrics import kaist as measure
    from mdtrain.metrics.kaist_files import read_annotations, read_detections

    truth = read_annotations(annotations)
    if engine is not None and data is not None:
        found = _run(engine, data, truth, thermal_size, write)
    else:
        assert detections is not None  # noqa: S101  # refused above
        found = read_detections(detections, truth)
    rates = measure.miss_rates(truth, found, measure.SUBSETS[subset])
    if as_json:
        click.echo(json.dumps(rates))
    else:
        row = [shown(rate, "{:.2f}") for rate in rates.values()]
        print_table(f"KAIST miss rate, {subset} (%)", list(rates), [row])


def _refuse_mixed(detections: Path | None, engine: Path | None, of_engine: dict[str, object]) -> None:
    """One source of detections, and only the options that go with it."""
    if (detections is None) == (engine is None):
        got = "neither" if engine is None else "both"
        raise UsageError(f"got {got} of --detections and --engine, wanted one; see `mdtrain eval kaist --help`")
    if engine is not None and of_engine["--data"] is None:
        raise UsageError("got --engine without --data, wanted the KAIST folder with images/ to run it on")
    given = [name for name, value in of_engine.items() if value is not None]
    if engine is None and given:
        raise UsageError(f"got {given[0]} with --detections, which are made already; use it with --engine")


def _run(
    engine: Path,
    data: Path,
    truth: Annotations,
    thermal_size: tuple[int, int] | None,
    write: Path | None,
) -> PersonDetections:
    """Detections of the engine, written if that was asked for."""
    from tqdm import tqdm

    from mdtrain.data.records import check_records
    from mdtrain.metrics.kaist_engine import as_detections, kaist_pairs, person_rows, write_rows
    from mdtrain.outputs import result_file

    with result_file(write) if write is not None else nullcontext():
        records = kaist_pairs(data, truth)
        check_records(records, data)
        found = person_rows(engine, records, thermal_size)
        rows = list(tqdm(found, total=len(records), desc=engine.stem, disable=None))
        if write is not None:
            write_rows(write, rows)
    return as_detections(rows)
