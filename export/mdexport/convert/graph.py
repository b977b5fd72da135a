"""A view of an ONNX graph: who makes and reads a value, which are floating-point, which nodes are the body."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable

import onnx
from onnx import ModelProto, NodeProto, TensorProto

from mdrun.errors import EngineError


class Graph:
    """Lookups of a model whose nodes are in order and named, as `mdexport onnx` writes it.

    Attributes:
        model: the model.
        initialisers: constant tensors by name.
        producers: node by each value it makes.
        consumers: nodes by each value they read.

    Raises:
        EngineError: a node without a name, or two of one name.
    """

    def __init__(self, model: ModelProto) -> None:
        self.model = model
        self.initialisers = {tensor.name: tensor for tensor in model.graph.initializer}
        self.producers: dict[str, NodeProto] = {}
        self.consumers: dict[str, list[NodeProto]] = defaultdict(list)
        for node in model.graph.node:
            for name in node.output:
                self.producers[name] = node
            for name in node.input:
                self.consumers[name].append(node)
        names = [node.name for node in model.graph.node]
        if len(set(names)) < len(names) or "" in names:
            raise EngineError("nodes of the graph have no names of their own; export it again with `mdexport onnx`")
        self._types = self._element_types()

    def is_float(self, name: str) -> bool:
        """The value is in single precision."""
        return self._types.get(name) == TensorProto.FLOAT

    def nodes(self, names: Iterable[str]) -> list[NodeProto]:
        """The nodes of these names, in the graph's order."""
        wanted = set(names)
        return [node for node in self.model.graph.node if node.name in wanted]

    def body(self) -> list[str]:
        """Names of the convolutions and of everything between them: the network without the work before and after.

        What comes before the first convolution handles pixels, what comes after the last ones decodes boxes or labels.
        """
        behind: set[str] = set()
        for node in self.model.graph.node:
            makers = (self.producers.get(name) for name in node.input)
            if node.op_type == "Conv" or any(maker is not None and maker.name in behind for maker in makers):
                behind.add(node.name)
        before = self.before_last_convolutions()
        return [node.name for node in self.model.graph.node if node.name in behind and node.name in before]

    def before_last_convolutions(self) -> set[str]:
        """Names of the convolutions and of all nodes that lead to one."""
        before: set[str] = set()
        for node in reversed(self.model.graph.node):
            readers = (reader for name in node.output for reader in self.consumers[name])
            if node.op_type == "Conv" or any(reader.name in before for reader in readers):
                before.add(node.name)
        return before

    def _element_types(self) -> dict[str, int]:
        inferred = onnx.shape_inference.infer_shapes(self.model, strict_mode=True).graph
        values = (*inferred.value_info, *inferred.input, *inferred.output)
        types = {value.name: value.type.tensor_type.elem_type for value in values}
        return types | {tensor.name: tensor.data_type for tensor in inferred.initializer}
