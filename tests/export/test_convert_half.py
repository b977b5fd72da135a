"""Half precision in the graph: what is converted, what is not, and that the rounded twin says what half would give."""

from __future__ import annotations

from collections.abc import Callable, Set
from itertools import chain, combinations
from typing import TYPE_CHECKING

import numpy as np
import onnx
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray
from onnx import ModelProto, TensorProto, helper, numpy_helper
from onnx.reference import ReferenceEvaluator

from mdexport.convert.graph import Graph
from mdexport.convert.half import BF16_OPSET, LARGEST, TYPES, Half, rounded, to_half
from mdexport.proof import run_model
from tests.export.graphs import NAMES, OPSET, make_graph, noise, values

if TYPE_CHECKING:
    from mdexport.proof import Ready

Convert = Callable[[ModelProto, Set[str], Half], ModelProto]
HALVES: tuple[Half, ...] = ("fp16", "bf16")
REGIONS = [set(names) for names in chain.from_iterable(combinations(NAMES, count) for count in range(len(NAMES) + 1))]
STEP = {"fp16": 2.0**-10, "bf16": 2.0**-7}  # between neighbours, relative: 10 and 7 bits


def types_of(model: ModelProto) -> dict[str, int]:
    return Graph(model)._types


def weights_of(model: ModelProto) -> dict[str, NDArray[np.float32]]:
    return {tensor.name: numpy_helper.to_array(tensor) for tensor in model.graph.initializer}


def round_to(half: Half, array: NDArray[np.float32]) -> NDArray[np.float32]:
    dtype = helper.tensor_dtype_to_np_dtype(TYPES[half])
    return np.asarray(array).astype(dtype).astype(np.float32)


@pytest.mark.parametrize("half", HALVES)
def test_an_empty_region_changes_nothing(half: Half) -> None:
    model = make_graph()
    for converted in (to_half(model, set(), half), rounded(model, set(), half)):
        assert list(converted.graph.node) == list(model.graph.node)
        (before,), (after,) = run_model(model, [noise()], ""), run_model(converted, [noise()], "")
        assert all(np.array_equal(before[name], after[name]) for name in before)


@given(region=st.sampled_from(REGIONS), half=st.sampled_from(HALVES))
def test_every_value_of_the_region_is_half_and_no_other(region: set[str], half: Half) -> None:
    model = make_graph()
    converted = to_half(model, region, half)
    types = types_of(converted)
    outputs = {output.name for output in model.graph.output}
    for node in converted.graph.node:
        if node.op_type == "Cast" and node.name != "cast":
            continue
        inside = node.name in region
        for name in (*node.input, *node.output):
            if name and name not in {"image", "stretch"}:
                assert types[name] == (TYPES[half] if inside else TensorProto.FLOAT), (node.name, name)
        assert not (inside and outputs & set(node.output))  # they are cast under their name
    assert [(o.name, o.type) for o in converted.graph.output] == [(o.name, o.type) for o in model.graph.output]
    assert model == make_graph()  # left as it was


@given(region=st.sampled_from(REGIONS))
def test_the_twin_says_what_half_precision_gives(region: set[str]) -> None:
    """ONNX Runtime adds up in single and rounds at the end, as a GPU does: one step of rounding apart at most."""
    model, of = make_graph(), noise()
    (half,), (twin,) = (run_model(make(model, region, "fp16"), [of], "") for make in (to_half, rounded))
    for name, value in half.items():
        assert value.shape == twin[name].shape
        np.testing.assert_allclose(value, twin[name], rtol=0, atol=2 * STEP["fp16"] * np.abs(value).max())


def test_for_single_operations_the_twin_is_half_precision_bit_for_bit() -> None:
    """Sums and products of two half numbers are so exact in single that rounding them again is rounding once."""
    names = ["image", "add_out", "mul_out", "relu_out"]
    nodes = [
        helper.make_node("Add", ["image", "weights"], ["add_out"], name="add"),
        helper.make_node("Mul", ["add_out", "weights"], ["mul_out"], name="mul"),
        helper.make_node("Relu", ["mul_out"], ["relu_out"], name="relu"),
    ]
    infos = [helper.make_tensor_value_info(name, TensorProto.FLOAT, [500]) for name in names]
    rng = np.random.default_rng(1)
    weights = numpy_helper.from_array(rng.normal(size=500).astype(np.float32), "weights")
    graph = helper.make_graph(nodes, "sums", infos[:1], infos[-1:], [weights])
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    feeds = {"image": rng.normal(size=500).astype(np.float32) * 100}
    region = {"add", "mul", "relu"}
    (true,) = ReferenceEvaluator(to_half(model, region, "fp16")).run(None, feeds)
    (twin,) = ReferenceEvaluator(rounded(model, region, "fp16")).run(None, feeds)
    assert np.array_equal(true, twin)
    (exact,) = ReferenceEvaluator(model).run(None, feeds)
    assert not np.array_equal(exact, twin)


@pytest.mark.parametrize("half", HALVES)
def test_the_twin_rounds_what_enters_and_what_is_made(half: Half) -> None:
    model, of = make_graph(), noise(5)
    twin = rounded(model, {"relu"}, half)
    found = values(twin, ["first_out", "relu_out"], of)
    assert np.array_equal(found["relu_out"], np.maximum(round_to(half, found["first_out"]), 0))
    exact = values(model, ["first_out"], of)["first_out"]
    assert np.array_equal(found["first_out"], exact)  # its other reader, outside, sees it unrounded
    assert np.array_equal(run_model(twin, [of], "")[0]["beside_out"], -exact)


@pytest.mark.parametrize("half", HALVES)
@pytest.mark.parametrize("make", [to_half, rounded])
def test_a_constant_that_others_read_too_stays_exact_for_them(make: Convert, half: Half) -> None:
    """1.001 is no half precision number; `sub` inside and `scale` outside read the same constant."""
    model = make(make_graph(), {"sub"}, half)
    by_name = {node.name: node for node in model.graph.node}
    constants = weights_of(model)
    assert constants[by_name["scale"].input[1]] == np.float32(1.001)
    assert float(constants[by_name["sub"].input[1]]) == float(round_to(half, np.array(1.001, np.float32)))


@pytest.mark.parametrize("half", HALVES)
def test_scales_of_a_resize_stay_in_single_precision(half: Half) -> None:
    """1.3 in half precision would be another size of the map for larger images."""
    for model in (to_half(make_graph(), set(NAMES), half), rounded(make_graph(), set(NAMES), half)):
        (resize,) = [node for node in model.graph.node if node.op_type == "Resize"]
        assert resize.input[1] == ""
        assert resize.input[2] == "stretch"
        assert weights_of(model)["stretch"].dtype == np.float32


def test_a_cast_to_single_precision_becomes_one_to_half() -> None:
    converted = to_half(make_graph(), {"cast", "sub"}, "fp16")
    (cast,) = [node for node in converted.graph.node if node.name == "cast"]
    assert [attribute.i for attribute in cast.attribute] == [TensorProto.FLOAT16]
    assert types_of(converted)["image"] == TensorProto.UINT8


def test_a_value_crosses_the_border_through_one_cast() -> None:
    converted = to_half(make_graph(), {"first"}, "fp16")
    casts = [node.input[0] for node in converted.graph.node if node.name.startswith("cast_")]
    assert sorted(casts) == ["first_out", "sub_out"]  # relu and beside read one cast


@pytest.mark.parametrize("half", HALVES)
def test_constants_beyond_the_largest_number_become_it(half: Half) -> None:
    limit = LARGEST[half]
    largest = round_to(half, np.array(limit, np.float32))
    beyond = np.finfo(np.float32).max
    wanted = {beyond: largest, -beyond: -largest, np.inf: np.inf, -np.inf: -np.inf, 1.0: 1.0}
    biases = np.array([*list(wanted)[:4]], np.float32)
    converted = to_half(make_graph({"first_b": biases}), {"first"}, half)
    got = weights_of(converted)[f"first_b_{half}"].astype(np.float32)
    assert got.tolist() == [wanted[float(bias)] for bias in biases]
    twin = weights_of(rounded(make_graph({"first_b": biases}), {"first"}, half))["first_b_rounded"]
    assert np.array_equal(twin, got)


def test_constants_that_nobody_reads_any_more_are_dropped() -> None:
    before = set(weights_of(make_graph()))
    assert set(weights_of(to_half(make_graph(), {"first"}, "fp16"))) == (before - {"first_w", "first_b"}) | {
        "first_w_fp16",
        "first_b_fp16",
    }


@pytest.mark.parametrize(("half", "opset"), [("fp16", OPSET), ("bf16", BF16_OPSET)])
def test_the_operator_set_is_one_that_knows_the_type(half: Half, opset: int) -> None:
    converted = to_half(make_graph(), set(NAMES), half)
    assert [entry.version for entry in converted.opset_import] == [opset]


@pytest.mark.slow
def test_a_file_in_half_precision_follows_its_twin_on_real_inputs(ready: Ready) -> None:
    """Over all scenes, also those with a black camera."""
    model = ready.engine.model
    region = Graph(model).before_last_convolutions()
    half = run_model(to_half(model, region, "fp16"), ready.scenes, "")
    twin = run_model(rounded(model, region, "fp16"), ready.scenes, "")
    scores = [np.abs(a["scores"] - b["scores"]).max() for a, b in zip(half, twin, strict=True)]
    single = [np.abs(a["scores"] - b["scores"]).max() for a, b in zip(half, ready.reference, strict=True)]
    assert max(scores) < 2e-3
    assert max(single) > 0


def test_a_bf16_file_follows_its_twin_in_openvino(ready: Ready) -> None:
    openvino = pytest.importorskip("openvino")
    model = ready.engine.model
    region = Graph(model).before_last_convolutions()
    data = to_half(model, region, "bf16").SerializeToString()
    core = openvino.Core()
    compiled = core.compile_model(core.read_model(data), "CPU", {"INFERENCE_PRECISION_HINT": "bf16"})
    scenes = ready.scenes[::4]
    twin = run_model(rounded(model, region, "bf16"), scenes, "")
    shifts = [
        np.abs(compiled(of.feeds)["scores"] - wanted["scores"]).max() for of, wanted in zip(scenes, twin, strict=True)
    ]
    assert max(shifts) < 0.03  # 8 bits: a step of 0.4 % in every one of forty layers


def test_the_shipped_types_are_those_of_the_standard() -> None:
    assert LARGEST["fp16"] == float(np.finfo(np.float16).max)
    assert set(TYPES) == set(LARGEST) == set(HALVES)
    assert onnx.TensorProto.DataType.Name(TYPES["bf16"]) == "BFLOAT16"
