"""One way through an engine of TensorRT: an execution context with its buffers and its CUDA graph."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np

from mdrun.backends.base import Inputs, Outputs
from mdrun.backends.cuda import DeviceMemory
from mdrun.backends.cuda_array import CudaArray
from mdrun.backends.nvidia.library import Library
from mdrun.errors import BackendError

if TYPE_CHECKING:
    import tensorrt as trt


@dataclass(frozen=True)
class Signature:
    """What one run takes and gives.

    Attributes:
        inputs, outputs: shapes by name, (batch, …).
        dtypes: of both, by name.
    """

    inputs: dict[str, tuple[int, ...]]
    outputs: dict[str, tuple[int, ...]]
    dtypes: dict[str, np.dtype[Any]]


class Lane:
    """A context for one batch size. A graph holds addresses and shapes, so each size has a context of its own."""

    def __init__(
        self,
        library: Library,
        engine: trt.ICudaEngine,
        memory: DeviceMemory,
        signature: Signature,
        *,
        dynamic: bool,
    ) -> None:
        """Allocate everything, run once, and capture.

        Args:
            library: of the engine.
            engine: loaded.
            memory: of its device.
            signature: of one run.
            dynamic: the engine wants to be told the shapes of its inputs.

        Raises:
            BackendError: the library or CUDA refuses something.
        """
        self._library, self._memory = library, memory
        self._inputs = {name: memory.pinned(shape, signature.dtypes[name]) for name, shape in signature.inputs.items()}
        self._outputs = {
            name: memory.pinned(shape, signature.dtypes[name]) for name, shape in signature.outputs.items()
        }
        host = {**self._inputs, **self._outputs}
        self._addresses = {name: memory.allocate(array.nbytes) for name, array in host.items()}
        self._context = library.call("make an execution context", engine.create_execution_context)
        for name, shape in signature.inputs.items():
            self._inputs[name].fill(0)
            if dynamic:
                library.call(f"take {name} as {shape}", self._context.set_input_shape, name, shape)
        for name, address in self._addresses.items():
            self._bind(name, address)
        self._graph = self._capture()

    @property
    def captured(self) -> bool:
        """Its runs are one CUDA graph; False where this is refused, and each run is put on the stream anew."""
        return self._graph is not None

    def run(self, pairs: Sequence[Inputs]) -> Outputs:
        """Run once; the arrays are overwritten by the next run.

        Args:
            pairs: as many as the batch; on the device only alone.

        Raises:
            BackendError: the library or CUDA failed.
        """
        on_device = {name: array for name, array in pairs[0].items() if isinstance(array, CudaArray)}
        for index, feeds in enumerate(pairs):
            for name, array in feeds.items():
                if name not in on_device:
                    np.copyto(self._inputs[name][index], array[0])  # type: ignore[index]  # on the host
        if on_device:
            self._run_in_place(on_device)
        else:
            self._launch(self._graph)
        return self._outputs

    def _capture(self) -> Callable[[], None] | None:
        """The graph of a run, after one without: the library allocates and compiles in its first."""
        self._launch(None)
        try:
            graph = self._memory.capture(self._enqueue)
            self._launch(graph)
        except BackendError:
            self._launch(None)  # where this fails too, the engine does not run
            return None
        return graph

    def _launch(self, graph: Callable[[], None] | None) -> None:
        (graph or self._enqueue)()
        self._memory.wait()

    def _enqueue(self, on_device: frozenset[str] = frozenset()) -> None:
        """Put a run on the stream: inputs that are not on the device already, the network, outputs."""
        for name, array in self._inputs.items():
            if name not in on_device:
                self._memory.upload(self._addresses[name], array)
        self._library.call("run", self._context.execute_async_v3, self._memory.stream)
        for name, array in self._outputs.items():
            self._memory.download(array, self._addresses[name])

    def _run_in_place(self, arrays: dict[str, CudaArray]) -> None:
        """Without the graph, which has the addresses of the lane's own inputs."""
        try:
            for name, array in arrays.items():
                if array.stream is not None:
                    self._memory.wait_for(array.stream)
                self._bind(name, array.pointer)
            self._enqueue(frozenset(arrays))
            self._memory.wait()
        finally:
            for name in arrays:
                self._bind(name, self._addresses[name])

    def _bind(self, name: str, address: int) -> None:
        self._library.call(f"take an address for {name}", self._context.set_tensor_address, name, address)
