"""INT8 in the graph of a real student: what is quantised, how, and what is left alone."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from benchmarks.precision_accuracy import with_unsigned_weights
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, numpy_helper
from onnxruntime.quantization import TensorsData

from mdexport.convert.graph import Graph
from mdexport.convert.int8 import OPERATORS, Target, to_int8
from mdexport.convert.ranges import measure_ranges
from mdexport.proof import run_model
from tests.export.graphs import SIDE, limits, make_graph, noise, scene

if TYPE_CHECKING:
    from mdexport.pairs import Scene
    from mdexport.proof import Ready

TARGETS: tuple[Target, ...] = ("cpu", "tensorrt")
QUANTISING = {"QuantizeLinear", "DequantizeLinear"}


@pytest.fixture(scope="module")
def ranges(ready: Ready) -> TensorsData:
    return measure_ranges(ready.engine.model, ready.scenes[:16])


@pytest.fixture(scope="module", params=TARGETS)
def target(request: pytest.FixtureRequest) -> Target:
    chosen: Target = request.param
    return chosen


@pytest.fixture(scope="module")
def quantised(ready: Ready, ranges: TensorsData, target: Target) -> Lookup:
    return Lookup(to_int8(ready.engine.model, ranges, target))


class Lookup:
    """A quantised graph by names."""

    def __init__(self, model: ModelProto) -> None:
        self.model = model
        self.constants = {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}
        self.makers = {name: node for node in model.graph.node for name in node.output}
        self.convolutions = [node for node in model.graph.node if node.op_type == "Conv"]

    def dequantised(self, name: str) -> NodeProto | None:
        """The node that makes a value out of integers."""
        maker = self.makers.get(name)
        return maker if maker is not None and maker.op_type == "DequantizeLinear" else None

    def parameters(self, node: NodeProto) -> tuple[NDArray[np.float32], NDArray[np.integer]]:
        """Scale and zero point."""
        return self.constants[node.input[1]], self.constants[node.input[2]]


def body_of(ready: Ready) -> list[str]:
    return Graph(ready.engine.model).body()


def test_every_convolution_reads_integers(ready: Ready, quantised: Lookup, target: Target) -> None:
    """But the first one, for TensorRT: it reads the cameras' bytes."""
    convolutions = [n.name for n in Graph(ready.engine.model).nodes(body_of(ready)) if n.op_type == "Conv"]
    assert len(convolutions) > 30
    found = {node.name for node in quantised.convolutions if quantised.dequantised(node.input[1])}
    assert found == set(convolutions[1 if target == "tensorrt" else 0 :])
    for node in quantised.convolutions:
        assert (node.name in found) is bool(quantised.dequantised(node.input[0]))


def test_a_first_convolution_of_mean_free_pixels_is_quantised(target: Target) -> None:
    """Where the network subtracts the mean before it, signed integers lose nothing."""
    model = make_graph({"factor": np.array(100.0)})
    for image, quantised in (("noise", True), ("bright", target == "cpu")):
        pixels = np.full((SIDE, SIDE), 200, np.uint8) if image == "bright" else noise().feeds["image"]
        found = Lookup(to_int8(model, measure_ranges(model, [scene(pixels)]), target))
        (first,) = [node for node in found.convolutions if node.name == "first"]
        assert bool(found.dequantised(first.input[0])) is quantised


def test_weights_are_symmetric_and_per_output_channel(ready: Ready, quantised: Lookup) -> None:
    exact = {tensor.name: numpy_helper.to_array(tensor) for tensor in ready.engine.model.graph.initializer}
    weights_of = {node.name: node.input[1] for node in ready.engine.model.graph.node if node.op_type == "Conv"}
    for node in quantised.convolutions:
        maker = quantised.dequantised(node.input[1])
        if maker is None:
            continue
        scale, zero = quantised.parameters(maker)
        integers, wanted = quantised.constants[maker.input[0]], exact[weights_of[node.name]]
        assert scale.shape == zero.shape == (wanted.shape[0],)
        assert integers.dtype == zero.dtype == np.int8
        assert not zero.any()
        shift = np.abs(integers * scale.reshape(-1, 1, 1, 1) - wanted)
        assert (shift <= 0.5001 * scale.reshape(-1, 1, 1, 1)).all()  # half a step: nothing is clipped


def test_a_reduced_range_of_weights_leaves_activations_alone(ready: Ready, ranges: TensorsData) -> None:
    whole, reduced = (Lookup(to_int8(ready.engine.model, ranges, "cpu", reduce_range=flag)) for flag in (False, True))
    for before, after in zip(whole.convolutions, reduced.convolutions, strict=True):
        was_read, were = (whole.makers[name] for name in before.input[:2])
        read, weights = (reduced.makers[name] for name in after.input[:2])
        assert np.abs(whole.constants[were.input[0]].astype(int)).max() == 127
        assert np.abs(reduced.constants[weights.input[0]].astype(int)).max() == 64
        assert reduced.parameters(weights)[0] == pytest.approx(whole.parameters(were)[0] * 127 / 64, rel=1e-5)
        assert reduced.parameters(read) == whole.parameters(was_read)


def adds_up_exactly(model: ModelProto, scenes: list[Scene]) -> bool:
    """The outputs are those of exact sums, bit for bit."""
    found, exact = (run_model(one, scenes, "") for one in (model, with_unsigned_weights(model)))
    return all(np.array_equal(a[name], b[name]) for a, b in zip(found, exact, strict=True) for name in a)


def worst_case(*, reduce_range: bool) -> tuple[ModelProto, list[Scene]]:
    """The brightest image, and weights that are all the largest."""
    bright = [scene(np.full((SIDE, SIDE), 255, np.uint8))]
    weights = np.array([1, -1, 1, -1]).reshape(4, 1, 1, 1) * np.ones((4, 1, 3, 3))
    model = make_graph({"factor": np.array(0.0), "first_w": weights, "first_b": np.zeros(4)})
    return to_int8(model, measure_ranges(model, bright), "cpu", reduce_range=reduce_range), bright


def test_weights_of_a_reduced_range_add_up_exactly(ready: Ready, ranges: TensorsData) -> None:
    assert adds_up_exactly(*worst_case(reduce_range=True))
    reduced = to_int8(ready.engine.model, ranges, "cpu", reduce_range=True)
    glaring = {name: np.full_like(image, 255) for name, image in ready.scenes[0].feeds.items()}
    assert adds_up_exactly(reduced, [*ready.scenes[:8], ready.scenes[0]._replace(feeds=glaring)])


def test_weights_of_the_whole_range_do_not_without_vnni() -> None:
    """So that the test before this one can fail."""
    flags = Path("/proc/cpuinfo").read_text(encoding="utf-8") if Path("/proc/cpuinfo").exists() else ""
    if " avx2 " not in flags or "vnni" in flags or "amx_int8" in flags:
        pytest.skip("this processor adds products of bytes in 32 bits")
    assert not adds_up_exactly(*worst_case(reduce_range=False))


def test_activations_are_what_their_library_wants(quantised: Lookup, target: Target) -> None:
    wanted = {"cpu": np.uint8, "tensorrt": np.int8}[target]
    for node in quantised.convolutions:
        maker = quantised.dequantised(node.input[0])
        if maker is None:
            continue
        scale, zero = quantised.parameters(maker)
        assert scale.size == zero.size == 1
        assert zero.dtype == wanted
        if target == "tensorrt":
            assert zero == 0


def test_tensorrt_gets_no_integer_biases(ready: Ready, ranges: TensorsData, target: Target, quantised: Lookup) -> None:
    for node in quantised.convolutions:
        if len(node.input) > 2:
            assert (quantised.dequantised(node.input[2]) is None) is (target == "tensorrt")
    kinds = {tensor.data_type for tensor in quantised.model.graph.initializer}
    assert (TensorProto.INT32 in kinds) is (target == "cpu")


def test_the_scale_covers_the_measured_range(ranges: TensorsData, quantised: Lookup, target: Target) -> None:
    """Signed and symmetric: 127 steps to the larger side. Unsigned: 255 steps from the smallest to the largest."""
    seen = 0
    for node in quantised.model.graph.node:
        if node.op_type == "QuantizeLinear" and node.input[0] in ranges.data:
            low, high = limits(ranges, node.input[0])
            scale, _ = quantised.parameters(node)
            wanted = max(-low, high) / 127 if target == "tensorrt" else (max(high, 0) - min(low, 0)) / 255
            assert float(scale) == pytest.approx(wanted, rel=0.02)
            seen += 1
    assert seen > 10


def test_nothing_after_the_last_convolutions_is_quantised(ready: Ready, quantised: Lookup, target: Target) -> None:
    body = set(body_of(ready))
    for node in quantised.model.graph.node:
        if node.op_type in QUANTISING or node.name in body:
            continue
        integers = [name for name in node.input if quantised.dequantised(name)]
        if target == "tensorrt":
            assert not integers, node.name
        assert node.op_type not in {"TopK", "Sigmoid", "Exp"} or not integers, node.name
    outside = {node.name for node in ready.engine.model.graph.node} - body
    assert outside <= {node.name for node in quantised.model.graph.node}


def test_which_values_are_quantised(ready: Ready, quantised: Lookup, target: Target) -> None:
    """TensorRT: exactly what convolutions read. Processors: also what sums, pooling and upsampling read."""
    graph = Graph(ready.engine.model)
    first, *others = (node for node in graph.nodes(graph.body()) if node.op_type == "Conv")
    found = {node.input[0] for node in quantised.model.graph.node if node.op_type == "QuantizeLinear"}
    if target == "tensorrt":
        assert found == {node.input[0] for node in others}
        assert first.input[0] not in found
    else:
        assert {node.op_type for node in graph.nodes(graph.body())} <= set(OPERATORS["cpu"])
        sums = [node for node in quantised.model.graph.node if node.op_type == "Add" and node.name in graph.body()]
        assert sums
        assert all(quantised.dequantised(name) for node in sums for name in node.input)


def test_kept_convolutions_keep_their_weights(ready: Ready, ranges: TensorsData, target: Target) -> None:
    """Two of the middle, and one of a tower whose weights other levels of the pyramid read as integers."""
    graph = Graph(ready.engine.model)
    convolutions = [node for node in graph.nodes(graph.body()) if node.op_type == "Conv"]
    shared = next(node for node in convolutions if len(graph.consumers[node.input[1]]) > 1)
    kept = frozenset([convolutions[3].name, convolutions[4].name, shared.name])
    found = Lookup(to_int8(ready.engine.model, ranges, target, kept))
    weights = {node.name: numpy_helper.to_array(graph.initialisers[node.input[1]]) for node in convolutions}
    for node in found.convolutions[1:]:  # the first reads bytes
        assert (found.dequantised(node.input[1]) is None) is (node.name in kept)
        if node.name in kept:
            assert np.array_equal(found.constants[node.input[1]], weights[node.name])


def test_with_everything_kept_the_graph_is_the_same(ready: Ready, ranges: TensorsData, target: Target) -> None:
    model = to_int8(ready.engine.model, ranges, target, frozenset(body_of(ready)))
    assert model == ready.engine.model
    assert not QUANTISING & {node.op_type for node in model.graph.node}


def test_the_graph_it_is_made_of_is_left_alone(ready: Ready, ranges: TensorsData, target: Target) -> None:
    before = ready.engine.model.SerializeToString()
    first, second = (to_int8(ready.engine.model, ranges, target) for _ in range(2))
    assert ready.engine.model.SerializeToString() == before
    assert first == second


def test_the_quantised_student_still_sees(ready: Ready, quantised: Lookup) -> None:
    onnx.checker.check_model(quantised.model, full_check=True)
    found = run_model(quantised.model, ready.scenes[:4], "")
    for got, wanted in zip(found, ready.reference, strict=False):
        assert 0 < np.abs(got["scores"] - wanted["scores"]).max() < 0.2
