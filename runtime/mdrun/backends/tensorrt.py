"""Engines of TensorRT (10.3 to 11) and of TensorRT for RTX, on the first GPU.

A run is one CUDA graph: copies to the device, the network, copies back. Buffers are allocated when the engine is
loaded, none per frame.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mdrun.backends.base import Backend, Inputs, Outputs, split
from mdrun.backends.cuda import DeviceMemory, open_memory
from mdrun.backends.cuda_array import CudaArray
from mdrun.backends.lane import Lane, Signature
from mdrun.backends.nvidia.library import TITLES, Library, LibraryError, load_library
from mdrun.backends.nvidia.machine import Machine, platform_name
from mdrun.backends.nvidia.needs import list_needs
from mdrun.backends.nvidia.plan_file import MAKER, belongs, rebuild_command
from mdrun.backends.tensors import Tensor, check_tensors, has_dynamic_batch
from mdrun.driver import Driver, DriverError, find_driver, l4t_release
from mdrun.errors import BackendError, EngineError
from mdrun.manifest import Manifest

if TYPE_CHECKING:
    import tensorrt as trt

TARGETS = {"tensorrt": "tensorrt", "tensorrt-rtx": "rtx"}  # backend, and what `mdexport plan --target` calls it
# TensorRT's names of element types, those that engines of this project take and give.
DTYPES = {"UINT8": "uint8", "FLOAT": "float32", "INT32": "int32", "INT64": "int64"}


class TensorRtBackend(Backend):
    """An engine in TensorRT or in TensorRT for RTX."""

    device = "cuda:0"
    takes_cuda_arrays = True

    def __init__(self, path: Path, manifest: Manifest, name: str = "tensorrt") -> None:
        """Check the file and the machine, then load, check and warm up the engine.

        Args:
            path: the engine, as the library wrote it.
            manifest: beside it; what it must take and give.
            name: one of TARGETS.

        Raises:
            BackendError: no driver, GPU or library, or the engine was built for others.
            EngineError: it is not what the manifest says, or does not load.
        """
        super().__init__(manifest)
        self.name = name
        belongs(path, manifest)
        self._library = _open_library(path, manifest, TARGETS[name])
        self.version = self._library.version
        self._runtime: trt.Runtime | None = self._library.start_runtime()
        self._engine: trt.ICudaEngine | None = _load(path, manifest, self._library, self._runtime)
        manifest.check_network_name(self._engine.name, str(path), MAKER)
        inputs, outputs = _tensors(self._library, self._engine)
        check_tensors(path, manifest, inputs, outputs)
        self._dynamic = has_dynamic_batch(inputs, outputs)
        if self._dynamic:
            self.max_batch = min(int(self._engine.get_tensor_profile_shape(key, 0)[2][0]) for key in inputs)
        self._memory: DeviceMemory = open_memory()
        self._lanes: dict[int, Lane] = {}
        try:
            self._lane(1)
        except BaseException:
            self.close()
            raise

    def _infer(self, feeds: Inputs) -> Outputs:
        return self._run([feeds])

    def _infer_batch(self, pairs: Sequence[Inputs]) -> list[Outputs]:
        if any(isinstance(array, CudaArray) for feeds in pairs for array in feeds.values()):
            return super()._infer_batch(pairs)  # they lie apart, and a batch is one block of memory
        outputs = {name: array.copy() for name, array in self._run(pairs).items()}
        return split(outputs, len(pairs))

    def _run(self, pairs: Sequence[Inputs]) -> Outputs:
        try:
            return self._lane(len(pairs)).run(pairs)
        except BackendError as error:
            raise EngineError(f"{self._manifest.engine_name}: {error}; build the engine again") from error

    def _lane(self, batch: int) -> Lane:
        """The one for batches of this size, made when it is first asked for."""
        if batch not in self._lanes:
            assert self._engine is not None  # noqa: S101  # a closed backend is refused before
            outputs = self._manifest.outputs
            signature = Signature(
                {key: (batch, *shape[1:]) for key, (shape, _) in self._wanted.items()},
                {key: (batch, *spec.shape[1:]) for key, spec in outputs.items()},
                {key: dtype for key, (_, dtype) in self._wanted.items()}
                | {key: np.dtype(spec.dtype) for key, spec in outputs.items()},
            )
            self._lanes[batch] = Lane(self._library, self._engine, self._memory, signature, dynamic=self._dynamic)
        return self._lanes[batch]

    def _close(self) -> None:
        """Contexts before the engine, the engine before its runtime; the memory when nothing can write to it."""
        self._lanes.clear()
        self._engine = None
        self._runtime = None
        self._memory.close()


def _open_library(path: Path, manifest: Manifest, target: str) -> Library:
    """Driver first: TensorRT must not be touched without one.

    Raises:
        BackendError: something is missing, or not what the engine was built for.
    """
    title = TITLES[target]
    try:
        driver = find_driver()
    except DriverError as error:
        raise BackendError(
            f"{path}: {error}, and {title} runs on NVIDIA GPUs only; run the .onnx file it was built from"
        ) from error
    try:
        library = load_library(target)
    except BackendError as error:
        raise BackendError(f"{path}: {error}") from error
    _check_needs(path, manifest, library, driver)
    return library


def _check_needs(path: Path, manifest: Manifest, library: Library, driver: Driver) -> None:
    """Refuse an engine that cannot run here, by what its manifest says of its build.

    Raises:
        BackendError: with everything that differs, and the command that builds it again.
    """
    build = manifest.build
    if build is None:
        return
    if build.target != library.target:
        wanted = TITLES.get(build.target, build.target)
        raise BackendError(f"{path}: an engine of {wanted} by its manifest, and not by its name; name it as built")
    if "version-compatible" in build.options:
        raise BackendError(
            f"{path}: built with --version-compatible, which runs machine code out of the plan or a library beside it, "
            "and mdrun runs neither; build it without"
        )
    machine = Machine(platform_name(), library.version, driver, l4t=l4t_release())
    if differs := [need for need in list_needs(build, machine) if need.verdict == "no"]:
        told = "; ".join(f"{need.what}: built for {need.needs}, here is {need.here}" for need in differs)
        raise BackendError(f"{path}: {told}; build it again here: {rebuild_command(build, driver)}")


def _load(path: Path, manifest: Manifest, library: Library, runtime: trt.Runtime) -> trt.ICudaEngine:
    try:
        return library.call("load it", runtime.deserialize_cuda_engine, path.read_bytes())
    except LibraryError as error:
        command = "`mdexport plan`" if manifest.build is None else rebuild_command(manifest.build, find_driver())
        raise BackendError(f"{path}: {error}; build it again here: {command}") from error


def _tensors(library: Library, engine: trt.ICudaEngine) -> tuple[dict[str, Tensor], dict[str, Tensor]]:
    """Inputs and outputs; of a dynamic size the library says -1."""
    inputs: dict[str, Tensor] = {}
    outputs: dict[str, Tensor] = {}
    for index in range(engine.num_io_tensors):
        name = engine.get_tensor_name(index)
        kind = str(engine.get_tensor_dtype(name).name)
        shape: list[Any] = [size if size >= 0 else "?" for size in engine.get_tensor_shape(name)[:]]
        is_input = engine.get_tensor_mode(name) == library.api.TensorIOMode.INPUT
        (inputs if is_input else outputs)[name] = (DTYPES.get(kind, kind), shape)
    return inputs, outputs
