"""Verdicts on graphs whose batch has a name: some pairs go through alone, some together."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnx
import onnxruntime
import pytest
from onnx import ModelProto, NodeProto, TensorProto, helper

from mdexport.batches import in_batches
from mdexport.check import check_engines
from mdexport.engine_file import OnnxEngine, read_engine, stamp, write_engine
from mdexport.onnx_export import export_onnx
from mdexport.pairs import INTACT, Scene, parse_pairs
from mdexport.parity import Feed, compare
from mdexport.proof import Ready, prepare, run_model
from mdrun.errors import EngineError
from mdtrain.build import load_trained
from mdtrain.contract import TOP_K
from mdtrain.models.streams import Student
from tests.export.labelled import Made

ZEROS = helper.make_tensor("zero", TensorProto.INT64, [1], [0])


def give_all_the_first(model: ModelProto) -> ModelProto:
    """The same graph, and every pair of a batch gets the results of its first."""
    broken = ModelProto()
    broken.CopyFrom(model)
    graph = broken.graph
    for constant, value in (("start", 0), ("end", 1)):
        graph.initializer.append(helper.make_tensor(constant, TensorProto.INT64, [1], [value]))
    graph.node.append(helper.make_node("Shape", [graph.input[0].name], ["whole"]))
    graph.node.append(helper.make_node("Slice", ["whole", "start", "end"], ["pairs"]))
    graph.node.append(helper.make_node("ConstantOfShape", ["pairs"], ["firsts"], value=ZEROS))
    for output in graph.output:
        for node in graph.node:
            node.output[:] = [f"{name}_own" if name == output.name else name for name in node.output]
        graph.node.append(helper.make_node("Gather", [f"{output.name}_own", "firsts"], [output.name], axis=0))
    return broken


def brightest(batch: str | int, out: str | int, *nodes: NodeProto) -> ModelProto:
    """`image` (batch, 2, 2) → its largest byte, `out` of them."""
    made = nodes or (helper.make_node("ReduceMax", ["floats"], ["largest"], axes=[1, 2], keepdims=0),)
    graph = helper.make_graph(
        [helper.make_node("Cast", ["image"], ["floats"], to=TensorProto.FLOAT), *made],
        "brightest",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, [batch, 2, 2])],
        [helper.make_tensor_value_info("largest", TensorProto.FLOAT, [out])],
    )
    return helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=9)


def scenes_of(count: int, ready: Ready) -> list[Scene]:
    """Scene i is i everywhere."""
    record = ready.scenes[0].record
    return [Scene({"image": np.full((1, 2, 2), index, np.uint8)}, record, INTACT) for index in range(count)]


def said(model: ModelProto, scenes: Sequence[Scene]) -> list[float]:
    return [float(one["largest"].item()) for one in run_model(model, scenes, "")]


def test_some_are_alone_and_some_together() -> None:
    for count in range(10):
        assert [item for batch in in_batches(range(count)) for item in batch] == list(range(count))
    assert [len(batch) for batch in in_batches(range(10))] == [1, 3, 1, 3, 1, 1]
    assert [len(batch) for batch in in_batches(range(7))] == [1, 3, 1, 2]  # a shorter last one
    assert [len(batch) for batch in in_batches(range(3), together=False)] == [1, 1, 1]


@pytest.mark.parametrize("batch", ["batch", 1])
def test_every_scene_gets_its_own_outputs(batch: str | int, ready: Ready) -> None:
    assert said(brightest(batch, batch), scenes_of(9, ready)) == list(range(9))


def test_a_graph_that_gives_all_pairs_of_a_batch_the_first_ones_is_seen(ready: Ready) -> None:
    broken = give_all_the_first(brightest("batch", "batch"))
    assert said(broken, scenes_of(1, ready)) == [0]  # of one pair nothing is wrong with it
    assert said(broken, scenes_of(7, ready)) == [0, 1, 1, 1, 4, 5, 5]


def test_a_graph_that_takes_one_pair_though_its_batch_has_a_name(ready: Ready) -> None:
    axis = helper.make_node("Constant", [], ["axis"], value=ZEROS)
    alone = helper.make_node("Squeeze", ["floats", "axis"], ["alone"])
    most = helper.make_node("ReduceMax", ["alone"], ["most"], axes=[0, 1], keepdims=0)
    own = helper.make_node("ReduceMax", ["floats"], ["own"], axes=[1, 2], keepdims=0)
    model = brightest("batch", "batch", axis, alone, most, own, helper.make_node("Max", ["own", "most"], ["largest"]))
    assert said(model, scenes_of(1, ready)) == [0]
    with pytest.raises(EngineError, match="brightest: its batch has a name, and ONNX Runtime does not run 3 pairs"):
        said(model, scenes_of(4, ready))


def test_a_graph_with_one_result_for_all(ready: Ready) -> None:
    own = helper.make_node("ReduceMax", ["floats"], ["own"], axes=[1, 2], keepdims=0)
    yes = helper.make_node("Constant", [], ["yes"], value=helper.make_tensor("", TensorProto.BOOL, [1], [True]))
    model = brightest("batch", "any", own, yes, helper.make_node("Compress", ["own", "yes"], ["largest"], axis=0))
    with pytest.raises(EngineError, match="brightest: its output largest has fewer results than the 3 pairs"):
        said(model, scenes_of(4, ready))


@pytest.fixture(scope="module")
def dynamic(detector: Made, tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The detector for any number of pairs; nobody writes there."""
    output = tmp_path_factory.mktemp("dynamic") / "many.onnx"
    cameras = str(detector.pairs / "vi"), str(detector.pairs / "ir")
    export_onnx(detector.weights, output, *cameras, pairs=4, dynamic_batch=True)
    return output


@pytest.fixture(scope="module")
def broken(dynamic: Path) -> OnnxEngine:
    engine = read_engine(dynamic)
    model = give_all_the_first(engine.model)
    onnx.checker.check_model(model)
    return OnnxEngine(model, stamp(model, engine.manifest))


@pytest.mark.slow  # an export
def test_the_gate_judges_batches(dynamic: Path, broken: OnnxEngine, detector: Made) -> None:
    ready = prepare(dynamic, parse_pairs(str(detector.pairs)))
    assert ready.judge(ready.engine.model, "fp32").parity.passed
    assert not ready.judge(broken.model, "fp32").parity.passed


@pytest.mark.slow
def test_the_check_judges_batches(dynamic: Path, broken: OnnxEngine, detector: Made, tmp_path: Path) -> None:
    """Also where the engine is its own reference: that is what it says of each alone."""
    write_engine(broken.model, broken.manifest, tmp_path / "broken.onnx")
    pairs = parse_pairs(str(detector.pairs))
    for paths, passed in (([dynamic, tmp_path / "broken.onnx"], [True, False]), ([tmp_path / "broken.onnx"], [False])):
        verdicts = check_engines(paths, pairs).report.verdicts
        assert [verdict.parity is not None and verdict.parity.passed for verdict in verdicts] == passed


@pytest.mark.slow
def test_the_export_compares_batches(dynamic: Path, broken: OnnxEngine, detector: Made, ready: Ready) -> None:
    student = load_trained(detector.weights, "student").model
    assert isinstance(student, Student)
    feeds = [Feed(scene.feeds["visible"], scene.feeds["thermal"]) for scene in ready.scenes[:5]]
    for model, passed in ((read_engine(dynamic).model, True), (broken.model, False)):
        session = onnxruntime.InferenceSession(model.SerializeToString(), providers=["CPUExecutionProvider"])
        parity = compare(student, session, feeds, TOP_K, "these tests")
        assert (parity.pairs, parity.passed) == (5, passed)
