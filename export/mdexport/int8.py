"""`mdexport int8`: an FP32 engine to INT8, calibrated on real pairs, layers that hurt left in single precision."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence, Set
from functools import partial
from pathlib import Path
from typing import NamedTuple

import numpy as np
import onnx
from onnxruntime.quantization import TensorsData

from mdexport.check import infer
from mdexport.computed import computed_by
from mdexport.convert.graph import Graph
from mdexport.convert.int8 import Target, to_int8
from mdexport.convert.ranges import measure_ranges
from mdexport.pairs import (
    PairSet,
    Scene,
    altered,
    count_different,
    count_times,
    evenly,
    intact,
    refuse_blank,
    refuse_few,
    refuse_shared,
    spread,
    times_of,
)
from mdexport.places import ONNX_SUFFIXES, locked, refuse_replacing, refuse_suffix
from mdexport.plan.onnx_needs import SEVEN_BITS
from mdexport.proof import (
    GATE_LIST,
    Judged,
    Ready,
    finish,
    gate_scenes,
    opened_file,
    prepare,
    progress,
    read_single,
    run_model,
)
from mdexport.recordings import Recording, calibration_flags, refuse_grey
from mdrun.backends.base import Outputs
from mdrun.backends.choice import LIBRARIES
from mdrun.command import warn
from mdrun.errors import UsageError
from mdrun.manifest import Manifest
from mdrun.onnx_file import graph_sha256
from mdtrain.outputs import result_file

CALIBRATION_LIST = "train"
CALIBRATION_PAIRS = 64
MOST_FRAMES = 30_000  # of recordings: a quarter of an hour at 30 Hz
SENSITIVITY_SCENES = 8
MOST_KEPT = 16  # layers; an engine that wants more of them is better trained for INT8


class Calibration(NamedTuple):
    """Pairs that INT8 ranges are measured on.

    Attributes:
        pairs: the set, or recordings of one's own cameras, which need no labels.
        split: list of the set.
        number: of pairs, half of them by night where the set has both.
        degraded: also measure with black and frozen cameras, for engines that must work then; None leaves it to what
            the student was trained for, where that is known (`mdexport all`).
    """

    pairs: PairSet | Recording
    split: str = CALIBRATION_LIST
    number: int = CALIBRATION_PAIRS
    degraded: bool | None = False

    def read(self, manifest: Manifest) -> CalibrationScenes:
        """Read the pairs: in a second or two it is known whether they will do, before the work that wants them.

        Args:
            manifest: of the engine that will be calibrated, or its draft.

        Raises:
            UsageError: too few pairs.
            SourceError: a list or an image is missing or damaged.
            DataError: an image of another kind, two of a pair that do not show the same field of view, or a camera
                that shows nothing.
        """
        if isinstance(self.pairs, Recording):
            with calibration_flags():
                scenes = self.pairs.scenes(manifest, self.number, MOST_FRAMES)
            refuse_few(len(scenes))
            refuse_grey(self.pairs, scenes)
            described = f"{len(scenes)} pairs of {self.pairs}"
        else:
            records = self.pairs.read_for(manifest, self.split)
            scenes = intact(manifest, spread(records, min(self.number, len(records))))
            described = f"{len(scenes)} pairs of {self.pairs} {self.split}{count_times(scenes)}"
        refuse_few(count_different(scenes), "different pairs")
        refuse_blank(scenes)
        if not self.degraded:
            return CalibrationScenes(scenes, described)
        return CalibrationScenes(scenes + altered(scenes), f"{described}, some also with a failing camera")


class CalibrationScenes(NamedTuple):
    """What ranges are measured on, and how the manifest will say it."""

    scenes: list[Scene]
    described: str


class Calibrated(NamedTuple):
    """Ranges of the body's tensors, the pairs that they were measured on, and some of these to compare layers on."""

    ranges: TensorsData
    described: str
    scenes: Sequence[Scene]


def export_int8(
    source: Path,
    output: Path,
    calibration: Calibration,
    pairs: PairSet,
    split: str = GATE_LIST,
    target: Target = "cpu",
    accept: str | None = None,
    *,
    reduce_range: bool = False,
) -> Manifest:
    """Calibrate, convert, judge, write.

    Args:
        source: FP32 engine of `mdexport onnx`.
        output: ONNX file to write.
        calibration: pairs of the ranges.
        pairs: labelled pairs of the gate.
        split: their list.
        target: who runs the engine.
        accept: why an engine that does not pass is wanted nevertheless.
        reduce_range: weights of 7 bits, with which no x86 processor saturates.

    Raises:
        UsageError: `reduce_range` for another target than `cpu`, another suffix than `.onnx`, or the output is the
            source.
        UsageError, EngineError, SourceError, DataError: as `prepare` and `Calibration.read`.
        DataError: pairs that judge calibrate as well.
        GateError: it does not follow its source, also with MOST_KEPT layers in single precision; nothing is written.
        OutputError: the file cannot be written.
    """
    if reduce_range and target != "cpu":
        raise UsageError(
            f"got --reduce-range with --target {target}, which adds up exactly with weights of 8 bits; leave it out"
        )
    refuse_suffix(output, ONNX_SUFFIXES)
    refuse_replacing(output, source)
    with result_file(output), locked(output):
        manifest = read_single(source).manifest
        scenes, judging = calibration.read(manifest), gate_scenes(manifest, pairs, split)
        refuse_shared(scenes.scenes, judging, pairs.describe(split, manifest.task))
        ready = prepare(source, pairs, split, judging)
        return convert_int8(ready, output, calibrate(ready, scenes), target, accept, reduce_range=reduce_range)


def calibrate(ready: Ready, calibration: CalibrationScenes) -> Calibrated:
    """Run the calibration pairs; warns where they are all by day or all by night, and those that judge are not."""
    if len(times_of(calibration.scenes)) == 1 < len(times_of(ready.scenes)):
        warn(
            "mdexport",
            f"calibrated on {calibration.described}, while {ready.data} has both; calibrate on day and night",
        )
    ranges = measure_ranges(ready.engine.model, calibration.scenes, lambda scenes: progress(scenes, "calibration"))
    return Calibrated(ranges, calibration.described, evenly(calibration.scenes, SENSITIVITY_SCENES))


def convert_int8(
    ready: Ready,
    output: Path,
    calibrated: Calibrated,
    target: Target,
    accept: str | None = None,
    *,
    reduce_range: bool = False,
) -> Manifest:
    """The same for an engine whose scenes and ranges are ready."""
    model, kept, judged, errors = _search(ready, calibrated, target, reduce_range=reduce_range)
    if target == "cpu" and judged.parity.passed:
        judged = _in_its_library(ready, model, judged)
    described = f"{calibrated.described}, for {target}" + (f", {SEVEN_BITS}" if reduce_range else "")

    def change(manifest: Manifest) -> Manifest:
        origin = dataclasses.replace(manifest.origin, precision="int8", kept=kept, calibration=described)
        origin = dataclasses.replace(origin, sensitivity=errors)
        return dataclasses.replace(manifest, origin=origin)

    return finish(ready, model, change, judged, output, accept)


def _in_its_library(ready: Ready, model: onnx.ModelProto, judged: Judged) -> Judged:
    """The verdict in the library that `mdrun` takes for the file here, where that is not the one of the search.

    OpenVINO adds up otherwise than ONNX Runtime: on processors with AMX it is what will run.
    """
    with opened_file(ready, model, "int8") as backend:
        if backend.name == LIBRARIES[0]:
            return judged
        said, _ = infer(backend, ready.scenes, f"int8 in {backend.name}")
        by = computed_by(backend)
    ready.seen[graph_sha256(model.SerializeToString())] = said  # what a check in this library will repeat
    note = f", in {LIBRARIES[0]}, which passed; the file itself in {backend.name}"
    return ready.judge_outputs(said, "int8", by, note)


def _search(
    ready: Ready, calibrated: Calibrated, target: Target, *, reduce_range: bool
) -> tuple[onnx.ModelProto, list[str], Judged, dict[str, float]]:
    """All of the body in INT8; where that does not pass, without the 1, 2, 4, … convolutions that hurt most.

    Which hurt most is measured on pairs that calibrate: those that judge say only whether it is enough.

    Gives the graph, the convolutions left out, the verdict, and each convolution's error where it was measured.
    """
    quantise = partial(to_int8, ready.engine.model, calibrated.ranges, target, reduce_range=reduce_range)
    model = quantise()
    judged = ready.judge(model, "int8")
    kept: list[str] = []
    errors: dict[str, float] = {}
    count = 1
    while not judged.parity.passed and count <= MOST_KEPT:
        errors = errors or dict(sensitivity(ready.engine.model, calibrated.scenes, quantise))
        order = list(errors)
        if count >= len(order):  # nothing would be left in INT8
            break
        kept = order[:count]
        model = quantise(frozenset(kept))
        judged = ready.judge(model, "int8")
        count *= 2
    return model, kept, judged, errors


def sensitivity(
    model: onnx.ModelProto, scenes: Sequence[Scene], quantise: Callable[[Set[str]], onnx.ModelProto]
) -> list[tuple[str, float]]:
    """Each convolution with the error that quantising it alone makes, largest first.

    The error is the mean absolute difference of the scores of a detector or a classifier, rank by rank, and the share
    of pixels with another class of a segmenter.

    Args:
        model: FP32 graph.
        scenes: to compare on.
        quantise: makes the INT8 graph without the nodes of these names.
    """
    graph = Graph(model)
    body = graph.body()
    convolutions = [node.name for node in graph.nodes(body) if node.op_type == "Conv"]
    reference = run_model(model, scenes, "fp32", together=False)
    errors = []
    for name in progress(convolutions, "sensitivity of layers"):
        alone = quantise(frozenset(body) - {name})
        errors.append((name, _error(reference, run_model(alone, scenes, name))))
    return sorted(errors, key=lambda item: -item[1])


def _error(reference: Sequence[Outputs], got: Sequence[Outputs]) -> float:
    pairs = list(zip(reference, got, strict=True))
    if "labels" in reference[0]:
        return float(np.mean([(a["labels"] != b["labels"]).mean() for a, b in pairs]))
    return float(np.mean([np.abs(a["scores"] - b["scores"]).mean() for a, b in pairs]))
