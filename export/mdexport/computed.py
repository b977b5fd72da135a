"""What computed the outputs of a verdict: numbers of an engine depend on the library and on the processor."""

from __future__ import annotations

from mdrun.backends.base import Backend
from mdrun.backends.choice import LIBRARIES, best_instructions
from mdrun.backends.ort import import_onnxruntime
from mdrun.driver import find_driver


def computed_by(backend: Backend) -> str:
    """Library, version, and the GPU or the instructions of the processor: `openvino 2026.1.0, amx_int8`."""
    return f"{backend.name} {backend.version}, {_place(backend.device)}"


def computed_in_memory() -> str:
    """The same of a graph that was run without a file: in ONNX Runtime, on the processor."""
    return f"{LIBRARIES[0]} {import_onnxruntime().__version__}, {_place('cpu')}"


def _place(device: str) -> str:
    kind, _, index = device.partition(":")
    return find_driver().gpus[int(index or 0)].name if kind == "cuda" else best_instructions()
