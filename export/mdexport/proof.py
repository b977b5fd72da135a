"""What every conversion of an FP32 engine needs: scenes, what the FP32 engine says about them, and a verdict."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Callable, Iterable, Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import onnx
from tqdm import tqdm

from mdexport.batches import in_batches, run_batch, takes_many
from mdexport.computed import computed_in_memory
from mdexport.engine_file import OnnxEngine, read_engine, stamp, write_engine
from mdexport.gate import GateError, describe, doubt_of_reference, judge, threshold_of
from mdexport.pairs import PairSet, Scene, altered, count_different, intact, refuse_few, spread
from mdexport.places import scratch_folder
from mdrun.backends import open_backend
from mdrun.backends.base import Backend, Outputs
from mdrun.backends.ort import CPU, import_onnxruntime, library_errors, words_of
from mdrun.errors import BackendError, DataError, EngineError, UsageError
from mdrun.manifest import Manifest, Parity
from mdrun.onnx_file import graph_sha256
from mdrun.verified import find_doubt
from mdtrain.data.records import Record

GATE_LIST = "val"
MOST_GATE_PAIRS = 64
SPOT_SCENES = 8  # what a file says about them must be what its graph said before
FEWEST_LABELLED = 8  # pairs with a label of the engine's task: one box alone proves nothing
T = TypeVar("T")


class Judged(NamedTuple):
    """What the gate says of a converted graph.

    Attributes:
        parity: the verdict.
        energy_threshold: energy below which 95 % of the intact scenes lie; None for engines without energy.
    """

    parity: Parity
    energy_threshold: float | None


class Ready(NamedTuple):
    """An FP32 engine with the scenes that judge its conversions.

    Attributes:
        path: of the engine.
        engine: its graph and manifest.
        scenes: intact ones, and some with a failing camera.
        reference: what the engine says about each.
        data: where the scenes come from.
        seen: what every graph that ran said about the scenes, by the graph's SHA-256.
    """

    path: Path
    engine: OnnxEngine
    scenes: list[Scene]
    reference: list[Outputs]
    data: str
    seen: dict[str, list[Outputs]]

    def judge(self, model: onnx.ModelProto, precision: str) -> Judged:
        """The verdict on a converted graph, and the energy threshold that goes with it."""
        outputs = run_model(model, self.scenes, f"{precision} on the gate's scenes")
        self.seen[graph_sha256(model.SerializeToString())] = outputs
        return self.judge_outputs(outputs, precision, computed_in_memory())

    def judge_outputs(self, outputs: list[Outputs], precision: str, by: str, note: str = "") -> Judged:
        """The same of what was said about all scenes, computed `by` a library; `note` goes behind the reference."""
        names = f"{self.path.name} fp32{note}", self.data
        parity = judge(self.engine.manifest, self.scenes, self.reference, outputs, precision, names, by)
        parity = dataclasses.replace(parity, doubt=doubt_of_reference(self.path.name, self.engine.manifest))
        return Judged(parity, threshold_of(self.scenes, outputs))


def prepare(source: Path, pairs: PairSet, split: str = GATE_LIST, scenes: list[Scene] | None = None) -> Ready:
    """Read an FP32 engine and run it on the scenes of the gate.

    Args:
        source: FP32 engine of `mdexport onnx`.
        pairs: labelled pairs of the gate.
        split: their list.
        scenes: what `gate_scenes` made of them, where that has been called already.

    Raises:
        UsageError: the engine has another precision, or there are too few pairs.
        EngineError: the engine cannot be read.
        SourceError, DataError: the pairs cannot be read.
    """
    engine = read_single(source)
    if scenes is None:
        scenes = gate_scenes(engine.manifest, pairs, split)
    # Each alone: a mistake of its batches must not become what is right.
    reference = run_model(engine.model, scenes, "fp32 on the gate's scenes", str(source), together=False)
    data = pairs.describe(split, engine.manifest.task)
    return Ready(source, engine, scenes, reference, data, {graph_sha256(source): reference})


def read_single(source: Path) -> OnnxEngine:
    """An engine in single precision.

    Raises:
        UsageError: the engine has another precision.
        EngineError: the engine cannot be read.
    """
    engine = read_engine(source)
    if engine.manifest.origin.precision != "fp32":
        raise UsageError(
            f"{source}: its precision is {engine.manifest.origin.precision}, wanted fp32, of which all others are "
            "made; name the file that `mdexport onnx` wrote"
        )
    return engine


def gate_scenes(manifest: Manifest, pairs: PairSet, split: str) -> list[Scene]:
    """Intact scenes of the pairs, and some again with a failing camera.

    Raises:
        UsageError: too few pairs.
        SourceError: they cannot be read.
        DataError: they cannot be read, or have no labels of the engine's task.
    """
    records = pairs.read_for(manifest, split)
    chosen = spread(records, min(MOST_GATE_PAIRS, len(records)))
    _refuse_unlabelled(manifest, chosen)
    scenes = intact(manifest, chosen)
    refuse_few(count_different(scenes), "different pairs")
    return scenes + altered(scenes)


def _refuse_unlabelled(manifest: Manifest, records: Sequence[Record]) -> None:
    """Without labels nothing could be measured, and a gate that measures nothing lets everything through."""
    if manifest.task == "segment":
        wanted, labelled = "label map", sum(record.label_map_file is not None for record in records)
    elif manifest.task == "classify":
        wanted, labelled = "known class", sum(record.class_name in manifest.classes for record in records)
    else:
        wanted = f"box of {', '.join(manifest.classes)}"
        labelled = sum(len(record.boxes) > 0 for record in records)
    if labelled < FEWEST_LABELLED:
        raise DataError(
            f"{records[0].visible_file.path}: it is the first of {len(records)} pairs, of which {labelled or 'none'} "
            f"{'has' if labelled <= 1 else 'have'} a {wanted}; an engine of the task {manifest.task} is judged by "
            f"them, wanted at least {FEWEST_LABELLED}; name labelled pairs"
        )


def run_model(
    model: onnx.ModelProto, scenes: Sequence[Scene], title: str, name: str | None = None, *, together: bool = True
) -> list[Outputs]:
    """Outputs of a graph in memory for every scene, in ONNX Runtime; `name` of the file, for errors.

    A graph that takes any number of pairs gets some of them `together`, as a server gives them.

    Raises:
        EngineError: it does not take the graph: an operator or an operator set that it does not know; or the graph does
            not take several pairs, though its first dimension has a name.
    """
    called = name or model.graph.name
    onnxruntime = import_onnxruntime()
    options = onnxruntime.SessionOptions()
    options.log_severity_level = 4
    try:
        session: Any = onnxruntime.InferenceSession(model.SerializeToString(), options, providers=[CPU])
    except library_errors() as error:
        raise EngineError(f"{called}: ONNX Runtime refuses it: {words_of(error)}; export it again") from error
    batches = list(in_batches([scene.feeds for scene in scenes], together=together and takes_many(session)))
    return [of_pair for batch in progress(batches, title) for of_pair in run_batch(session, batch, called)]


@contextmanager
def opened_file(ready: Ready, model: onnx.ModelProto, precision: str) -> Iterator[Backend]:
    """A converted graph as a file, in the library that `mdrun` takes for it here.

    Raises:
        BackendError: nothing here runs it.
        OutputError: there is no room for it.
    """
    manifest = ready.engine.manifest
    origin = dataclasses.replace(manifest.origin, precision=precision)
    manifest = stamp(model, dataclasses.replace(manifest, origin=origin))
    with scratch_folder() as folder:
        path = folder / f"{precision}.onnx"
        write_engine(model, manifest, path)
        try:
            backend = open_backend(path, manifest)
        except BackendError as error:
            raise BackendError(str(error).removeprefix(f"{path}: ")) from error
        with backend:
            yield backend


def progress(items: Sequence[T], title: str) -> Iterator[T]:
    """The items, with a bar on a terminal."""
    bar: Iterable[T] = tqdm(items, desc=title, disable=None, leave=False)
    return iter(bar)


def finish(
    ready: Ready,
    model: onnx.ModelProto,
    change: Callable[[Manifest], Manifest],
    judged: Judged,
    output: Path,
    accept: str | None,
) -> Manifest:
    """Write a converted engine that passed, or that somebody accepts.

    Args:
        ready: what it was made of.
        model: the converted graph.
        change: completes the manifest.
        judged: the verdict.
        output: file to write.
        accept: why an engine that did not pass is wanted; goes into the manifest.

    Raises:
        GateError: it did not pass, with the report of `report_json`; nothing is written.
        OutputError: the file cannot be written.
    """
    parity = judged.parity if judged.parity.passed else dataclasses.replace(judged.parity, accepted=accept)
    manifest = change(dataclasses.replace(ready.engine.manifest, parity=parity))
    if judged.energy_threshold is not None:  # logits of another precision want a threshold of their own
        thresholds = (manifest.energy or {}) | {str(manifest.origin.precision): judged.energy_threshold}
        manifest = dataclasses.replace(manifest, energy=thresholds)
    if not parity.passed and accept is None:
        raise GateError(
            f"{output.name}: does not follow {ready.path.name}: {describe(parity)}; "
            "name more or other pairs, or take it with --accept REASON",
            report_json(manifest, None),
        )
    manifest = stamp(model, manifest)
    write_engine(model, manifest, output)
    return manifest


def report_json(manifest: Manifest, path: Path | None) -> str:
    """What `--json` of a conversion prints: the keys of the parity report, and what was made of it.

    For programs; keys are added, never renamed or removed. `path`: the file; None where the engine was not written.
    """
    origin = manifest.origin
    made = {
        "path": None if path is None else str(path),
        "bytes": None if path is None else path.stat().st_size,
        "digest": None if path is None else manifest.digest(),
        "name": manifest.engine_name,
        "precision": origin.precision,
        "doubt": find_doubt(manifest),
        "calibration": origin.calibration,
        "kept": origin.kept,
        "sensitivity": origin.sensitivity,
        "energy": manifest.energy,
    }
    return json.dumps(json.loads(manifest.to_json())["parity"] | made)
