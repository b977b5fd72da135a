"""OpenVINO on the CPU."""

from __future__ import annotations

import importlib
from collections.abc import Callable, Sequence
from functools import cache, partial
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mdrun.backends.base import ANY_BATCH, Backend, Inputs, Outputs, input_shape, one_line, split, stack
from mdrun.backends.tensors import Tensor, check_tensors, has_dynamic_batch
from mdrun.errors import BackendError, EngineError
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
        self.version = library.__version__.partition("-")[0]  # behind it: its build
        core = _core(library)
        try:
            model = core.read_model(path)
            inputs, outputs = _tensors(model.inputs), _tensors(model.outputs)
            check_tensors(path, manifest, inputs, outputs)
            self.max_batch = ANY_BATCH if has_dynamic_batch(inputs, outputs) else 1
            if model.is_dynamic():  # fixed sizes are faster, and mostly it gets one pair
                model.reshape({name: input_shape(spec) for name, spec in manifest.inputs.items()})
            properties = _properties(manifest, threads)
            compiled = core.compile_model(model, DEVICE, properties)
        except RuntimeError as error:
            raise EngineError(f"{path}: OpenVINO refuses it: {_line(error)}; copy or export it again") from error
        self._request: openvino.InferRequest | None = compiled.create_infer_request()
        self._many: openvino.InferRequest | None = None
        self._compile_many: Callable[[], Any] = partial(_compile_many, core, path, manifest, properties)

    def _infer(self, feeds: Inputs) -> Outputs:
        arrays = self._call(self._request, feeds, shared=True)
        return {name: arrays[name] for name in self._manifest.outputs}

    def _infer_batch(self, pairs: Sequence[Inputs]) -> list[Outputs]:
        if len(pairs) == 1:
            return super()._infer_batch(pairs)
        if self._many is None:
            try:
                self._many = self._compile_many()
            except RuntimeError as error:
                raise EngineError(
                    f"{self._manifest.engine_name}: OpenVINO does not take several pairs at once: {_line(error)}; "
                    "export the engine again"
                ) from error
        arrays = self._call(self._many, stack(pairs), shared=False)
        return split({name: arrays[name] for name in self._manifest.outputs}, len(pairs))

    def _call(self, request: openvino.InferRequest | None, feeds: Inputs, *, shared: bool) -> Any:
        """Outputs by name; `shared`: in memory that the next call overwrites."""
        if request is None:
            raise EngineError(f"{self._manifest.engine_name}: the engine is closed; load it again")
        try:
            return request.infer(feeds, share_inputs=True, share_outputs=shared)
        except RuntimeError as error:
            raise EngineError(
                f"{self._manifest.engine_name}: OpenVINO failed: {_line(error)}; export the engine again"
            ) from error

    def _close(self) -> None:
        self._request = self._many = None


def _compile_many(core: Any, path: Path, manifest: Manifest, properties: dict[str, str | int]) -> Any:
    """For batches of any size; as fast as one compiled for each size, and with the same results (measured)."""
    model = core.read_model(path)
    model.reshape({name: [-1, *input_shape(spec)[1:]] for name, spec in manifest.inputs.items()})
    return core.compile_model(model, DEVICE, properties).create_infer_request()


def _properties(manifest: Manifest, threads: int | None) -> dict[str, str | int]:
    """One pair at a time, as fast as it goes."""
    precision = PRECISIONS.get(manifest.origin.precision or "fp32", "f32")
    chosen: dict[str, str | int] = {"PERFORMANCE_HINT": "LATENCY", "INFERENCE_PRECISION_HINT": precision}
    return chosen if threads is None else chosen | {"INFERENCE_NUM_THREADS": threads}


def _import_openvino(path: Path) -> Any:
    try:
        return importlib.import_module("openvino")
    except ImportError as error:
        raise BackendError(
            f'{path}: running it wants OpenVINO, which is not installed; pip install "mdrun[openvino]"'
        ) from error


@cache
def _core(library: Any) -> Any:
    """OpenVINO's entry, one for the process: with one an engine the process died of a signal after some were closed.

    Each gives its thread a signal stack and takes it back by putting the one before in its place. Closed in another
    order than opened, they leave a stack whose memory is gone.
    """
    return library.Core()


def _tensors(ports: list[Any]) -> dict[str, Tensor]:
    return {port.get_any_name(): (port.get_element_type().to_dtype().name, _shape(port)) for port in ports}


def _shape(port: Any) -> list[int | str]:
    return [size.get_length() if size.is_static else "?" for size in port.get_partial_shape()]


def _line(error: Exception) -> str:
    """What went wrong, of an error of many lines."""
    lines = str(error).splitlines()
    return one_line(" ".join(line for line in lines if not line.startswith(PREAMBLE)) or " ".join(lines))
