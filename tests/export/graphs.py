"""A small FP32 graph as a network has it: pixels, two convolutions, and something after them."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper
from onnxruntime.quantization import TensorsData

from mdexport.pairs import INTACT, Scene
from mdexport.proof import run_model
from mdtrain.data.records import Record, make_record

OPSET = 18
SIDE = 6  # pixels of the image
STRETCH = 1.3  # of the map in between; no half precision number
NAMES = ["cast", "sub", "first", "relu", "resize", "last", "scale", "beside"]


def make_graph(weights: Mapping[str, NDArray[Any]] | None = None) -> ModelProto:
    """Cast → sub → first → relu → resize → last → scale, and a node that reads the first map beside the way.

    Args:
        weights: constants in the place of the random ones.
    """
    rng = np.random.default_rng(3)
    constants: dict[str, Any] = {
        "factor": 1.001,  # both the node before and the one after the convolutions read it
        "first_w": rng.normal(size=(4, 1, 3, 3)),
        "first_b": rng.normal(size=4),
        "stretch": [1, 1, STRETCH, STRETCH],
        "last_w": rng.normal(size=(2, 4, 3, 3)),
    } | dict(weights or {})
    nodes = [
        _node("cast", ["image"], to=TensorProto.FLOAT),
        _node("sub", ["cast_out", "factor"]),
        _node("conv", ["sub_out", "first_w", "first_b"], "first", pads=[1, 1, 1, 1]),
        _node("relu", ["first_out"]),
        _node("resize", ["relu_out", "", "stretch"], mode="nearest", nearest_mode="floor"),
        _node("conv", ["resize_out", "last_w"], "last", pads=[1, 1, 1, 1]),
        _node("mul", ["last_out", "factor"], "scale"),
        _node("neg", ["first_out"], "beside"),
    ]
    shape = [1, 1, SIDE, SIDE]
    outputs = {"scale_out": [1, 2, 7, 7], "beside_out": [1, 4, SIDE, SIDE]}
    graph = helper.make_graph(
        nodes,
        "small",
        [helper.make_tensor_value_info("image", TensorProto.UINT8, shape)],
        [helper.make_tensor_value_info(name, TensorProto.FLOAT, of_output) for name, of_output in outputs.items()],
        [numpy_helper.from_array(np.asarray(value, np.float32), name) for name, value in constants.items()],
    )
    model = helper.make_model(graph, opset_imports=[helper.make_opsetid("", OPSET)], ir_version=10)
    onnx.checker.check_model(model, full_check=True)
    return model


def _node(operator: str, inputs: list[str], name: str | None = None, **attributes: Any) -> NodeProto:
    """A node that makes `NAME_out`."""
    name = name or operator
    return helper.make_node(operator.capitalize(), inputs, [f"{name}_out"], name=name, **attributes)


def scene(image: NDArray[np.uint8]) -> Scene:
    """An image (SIDE, SIDE) as the gate's scene."""
    nothing: Record = make_record("none", (Path("vi"), Path("ir")), np.zeros((0, 4)), np.zeros(0, np.int64))
    return Scene({"image": image.reshape(1, 1, SIDE, SIDE)}, nothing, INTACT)


def noise(seed: int = 0) -> Scene:
    return scene(np.random.default_rng(seed).integers(0, 256, (SIDE, SIDE), np.uint8))


def values(model: ModelProto, names: list[str], of: Scene) -> dict[str, NDArray[np.float32]]:
    """Values inside a graph, by ONNX Runtime."""
    open_model = ModelProto()
    open_model.CopyFrom(model)
    del open_model.graph.output[:]
    open_model.graph.output.extend(helper.make_tensor_value_info(name, TensorProto.FLOAT, None) for name in names)
    (found,) = run_model(open_model, [of], "values")
    return found


def shift_output(model: ModelProto, name: str, by: float) -> ModelProto:
    """The model itself, with a number added to one of its outputs."""
    node = next(node for node in model.graph.node if name in node.output)
    node.output[list(node.output).index(name)] = "unshifted"
    model.graph.initializer.append(numpy_helper.from_array(np.array(by, np.float32), "by"))
    model.graph.node.append(helper.make_node("Add", ["unshifted", "by"], [name], "shift"))
    return model


def limits(ranges: TensorsData, name: str) -> tuple[float, float]:
    """Smallest and largest value that was measured."""
    low, high = ranges[name].range_value
    return float(low.min()), float(high.max())
