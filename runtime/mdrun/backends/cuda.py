"""The few things that are wanted of CUDA: memory, copies, one stream, a graph.

Through `cuda.bindings` (cuda-python 12 and 13), or through pycuda where that is what a Jetson image has. Addresses and
streams are plain integers, as TensorRT takes them.
"""

from __future__ import annotations

import ctypes
import weakref
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from importlib import import_module
from types import ModuleType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mdrun.backends.base import one_line
from mdrun.errors import BackendError

RUNTIMES = ("cuda.bindings.runtime", "cuda.cudart")  # cuda-python from 12.6 on, and before
NON_BLOCKING = 1  # cudaStreamNonBlocking: does not wait for the default stream of other libraries
PORTABLE = 1  # cudaHostAllocPortable: pinned for every context
TO_DEVICE, TO_HOST = "cudaMemcpyHostToDevice", "cudaMemcpyDeviceToHost"
OWN_THREAD = "cudaStreamCaptureModeThreadLocal"  # other threads go on calling CUDA while this one captures


class CudaError(BackendError):
    """A call of CUDA failed."""


class DeviceMemory(ABC):
    """Memory of the first GPU, and one stream of it. Memory of the device lives until `close`.

    Attributes:
        name: of the package that lends it.
        stream: handle of the stream; uploads, downloads and whatever is put on it run in this order.
    """

    name: str
    stream: int

    @abstractmethod
    def allocate(self, size: int) -> int:
        """Address of `size` new bytes on the device."""

    @abstractmethod
    def pinned(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        """A new array on the host that the device reads and writes by itself; freed like any other array."""

    @abstractmethod
    def upload(self, target: int, source: NDArray[Any]) -> None:
        """Put a copy from a pinned array to the device on the stream."""

    @abstractmethod
    def download(self, target: NDArray[Any], source: int) -> None:
        """Put a copy from the device to a pinned array on the stream."""

    @abstractmethod
    def wait(self) -> None:
        """Until everything on the stream is done."""

    @abstractmethod
    def wait_for(self, stream: int) -> None:
        """Until another library's stream is done; 1 and 2 are the default streams of the CUDA array interface."""

    @abstractmethod
    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        """Let `work` put things on the stream without running them; what comes back runs them all at once.

        Raises:
            CudaError: this package, this driver or the work does not allow it; the stream is as it was.
        """

    @abstractmethod
    def close(self) -> None:
        """Free everything; a second call does nothing."""


class CudaPython(DeviceMemory):
    """By the CUDA runtime, in the primary context, which other libraries use too."""

    name = "cuda-python"

    def __init__(self, runtime: ModuleType) -> None:
        """`runtime`: the module of cuda-python.

        Raises:
            CudaError: no GPU, or a driver that is too old.
        """
        self._cuda = runtime
        self._frees: list[tuple[str, Any]] = []
        self._stream = self._make("cudaStreamDestroy", "cudaStreamCreateWithFlags", NON_BLOCKING)
        self.stream = int(self._stream)

    def allocate(self, size: int) -> int:
        """Address of `size` new bytes on the device."""
        return int(self._make("cudaFree", "cudaMalloc", size))

    def pinned(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        """A new array on the host that the device reads and writes by itself."""
        size = int(np.prod(shape)) * dtype.itemsize
        address = int(self._call("cudaHostAlloc", size, PORTABLE))
        memory = (ctypes.c_uint8 * size).from_address(address)
        weakref.finalize(memory, self._cuda.cudaFreeHost, address).atexit = False  # not before its last array is gone
        array: NDArray[Any] = np.frombuffer(memoryview(memory), dtype).reshape(shape)
        return array

    def upload(self, target: int, source: NDArray[Any]) -> None:
        """Put a copy from a pinned array to the device on the stream."""
        self._copy(target, source.ctypes.data, source.nbytes, TO_DEVICE)

    def download(self, target: NDArray[Any], source: int) -> None:
        """Put a copy from the device to a pinned array on the stream."""
        self._copy(target.ctypes.data, source, target.nbytes, TO_HOST)

    def wait(self) -> None:
        """Until everything on the stream is done."""
        self._call("cudaStreamSynchronize", self._stream)

    def wait_for(self, stream: int) -> None:
        """Until another library's stream is done."""
        self._call("cudaStreamSynchronize", stream)

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:
        """Let `work` put things on the stream without running them; what comes back runs them all at once."""
        self._call("cudaStreamBeginCapture", self._stream, getattr(self._cuda.cudaStreamCaptureMode, OWN_THREAD))
        try:
            work()
        except BaseException:
            code, *graphs = self._cuda.cudaStreamEndCapture(self._stream)  # what it says matters less than the error
            self._cuda.cudaGetLastError()
            if not int(code):
                self._cuda.cudaGraphDestroy(graphs[0])
            raise
        graph = self._call("cudaStreamEndCapture", self._stream)
        try:
            ready = self._make("cudaGraphExecDestroy", "cudaGraphInstantiate", graph, 0)
        finally:
            self._call("cudaGraphDestroy", graph)
        return lambda: self._call("cudaGraphLaunch", ready, self._stream)

    def close(self) -> None:
        """Free everything; a second call does nothing."""
        while self._frees:
            function, thing = self._frees.pop()
            getattr(self._cuda, function)(thing)  # nothing is left to be done about an error

    def _copy(self, target: int, source: int, size: int, kind: str) -> None:
        self._call("cudaMemcpyAsync", target, source, size, getattr(self._cuda.cudaMemcpyKind, kind), self._stream)

    def _make(self, free: str, function: str, *arguments: Any) -> Any:
        """Make something that `close` frees."""
        made = self._call(function, *arguments)
        self._frees.append((free, made))
        return made

    def _call(self, function: str, *arguments: Any) -> Any:
        code, *results = getattr(self._cuda, function)(*arguments)
        if int(code):
            _, text = self._cuda.cudaGetErrorString(code)
            self._cuda.cudaGetLastError()  # takes it away, so that no later call reports it
            raise CudaError(f"CUDA: {function}: {code.name}: {text.decode(errors='replace')}")
        return results[0] if results else None


class PyCuda(DeviceMemory):
    """By pycuda, which has no CUDA graphs. Its context is pushed for each call: rigs call from several threads."""

    name = "pycuda"

    def __init__(self, driver: ModuleType) -> None:
        """`driver`: the module `pycuda.driver`.

        Raises:
            CudaError: no GPU, or a driver that does not work.
        """
        self._driver = driver
        try:
            driver.init()
            self._context = driver.Device(0).retain_primary_context()  # the one that TensorRT uses
        except driver.Error as error:
            raise CudaError(f"CUDA: pycuda: {error}") from error
        with self._current():
            self._stream = driver.Stream()
        self.stream = int(self._stream.handle)
        self._memory: list[Any] = []

    def allocate(self, size: int) -> int:
        """Address of `size` new bytes on the device."""
        with self._current():
            self._memory.append(self._driver.mem_alloc(size))
        return int(self._memory[-1])

    def pinned(self, shape: tuple[int, ...], dtype: np.dtype[Any]) -> NDArray[Any]:
        """A new array on the host that the device reads and writes by itself."""
        with self._current():
            array: NDArray[Any] = self._driver.pagelocked_empty(shape, dtype)
        return array

    def upload(self, target: int, source: NDArray[Any]) -> None:
        """Put a copy from a pinned array to the device on the stream."""
        with self._current():
            self._driver.memcpy_htod_async(target, source, self._stream)

    def download(self, target: NDArray[Any], source: int) -> None:
        """Put a copy from the device to a pinned array on the stream."""
        with self._current():
            self._driver.memcpy_dtoh_async(target, source, self._stream)

    def wait(self) -> None:
        """Until everything on the stream is done."""
        with self._current():
            self._stream.synchronize()

    def wait_for(self, stream: int) -> None:  # noqa: ARG002
        """Until every stream is done: pycuda waits for none but its own."""
        with self._current():
            self._driver.Context.synchronize()

    def capture(self, work: Callable[[], None]) -> Callable[[], None]:  # noqa: ARG002
        """Never: pycuda has no CUDA graphs."""
        raise CudaError("CUDA: pycuda has no CUDA graphs; pip install cuda-python")

    def close(self) -> None:
        """Free everything; a second call does nothing."""
        if self._memory:
            with self._current():
                while self._memory:
                    self._memory.pop().free()

    @contextmanager
    def _current(self) -> Iterator[None]:
        self._context.push()
        try:
            yield
        except self._driver.Error as error:
            raise CudaError(f"CUDA: pycuda: {error}") from error
        finally:
            self._driver.Context.pop()


def open_memory() -> DeviceMemory:
    """Memory of the first GPU, by the package that is installed. Only after `find_driver` found a driver.

    Raises:
        CudaError: none is, or the GPU cannot be used.
    """
    said: list[str] = []
    for name in RUNTIMES:
        if (runtime := _imported(name, said)) is not None:
            return CudaPython(runtime)
    if (driver := _imported("pycuda.driver", said)) is not None:
        return PyCuda(driver)
    raise CudaError(f"no package lends CUDA memory here ({'; '.join(said)}); pip install cuda-python")


def _imported(name: str, said: list[str]) -> ModuleType | None:
    """A module, or None and why it does not import."""
    try:
        return import_module(name)
    except ImportError as error:
        said.append(one_line(str(error)))
        return None
