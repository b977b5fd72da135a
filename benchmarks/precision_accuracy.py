"""What each precision of one network costs on labelled pairs, and how sure that is: the bootstrap over pairs.

python -m benchmarks.precision_accuracy student.onnx student_int8.onnx --pairs DATA/rgbt/msrs --output runs/cost.json

All pairs of a list go through the FP32 engine and through the others, as `mdexport check` has it but without its limit
of 64. Half precision is judged by its rounded twin, as `mdexport fp16` does. With --checkpoint the first row is the
FP32 engine against the checkpoint in PyTorch, with --exact each INT8 engine for processors is also run as processors
with VNNI add it up.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

import click
import numpy as np
import onnx

from benchmarks.machine import describe_machine
from mdexport.checkpoint import checkpoint_outputs
from mdexport.convert.graph import Graph
from mdexport.convert.half import rounded
from mdexport.gate import box_differences
from mdexport.pairs import Scene, intact, parse_pairs, spread
from mdexport.parity import difference
from mdexport.proof import progress, read_single, run_model
from mdrun.backends.base import Outputs
from mdrun.command import run_command
from mdrun.manifest import Manifest
from mdrun.onnx_file import read_manifest
from mdrun.postprocess import Postprocess
from mdrun.preprocess import thermal_rule
from mdtrain.build import load_trained
from mdtrain.data.records import CLASSES, Record
from mdtrain.metrics.coco import Found, Truth, average_precision
from mdtrain.metrics.pairs import truth_of
from mdtrain.models.streams import Student
from mdtrain.outputs import result_file

JUDGED = ("person", "car")  # bicycles are too few: 23 boxes in MSRS val, 32 in RoadScene
DRAWS = 100  # of the bootstrap: a standard error to 7 %


class Cost(NamedTuple):
    """AP50 of one class: of the reference, of the engine, and the standard error of what was gained."""

    objects: int
    reference: float
    engine: float
    error: float

    def describe(self) -> str:
        """In points."""
        before, after, error = (100 * value for value in (self.reference, self.engine, self.error))
        return f"{before:.2f} → {after:.2f} ({after - before:+.2f} ± {error:.2f})"


class Row(NamedTuple):
    """An engine against its reference.

    Attributes:
        name: of the engine.
        against: the reference.
        scores: largest difference; of the FP32 engine rank by rank, of others over what was found again.
        boxes_px: the same of corners.
        matched: share of the reference's detections found again; None where it found nothing.
        costs: by class.
    """

    name: str
    against: str
    scores: float
    boxes_px: float
    matched: float | None
    costs: dict[str, Cost]


class Setting(NamedTuple):
    """What all engines are measured on."""

    manifest: Manifest
    scenes: list[Scene]
    truth: list[Truth]
    draws: list[list[int]]

    def row(self, names: tuple[str, str], before: Sequence[Outputs], after: Sequence[Outputs]) -> Row:
        """Compare the outputs of an engine with those of its reference; `names` are the engine's and that one's."""
        differences = box_differences(self.manifest, before, after)
        found = [self._found(outputs) for outputs in (before, after)]
        scores, boxes = differences.largest["scores"], differences.largest["boxes_px"]
        return Row(*names, scores, boxes, differences.matched, self._costs(*found))

    def _found(self, outputs: Sequence[Outputs]) -> list[Found]:
        postprocess = Postprocess(self.manifest, None)
        return [
            postprocess(output, (scene.record.visible.shape[1], scene.record.visible.shape[0]))
            for scene, output in zip(self.scenes, outputs, strict=True)
        ]

    def _costs(self, before: list[Found], after: list[Found]) -> dict[str, Cost]:
        """Both on the same drawn pairs, so that what a drawn set is like cancels out."""
        whole = [self._ap(found, range(len(self.scenes))) for found in (before, after)]
        gains = [self._ap(after, drawn) - self._ap(before, drawn) for drawn in progress(self.draws, "bootstrap")]
        errors = np.nanstd(gains, axis=0, ddof=1)
        counts = [sum(int((t.classes == CLASSES.index(name)).sum()) for t in self.truth) for name in JUDGED]
        rows = zip(JUDGED, counts, *whole, errors, strict=True)
        return {name: Cost(count, float(a), float(b), float(error)) for name, count, a, b, error in rows}

    def _ap(self, found: list[Found], images: Sequence[int]) -> np.ndarray:
        """AP50 by class; NaN of a class that does not occur."""
        classes = average_precision(self.truth, found, CLASSES, images)["classes"]
        return np.array([classes[name]["ap50"] for name in JUDGED], np.float64)


@click.command()
@click.argument("single", type=click.Path(path_type=Path))
@click.argument("engines", nargs=-1, type=click.Path(path_type=Path))
@click.option("--pairs", required=True, metavar="PAIRS", help="Labelled pairs: a folder such as DATA/msrs.")
@click.option("--list", "split", default="val", show_default=True, help="List of the pairs.")
@click.option("--number", type=click.IntRange(min=16), help="Take so many, spread as the gate's. [default: all]")
@click.option("--exact", is_flag=True, help="INT8 also with sums that do not saturate, whatever processor this is.")
@click.option("--checkpoint", type=click.Path(path_type=Path), help="weights.safetensors of the FP32 engine.")
@click.option("--output", type=click.Path(path_type=Path), required=True, help="JSON; a .md lies beside it.")
def measure(
    single: Path,
    engines: tuple[Path, ...],
    pairs: str,
    split: str,
    number: int | None,
    checkpoint: Path | None,
    output: Path,
    *,
    exact: bool,
) -> None:
    """Measure SINGLE, the FP32 engine, and ENGINES made of it."""
    with result_file(output):
        engine = read_single(single)
        chosen = parse_pairs(pairs)
        records = chosen.read(split, thermal_rule(engine.manifest))
        setting = _setting(engine.manifest, records if number is None else spread(records, number))
        reference = run_model(engine.model, setting.scenes, single.name)
        rows = []
        if checkpoint is not None:
            rows.append(_against_checkpoint(setting, checkpoint, single.name, reference))
        for path in engines:
            model = _runnable(path, engine.model)
            named = {path.name: model}
            if exact and read_manifest(path).origin.precision == "int8":
                named[f"{path.name}, exact"] = with_unsigned_weights(model)
            for name, graph in named.items():
                rows.append(setting.row((name, single.name), reference, run_model(graph, setting.scenes, name)))
        _write(output, rows, f"{len(setting.scenes)} pairs of {chosen} {split}")


def _setting(manifest: Manifest, records: Sequence[Record]) -> Setting:
    scenes = intact(manifest, records)
    rng = np.random.default_rng(0)
    draws = rng.integers(0, len(scenes), (DRAWS, len(scenes))).tolist()
    return Setting(manifest, scenes, [truth_of(record) for record in records], draws)


def _runnable(path: Path, single: onnx.ModelProto) -> onnx.ModelProto:
    """The engine; of one in half precision, which no CPU computes so, the twin in FP32 whose values are rounded."""
    origin = read_manifest(path).origin
    if origin.precision in ("fp16", "bf16"):
        region = Graph(single).before_last_convolutions() - set(origin.kept)
        return rounded(single, region, "fp16" if origin.precision == "fp16" else "bf16")
    return onnx.load(path)


def with_unsigned_weights(model: onnx.ModelProto) -> onnx.ModelProto:
    """The same numbers with weights as unsigned bytes, zero point 128: products that ONNX Runtime adds in 32 bits."""
    twin = onnx.ModelProto()
    twin.CopyFrom(model)
    makers = {node.output[0]: node for node in twin.graph.node if node.op_type == "DequantizeLinear"}
    weights = [node.input[1] for node in twin.graph.node if node.op_type == "Conv"]
    names = {name for weight in weights if weight in makers for name in makers[weight].input[::2]}  # not the scale
    for tensor in twin.graph.initializer:
        if tensor.name in names:
            values = (onnx.numpy_helper.to_array(tensor).astype(np.int16) + 128).astype(np.uint8)
            tensor.CopyFrom(onnx.numpy_helper.from_array(values, tensor.name))
    return twin


def _against_checkpoint(setting: Setting, checkpoint: Path, name: str, got: list[Outputs]) -> Row:
    student = load_trained(checkpoint, "student").model
    assert isinstance(student, Student)
    wanted = checkpoint_outputs(student, setting.scenes)
    row = setting.row((name, "PyTorch"), wanted, got)
    largest = [
        difference(*((outputs["boxes"][0], outputs["scores"][0], outputs["classes"][0]) for outputs in pair))
        for pair in zip(wanted, got, strict=True)
    ]
    scores, boxes = (max(one[name] for one in largest) for name in ("scores", "boxes_px"))
    return row._replace(scores=scores, boxes_px=boxes)


def _write(output: Path, rows: list[Row], data: str) -> None:
    document = {
        "machine": describe_machine(),
        "data": data,
        "draws": DRAWS,
        "rows": [row._asdict() | {"costs": {name: cost._asdict() for name, cost in row.costs.items()}} for row in rows],
    }
    output.write_text(json.dumps(document, indent=2) + "\n")
    table = _table(rows)
    output.with_suffix(".md").write_text(table)
    click.echo(data)
    click.echo(table)


def _table(rows: list[Row]) -> str:
    """AP50 in percent."""
    columns = ["engine", "against", "scores ±", "boxes ± px", "found again", *JUDGED]
    lines = ["| " + " | ".join(columns) + " |", "|---" * len(columns) + "|"]
    for row in rows:
        costs = [cost.describe() for cost in row.costs.values()]
        matched = "-" if row.matched is None else f"{row.matched:.1%}"
        cells = [row.name, row.against, f"{row.scores:.2g}", f"{row.boxes_px:.2g}", matched, *costs]
        lines.append("| " + " | ".join(cells) + " |")
    return "\n".join([*lines, ""])


if __name__ == "__main__":
    sys.exit(run_command(measure, "precision_accuracy"))
