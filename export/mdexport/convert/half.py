"""Half precision as a property of the graph: a region of nodes computes in FP16 or BF16, the rest stays FP32.

Values cross the border of the region through one Cast each, so nothing outside is rounded: box decoding in FP16 would
round coordinates above 512 to half a pixel. TensorRT builds such a graph strongly typed, as it stands.
"""

from __future__ import annotations

from collections.abc import MutableSequence, Set
from typing import Any, Literal

import numpy as np
import onnx
from numpy.typing import NDArray
from onnx import ModelProto, NodeProto, TensorProto, helper, numpy_helper

from mdexport.convert.graph import Graph

Half = Literal["fp16", "bf16"]
LARGEST = {"fp16": 65504.0, "bf16": 3.39e38}  # finite values: IEEE 754 binary16, bfloat16
TYPES = {"fp16": TensorProto.FLOAT16, "bf16": TensorProto.BFLOAT16}
BF16_OPSET = 22  # first whose Conv, MaxPool and Resize take bfloat16
KEPT_INPUTS = {"Resize": (1, 2)}  # roi and scales are single precision whatever the image is


def to_half(model: ModelProto, region: Set[str], half: Half) -> ModelProto:
    """Convert the nodes named in `region`; the model is left as it is.

    Args:
        model: FP32 graph with a name for every node.
        region: names of the nodes that compute in half precision.
        half: `fp16` or `bf16`.
    """
    converted = ModelProto()
    converted.CopyFrom(model)
    graph = Graph(converted)
    border = _Border(graph, region, half)
    nodes: list[NodeProto] = []
    for node in converted.graph.node:
        if node.name in region:
            border.enter(node, nodes)
        else:
            border.leave(node, nodes)
    border.outputs(nodes)
    del converted.graph.node[:]
    converted.graph.node.extend(nodes)
    _drop_unused(converted)
    del converted.graph.value_info[:]
    if half == "bf16":
        for entry in converted.opset_import:
            if not entry.domain:
                entry.version = max(entry.version, BF16_OPSET)
    onnx.checker.check_model(converted, full_check=True)
    return converted


def rounded(model: ModelProto, region: Set[str], half: Half) -> ModelProto:
    """A twin in FP32 in which every value that the region reads or makes is rounded to half precision."""
    twin = ModelProto()
    twin.CopyFrom(model)
    graph = Graph(twin)
    inside = _made_in(graph, region)
    entered: dict[str, str] = {}
    nodes: list[NodeProto] = []
    for node in twin.graph.node:
        if node.name not in region:
            nodes.append(node)
            continue
        for index, name in _entering(graph, inside, node):
            if name not in entered:
                entered[name] = f"{name}_rounded"
                if name in graph.initialisers:
                    values = _half_values(graph.initialisers[name], half).astype(np.float32)
                    twin.graph.initializer.append(numpy_helper.from_array(values, entered[name]))
                else:
                    nodes += _round_nodes(name, entered[name], half)
            node.input[index] = entered[name]
        nodes.append(node)
        for index, name in enumerate(node.output):
            if name in inside:
                node.output[index] = f"{name}_exact"
                nodes += _round_nodes(f"{name}_exact", name, half)
    del twin.graph.node[:]
    twin.graph.node.extend(nodes)
    _drop_unused(twin)
    del twin.graph.value_info[:]
    return twin


def _round_nodes(source: str, target: str, half: Half) -> list[NodeProto]:
    """To half precision and back."""
    return [
        _cast_node(source, f"{target}_{half}", TYPES[half]),
        _cast_node(f"{target}_{half}", target, TensorProto.FLOAT),
    ]


def _made_in(graph: Graph, region: Set[str]) -> set[str]:
    """Floating-point values that nodes of the region make."""
    return {name for node in graph.nodes(region) for name in node.output if graph.is_float(name)}


def _entering(graph: Graph, inside: Set[str], node: NodeProto) -> list[tuple[int, str]]:
    """Inputs of a node of the region, by position, that are single precision and must become half."""
    kept = KEPT_INPUTS.get(node.op_type, ())
    return [
        (index, name)
        for index, name in enumerate(node.input)
        if index not in kept and graph.is_float(name) and name not in inside
    ]


def _half_values(tensor: TensorProto, half: Half) -> NDArray[Any]:
    """Constants in half precision; finite ones beyond the largest become the largest, not infinity."""
    values = numpy_helper.to_array(tensor)
    limit = LARGEST[half]
    clipped = np.where(np.isfinite(values), np.clip(values, -limit, limit), values)
    return clipped.astype(helper.tensor_dtype_to_np_dtype(TYPES[half]))


class _Border:
    """Casts between the region and the rest, one for each value and direction."""

    def __init__(self, graph: Graph, region: Set[str], half: Half) -> None:
        self._graph = graph
        self._inside = _made_in(graph, region)
        self._half = half
        self._casts: dict[str, str] = {}

    def enter(self, node: NodeProto, nodes: list[NodeProto]) -> None:
        """A node of the region: its floating-point inputs become half, also a Cast's target."""
        for attribute in node.attribute:
            if node.op_type == "Cast" and attribute.name == "to" and attribute.i == TensorProto.FLOAT:
                attribute.i = TYPES[self._half]
        for index, name in _entering(self._graph, self._inside, node):
            if name in self._graph.initialisers:
                node.input[index] = self._weights(name)
            else:
                node.input[index] = self._cast(name, TYPES[self._half], nodes)
        nodes.append(node)

    def leave(self, node: NodeProto, nodes: list[NodeProto]) -> None:
        """A node outside: what comes from the region becomes FP32 again."""
        for index, name in enumerate(node.input):
            if name in self._inside:
                node.input[index] = self._cast(name, TensorProto.FLOAT, nodes)
        nodes.append(node)

    def outputs(self, nodes: list[NodeProto]) -> None:
        """Outputs of the graph keep their type: what the region gives is cast under the output's name."""
        for output in self._graph.model.graph.output:
            if output.name in self._inside:
                inner = f"{output.name}_{self._half}"
                for node in nodes:
                    _rename(node.input, output.name, inner)
                    _rename(node.output, output.name, inner)
                nodes.append(_cast_node(inner, output.name, TensorProto.FLOAT))

    def _cast(self, name: str, to: int, nodes: list[NodeProto]) -> str:
        if name not in self._casts:
            self._casts[name] = f"{name}_{'fp32' if to == TensorProto.FLOAT else self._half}"
            nodes.append(_cast_node(name, self._casts[name], to))
        return self._casts[name]

    def _weights(self, name: str) -> str:
        """A half copy of an initialiser."""
        copy = f"{name}_{self._half}"
        if copy not in self._graph.initialisers:
            tensor = numpy_helper.from_array(_half_values(self._graph.initialisers[name], self._half), copy)
            self._graph.model.graph.initializer.append(tensor)
            self._graph.initialisers[copy] = tensor
        return copy


def _cast_node(source: str, target: str, to: int) -> NodeProto:
    return helper.make_node("Cast", [source], [target], name=f"cast_{target}", to=to)


def _rename(names: MutableSequence[str], before: str, after: str) -> None:
    for index, name in enumerate(names):
        if name == before:
            names[index] = after


def _drop_unused(model: ModelProto) -> None:
    """Initialisers that no node reads any more."""
    used = {name for node in model.graph.node for name in node.input}
    kept = [tensor for tensor in model.graph.initializer if tensor.name in used]
    del model.graph.initializer[:]
    model.graph.initializer.extend(kept)
