"""`mdexport fp16` on a real student: what is written, when BF16 takes over, what is refused."""

from __future__ import annotations

import json
import shutil
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import ModelProto, TensorProto, numpy_helper
from onnxruntime.quantization import TensorsData

from mdexport import check, fp16, gate, proof
from mdexport.cli import mdexport
from mdexport.convert.graph import Graph
from mdexport.convert.half import LARGEST, Half, to_half
from mdexport.convert.ranges import measure_ranges
from mdexport.engine_file import read_engine, stamp, write_engine
from mdexport.fp16 import convert_half, export_half
from mdexport.gate import GateError
from mdexport.pairs import INTACT, PairSet, Scene, evenly, parse_pairs
from mdexport.proof import Ready, prepare, run_model
from mdrun.backends import Backend
from mdrun.backends.base import Outputs
from mdrun.command import run_command
from mdrun.errors import BackendError
from mdrun.manifest import Manifest
from mdrun.onnx_file import read_manifest
from mdrun.verified import find_doubt
from tests.export.graphs import limits, shift_output
from tests.export.labelled import Made

FACTOR = 2.0**14  # keeps every mantissa as it is


def pairs_of(made: Made) -> PairSet:
    return parse_pairs(str(made.pairs))


def types_after_the_body(path: Path) -> set[int]:
    """Element types that the nodes after the last convolutions read."""
    model = onnx.load(path)
    graph = Graph(model)
    before = graph.before_last_convolutions()
    types = graph._types
    after = [node for node in model.graph.node if node.name not in before and node.op_type != "Cast"]
    return {types[name] for node in after for name in node.input if name}


def enlarged(model: ModelProto) -> tuple[ModelProto, set[str]]:
    """The same network with one map FACTOR times as large, and the names of the nodes that touch it."""
    copy = ModelProto()
    copy.CopyFrom(model)
    graph = Graph(copy)
    for relu in (node for node in copy.graph.node if node.op_type == "Relu"):
        first, readers = graph.producers[relu.input[0]], graph.consumers[relu.output[0]]
        if first.op_type == "Conv" and [node.op_type for node in readers] == ["Conv"]:
            for name, factor in (*((n, FACTOR) for n in first.input[1:]), (readers[0].input[1], 1 / FACTOR)):
                tensor = graph.initialisers[name]
                tensor.CopyFrom(numpy_helper.from_array(numpy_helper.to_array(tensor) * np.float32(factor), name))
            return copy, {first.name, relu.name, readers[0].name}
    pytest.fail("no Conv, Relu, Conv in a row")


def test_it_is_written_with_proof(detector: Made, tmp_path: Path) -> None:
    output = tmp_path / "student_fp16.onnx"
    manifest = export_half(detector.engine, output, pairs_of(detector))
    assert manifest == read_manifest(output)
    assert read_engine(output).manifest == manifest
    assert manifest.origin.precision == "fp16"
    assert manifest.origin.kept == []
    assert manifest.parity is not None
    assert manifest.parity.passed
    assert manifest.parity.reference.endswith("rounded after every node")  # the file said the same
    assert output.stat().st_size < 0.75 * detector.engine.stat().st_size
    assert list(tmp_path.iterdir()) == [output]


def test_boxes_and_scores_are_computed_in_single_precision(detector: Made, tmp_path: Path) -> None:
    output = tmp_path / "half.onnx"
    export_half(detector.engine, output, pairs_of(detector), "bf16")
    assert not {TensorProto.FLOAT16, TensorProto.BFLOAT16} & types_after_the_body(output)
    weights = [tensor for tensor in onnx.load(output).graph.initializer if len(tensor.dims) == 4]
    assert {tensor.data_type for tensor in weights} == {TensorProto.BFLOAT16}


def test_label_maps_too(segmenter: Made, tmp_path: Path) -> None:
    manifest = export_half(segmenter.engine, tmp_path / "half.onnx", pairs_of(segmenter))
    assert manifest.parity is not None
    assert {"mean/accuracy", "mean/iou"} <= set(manifest.parity.metrics)
    assert manifest.parity.mean_abs["labels"] <= manifest.parity.limits["labels"]
    assert set(manifest.energy or {}) == {"fp32", "fp16"}


def test_what_overflows_stays_in_single_precision(ready: Ready, detector: Made, tmp_path: Path) -> None:
    model, large = enlarged(ready.engine.model)
    source = tmp_path / "large.onnx"
    write_engine(model, stamp(model, ready.engine.manifest), source)
    (same,) = run_model(model, ready.scenes[:1], "")
    assert np.array_equal(same["scores"], ready.reference[0]["scores"])  # powers of two change nothing
    manifest = export_half(source, tmp_path / "half.onnx", pairs_of(detector), "fp16")
    assert large <= set(manifest.origin.kept)
    assert len(manifest.origin.kept) < 12
    assert manifest.parity is not None
    assert manifest.parity.passed
    assert export_half(source, tmp_path / "half.onnx", pairs_of(detector), "bf16").origin.kept == []


def test_bf16_takes_over_where_fp16_does_not_pass(
    ready: Ready, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(gate.LOSS, "fp16", -1.0)
    assert convert_half(ready, tmp_path / "half.onnx").origin.precision == "bf16"
    with pytest.raises(GateError):
        convert_half(ready, tmp_path / "fp16.onnx", "fp16")
    assert [path.name for path in tmp_path.iterdir()] == ["half.onnx"]


def test_where_neither_passes_nothing_is_written_unless_accepted(
    ready: Ready, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for half in ("fp16", "bf16"):
        monkeypatch.setitem(gate.LOSS, half, -1.0)
    with pytest.raises(GateError):
        convert_half(ready, tmp_path / "half.onnx")
    assert list(tmp_path.iterdir()) == []
    manifest = convert_half(ready, tmp_path / "half.onnx", accept="to look at")
    assert manifest.origin.precision == "fp16"
    assert manifest.parity is not None
    assert manifest.parity.accepted == "to look at"


@pytest.mark.parametrize("half", ["fp16", "bf16"])
def test_a_file_that_is_not_its_twin_is_not_written(
    half: Half, ready: Ready, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The twin passes, and the file has the sign of its kernels lost."""
    if half == "bf16":
        pytest.importorskip("openvino")

    def negated(model: ModelProto, region: set[str], half: Half) -> ModelProto:
        converted = to_half(model, region, half)
        for tensor in converted.graph.initializer:
            if len(tensor.dims) == 4:
                bits = np.frombuffer(tensor.raw_data, np.uint16) ^ np.uint16(1 << 15)
                tensor.raw_data = bits.tobytes()
        return converted

    monkeypatch.setattr(fp16, "to_half", negated)
    with pytest.raises(GateError, match=r"half\.onnx: does not follow tiny\.onnx: ") as caught:
        convert_half(ready, tmp_path / "half.onnx", half)
    assert "which passed; the file itself" in json.loads(caught.value.report)["reference"]
    assert list(tmp_path.iterdir()) == []
    manifest = convert_half(ready, tmp_path / "half.onnx", half, accept="to look at")
    assert manifest.parity is not None
    assert manifest.parity.accepted == "to look at"


def test_a_file_whose_boxes_are_moved_is_not_its_twin(
    ready: Ready, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Every person is found again, two pixels beside: the file is judged, with numbers of its own."""

    def moved(model: ModelProto, region: set[str], half: Half) -> ModelProto:
        return shift_output(to_half(model, region, half), "boxes", 2)

    monkeypatch.setattr(fp16, "to_half", moved)
    manifest = convert_half(ready, tmp_path / "half.onnx", "fp16", accept="to look at")
    assert manifest.parity is not None
    assert manifest.parity.reference.endswith("the file itself")
    assert manifest.parity.mean_abs["boxes_px"] == pytest.approx(2, abs=0.5)


def test_a_file_that_nothing_runs_is_not_verified(
    ready: Ready, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    def refused(path: Path, manifest: Manifest) -> Backend:
        raise BackendError(f"{path}: there is no OpenVINO here")

    monkeypatch.setattr(proof, "open_backend", refused)
    output = tmp_path / "half.onnx"
    manifest = convert_half(ready, output, "bf16")
    assert manifest.parity is not None
    assert (manifest.parity.passed, manifest.parity.not_run) == (True, "there is no OpenVINO here")
    assert "judged by its rounded twin alone" in capsys.readouterr().err
    assert "the file itself was not run" in str(find_doubt(read_manifest(output), output))


def test_scenes_of_every_condition_say_what_is_too_large_and_whether_the_file_follows(
    ready: Ready, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seen: dict[str, list[Scene]] = {}

    def ranges_of(model: ModelProto, scenes: list[Scene], *rest: Any) -> TensorsData:
        seen["ranges"] = scenes
        return measure_ranges(model, scenes, *rest)

    def said(backend: Backend, scenes: list[Scene], title: str) -> tuple[list[Outputs], float]:
        seen["file"] = scenes
        return check.infer(backend, scenes, title)

    monkeypatch.setattr(fp16, "measure_ranges", ranges_of)
    monkeypatch.setattr(fp16, "infer", said)
    convert_half(ready, tmp_path / "half.onnx", "fp16")
    for scenes in seen.values():
        assert len(scenes) >= 8
        assert {scene.condition == INTACT for scene in scenes} == {True, False}


@pytest.mark.parametrize(("times", "large"), [(3.9, True), (4.1, False)])
def test_a_quarter_of_the_largest_number_is_large(
    times: float, large: bool, ready: Ready, monkeypatch: pytest.MonkeyPatch
) -> None:
    ranges = measure_ranges(ready.engine.model, evenly(ready.scenes, fp16.RANGE_SCENES), iter)
    largest = max(max(map(abs, limits(ranges, name))) for name, _ in ranges.items())
    monkeypatch.setitem(LARGEST, "fp16", times * largest)
    assert bool(fp16._too_large(ready)) is large


@pytest.mark.slow
def test_the_threshold_of_a_file_that_is_judged_is_its_own(
    segmenter: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def shifted(model: ModelProto, region: set[str], half: Half) -> ModelProto:
        return shift_output(to_half(model, region, half), "energy", 5)

    ready = prepare(segmenter.engine, pairs_of(segmenter))
    plain = convert_half(ready, tmp_path / "plain.onnx", "fp16")
    monkeypatch.setattr(fp16, "to_half", shifted)
    manifest = convert_half(ready, tmp_path / "half.onnx", "fp16", accept="to look at")
    assert plain.energy_threshold is not None
    assert manifest.energy_threshold == pytest.approx(plain.energy_threshold + 5, abs=0.05)


def test_a_file_that_rounds_otherwise_is_judged_by_itself(
    ready: Ready, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A few scenes say too little to refuse it: one lost detection of ten is more than the gate allows of a hundred."""
    monkeypatch.setattr(fp16, "follows", lambda *_: False)
    parity = convert_half(ready, tmp_path / "half.onnx", "fp16").parity
    assert parity is not None
    assert parity.passed
    assert parity.reference.endswith("the file itself")


def test_a_reason_is_said(detector: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    arguments = ["fp16", str(detector.engine), "--pairs", str(detector.pairs), "--output", str(tmp_path / "half.onnx")]
    assert run_command(mdexport, "mdexport", [*arguments, "--accept", " "]) == 2
    assert "--accept: got no reason" in capsys.readouterr().err


def test_command_line(detector: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "new" / "half.onnx"
    arguments = ["fp16", str(detector.engine), "--pairs", f"msrs={detector.pairs}", "--output", str(output)]
    assert run_command(mdexport, "mdexport", [*arguments, "--json"]) == 0
    said = capsys.readouterr()
    report = json.loads(said.out)
    assert report["passed"] is True
    assert report["data"] == "msrs val, fusion labels"
    assert not said.err
    assert run_command(mdexport, "mdexport", arguments) == 0
    shown = capsys.readouterr().out
    assert "person/ap50" in shown
    assert "detections found again" in shown
    assert "passed" in shown


def test_an_engine_that_fails_is_reported_as_json_too(
    detector: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setitem(gate.LEAST_MATCHED, "fp16", 1.1)
    arguments = ["fp16", str(detector.engine), "--half", "fp16", "--pairs", str(detector.pairs)]
    output = ["--output", str(tmp_path / "half.onnx")]
    assert run_command(mdexport, "mdexport", [*arguments, *output, "--json"]) == 3
    said = capsys.readouterr()
    report = json.loads(said.out)
    assert (report["passed"], report["precision"], report["doubt"]) == (False, "fp16", "its parity check did not pass")
    assert (report["path"], report["bytes"], report["digest"]) == (None, None, None)
    assert report["limits"]["matched"] == 1.1
    assert len(said.err.splitlines()) == 1
    assert run_command(mdexport, "mdexport", [*arguments, *output]) == 3
    assert not capsys.readouterr().out
    assert list(tmp_path.iterdir()) == []


def test_labels_of_another_view_judge(detector: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs = tmp_path / "msrs"
    shutil.copytree(detector.pairs, pairs)
    (pairs / "labels" / "fusion").rename(pairs / "labels" / "visible")
    arguments = ["fp16", str(detector.engine), "--pairs", str(pairs), "--output", str(tmp_path / "half.onnx"), "--json"]
    assert run_command(mdexport, "mdexport", [*arguments, "--labels", "visible"]) == 0
    assert json.loads(capsys.readouterr().out)["data"] == "msrs val, visible labels"
    assert run_command(mdexport, "mdexport", arguments) == 4
    assert run_command(mdexport, "mdexport", [*arguments, "--labels", "paired"]) == 2
    assert "got --labels paired for msrs, wanted fusion, infrared, visible" in capsys.readouterr().err


@pytest.fixture(scope="module")
def others(detector: Made, ready: Ready, tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    """Files that no conversion takes, by name, and good ones."""
    from tests.export.labelled import write_pairs

    folder = tmp_path_factory.mktemp("others")
    truncated = folder / "truncated.onnx"
    truncated.write_bytes(detector.engine.read_bytes()[:5000])
    plain = folder / "plain.onnx"
    model = onnx.load(detector.engine)
    del model.metadata_props[:]
    onnx.save(model, plain)
    tampered = folder / "tampered.onnx"
    model = onnx.load(detector.engine)
    model.graph.initializer[0].raw_data = bytes(len(model.graph.initializer[0].raw_data))
    onnx.save(model, tampered)
    few = write_pairs(folder / "few", 4)
    (folder / "bare").mkdir()
    names = {"good": str(detector.engine), "pairs": str(detector.pairs), "few": str(few), "bare": str(folder / "bare")}
    return names | {path.stem: str(path) for path in (truncated, plain, tampered)}


@pytest.mark.parametrize(
    ("engine", "pairs", "more", "code", "named"),
    [
        ("missing.onnx", "{pairs}", [], 3, "missing.onnx: does not exist"),
        ("md-r18-slim_int8", "{pairs}", [], 2, "md-r18-slim_int8.onnx: its precision is int8, wanted fp32"),
        ("md-r18", "{pairs}", [], 3, "engine 'md-r18' is neither a file nor one that ships"),
        ("{truncated}", "{pairs}", [], 3, "truncated.onnx: not a complete ONNX file"),
        ("{plain}", "{pairs}", [], 3, "plain.onnx: holds no manifest"),
        ("{tampered}", "{pairs}", [], 3, "tampered.onnx: its graph has SHA-256"),
        ("{good}", "nowhere", [], 2, "nowhere: no such folder"),
        ("{good}", "{bare}", [], 2, "its layout is not known"),
        ("{good}", "msrs={bare}", [], 4, "val.txt: no such list"),
        ("{good}", "{pairs}", ["--list", "test"], 4, "test.txt: no such list"),
        ("{good}", "{few}", [], 2, "got 4 pairs, wanted at least 16"),
        ("{good}", "{pairs}", ["--half", "int4"], 2, "'int4' is not one of"),
        ("{good}", "{pairs}", ["--output", "file/half.onnx"], 6, "file"),
        ("{good}", "{pairs}", ["--output", "folder"], 6, "folder: is a folder"),
        ("{good}", "{pairs}", ["--output", "/proc/none/half.onnx"], 6, "/proc/none"),
    ],
)
def test_bad_input(
    engine: str,
    pairs: str,
    more: list[str],
    code: int,
    named: str,
    others: dict[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "folder").mkdir()
    arguments = [engine.format_map(others), "--pairs", pairs.format_map(others), "--output", "half.onnx", *more]
    assert run_command(mdexport, "mdexport", ["fp16", *arguments]) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert named in line
    assert {path.name for path in tmp_path.iterdir()} == {"file", "folder"}


def test_an_unwritable_place_is_found_before_the_work(
    detector: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def too_late(*_: object) -> None:
        pytest.fail("found after the work began")

    monkeypatch.setattr("mdexport.fp16.prepare", too_late)
    arguments = ["fp16", str(detector.engine), "--pairs", str(detector.pairs), "--output", str(tmp_path)]
    assert run_command(mdexport, "mdexport", arguments) == 6


def test_a_file_in_half_precision_is_no_source(ready: Ready, detector: Made, tmp_path: Path) -> None:
    half = tmp_path / "half.onnx"
    convert_half(ready, half)
    arguments = ["fp16", str(half), "--pairs", str(detector.pairs), "--output", str(tmp_path / "again.onnx")]
    assert run_command(mdexport, "mdexport", arguments) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["half.onnx"]


def test_scenes_are_prepared_once(detector: Made, ready: Ready) -> None:
    """The same file and pairs give the same scenes and outputs: verdicts of several conversions can be compared."""
    again = prepare(detector.engine, pairs_of(detector))
    for before, after in zip(ready.reference, again.reference, strict=True):
        assert all(np.array_equal(before[name], after[name]) for name in before)
