"""OpenVINO on the CPU."""

from __future__ import annotations

import importlib
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mdrun.backends.base import Backend, Feeds, Outputs, input_shape, one_line
from mdrun.backends.tensors import Tensor, check_tensors
from mdrun.errors import EngineError
from mdrun.manifest import Manifest

if TYPE_CHECKING:
    import openvino

DEVICE = "CPU"
# What OpenVINO calculates in, by the manifest's precision. Left alone it takes bfloat16 wherever the processor has it,
# and scores change by 2e-3. FP16 files get more than they ask for: in float16 release 2026.4.1 gives wrong scores on
# x86-64. Layers that an INT8 file has quantised stay so; this is for the others.
PRECISIONS = {"fp32": "f32", "fp16": "f32", "bf16": "bf16", "int8": "f32"}
PREAMBLE = ("Exception from", "Check ")  # lines of its errors that are for its own developers


class OpenVinoBackend(Backend):
    """An ONNX engine in OpenVINO, on the CPU."""

    name = "openvino"
    device = "cpu"

    def __init__(self, path: Path, manifest: Manifest, threads: int | None = None) -> None:
        """Load, check and compile an engine.

        Args:
            path: ONNX file.
            manifest: what it must take and give; its precision is the one that it runs in.
            threads: of one operator; None takes one a core.

        Raises:
            EngineError: the library is missing or refuses the file, or the graph is not what the manifest says.
        """
        super().__init__(manifest)
        library = _import_openvino(path)
        try:
            core = library.Core()
            model = core.read_model(path)
            check_tensors(path, manifest, _tensors(model.inputs), _tensors(model.outputs))
            if model.is_dynamic():  # fixed sizes are faster, and all it ever gets is one pair
                model.reshape({name: input_shape(spec) for name, spec in manifest.inputs.items()})
            compiled = core.compile_model(model, DEVICE, _properties(manifest, threads))
        except RuntimeError as error:
            raise EngineError(f"{path}: OpenVINO refuses it: {_line(error)}; copy or export it again") from error
        self._request: openvino.InferRequest | None = compiled.create_infer_request()

    def _infer(self, feeds: Feeds) -> Outputs:
        if self._request is None:
            raise EngineError(f"{self._manifest.name}: the engine is closed; load it again")
        try:
            arrays = self._request.infer(feeds, share_inputs=True, share_outputs=True)
        except RuntimeError as error:
            raise EngineError(
                f"{self._manifest.name}: OpenVINO failed: {_line(error)}; export the engine again"
            ) from error
        return {name: arrays[name] for name in self._manifest.outputs}

    def _close(self) -> None:
        self._request = None


def _properties(manifest: Manifest, threads: int | None) -> dict[str, str | int]:
    """One pair at a time, as fast as it goes."""
    precision = PRECISIONS.get(manifest.origin.precision or "fp32", "f32")
    chosen: dict[str, str | int] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": precision}
    return chosen if threads is None else chosen | {"INFERENCE_NUM_THREADS": threads}


def _import_openvino(path: Path) -> Any:
    try:
        return importlib.import_module("openvino")
    except ImportError as error:
        raise EngineError(
            f'{path}: running it wants OpenVINO, which is not installed; pip install "mdrun[openvino]"'
        ) from error


def _tensors(ports: list[Any]) -> dict[str, Tensor]:
    return {port.get_any_name(): (port.get_element_type().to_dtype().name, _shape(port)) for port in ports}


def _shape(port: Any) -> list[int | str]:
    return [size.get_length() if size.is_static else "?" for size in port.get_partial_shape()]


def _line(error: Exception) -> str:
    """What went wrong, of an error of many lines."""
    lines = str(error).splitlines()
    return one_line(" ".join(line for line in lines if not line.startswith(PREAMBLE)) or " ".join(lines))
