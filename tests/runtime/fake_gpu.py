"""A GPU for machines without one: stand-ins for `cuda.bindings.runtime` and for the runtime side of `tensorrt`.

Memory of the device is memory of this process, a stream is a list of work that runs when it is waited for, and a plan
is an ONNX file that ONNX Runtime computes. Both are held to the real names: `tensorrt_names.json` of the export tests,
and the signatures of cuda-python where it is installed (test_backends_tensorrt.py).
"""

from __future__ import annotations

import ctypes
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field, replace
from enum import IntEnum
from pathlib import Path
from types import ModuleType
from typing import Any

import numpy as np
import onnx
import onnxruntime
from numpy.typing import NDArray

from mdrun.backends.nvidia.machine import platform_name
from mdrun.driver import Driver, Gpu
from mdrun.manifest import Build, Manifest
from mdrun.onnx_file import read_manifest
from tests.export.fake_tensorrt import NAMES, Held, ILogger, Severity

ORIN = Driver("12.6", (Gpu("Orin", "8.7"),))
MAGIC = b"plan of the tests\0"
ALIGNMENT = 256
TYPES = {"tensor(uint8)": "UINT8", "tensor(float)": "FLOAT", "tensor(int32)": "INT32", "tensor(int64)": "INT64"}
ARRAYS = {"UINT8": np.uint8, "FLOAT": np.float32, "INT32": np.int32, "INT64": np.int64}

Work = Callable[[], object]


class Code(IntEnum):
    """Of `cudaError_t`."""

    cudaSuccess = 0  # noqa: N815  # as CUDA writes it
    cudaErrorMemoryAllocation = 2  # noqa: N815
    cudaErrorIllegalAddress = 700  # noqa: N815
    cudaErrorStreamCaptureUnsupported = 900  # noqa: N815


class MemcpyKind(IntEnum):
    """Of `cudaMemcpyKind`."""

    cudaMemcpyHostToDevice = 1  # noqa: N815
    cudaMemcpyDeviceToHost = 2  # noqa: N815


class CaptureMode(IntEnum):
    """Of `cudaStreamCaptureMode`."""

    cudaStreamCaptureModeThreadLocal = 1  # noqa: N815


ENUMS: dict[str, type[IntEnum]] = {
    "cudaError_t": Code,
    "cudaMemcpyKind": MemcpyKind,
    "cudaStreamCaptureMode": CaptureMode,
}


class FakeCuda(ModuleType):
    """The calls of the CUDA runtime that mdrun uses.

    Attributes:
        calls: how often each was made.
        fails: code that a function gives from now on.
        live: memory and handles that were not freed, by what frees them.
    """

    def __init__(self) -> None:
        super().__init__("cuda.bindings.runtime")
        self.calls: Counter[str] = Counter()
        self.fails: dict[str, Code] = {}
        self.live: dict[str, set[int]] = {}
        self._memory: dict[int, Any] = {}
        self._streams: dict[int, list[Work]] = {}
        self._graphs: dict[int, list[Work]] = {}
        self._capturing: list[Work] | None = None
        vars(self).update(ENUMS)

    def cudaMalloc(self, size: int) -> tuple[Any, ...]:  # noqa: N802
        return self._made("cudaMalloc", "cudaFree", self._allocate(size))

    def cudaFree(self, devPtr: int) -> tuple[Any, ...]:  # noqa: N802, N803
        return self._freed("cudaFree", devPtr)

    def cudaHostAlloc(self, size: int, flags: int) -> tuple[Any, ...]:  # noqa: N802
        return self._made("cudaHostAlloc", "cudaFreeHost", self._allocate(size))

    def cudaFreeHost(self, ptr: int) -> tuple[Any, ...]:  # noqa: N802
        return self._freed("cudaFreeHost", ptr)

    def cudaMemcpyAsync(self, dst: int, src: int, count: int, kind: Any, stream: int) -> tuple[Any, ...]:  # noqa: N802
        self.put(stream, lambda: ctypes.memmove(dst, src, count))
        return self._done("cudaMemcpyAsync")

    def cudaStreamCreateWithFlags(self, flags: int) -> tuple[Any, ...]:  # noqa: N802
        handle = 1000 + len(self._streams)  # streams of other libraries have their own numbers
        self._streams[handle] = []
        return self._made("cudaStreamCreateWithFlags", "cudaStreamDestroy", handle)

    def cudaStreamDestroy(self, stream: int) -> tuple[Any, ...]:  # noqa: N802
        return self._freed("cudaStreamDestroy", stream)

    def cudaStreamSynchronize(self, stream: int) -> tuple[Any, ...]:  # noqa: N802
        assert self._capturing is None, "CUDA allows no wait while it captures"
        work, self._streams[stream] = self._streams.get(stream, []), []
        for step in work:
            step()
        return self._done("cudaStreamSynchronize")

    def cudaStreamBeginCapture(self, stream: int, mode: Any) -> tuple[Any, ...]:  # noqa: N802
        assert not self._streams[stream]
        if "cudaStreamBeginCapture" not in self.fails:
            self._capturing = []
        return self._done("cudaStreamBeginCapture")

    def cudaStreamEndCapture(self, stream: int) -> tuple[Any, ...]:  # noqa: N802
        assert self._capturing is not None
        handle = 2000 + len(self._graphs)
        self._graphs[handle], self._capturing = self._capturing, None
        return self._made("cudaStreamEndCapture", "cudaGraphDestroy", handle)

    def cudaGraphInstantiate(self, graph: int, flags: int) -> tuple[Any, ...]:  # noqa: N802
        handle = 3000 + graph
        self._graphs[handle] = self._graphs[graph]
        return self._made("cudaGraphInstantiate", "cudaGraphExecDestroy", handle)

    def cudaGraphDestroy(self, graph: int) -> tuple[Any, ...]:  # noqa: N802
        return self._freed("cudaGraphDestroy", graph)

    def cudaGraphExecDestroy(self, graphExec: int) -> tuple[Any, ...]:  # noqa: N802, N803
        return self._freed("cudaGraphExecDestroy", graphExec)

    def cudaGraphLaunch(self, graphExec: int, stream: int) -> tuple[Any, ...]:  # noqa: N802, N803
        for step in self._graphs[graphExec]:
            self.put(stream, step)
        return self._done("cudaGraphLaunch")

    def cudaGetErrorString(self, error: Any) -> tuple[Any, ...]:  # noqa: N802
        return Code.cudaSuccess, f"words for {error.name}".encode()

    def cudaGetLastError(self) -> tuple[Any, ...]:  # noqa: N802
        return (Code.cudaSuccess,)

    def put(self, stream: int, work: Work) -> None:
        """Put work on a stream, or into the graph that is being captured."""
        queue = self._streams.setdefault(stream, []) if self._capturing is None else self._capturing
        queue.append(work)

    def _allocate(self, size: int) -> int:
        block = (ctypes.c_uint8 * (size + ALIGNMENT))()
        address = -(-ctypes.addressof(block) // ALIGNMENT) * ALIGNMENT
        self._memory[address] = block
        return address

    def _made(self, function: str, free: str, made: int) -> tuple[Any, ...]:
        code = self._done(function)
        if not code[0]:
            self.live.setdefault(free, set()).add(made)
        return (*code, made)

    def _freed(self, function: str, thing: int) -> tuple[Any, ...]:
        self.live[function].remove(int(thing))  # KeyError: freed twice, or never made
        return self._done(function)

    def _done(self, function: str) -> tuple[Code]:
        self.calls[function] += 1
        return (self.fails.get(function, Code.cudaSuccess),)


@dataclass
class Script:
    """What the fake TensorRT does, and what it was told.

    Attributes:
        version: it plays.
        cuda: whose streams and memory it uses.
        max_batch: of plans with a dynamic batch.
        runtime_says: errors in the log while a runtime starts.
        runs: what `execute_async_v3` gives.
        capturable: it may be captured.
        told: addresses and shapes, in order.
    """

    version: str = "10.16.1.11"
    cuda: FakeCuda = field(default_factory=FakeCuda)
    max_batch: int = 4
    runtime_says: tuple[str, ...] = ()
    runs: bool = True
    capturable: bool = True
    told: list[tuple[Any, ...]] = field(default_factory=list)

    def tell(self, *words: Any) -> None:
        """Remember."""
        self.told.append(words)


class OnGpu(Held):
    script: Script  # type: ignore[assignment]  # of this module


class IExecutionContext(OnGpu):
    def __init__(self, engine: Any) -> None:
        vars(self).update(_engine=engine, _addresses={}, _shapes={})

    def set_input_shape(self, name: str, shape: Any) -> bool:
        self.script.tell("set_input_shape", name, tuple(shape))
        vars(self)["_shapes"][name] = tuple(shape)
        return bool(shape[0] <= self.script.max_batch)

    def set_tensor_address(self, name: str, memory: int) -> bool:
        self.script.tell("set_tensor_address", name, memory)
        vars(self)["_addresses"][name] = memory
        return True

    def execute_async_v3(self, stream_handle: int) -> bool:
        self.script.tell("execute_async_v3", stream_handle)
        cuda = self.script.cuda
        if not self.script.capturable and cuda._capturing is not None:
            vars(self)["_engine"].log.log(Severity.ERROR, "this engine cannot be captured")
            return False
        addresses, shapes = dict(vars(self)["_addresses"]), dict(vars(self)["_shapes"])
        cuda.put(stream_handle, lambda: vars(self)["_engine"].compute(addresses, shapes))
        return self.script.runs


class ICudaEngine(OnGpu):
    def __init__(self, data: bytes, log: Any) -> None:
        model = onnx.load_from_string(data)
        session = onnxruntime.InferenceSession(data, providers=["CPUExecutionProvider"])
        nodes = {node.name: node for node in (*session.get_inputs(), *session.get_outputs())}
        inputs = [node.name for node in session.get_inputs()]
        vars(self).update(_name=model.graph.name, _session=session, _nodes=nodes, _inputs=inputs, log=log)

    @property
    def name(self) -> str:
        return str(vars(self)["_name"])

    @property
    def num_io_tensors(self) -> int:
        return len(vars(self)["_nodes"])

    def get_tensor_name(self, index: int) -> str:
        return str(list(vars(self)["_nodes"])[index])

    def get_tensor_shape(self, name: str) -> tuple[int, ...]:
        return tuple(size if isinstance(size, int) else -1 for size in vars(self)["_nodes"][name].shape)

    def get_tensor_dtype(self, name: str) -> Any:
        return self.api.DataType[TYPES[vars(self)["_nodes"][name].type]]

    def get_tensor_mode(self, name: str) -> Any:
        modes = self.api.TensorIOMode
        return modes.INPUT if name in vars(self)["_inputs"] else modes.OUTPUT

    def get_tensor_profile_shape(self, name: str, profile_index: int) -> list[tuple[int, ...]]:
        rest = self.get_tensor_shape(name)[1:]
        return [(batch, *rest) for batch in (1, self.script.max_batch, self.script.max_batch)]

    def create_execution_context(self) -> Any:
        return self.api.IExecutionContext(self)

    def _array(self, address: int, shape: tuple[int, ...], name: str) -> NDArray[Any]:
        dtype = np.dtype(ARRAYS[self.get_tensor_dtype(name).name])
        block = (ctypes.c_uint8 * (int(np.prod(shape)) * dtype.itemsize)).from_address(address)
        array: NDArray[Any] = np.frombuffer(memoryview(block), dtype).reshape(shape)
        return array

    def compute(self, addresses: dict[str, int], shapes: dict[str, tuple[int, ...]]) -> None:
        """Run the ONNX file between these addresses. Not TensorRT's: what happens inside."""
        mine = vars(self)
        feeds = {
            name: self._array(addresses[name], shapes.get(name, self.get_tensor_shape(name)), name)
            for name in mine["_inputs"]
        }
        names = [name for name in mine["_nodes"] if name not in mine["_inputs"]]
        for name, found in zip(names, mine["_session"].run(names, feeds), strict=True):
            self._array(addresses[name], found.shape, name)[:] = found


class Runtime(OnGpu):
    def __init__(self, logger: Any) -> None:
        self.script.tell("Runtime")
        vars(self)["_log"] = logger
        for message in self.script.runtime_says:
            logger.log(Severity.ERROR, message)

    def deserialize_cuda_engine(self, serialized_engine: bytes) -> Any:
        if not serialized_engine.startswith(MAGIC):
            vars(self)["_log"].log(Severity.ERROR, "Serialization assertion magicTagRead == kMAGIC_TAG failed")
            return None
        return self.api.ICudaEngine(serialized_engine.removeprefix(MAGIC), vars(self)["_log"])


OURS = {"compute", "log"}  # of ICudaEngine; not TensorRT's
CLASSES = (ILogger, IExecutionContext, ICudaEngine, Runtime)


def make_tensorrt(script: Script, name: str = "tensorrt") -> ModuleType:
    """The module, to be put in the place of `tensorrt` or of `tensorrt_rtx`."""
    module = ModuleType(name)
    names = NAMES[script.version]
    enums = {
        kind: IntEnum(kind, [name for name in names[kind] if name.isupper()], start=0)
        for kind in ("DataType", "TensorIOMode")
    }
    classes = {kind.__name__: type(kind.__name__, (kind,), {"script": script, "api": module}) for kind in CLASSES}
    vars(module).update(enums, **classes, __version__=script.version)
    return module


def describe_build(version: str = "10.16.1.11", target: str = "tensorrt") -> Build:
    """How a plan for the GPU of these tests was built."""
    return Build(
        target=target,
        version=version,
        compute_capabilities=["8.7"],
        device="Orin" if target == "tensorrt" else None,
        platform=platform_name(),
        onnx_sha256="0" * 64,
        options={},
        command="mdexport plan student.onnx --output student.plan",
    )


def write_plan(path: Path, graph: Path, build: Build | None = None) -> Manifest:
    """A plan of the tests, with its manifest, of an ONNX engine."""
    manifest = replace(read_manifest(graph), build=build or describe_build())
    model = onnx.load(graph)
    model.graph.name = manifest.network_name()
    path.write_bytes(MAGIC + model.SerializeToString())
    path.with_suffix(".json").write_text(manifest.to_json())
    return manifest
