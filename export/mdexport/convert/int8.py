"""INT8 as a property of the graph: QuantizeLinear and DequantizeLinear around the body, scales from real pairs.

Weights are per output channel and symmetric. Activations depend on who runs the graph:

- `cpu`: unsigned with a zero point, every tensor of the body. ONNX Runtime's fast convolutions on x86 take unsigned
  activations only, and fuse a convolution where its output is quantised too.
- `tensorrt`: signed and symmetric, and only what convolutions read, as TensorRT's documentation asks for; biases stay
  in single precision. So does a convolution that reads a camera's bytes, of which signed ones would lose every other.

x86 without VNNI adds two products of an unsigned and a signed byte in 16 bits (VPMADDUBSW), where a sum beyond 32767
becomes 32767. Weights of a reduced range, -64 to 64, cannot reach it: 2 * 255 * 64 = 32640.
"""

from __future__ import annotations

from collections.abc import Set
from typing import Literal

import onnx
from onnx import ModelProto
from onnxruntime.quantization import QDQQuantizer, QuantType, TensorsData

from mdexport.convert.graph import Graph

Target = Literal["cpu", "tensorrt"]
OPERATORS = {"cpu": ("Conv", "Relu", "Add", "MaxPool", "Resize", "MatMul", "Concat"), "tensorrt": ("Conv",)}
ACTIVATIONS = {"cpu": QuantType.QUInt8, "tensorrt": QuantType.QInt8}
OPTIONS = {
    "cpu": {},
    "tensorrt": {
        "ActivationSymmetric": True,
        "QuantizeBias": False,
        "OpTypesToExcludeOutputQuantization": ["Conv"],
        "DedicatedQDQPair": False,
    },
}


def to_int8(
    model: ModelProto,
    ranges: TensorsData,
    target: Target,
    kept: Set[str] = frozenset(),
    *,
    reduce_range: bool = False,
) -> ModelProto:
    """Quantise the body of a graph; the model is left as it is.

    Args:
        model: FP32 graph.
        ranges: of the body's tensors, by `measure_ranges`.
        target: who runs it.
        kept: names of nodes that stay in single precision.
        reduce_range: weights from -64 to 64 and not from -127 to 127, activations as before.
    """
    copy = ModelProto()
    copy.CopyFrom(model)
    graph = Graph(copy)
    if target == "tensorrt":
        kept = kept | _byte_readers(graph, ranges)
    chosen = [n.name for n in graph.nodes(graph.body()) if n.op_type in OPERATORS[target] and n.name not in kept]
    if not chosen:  # the quantizer would take an empty list for all nodes
        return copy
    _separate_constants(graph, set(chosen))
    quantizer = QDQQuantizer(
        copy,
        per_channel=True,
        reduce_range=reduce_range,
        weight_qType=QuantType.QInt8,
        activation_qType=ACTIVATIONS[target],
        tensors_range=ranges,
        nodes_to_quantize=chosen,
        nodes_to_exclude=[],
        op_types_to_quantize=list(OPERATORS[target]),
        extra_options=OPTIONS[target],
    )
    quantizer.quantize_model()
    quantizer.model.topological_sort()
    quantised: ModelProto = quantizer.model.model
    onnx.checker.check_model(quantised)
    return quantised


def _byte_readers(graph: Graph, ranges: TensorsData) -> set[str]:
    """Names of the convolutions that read what is before the body and never negative."""
    body = set(graph.body())
    found = set()
    for node in graph.nodes(body):
        maker = graph.producers.get(node.input[0])
        if node.op_type == "Conv" and (maker is None or maker.name not in body):
            lowest, _ = ranges[node.input[0]].range_value
            if lowest.min() >= 0:
                found.add(node.name)
    return found


def _separate_constants(graph: Graph, chosen: Set[str]) -> None:
    """Nodes that stay in single precision read constants of their own.

    A tower has one set of weights for all levels of the pyramid: quantised for one, it would be so for every other.
    """
    for name, tensor in list(graph.initialisers.items()):
        readers = graph.consumers[name]
        others = [reader for reader in readers if reader.name not in chosen]
        if not others or len(others) == len(readers):
            continue
        separate = graph.model.graph.initializer.add()
        separate.CopyFrom(tensor)
        separate.name = f"{name}_single"
        for reader in others:
            reader.input[:] = [separate.name if read == name else read for read in reader.input]
