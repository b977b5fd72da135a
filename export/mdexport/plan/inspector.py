"""What the engine inspector says about a finished plan, in the JSON of TensorRT 10 and of TensorRT 11.

TensorRT 10 writes a tensor's type as `"Format/Datatype": "Half"` or `"Row major linear FP16 format"`, and the engine's
inputs and outputs as the names `Bindings`. TensorRT 11 splits the type into `Format` and `Datatype`, and lists
`I/O Tensors` as objects. Only the layers' types are wanted here, so one reader serves both. With an optimisation
profile a type may be `"N/A due to dynamic shapes"`.
https://docs.nvidia.com/deeplearning/tensorrt/11.3.0/api/migration/tensorrt-10x-to-11x-IEngineInspector.html
"""

from __future__ import annotations

import json
import re
from collections import Counter
from typing import Any

from mdexport.plan.precision import UNTYPED, LayerCount
from mdrun.backends.nvidia.library import Library, LibraryError

TYPE_KEYS = ("Format/Datatype", "Datatype", "DataType")
KIND_KEYS = ("LayerType", "ParameterType", "TacticName")
WORKING = re.compile(r"conv(?!ert)|gemm|matmul|matrixmul|fullyconnected|mha", re.IGNORECASE)
TYPES = {
    "float": "fp32",
    "fp32": "fp32",
    "half": "fp16",
    "fp16": "fp16",
    "bfloat16": "bf16",
    "bf16": "bf16",
    "int8": "int8",
    "fp8": "fp8",
}


def count_engine(library: Library, plan: bytes, *, host_code: bool) -> tuple[LayerCount, str]:
    """Load a finished plan on this machine's GPU and count its layers.

    Only after `find_driver` found a driver. One that is too old for the library is found out here.

    Args:
        library: that built it.
        plan: the engine's bytes.
        host_code: let code run that is inside the plan.

    Returns:
        The count, and the network's name that the engine carries.

    Raises:
        LibraryError: the plan does not load, or its inspector cannot be read.
    """
    runtime = library.start_runtime()
    if host_code:
        runtime.engine_host_code_allowed = True
    engine = library.call("load the plan it built", runtime.deserialize_cuda_engine, plan)
    inspector = library.call("inspect the plan", engine.create_engine_inspector)
    text = library.call("describe the plan", inspector.get_engine_information, library.api.LayerInformationFormat.JSON)
    return read_count(text), engine.name


def read_count(text: str) -> LayerCount:
    """Count the convolution and matrix layers of an inspector's JSON by the type of their first input.

    Those whose type it does not tell count as `untyped`: left out, the few that it tells would speak for all.

    Raises:
        LibraryError: not that JSON, or without the layers' types, which only a plan built with them shows.
    """
    try:
        layers = json.loads(text)["Layers"]
        described = [layer for layer in layers if isinstance(layer, dict)]
        counter = Counter(_precision(layer) for layer in described if _works(layer))
    except (ValueError, KeyError, TypeError, AttributeError) as error:
        raise LibraryError(f"the engine inspector's JSON is not what TensorRT 10 or 11 writes ({error!r})") from error
    if layers and not described:
        raise LibraryError("the engine inspector names layers without their types; build with `mdexport plan`")
    return LayerCount("engine", dict(counter))


def _works(layer: dict[str, Any]) -> bool:
    """A convolution or a matrix product."""
    return any(WORKING.search(str(layer.get(key, ""))) for key in KIND_KEYS)


def _precision(layer: dict[str, Any]) -> str:
    return next(filter(None, map(_type, layer.get("Inputs", []))), UNTYPED)


def _type(tensor: dict[str, Any]) -> str | None:
    """Floating or 8-bit type of a tensor; None of indices and masks, and where it is not told."""
    text = next((str(tensor[key]) for key in TYPE_KEYS if key in tensor), "")
    return next((TYPES[word] for word in re.findall(r"\w+", text.lower()) if word in TYPES), None)
