"""`mdexport int8` on a real student: calibration, the search for layers that hurt, what is refused."""

from __future__ import annotations

import dataclasses
import json
import re
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest
from onnx import numpy_helper
from onnxruntime.quantization import TensorsData

from mdexport import gate, int8
from mdexport.cli import mdexport
from mdexport.commands.options import calibration_of, show
from mdexport.convert.graph import Graph
from mdexport.convert.int8 import Target, to_int8
from mdexport.gate import GateError
from mdexport.int8 import SENSITIVITY_SCENES, Calibration, calibrate, convert_int8, export_int8, sensitivity
from mdexport.pairs import ALTERED_EVERY, FEWEST, INTACT, PairSet, Scene, evenly, parse_pairs
from mdexport.proof import Judged, Ready
from mdrun.backends import choice
from mdrun.backends.base import Inputs, Outputs
from mdrun.backends.openvino import OpenVinoBackend
from mdrun.command import run_command
from mdrun.errors import UsageError
from mdrun.onnx_file import read_manifest
from tests.export.graphs import limits
from tests.export.labelled import Made, write_pairs

JUDGED = ("--pairs", "{pairs}", "--output", "int8.onnx")
TARGETS: tuple[Target, ...] = ("cpu", "tensorrt")


def pairs_of(made: Made) -> PairSet:
    return parse_pairs(str(made.pairs))


@pytest.fixture(scope="module")
def ranges(ready: Ready, detector: Made) -> TensorsData:
    return calibrate(ready, Calibration(pairs_of(detector)).read(ready.engine.manifest)).ranges


def convolutions(ready: Ready) -> list[str]:
    graph = Graph(ready.engine.model)
    return [node.name for node in graph.nodes(graph.body()) if node.op_type == "Conv"]


def integers(model: onnx.ModelProto) -> set[str]:
    """Convolutions that read integer weights."""
    makers = {name: node.op_type for node in model.graph.node for name in node.output}
    return {
        node.name
        for node in model.graph.node
        if node.op_type == "Conv" and makers.get(node.input[1]) == "DequantizeLinear"
    }


@pytest.mark.parametrize("target", TARGETS)
def test_it_is_written_with_proof(target: Target, detector: Made, ready: Ready, tmp_path: Path) -> None:
    output = tmp_path / "student_int8.onnx"
    pairs = pairs_of(detector)
    manifest = export_int8(detector.engine, output, Calibration(pairs), pairs, target=target)
    assert manifest == read_manifest(output)
    assert manifest.origin.precision == "int8"
    assert manifest.origin.kept == []
    assert manifest.origin.calibration == f"16 pairs of {pairs} train (8 by day, 8 by night), for {target}"
    assert manifest.parity is not None
    assert manifest.parity.passed
    assert manifest.parity.limits["matched"] == gate.LEAST_MATCHED["int8"]
    assert integers(onnx.load(output)) == set(convolutions(ready)[1 if target == "tensorrt" else 0 :])  # the bytes
    assert list(tmp_path.iterdir()) == [output]


def test_weights_of_a_reduced_range_are_in_the_manifest(detector: Made, tmp_path: Path) -> None:
    output = tmp_path / "int8.onnx"
    arguments = ["int8", str(detector.engine), "--calibration", str(detector.pairs), "--output", str(output)]
    assert run_command(mdexport, "mdexport", [*arguments, "--reduce-range", "--json"]) == 0
    manifest = read_manifest(output)
    described = f"16 pairs of {pairs_of(detector)} train (8 by day, 8 by night), for cpu, weights of 7 bits"
    assert manifest.origin.calibration == described
    assert manifest.parity is not None
    assert manifest.parity.passed
    tensors = onnx.load(output).graph.initializer
    weights = [numpy_helper.to_array(tensor) for tensor in tensors if tensor.name.endswith("weight_quantized")]
    assert len(weights) > 30
    assert max(np.abs(of_layer.astype(int)).max() for of_layer in weights) == 64


@pytest.mark.parametrize("broken", [False, True])
def test_the_library_that_will_run_it_judges(
    broken: bool, ready: Ready, detector: Made, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With AMX `mdrun` takes OpenVINO, and the search was in ONNX Runtime."""
    pytest.importorskip("openvino")
    infer = OpenVinoBackend._infer

    def wrong(self: OpenVinoBackend, feeds: Inputs) -> Outputs:
        found = infer(self, feeds)
        return {**found, "scores": found["scores"] * 0}

    monkeypatch.setattr(choice, "_has_fast_int8", lambda: True)
    if broken:
        monkeypatch.setattr(OpenVinoBackend, "_infer", wrong)
    calibrated = calibrate(ready, Calibration(pairs_of(detector)).read(ready.engine.manifest))
    manifest = convert_int8(ready, tmp_path / "int8.onnx", calibrated, "cpu", accept="to look at" if broken else None)
    assert manifest.parity is not None
    assert manifest.parity.passed is not broken
    assert manifest.parity.reference.endswith("which passed; the file itself in openvino")
    assert re.fullmatch(rf"openvino [\d.]+, {choice.best_instructions()}", str(manifest.parity.computed_by))
    said = ready.seen[str(manifest.origin.graph_sha256)]  # by it, which a check will hear again
    assert any(outputs["scores"].any() for outputs in said) is not broken
    chosen = [scene.record.name for scene in calibrated.scenes]
    assert len(chosen) == SENSITIVITY_SCENES
    assert set(chosen).isdisjoint(scene.record.name for scene in ready.scenes)


@pytest.mark.parametrize("target", TARGETS)
def test_label_maps_too(target: Target, segmenter: Made, tmp_path: Path) -> None:
    pairs = pairs_of(segmenter)
    manifest = export_int8(segmenter.engine, tmp_path / "int8.onnx", Calibration(pairs), pairs, target=target)
    assert manifest.parity is not None
    assert manifest.parity.mean_abs["labels"] <= manifest.parity.limits["labels"]


def test_pairs_of_the_list_are_counted_as_they_were_used(ready: Ready, detector: Made) -> None:
    few = Calibration(pairs_of(detector), "val", FEWEST + 50).read(ready.engine.manifest)
    assert few.described.startswith(f"{FEWEST} pairs of")
    assert few.described.endswith(" val (8 by day, 8 by night)")


def test_calibration_by_night_alone_is_told(
    ready: Ready, detector: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The pairs that judge are of day and night."""
    nights = write_pairs(tmp_path / "msrs", 2 * FEWEST)
    listed = [name for name in (nights / "train.txt").read_text().split() if name.endswith("N")]
    (nights / "train.txt").write_text("\n".join(listed))
    scenes = Calibration(parse_pairs(str(nights))).read(ready.engine.manifest)
    assert scenes.described == "16 pairs of msrs train (0 by day, 16 by night)"
    calibrate(ready, scenes)
    (line,) = capsys.readouterr().err.splitlines()
    assert line.startswith(f"mdexport: warning: calibrated on {scenes.described}, while msrs val")
    at_night = ready._replace(scenes=[scene for scene in ready.scenes if scene.record.night])
    calibrate(at_night, scenes)
    assert not capsys.readouterr().err


def test_a_pair_that_a_list_repeats_counts_once(ready: Ready, tmp_path: Path) -> None:
    pairs = write_pairs(tmp_path / "msrs")
    names = (pairs / "train.txt").read_text().split()
    (pairs / "train.txt").write_text("\n".join([*names[1:], *names[1:]]))
    with pytest.raises(UsageError, match="got 15 pairs, wanted at least 16 different ones"):
        Calibration(parse_pairs(str(pairs))).read(ready.engine.manifest)


def test_degraded_calibration_also_sees_failing_cameras(ready: Ready, detector: Made, ranges: TensorsData) -> None:
    degraded = calibrate(ready, Calibration(pairs_of(detector), degraded=True).read(ready.engine.manifest))
    assert "failing camera" in degraded.described
    wider = 0
    for name in ranges.data:
        (low, high), (lower, higher) = limits(ranges, name), limits(degraded.ranges, name)
        assert lower <= low
        assert higher >= high
        wider += (lower, higher) != (low, high)
    assert wider > 10


@pytest.mark.parametrize("number", [FEWEST, 2 * FEWEST])
def test_degraded_calibration_alters_scenes_of_the_whole_list(number: int, ready: Ready, tmp_path: Path) -> None:
    """Every fourth pair, each with every camera that can fail: one night or one day would widen few ranges."""
    pairs = parse_pairs(str(write_pairs(tmp_path / "msrs", 2 * FEWEST)))
    calibration = Calibration(pairs, number=number, degraded=True)
    scenes, _ = calibration.read(ready.engine.manifest)
    whole, failing = scenes[:number], scenes[number:]
    assert {scene.condition for scene in whole} == {INTACT}
    wanted = [scene.record.name for scene in whole[::ALTERED_EVERY]]
    for condition in ("visible black", "thermal black", "thermal frozen"):
        assert [scene.record.name for scene in failing if scene.condition == condition] == wanted
    assert len(failing) == 3 * len(wanted) == 3 * number // ALTERED_EVERY
    (black,) = {scene.feeds["visible"].tobytes() for scene in failing if scene.condition == "visible black"}
    assert not any(black)


@pytest.mark.slow
def test_the_layer_with_a_widened_range_hurts_most(ready: Ready, ranges: TensorsData) -> None:
    """A layer whose input is said to be ten thousand times as wide as it is sees hardly anything."""
    graph = Graph(ready.engine.model)
    alone = [n for n in graph.nodes(convolutions(ready)) if len(graph.consumers[n.input[0]]) == 1]
    chosen = alone[len(alone) // 2]
    data = dict(ranges.items())
    low, high = limits(ranges, chosen.input[0])
    wide = tuple(np.array(limit * 1e4, np.float32) for limit in (min(low, 0), high))
    widened = TensorsData(ranges.calibration_method, data | {chosen.input[0]: wide})
    model, scenes = ready.engine.model, evenly(ready.scenes, SENSITIVITY_SCENES)
    order = sensitivity(model, scenes, lambda kept: to_int8(model, widened, "tensorrt", kept))
    assert {name for name, _ in order} == set(convolutions(ready))
    assert order[0][0] == chosen.name
    errors = [error for _, error in order]
    assert errors == sorted(errors, reverse=True)


@pytest.mark.slow
def test_layers_that_hurt_are_left_out_until_it_passes(
    ready: Ready, ranges: TensorsData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The verdict is forced: an engine of at least two layers in single precision passes."""
    judge = Ready.judge
    tried: list[int] = []
    order: list[tuple[str, float]] = []

    def strict(ready: Ready, model: onnx.ModelProto, precision: str) -> Judged:
        judged = judge(ready, model, precision)
        tried.append(len(set(convolutions(ready)) - integers(model)))
        return judged._replace(parity=dataclasses.replace(judged.parity, passed=tried[-1] >= 2))

    def measured(model: onnx.ModelProto, scenes: list[Scene], quantise: Any) -> list[tuple[str, float]]:
        assert scenes is calibrated.scenes  # those that judge do not choose what they judge
        order.extend(sensitivity(model, scenes, quantise))
        return order

    monkeypatch.setattr(Ready, "judge", strict)
    monkeypatch.setattr(int8, "sensitivity", measured)
    calibrated = int8.Calibrated(ranges, "these tests", ready.scenes[:8])
    manifest = convert_int8(ready, tmp_path / "int8.onnx", calibrated, "cpu")
    assert tried == [0, 1, 2]
    worst = [name for name, _ in order[:2]]
    assert manifest.origin.kept == worst
    assert manifest.origin.sensitivity == dict(order)
    assert read_manifest(tmp_path / "int8.onnx").origin.sensitivity == dict(order)
    assert integers(onnx.load(tmp_path / "int8.onnx")) == set(convolutions(ready)) - set(worst)


@pytest.mark.slow
def test_the_search_ends_at_the_most_layers(
    ready: Ready, ranges: TensorsData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setitem(gate.LEAST_MATCHED, "int8", 1.1)
    monkeypatch.setattr(int8, "MOST_KEPT", 4)
    monkeypatch.setattr(int8, "sensitivity", lambda *_: [(name, 1.0) for name in convolutions(ready)])
    calibrated = int8.Calibrated(ranges, "these tests", ready.scenes[:8])
    with pytest.raises(GateError, match="least 110%"):
        convert_int8(ready, tmp_path / "int8.onnx", calibrated, "tensorrt")
    assert list(tmp_path.iterdir()) == []
    manifest = convert_int8(ready, tmp_path / "int8.onnx", calibrated, "tensorrt", "to look at")
    assert len(manifest.origin.kept) == 4
    assert manifest.parity is not None
    assert manifest.parity.accepted == "to look at"


def test_the_search_never_leaves_an_int8_file_without_integers(
    ready: Ready, ranges: TensorsData, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    names = convolutions(ready)
    monkeypatch.setitem(gate.LEAST_MATCHED, "int8", 1.1)
    monkeypatch.setattr(int8, "sensitivity", lambda *_: [(name, 1.0) for name in names[:3]])
    manifest = convert_int8(
        ready, tmp_path / "int8.onnx", int8.Calibrated(ranges, "x", ready.scenes[:8]), "tensorrt", "to look at"
    )
    assert manifest.origin.kept == names[:2]  # of the three


def test_command_line(detector: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    output = tmp_path / "int8.onnx"
    arguments = ["int8", str(detector.engine), "--calibration", str(detector.pairs), "--output", str(output)]
    assert run_command(mdexport, "mdexport", [*arguments, "--calibration-pairs", "16", "--degraded", "--json"]) == 0
    said = capsys.readouterr()
    report = json.loads(said.out)
    assert not said.err
    manifest = read_manifest(output)
    times = "(8 by day, 8 by night)"
    described = f"16 pairs of {pairs_of(detector)} train {times}, some also with a failing camera, for cpu"
    assert manifest.origin.calibration == described
    assert (
        report.items()
        >= {
            "passed": True,
            "path": str(output),
            "bytes": output.stat().st_size,
            "digest": manifest.digest(),
            "name": "tiny_int8",
            "precision": "int8",
            "doubt": None,
            "calibration": described,
            "kept": [],
            "sensitivity": {},
            "energy": None,
        }.items()
    )


def test_labels_are_those_of_the_pairs_that_judge(detector: Made) -> None:
    options = dict.fromkeys(("calibration_visible", "calibration_thermal", "calibration_list", "calibration_pairs"))
    given = options | {"calibration": str(detector.pairs), "degraded": False}
    alone, judges = calibration_of(given, None, "visible")
    assert (alone.pairs, judges.labels) == (judges, "visible")  # one set for both
    apart, judges = calibration_of(given, f"msrs={detector.pairs}", "visible")
    assert (apart.pairs, judges.labels) == (pairs_of(detector), "visible")


def test_the_table_names_the_layers_that_hurt(detector: Made, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = read_manifest(detector.engine)
    assert manifest.parity is not None
    origin = dataclasses.replace(manifest.origin, kept=["conv_b"], sensitivity={"conv_a": 0.01, "conv_b": 0.25})
    parity = dataclasses.replace(manifest.parity, passed=False, accepted="by\nday")
    show(detector.engine, dataclasses.replace(manifest, origin=origin, parity=parity), as_json=False)
    shown = capsys.readouterr().out
    assert "left in higher precision: conv_b" in shown
    assert "layers with the largest error alone in INT8: conv_b 0.25, conv_a 0.01" in shown
    assert "accepted without passing: by day" in " ".join(shown.split())
    assert "not verified" not in shown  # the title says so


def test_swapped_recordings_are_told_by_the_options_of_the_command(
    detector: Made, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    visible, thermal = (str(detector.pairs / camera) for camera in ("vi", "ir"))
    swapped = ["--calibration-visible", thermal, "--calibration-thermal", visible]
    arguments = [str(detector.engine), *swapped, "--pairs", str(detector.pairs), "--output", str(tmp_path / "e.onnx")]
    assert run_command(mdexport, "mdexport", ["int8", *arguments]) == 5
    (line,) = capsys.readouterr().err.splitlines()
    assert "are --calibration-visible and --calibration-thermal swapped?" in line


@pytest.mark.parametrize(
    ("arguments", "code", "named"),
    [
        (["--output", "int8.onnx"], 2, "got nothing to calibrate on"),
        (["--calibration", "nowhere", "--output", "int8.onnx"], 2, "nowhere: no such folder"),
        (["--calibration", "{pairs}", "--pairs", "nowhere", "--output", "int8.onnx"], 2, "nowhere: no such folder"),
        (["--calibration", "{pairs}", "--calibration-pairs", "0", "--output", "int8.onnx"], 2, "0 is not in the range"),
        (["--calibration", "{pairs}", "--calibration-pairs", "8", "--output", "int8.onnx"], 2, "got 8 pairs, wanted"),
        (["--calibration", "{pairs}", "--calibration-list", "test", "--output", "int8.onnx"], 4, "test.txt: no such"),
        (["--calibration", "{pairs}", "--target", "npu", "--output", "int8.onnx"], 2, "'npu' is not one of"),
        (
            ["--calibration", "{pairs}", "--target", "tensorrt", "--reduce-range", "--output", "int8.onnx"],
            2,
            "got --reduce-range with --target tensorrt",
        ),
        (["--calibration", "{pairs}", "--output", "folder"], 6, "folder: is a folder"),
        (["--calibration", "{pairs}", "--output", "/proc/none/int8.onnx"], 6, "/proc/none"),
        (["--calibration", "msrs=few", "--output", "int8.onnx"], 2, "got 8 pairs, wanted at least 16"),
        (["--calibration", "msrs=unpaired", "--output", "int8.onnx"], 4, "00004N.jpg is missing"),
        (["--calibration", "msrs=wide", "--output", "int8.onnx"], 5, "wanted one field of view"),
        (["--calibration", "msrs=damaged", "--output", "int8.onnx"], 4, "00004N.jpg"),
        (
            ["--calibration", "{pairs}", "--calibration-list", "val", "--output", "int8.onnx"],
            5,
            "vi/00101D.jpg: 16 of the 16 pairs that judge (msrs val, fusion labels) calibrate as well",
        ),
        (
            ["--calibration-visible", "{pairs}/vi", "--calibration-thermal", "{pairs}/ir", *JUDGED],
            5,
            "16 of the 16 pairs that judge (msrs val, fusion labels) calibrate as well",
        ),
        (["--calibration", "msrs=blank", "--output", "int8.onnx"], 5, "ir/00001D.jpg: has one value everywhere"),
    ],
)
def test_bad_input(
    arguments: list[str],
    code: int,
    named: str,
    detector: Made,
    bad_pairs: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def too_late(*_: object) -> None:
        pytest.fail("found after the work began")

    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr("mdexport.proof.run_model", too_late)
    (tmp_path / "folder").mkdir()
    names = {"pairs": str(detector.pairs)}
    filled = [argument.format_map(names).replace("msrs=", f"msrs={bad_pairs}/") for argument in arguments]
    assert run_command(mdexport, "mdexport", ["int8", str(detector.engine), *filled]) == code
    (line,) = capsys.readouterr().err.splitlines()
    assert named in line
    assert {path.name for path in tmp_path.iterdir()} == {"folder"}


def test_an_int8_file_is_no_source(ready: Ready, ranges: TensorsData, detector: Made, tmp_path: Path) -> None:
    quantised = tmp_path / "int8.onnx"
    convert_int8(ready, quantised, int8.Calibrated(ranges, "these tests", ready.scenes[:8]), "cpu")
    for command, option in (("fp16", "--pairs"), ("int8", "--calibration")):
        arguments = [command, str(quantised), option, str(detector.pairs), "--output", str(tmp_path / "again.onnx")]
        assert run_command(mdexport, "mdexport", arguments) == 2
    assert [path.name for path in tmp_path.iterdir()] == ["int8.onnx"]
