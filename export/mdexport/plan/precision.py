"""Is an engine in the precision that was asked for? Counted, not believed.

What counts is the layers that do the work: convolutions and matrix products, by the type of their first input.
Casts, box decoding and top-k are in other types by design and say nothing.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mdrun.backends.nvidia.library import Library
from mdrun.errors import EngineError

if TYPE_CHECKING:
    import tensorrt as trt

HOW_TO_GET = {
    "fp32": "export it with `mdexport onnx`",
    "fp16": "convert it with `mdexport fp16`",
    "bf16": "convert it first",
    "int8": "quantise it with `mdexport int8`",
}
UNTYPED = "untyped"  # in the place of a precision: layers whose type is not told
UNTOLD = "counted in the network: the inspector does not tell types under dynamic shapes"


class PrecisionError(EngineError):
    """An ONNX file or an engine that is not in the precision it should be in."""


@dataclass(frozen=True)
class LayerCount:
    """Convolution and matrix layers by precision.

    Attributes:
        of: `engine`, as its inspector says, or `network`, the typed definition it is built from.
        layers: number by precision; UNTYPED where it is not told.
        why: the network was counted although the engine could be loaded; else empty.
    """

    of: str
    layers: dict[str, int]
    why: str = ""

    @property
    def total(self) -> int:
        """All of them."""
        return sum(self.layers.values())

    def share(self, *precisions: str) -> float:
        """Part of them that is in one of these precisions, in [0, 1]."""
        return sum(self.layers.get(name, 0) for name in precisions) / self.total if self.total else 0.0

    def describe(self, precision: str) -> str:
        """For people: how many of how many."""
        others = ", ".join(f"{name} {count}" for name, count in self.layers.items() if name != precision)
        found = f"{self.layers.get(precision, 0)} of {self.total} convolution and matrix layers of the {self.of}"
        return f"{found} in {precision}" + (f" (others: {others})" if others else "")


def asked_precision(where: Path, stated: str | None, wanted: str | None) -> str:
    """The precision to hold an engine to: what the ONNX file's manifest states.

    Args:
        where: the ONNX file, for errors.
        stated: by its manifest.
        wanted: by the user; None takes what is stated.

    Raises:
        PrecisionError: nothing is stated, or another one is wanted.
    """
    if stated is None:
        raise PrecisionError(f"{where}: its manifest states no precision; export it again with `mdexport onnx`")
    if wanted not in (None, stated):
        raise PrecisionError(
            f"{where}: is in {stated}, --precision wants {wanted}; an engine has the types of its ONNX file: "
            f"{HOW_TO_GET[wanted]}"
        )
    return stated


def check_precision(count: LayerCount, precision: str, least_share: float, where: Path) -> None:
    """Refuse an engine, or what it would be built from, that is not in the precision asked for.

    Raises:
        PrecisionError: with the numbers.
    """
    if count.share(precision) < least_share or not count.total:
        raise PrecisionError(
            f"{where}: should be in {precision} and is not: {count.describe(precision)}, wanted a share of "
            f"{least_share:g}; {HOW_TO_GET[precision]}, or change --least-share"
        )


def choose_count(engine: LayerCount, network: LayerCount, precision: str, least_share: float) -> LayerCount:
    """The count that decides on an engine with an optimisation profile, under which types may not be told.

    The engine's own, unless its untyped layers would decide: then that of the typed network, from which TensorRT takes
    every type.
    """
    if engine.share(precision) < least_share <= engine.share(precision, UNTYPED):
        return replace(network, why=UNTOLD)
    return engine


def count_network(library: Library, definition: trt.INetworkDefinition) -> LayerCount:
    """Count in the typed network definition; a layer behind a dequantisation of 8-bit integers runs in INT8."""
    kinds = library.api.LayerType
    working = (kinds.CONVOLUTION, kinds.DECONVOLUTION, kinds.MATRIX_MULTIPLY)
    layers = [definition.get_layer(index) for index in range(definition.num_layers)]
    dequantised = {
        layer.get_output(0).name: layer.get_input(0).dtype for layer in layers if layer.type == kinds.DEQUANTIZE
    }
    counter: Counter[str] = Counter()
    for layer in layers:
        if layer.type in working:
            tensor = layer.get_input(0)
            counter[_name(library, dequantised.get(tensor.name, tensor.dtype))] += 1
    return LayerCount("network", dict(counter))


def _name(library: Library, kind: trt.DataType) -> str:
    types = library.api.DataType
    names = {types.FLOAT: "fp32", types.HALF: "fp16", types.BF16: "bf16", types.INT8: "int8"}
    return names.get(kind) or str(kind.name).lower()
