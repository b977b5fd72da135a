"""ONNX Runtime, on the CPU or on an NVIDIA GPU."""

from __future__ import annotations

import importlib
import io
import os
import re
from collections.abc import Callable, Sequence
from contextlib import redirect_stdout
from dataclasses import dataclass
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any, cast

from mdrun.backends.base import ANY_BATCH, Backend, Feeds, Inputs, Outputs, one_line, split, stack
from mdrun.backends.cuda import DeviceMemory, open_memory
from mdrun.backends.cuda_array import CudaArray
from mdrun.backends.tensors import Tensor, check_tensors, has_dynamic_batch
from mdrun.driver import DriverError, find_driver
from mdrun.errors import BackendError, EngineError
from mdrun.manifest import Manifest

if TYPE_CHECKING:
    import onnxruntime

CPU, CUDA, TENSORRT = (f"{name}ExecutionProvider" for name in ("CPU", "CUDA", "Tensorrt"))
SILENT = 4  # ORT_LOGGING_LEVEL_FATAL: the library's own lines would stand beside our one-line error

# ONNX Runtime's names of element types (onnxruntime/core/framework/data_types.cc).
DTYPES = {"tensor(uint8)": "uint8", "tensor(float)": "float32", "tensor(int32)": "int32", "tensor(int64)": "int64"}

# The TensorRT provider builds weakly typed networks, which use a type only where they are allowed to.
ALLOWED = {"fp16": ("trt_fp16_enable",), "bf16": ("trt_bf16_enable",), "int8": ("trt_int8_enable",)}

WHERE = re.compile(r"/\S+:\d+ .*\) (?=[A-Z])")  # file, line and function of its source, before its words
Provider = tuple[str, dict[str, str]]


@dataclass(frozen=True)
class Place:
    """Where ONNX Runtime runs an engine.

    Attributes:
        providers: the one that is asked for, and those that take what it leaves.
        device: as a backend shows it.
        needs_gpu: it does not start without one.
    """

    providers: tuple[str, ...]
    device: str
    needs_gpu: bool = True


PLACES = {
    "onnxruntime": Place((CPU,), "cpu", needs_gpu=False),
    "onnxruntime-cuda": Place((CUDA, CPU), "cuda:0"),
    "onnxruntime-tensorrt": Place((TENSORRT, CUDA, CPU), "cuda:0"),
}


class OrtBackend(Backend):
    """An ONNX engine in ONNX Runtime."""

    def __init__(self, path: Path, manifest: Manifest, threads: int | None = None, name: str = "onnxruntime") -> None:
        """Load and check an engine.

        Args:
            path: ONNX file.
            manifest: what it must take and give.
            threads: of one operator on the CPU; None takes one a core.
            name: one of PLACES.

        Raises:
            BackendError: the library is missing, or does not run where it was asked to.
            EngineError: it refuses the file, or the graph is not what the manifest says.
        """
        super().__init__(manifest)
        self.name, place = name, PLACES[name]
        self.device, self.takes_cuda_arrays = place.device, place.needs_gpu
        self._session: onnxruntime.InferenceSession | None = _open_session(path, threads, name, manifest)
        self.version = import_onnxruntime().__version__
        inputs, outputs = _tensors(self._session.get_inputs()), _tensors(self._session.get_outputs())
        check_tensors(path, manifest, inputs, outputs)
        self.max_batch = ANY_BATCH if has_dynamic_batch(inputs, outputs) else 1
        self._names = list(manifest.outputs)
        self._memory: DeviceMemory | None = None

    def _infer(self, feeds: Inputs) -> Outputs:
        if any(isinstance(array, CudaArray) for array in feeds.values()):
            return self._call(lambda session: self._run_bound(session, feeds))
        return self._call(lambda session: session.run(self._names, cast("Feeds", feeds)))

    def _infer_batch(self, pairs: Sequence[Inputs]) -> list[Outputs]:
        if len(pairs) == 1 or any(isinstance(array, CudaArray) for feeds in pairs for array in feeds.values()):
            return [self._infer(feeds) for feeds in pairs]  # its arrays are new with every run
        batch = stack(pairs)
        return split(self._call(lambda session: session.run(self._names, batch)), len(pairs))

    def _run_bound(self, session: Any, feeds: Inputs) -> list[Any]:
        """With inputs where they lie; outputs come to the host."""
        binding = session.io_binding()
        for name, array in feeds.items():
            if isinstance(array, CudaArray):
                self._wait_for(array.stream)
                device = self.device.partition(":")[0]
                binding.bind_input(name, device, 0, array.dtype.type, array.shape, array.pointer)
            else:
                binding.bind_cpu_input(name, array)
        for name in self._names:
            binding.bind_output(name)
        session.run_with_iobinding(binding)
        return list(binding.copy_outputs_to_cpu())

    def _wait_for(self, stream: int | None) -> None:
        """Until another library has written an input: ONNX Runtime has streams of its own."""
        if stream is not None:
            if self._memory is None:
                self._memory = open_memory()
            self._memory.wait_for(stream)

    def _call(self, run: Callable[[Any], list[Any]]) -> Outputs:
        if self._session is None:
            raise EngineError(f"{self._manifest.engine_name}: the engine is closed; load it again")
        try:
            arrays = run(self._session)
        except library_errors() as error:
            raise EngineError(
                f"{self._manifest.engine_name}: ONNX Runtime failed: {one_line(str(error))}; export the engine again"
            ) from error
        return dict(zip(self._names, arrays, strict=True))

    def _close(self) -> None:
        self._session = None
        if self._memory is not None:
            self._memory.close()


def import_onnxruntime() -> ModuleType:
    """The library with its telemetry off: releases from 1.32 on note device and interpreter in the user's cache.

    The variable has to be there before the first import; a user's own value stays.

    Raises:
        ImportError: it is not installed.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    return importlib.import_module("onnxruntime")


def _open_session(path: Path, threads: int | None, name: str, manifest: Manifest) -> onnxruntime.InferenceSession:
    place = PLACES[name]
    extra = "gpu" if place.needs_gpu else "cpu"
    try:
        library = import_onnxruntime()
    except ImportError as error:
        raise BackendError(
            f'{path}: running it wants ONNX Runtime, which is not installed; pip install "mdrun[{extra}]"'
        ) from error
    if place.needs_gpu:
        _check_gpu(path, name, library)
    options = library.SessionOptions()
    options.log_severity_level = SILENT
    options.inter_op_num_threads = 1  # one graph at a time, and its operators depend on each other
    if threads is not None:
        options.intra_op_num_threads = threads
    wanted = [_provider(provider, manifest) for provider in place.providers]
    try:
        # without `enable_fallback=0` a provider that fails, also later, is replaced by the CPU
        session = library.InferenceSession(str(path), options, providers=wanted, enable_fallback=0)
    except library_errors() as error:
        said = words_of(error)
        if place.needs_gpu:
            raise BackendError(f"{path}: {name} does not start: {said}; `mdrun doctor` shows what is here") from error
        raise EngineError(f"{path}: ONNX Runtime refuses it: {said}; copy or export it again") from error
    session.disable_fallback()
    _check_provider(path, name, library, session)
    return session


def _check_gpu(path: Path, name: str, library: ModuleType) -> None:
    """A library built for the provider, and a GPU; asking without either gives a session on the CPU, without a word."""
    built_for = library.get_available_providers()
    if PLACES[name].providers[0] not in built_for:
        raise BackendError(
            f"{path}: asked for {name}, and the ONNX Runtime installed here, {library.__version__}, has only "
            f'{", ".join(built_for)}; pip uninstall onnxruntime, then pip install "mdrun[gpu]"'
        )
    try:
        find_driver()
    except DriverError as error:
        raise BackendError(
            f"{path}: asked for {name}: {error}; install NVIDIA's driver, or run it on the CPU"
        ) from error
    library.set_default_logger_severity(SILENT)
    if hasattr(library, "preload_dlls"):  # from 1.21 on: finds CUDA and cuDNN where pip put them
        with redirect_stdout(io.StringIO()):  # which is for results; what is missing is seen when the session is there
            library.preload_dlls()


def _check_provider(path: Path, name: str, library: ModuleType, session: onnxruntime.InferenceSession) -> None:
    """A provider that does not load is left out of the session, without a word."""
    wanted, got = PLACES[name].providers[0], session.get_providers()
    if got[0] == wanted:
        return
    cuda = f"CUDA {getattr(library, 'cuda_version', '')}".strip()
    needs = {CUDA: f"{cuda} and cuDNN", TENSORRT: f"TensorRT, {cuda} and cuDNN"}.get(wanted, "nothing more")
    raise BackendError(
        f"{path}: asked for {name}, and ONNX Runtime {library.__version__} runs it on {', '.join(got)}: {wanted} did "
        f'not load, it needs {needs}; pip install "mdrun[gpu]", or take another backend'
    )


def _provider(provider: str, manifest: Manifest) -> Provider:
    """A provider with its options, all on the first GPU."""
    options = {} if provider == CPU else {"device_id": "0"}
    if provider == TENSORRT:
        options |= dict.fromkeys(ALLOWED.get(manifest.origin.precision or "", ()), "1")
    return provider, options


def _tensors(nodes: list[Any]) -> dict[str, Tensor]:
    return {node.name: (DTYPES.get(node.type, node.type), node.shape) for node in nodes}


def words_of(error: Exception) -> str:
    """What ONNX Runtime says, in one line, without the place in its source."""
    return WHERE.sub("", one_line(str(error)))


def library_errors() -> tuple[type[Exception], ...]:
    """Exception classes of ONNX Runtime; they share no base class of their own."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    found = (kind for kind in vars(state).values() if isinstance(kind, type) and issubclass(kind, Exception))
    return (*found, RuntimeError)
