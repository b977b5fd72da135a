"""What every engine library must do: check, infer, close."""

from __future__ import annotations

import sys
from abc import ABC, abstractmethod
from collections.abc import Mapping, Sequence
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mdrun.backends.cuda_array import CudaArray
from mdrun.errors import DataError, EngineError
from mdrun.manifest import InputSpec, Manifest

Feeds = dict[str, NDArray[Any]]
Inputs = Mapping[str, NDArray[Any] | CudaArray]
Outputs = dict[str, NDArray[Any]]

ANY_BATCH = sys.maxsize  # an ONNX graph with a dynamic batch sets no limit


def input_shape(spec: InputSpec, batch: int = 1) -> tuple[int, ...]:
    """Shape of one input array: `NHWC` (batch, H, W, 3), `NHW` (batch, H, W)."""
    return (batch, spec.height, spec.width, 3) if spec.layout == "NHWC" else (batch, spec.height, spec.width)


def one_line(text: str) -> str:
    """A library's words without line breaks, as part of an error."""
    return " ".join(text.split())


class Backend(ABC):
    """One loaded engine. Not for use by two threads at once.

    Attributes:
        name: as `--backend` takes it, for example `onnxruntime`.
        version: of the library.
        device: where it runs: `cpu`, or `cuda:0`.
        reason: why it is this one.
        max_batch: most pairs that one run takes; 1 where the engine's batch is fixed.
        takes_cuda_arrays: inputs may lie in the memory of its device.
    """

    name: str
    version: str
    device: str
    reason = "asked for"
    max_batch = 1
    takes_cuda_arrays = False

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self._wanted = {key: (input_shape(spec), np.dtype(spec.dtype)) for key, spec in manifest.inputs.items()}
        self._closed = False

    def infer(self, feeds: Inputs) -> Outputs:
        """Run once. The arrays may be overwritten by the next call; copy to keep them.

        Args:
            feeds: by input name, exactly the manifest's inputs: `visible` (1, H, W, 3) uint8 RGB,
                `thermal` (1, h, w) uint8.

        Raises:
            DataError: an input is missing, unknown, of another shape or type than the manifest says, or on a GPU where
                the engine is not.
            EngineError: the engine is closed, or the library failed.
        """
        self._check(feeds)
        return self._infer(feeds)

    def infer_batch(self, pairs: Sequence[Inputs]) -> list[Outputs]:
        """Run several pairs: together where the engine's batch allows it, else one after the other.

        Returns:
            What `infer` gives for each, in arrays that no later call overwrites.

        Raises:
            DataError, EngineError: as `infer`; then there are no results for any of them.
        """
        for feeds in pairs:
            self._check(feeds)
        outputs = []
        for start in range(0, len(pairs), self.max_batch):
            outputs += self._infer_batch(pairs[start : start + self.max_batch])
        return outputs

    def close(self) -> None:
        """Release the engine; a second call does nothing."""
        if not self._closed:
            self._closed = True
            self._close()

    def __enter__(self) -> Backend:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    def _check(self, feeds: Inputs) -> None:
        if self._closed:
            raise EngineError(f"{self._manifest.engine_name}: the engine is closed; load it again")
        if feeds.keys() != self._wanted.keys():
            raise DataError(
                f"{self._manifest.engine_name}: got inputs {', '.join(sorted(feeds)) or 'none'}, "
                f"wanted {', '.join(sorted(self._wanted))}; give each of them"
            )
        for key, (shape, dtype) in self._wanted.items():
            if isinstance(feeds[key], CudaArray) and not self.takes_cuda_arrays:
                raise DataError(
                    f"{self._manifest.engine_name}: {key} is on a GPU, and {self.name} runs this engine on the "
                    f"{self.device}; give a NumPy array (`.get()`, `.cpu().numpy()`), "
                    "or choose a backend that runs on the GPU"
                )
            if feeds[key].shape != shape or feeds[key].dtype != dtype:
                raise DataError(
                    f"{self._manifest.engine_name}: {key} is {feeds[key].dtype} {feeds[key].shape}, "
                    f"wanted {dtype} {shape}; resize and convert it first, or call Engine.infer, which does"
                )

    def _infer_batch(self, pairs: Sequence[Inputs]) -> list[Outputs]:
        """At most `max_batch` pairs."""
        return [{name: array.copy() for name, array in self._infer(feeds).items()} for feeds in pairs]

    @abstractmethod
    def _infer(self, feeds: Inputs) -> Outputs: ...

    @abstractmethod
    def _close(self) -> None: ...


def stack(pairs: Sequence[Inputs]) -> Feeds:
    """Pairs on the host as one batch, (N, …) by input name."""
    return {name: np.concatenate([np.asarray(feeds[name]) for feeds in pairs]) for name in pairs[0]}


def split(outputs: Mapping[str, NDArray[Any]], count: int) -> list[Outputs]:
    """Outputs of a batch, (N, …), as those of its pairs, (1, …): views."""
    return [{name: array[index : index + 1] for name, array in outputs.items()} for index in range(count)]
