"""A classifier from a real short training to graphs in every precision that the runtime runs."""

from __future__ import annotations

import json
import math
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import onnx
import onnxruntime
import pytest
from numpy.typing import NDArray
from onnx import TensorProto

from mdexport import gate, parity
from mdexport.check import check_engines
from mdexport.cli import mdexport
from mdexport.fp16 import convert_half, export_half
from mdexport.gate import OVERALL, GateError, class_differences, class_measures, judge
from mdexport.int8 import Calibration, calibrate, convert_int8
from mdexport.onnx_export import export_onnx
from mdexport.pairs import INTACT, PairSet, Scene, parse_pairs
from mdexport.picture import draw_check
from mdexport.proof import Ready, prepare
from mdexport.rewrites import RewriteError, TopClasses
from mdrun.backends.base import Outputs
from mdrun.cli import cli
from mdrun.command import run_command
from mdrun.engine import Engine
from mdrun.errors import DataError
from mdrun.onnx_file import read_manifest
from mdtrain.build import load_trained
from mdtrain.cli import mdtrain
from mdtrain.data.sets.folders import read_folders
from mdtrain.models.streams import Student
from tests.export.labelled import Made, write_pairs
from tests.export.students import STREET, random_feeds, write_student
from tests.export.test_fp16 import types_after_the_body
from tests.runtime.engines import KINDS, make_classify_manifest

MANIFEST = make_classify_manifest()  # day, night, fire


def pairs_of(made: Made) -> PairSet:
    return parse_pairs(f"folders={made.pairs}")


@pytest.fixture(scope="module")
def ready(classifier: Made) -> Ready:
    return prepare(classifier.engine, pairs_of(classifier))


def read_pair(made: Made) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    """A validation pair at network size."""
    record = read_folders(made.pairs, "val")[0]
    visible = cv2.resize(record.visible, (128, 96), interpolation=cv2.INTER_AREA)
    thermal = cv2.resize(record.thermal, (32, 24), interpolation=cv2.INTER_AREA)
    return np.asarray(visible, np.uint8), np.asarray(thermal, np.uint8)


def student_of(made: Made) -> Student:
    student = load_trained(made.weights, "student").model
    assert isinstance(student, Student)
    return student


def test_the_graph_follows_the_checkpoint(classifier: Made) -> None:
    manifest = read_manifest(classifier.engine)
    assert (manifest.task, manifest.classes) == ("classify", ["cold", "warm"])
    assert manifest.parity is not None
    assert manifest.parity.passed
    assert manifest.parity.limits == {"scores": 1e-3, "energy": 1e-3}
    assert manifest.origin.accuracy["folders_val/mean/accuracy"] == 1
    visible, thermal = read_pair(classifier)
    with Engine.load(classifier.engine) as engine:
        found = engine.classify(visible, thermal)
    wanted, energy = parity.reference_classes(student_of(classifier), parity.Feed(visible[None], thermal[None]))
    np.testing.assert_allclose(found.scores, wanted[found.classes], atol=1e-5)
    assert float(found.scores.sum()) == pytest.approx(1)  # two classes, both reported
    assert found.energy == pytest.approx(float(energy[0]), abs=1e-4)


def test_bytes_go_straight_into_their_cast_and_the_head_is_in_the_graph(classifier: Made) -> None:
    graph = onnx.load(classifier.engine).graph
    for name in ("visible", "thermal"):
        assert [node.op_type for node in graph.node if name in node.input] == ["Cast"]
    kinds = {node.op_type for node in graph.node}
    assert {"TopK", "ReduceLogSumExp"} <= kinds
    assert not kinds & {"Softmax", "Dropout", "Loop", "If"}


def test_half_precision_keeps_the_head_in_single(classifier: Made, ready: Ready, tmp_path: Path) -> None:
    manifest = convert_half(ready, tmp_path / "half.onnx", "fp16")
    assert manifest.parity is not None
    assert manifest.parity.passed
    assert set(manifest.parity.metrics) == {"mean/accuracy", OVERALL, "energy/auroc", "energy/tnr95"}
    assert manifest.parity.matched == 1
    assert set(manifest.energy or {}) == {"fp32", "fp16"}
    assert TensorProto.FLOAT16 not in types_after_the_body(tmp_path / "half.onnx")
    with Engine.load(tmp_path / "half.onnx") as engine:
        assert engine.classify(*read_pair(classifier)).scores[0] > 0.5


def test_int8_check_and_picture(classifier: Made, ready: Ready, tmp_path: Path) -> None:
    calibrated = calibrate(ready, Calibration(pairs_of(classifier)).read(ready.engine.manifest))
    manifest = convert_int8(ready, tmp_path / "int8.onnx", calibrated, "cpu")
    assert set(manifest.energy or {}) == {"fp32", "int8"}
    assert manifest.parity is not None
    assert manifest.parity.limits[OVERALL] == gate.ACCURACY_LOSS["int8"]
    paths = [classifier.engine, tmp_path / "int8.onnx"]
    checked = check_engines(paths, pairs_of(classifier), weights=classifier.weights)
    assert [verdict.fails for verdict in checked.report.verdicts] == [False, False]
    single = checked.report.verdicts[0].parity
    assert single is not None
    assert single.max_abs["scores"] < 1e-4
    draw_check(checked, tmp_path / "check.jpg")
    assert (tmp_path / "check.jpg").stat().st_size > 0


def test_the_commands_judge_it(classifier: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data, engine = str(classifier.pairs), str(classifier.engine)

    def call(command: object, name: str, *arguments: str) -> tuple[int, str, str]:
        code = run_command(command, name, list(arguments))  # type: ignore[arg-type]  # a click command
        return code, *capsys.readouterr()

    code, out, _ = call(mdtrain, "mdtrain", "eval", "classes", "--data", data, "--engine", engine, "--json")
    found = json.loads(out)
    assert (code, found["all"]["mean"], found["all"]["overall"], found["day"]["mean"]) == (0, 1, 1, None)
    assert found["within"] == pytest.approx(0.95, abs=0.05)  # the threshold is that of these pairs
    code, out, _ = call(mdtrain, "mdtrain", "eval", "classes", "--data", data, "--engine", engine)
    assert (code, "cold" in out, "100.0" in out, "energy that the engine's threshold" in out) == (0, True, True, True)
    code, _, err = call(mdtrain, "mdtrain", "eval", "mfnet", "--data", data, "--engine", engine)
    assert code != 0
    code, _, err = call(mdtrain, "mdtrain", "eval", "robustness", "--data", data, "--engine", engine)
    assert (code, "its task is 'classify', wanted detect or segment" in err) == (2, True)
    half = tmp_path / "half.onnx"
    code, out, _ = call(mdexport, "mdexport", "fp16", engine, "--pairs", data, "--output", str(half))
    assert (code, "pairs of the same class" in out, "energy threshold fp16" in out) == (0, True, True)
    code, out, _ = call(mdexport, "mdexport", "triton", engine, "--output", str(tmp_path / "triton"))
    assert (code, (tmp_path / "triton" / "tiny" / "labels.txt").read_text()) == (0, "cold\nwarm\n")


def test_mdrun_runs_it(classifier: Made, tmp_path: Path) -> None:
    sources = ["--visible", str(classifier.pairs / "visible" / "warm")]
    sources += ["--thermal", str(classifier.pairs / "thermal" / "warm")]
    arguments = ["--engine", str(classifier.engine), *sources, "--output", str(tmp_path / "out"), "--no-overlay"]
    assert run_command(cli, "mdrun", arguments) == 0
    lines = [json.loads(line) for line in (tmp_path / "out" / "results.jsonl").read_text().splitlines()]
    assert {line["classification"][0]["class"] for line in lines} == {"warm"}
    assert all(math.isfinite(line["energy"]) for line in lines)
    summary = json.loads((tmp_path / "out" / "summary.json").read_text())
    assert summary["objects"] == {"cold": 0, "warm": len(lines)}


@pytest.mark.slow
def test_a_graph_that_differs_is_not_written(classifier: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    other = np.array([0.5, 0.5], np.float32), np.zeros(1, np.float32)
    monkeypatch.setattr(parity, "reference_classes", lambda *_: other)
    with pytest.raises(GateError, match=r"scores \S+ \(limit 0\.001\)"):
        export_onnx(classifier.weights, tmp_path / "x.onnx", STREET, STREET, pairs=1)
    assert list(tmp_path.iterdir()) == []


@pytest.mark.slow  # another export
def test_any_number_of_pairs_and_a_visible_only_student(tmp_path: Path) -> None:
    weights = write_student(tmp_path / "weights.safetensors", "classify", "inputs=visible")
    manifest = export_onnx(weights, tmp_path / "many.onnx", STREET, STREET, pairs=1, dynamic_batch=True)
    assert (manifest.needs, manifest.outputs["scores"].shape) == (["visible"], [1, 2])
    session = onnxruntime.InferenceSession(tmp_path / "many.onnx", providers=["CPUExecutionProvider"])
    feeds = random_feeds(manifest, 3)
    scores, energy = session.run(["scores", "energy"], feeds)
    assert (scores.shape, energy.shape) == ((3, 2), (3,))
    alone = session.run(["scores", "energy"], {"visible": feeds["visible"][1:2]})
    np.testing.assert_allclose(scores[1], alone[0][0], rtol=1e-4)
    np.testing.assert_allclose(energy[1], alone[1][0], rtol=1e-4)


def test_the_best_of_many_classes_are_softmax_in_order() -> None:
    import torch

    logits = torch.randn(4, 9, generator=torch.Generator().manual_seed(0)) * 5
    scores, classes, energy = TopClasses(9, 5)(logits)
    wanted, places = logits.softmax(1).topk(5)
    torch.testing.assert_close(scores, wanted)
    assert torch.equal(classes.long(), places)
    torch.testing.assert_close(energy, -logits.logsumexp(1))
    with pytest.raises(RewriteError, match="there are 3 classes, wanted the 5 best"):
        TopClasses(3, 5)


@pytest.mark.parametrize(
    ("scores", "classes", "energy", "worst", "shift"),
    [
        ([0.7, 0.2], [2, 0], 1.0, 0.0, 0.0),
        ([0.6, 0.2], [2, 0], 1.5, 0.1, 0.5),
        ([0.7, 0.2], [0, 2], 1.0, 0.5, 0.0),  # the right scores at the wrong classes
        ([0.7, 0.1], [2, 1], 1.0, 0.1, 0.0),  # a class that is not among the best
        ([math.nan, 0.2], [2, 0], 1.0, math.inf, math.inf),
    ],
)
def test_what_counts_as_a_difference(
    scores: list[float], classes: list[int], energy: float, worst: float, shift: float
) -> None:
    wanted = np.array([0.2, 0.1, 0.7], np.float32), np.array([1.0], np.float32)
    got = np.array(scores, np.float32), np.array([energy], np.float32), np.array(classes, np.int32)
    found = parity.class_difference(wanted, got)
    assert found == {"scores": pytest.approx(worst, abs=1e-6), "energy": pytest.approx(shift, abs=1e-6)}


def outputs(kind: int, score: float = 0.9, energy: float = -2.0) -> Outputs:
    """The best class and the next one."""
    return {
        "scores": np.array([[score, 1 - score]], np.float32),
        "classes": np.array([[kind, (kind + 1) % len(KINDS)]], np.int32),
        "energy": np.array([energy], np.float32),
    }


def scenes(classifier: Made, *kinds: tuple[str, str]) -> list[Scene]:
    record = read_folders(classifier.pairs, "val")[0]
    return [Scene({}, replace(record, label=kind), condition) for kind, condition in kinds]


def test_the_gate_compares_classes_scores_and_energies(classifier: Made) -> None:
    before = [outputs(0), outputs(1), outputs(2), outputs(0)]
    after = [outputs(0, 0.8), outputs(1, energy=-2.5), outputs(1, 0.6), outputs(0)]
    found = class_differences(MANIFEST, before, after)
    assert found.matched == 0.75
    assert found.largest == {"scores": pytest.approx(0.5), "energy": 0.5}  # 0.9 of fire against its 0.4 in the third
    of = scenes(classifier, ("day", INTACT), ("night", INTACT), ("fire", INTACT), ("day", "visible black"))
    measures = class_measures(MANIFEST, of, after)
    assert measures[OVERALL] == measures["mean/accuracy"] == pytest.approx(2 / 3)
    parity_of = judge(MANIFEST, of, before, after, "int8", ("reference", "these tests"))
    assert not parity_of.passed
    assert "75.0% of pairs of the same class (least 90%)" in gate.describe(parity_of)
    assert judge(MANIFEST, of, before, before, "fp32", ("reference", "these tests")).passed


@pytest.mark.parametrize("index", [-1, 3, 99])
def test_what_is_no_class_is_wrong(index: int, classifier: Made) -> None:
    of, right = scenes(classifier, ("day", INTACT), ("night", INTACT)), [outputs(0), outputs(1)]
    wrong = [right[0], right[1] | {"classes": np.full_like(right[1]["classes"], index)}]
    assert class_measures(MANIFEST, of, wrong)[OVERALL] == 0.5
    assert not judge(MANIFEST, of, right, wrong, "int8", ("reference", "these tests")).passed


def test_an_energy_that_is_no_number_does_not_pass(classifier: Made) -> None:
    of = scenes(classifier, ("day", INTACT))
    broken = [outputs(0, energy=math.nan)]
    assert not judge(MANIFEST, of, [outputs(0)], broken, "int8", ("reference", "these tests")).passed


def test_pairs_without_a_known_class_judge_nothing(classifier: Made, tmp_path: Path) -> None:
    streets = write_pairs(tmp_path / "msrs")  # day and night
    with pytest.raises(
        DataError, match="of which none has a known class; an engine of the task classify is judged by them"
    ):
        prepare(classifier.engine, parse_pairs(str(streets)))


@pytest.mark.slow
def test_a_bundle_of_a_classifier(classifier: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """FP32, half and INT8 for both targets of one checkpoint; plans where they build."""
    arguments = ["all", str(classifier.weights), "--calibration", str(classifier.pairs), "--out", str(tmp_path / "out")]
    code = run_command(mdexport, "mdexport", arguments)
    printed = capsys.readouterr()
    assert code == 0, printed
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert {"tiny.onnx", "tiny_fp16.onnx", "tiny_int8.onnx", "tiny_int8_tensorrt.onnx", "parity.json"} <= names
    export_half(tmp_path / "out" / "tiny.onnx", tmp_path / "bf16.onnx", pairs_of(classifier), "bf16")
