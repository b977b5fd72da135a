"""`mdexport onnx`: a trained student to one ONNX file that carries its manifest and its parity report."""

from __future__ import annotations

import dataclasses
import warnings
from pathlib import Path

import onnx
import torch

from mdexport.deploy import deploy
from mdexport.engine_file import stamp, write_engine
from mdexport.gate import GateError
from mdexport.parity import Feed, compare
from mdexport.places import ONNX_SUFFIXES, locked, refuse_replacing, refuse_suffix
from mdexport.proof import report_json
from mdexport.recordings import Recording
from mdrun.backends.base import input_shape
from mdrun.backends.ort import import_onnxruntime
from mdrun.errors import UsageError
from mdrun.manifest import Manifest, Parity
from mdtrain.build import Trained, load_trained
from mdtrain.contract import TOP_K, draft_manifest
from mdtrain.models.streams import Student
from mdtrain.outputs import result_file
from mdtrain.quiet import without_line

STREET = "test://street?seed=11&time=night&duration=2"  # parity pairs for those who name none
MOST_FRAMES = 3000  # of the parity sources: 100 s at 30 Hz
onnxruntime = import_onnxruntime()
EXPORT_LOGGER = "torch.onnx._internal.exporter._registration"
BATCH = "batch"  # name of the first dimension where it is dynamic
OPSET = 18  # first with antialias-aware Resize; TensorRT 10.3 and ONNX Runtime 1.18 read it


def export_onnx(
    weights: Path,
    output: Path,
    visible: str,
    thermal: str,
    pairs: int,
    accept: str | None = None,
    *,
    dynamic_batch: bool = False,
) -> Manifest:
    """Export, compare on real pairs, complete the manifest, write the file under its final name.

    Args:
        weights: `weights.safetensors` of a student.
        output: ONNX file to write.
        visible: source of the pairs for the parity check, as `mdrun` takes it.
        thermal: the same of the other camera.
        pairs: how many pairs to compare, spread over the sources.
        accept: why an engine that does not follow the checkpoint is wanted; goes into the manifest.
        dynamic_batch: the graph takes any number of pairs at once; else exactly one.

    Raises:
        EngineError: the weights cannot be used, or a rewrite would change what they compute.
        UsageError: the student has no visible input, the sources hold fewer pairs, or the output has another suffix
            than `.onnx` or is the checkpoint.
        OutputError: the file cannot be written; found before the export.
        GateError: the graph differs from the checkpoint by more than the limits, and nobody accepts that; nothing is
            written.
    """
    refuse_suffix(output, ONNX_SUFFIXES)
    refuse_replacing(output, weights)
    recording = Recording(visible, thermal)
    trained, student = load_student(weights)
    with result_file(output), locked(output):
        feeds = _feeds(draft_of(trained, student), recording, pairs)  # before tracing, which takes the time
        return export_student(
            weights, trained, student, output, feeds, str(recording), accept, dynamic_batch=dynamic_batch
        )


def export_student(
    weights: Path,
    trained: Trained,
    student: Student,
    output: Path,
    feeds: list[Feed],
    data: str,
    accept: str | None = None,
    *,
    dynamic_batch: bool = False,
) -> Manifest:
    """The same of a student that is loaded, and pairs that are read; `data` says where these come from.

    Raises:
        EngineError, GateError, OutputError: as `export_onnx`.
    """
    draft = draft_of(trained, student)
    model = _graph(student, trained, draft, dynamic_batch=dynamic_batch)
    session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
    parity = compare(student, session, feeds, TOP_K, data)
    if not parity.passed:
        parity = dataclasses.replace(parity, accepted=accept)
    manifest = _complete(draft, parity, model)
    if not parity.passed and accept is None:
        raise GateError(
            f"{weights}: the exported graph differs from the checkpoint: {describe(parity)}; "
            "take it with --accept REASON",
            report_json(manifest, None),
        )
    write_engine(model, manifest, output)
    return manifest


def draft_of(trained: Trained, student: Student) -> Manifest:
    """The manifest, as far as the checkpoint knows it."""
    return draft_manifest(trained.config, student.state_dict(), trained.facts)


def load_student(weights: Path) -> tuple[Trained, Student]:
    """A finished student that can be exported: the run that it is of, and its network.

    Raises:
        EngineError: the weights cannot be used.
        UsageError: the student has no visible input.
    """
    trained = load_trained(weights, "student")
    student = trained.model
    assert isinstance(student, Student)  # noqa: S101  # load_trained was asked for one
    if student.inputs == "thermal":
        raise UsageError(
            f"{weights}: a student of inputs=thermal, wanted one that sees the visible image, whose pixels boxes are; "
            "export one of inputs=both or inputs=visible"
        )
    return trained, student


def describe(parity: Parity) -> str:
    """One line: every difference with its limit."""
    parts = [f"{name} {parity.max_abs[name]:.2e} (limit {limit:g})" for name, limit in parity.limits.items()]
    return f"{', '.join(parts)} over {parity.pairs} pairs of {parity.data}"


def _graph(student: Student, trained: Trained, draft: Manifest, *, dynamic_batch: bool) -> onnx.ModelProto:
    """Trace the deployed network."""
    deployed = deploy(student, trained.config.model.visible).eval()
    one = [input_shape(spec) for spec in draft.inputs.values()]
    batch = 2 if dynamic_batch else 1  # of the example: the tracer takes a one for a constant
    inputs = [torch.zeros(batch, *shape[1:], dtype=torch.uint8) for shape in one]
    with warnings.catch_warnings(), without_line(EXPORT_LOGGER, "torchvision is not installed"):
        warnings.simplefilter("ignore")  # the exporter warns about its own internals
        program = torch.onnx.export(
            deployed,
            tuple(inputs),
            input_names=list(draft.inputs),
            output_names=list(draft.outputs),
            opset_version=OPSET,
            dynamic_shapes=tuple({0: torch.export.Dim(BATCH)} for _ in inputs) if dynamic_batch else None,
            dynamo=True,
            external_data=False,
            verbose=False,
        )
        assert program is not None  # noqa: S101  # dynamo=True always gives a program
    model = program.model_proto
    del model.metadata_props[:]
    model.doc_string = ""
    for node in model.graph.node:  # the tracer's notes hold source paths of the exporting machine
        node.doc_string = ""
        del node.metadata_props[:]
    onnx.checker.check_model(model)
    return model


def _feeds(manifest: Manifest, recording: Recording, pairs: int) -> list[Feed]:
    """Pairs at network size.

    Raises:
        UsageError: the sources hold fewer pairs.
    """
    scenes = recording.scenes(manifest, pairs, MOST_FRAMES)
    if len(scenes) < pairs:
        raise UsageError(
            f"{recording.visible} and {recording.thermal}: hold {len(scenes)} pairs within {MOST_FRAMES} frames, "
            f"--pairs asks for {pairs}; ask for fewer"
        )
    return [Feed.of(scene) for scene in scenes]


def _complete(draft: Manifest, parity: Parity, model: onnx.ModelProto) -> Manifest:
    tools = {"torch": torch.__version__, "onnx": onnx.__version__, "onnxruntime": onnxruntime.__version__}
    origin = dataclasses.replace(draft.origin, precision="fp32", tools=tools)
    return stamp(model, dataclasses.replace(draft, origin=origin, parity=parity))
