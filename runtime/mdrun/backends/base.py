"""What every engine library must do: check, infer, close."""

from __future__ import annotations

from abc import ABC, abstractmethod
from types import TracebackType
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mdrun.errors import DataError, EngineError
from mdrun.manifest import InputSpec, Manifest

Feeds = dict[str, NDArray[Any]]
Outputs = dict[str, NDArray[Any]]


def input_shape(spec: InputSpec) -> tuple[int, ...]:
    """Shape of one input array with its batch of one: `NHWC` (1, H, W, 3), `NHW` (1, H, W)."""
    return (1, spec.height, spec.width, 3) if spec.layout == "NHWC" else (1, spec.height, spec.width)


def one_line(text: str) -> str:
    """A library's words without line breaks, as part of an error."""
    return " ".join(text.split())


class Backend(ABC):
    """One loaded engine. Not for use by two threads at once.

    Attributes:
        name: of the library, for example `onnxruntime`.
        device: where it runs, for example `cpu`.
    """

    name: str
    device: str

    def __init__(self, manifest: Manifest) -> None:
        self._manifest = manifest
        self._wanted = {key: (input_shape(spec), np.dtype(spec.dtype)) for key, spec in manifest.inputs.items()}
        self._closed = False

    def infer(self, feeds: Feeds) -> Outputs:
        """Run once. The arrays may be overwritten by the next call; copy to keep them.

        Args:
            feeds: by input name, exactly the manifest's inputs: `visible` (1, H, W, 3) uint8 RGB,
                `thermal` (1, h, w) uint8.

        Raises:
            DataError: an input is missing, unknown, or of another shape or type than the manifest says.
            EngineError: the engine is closed, or the library failed.
        """
        if self._closed:
            raise EngineError(f"{self._manifest.name}: the engine is closed; load it again")
        if feeds.keys() != self._wanted.keys():
            raise DataError(
                f"{self._manifest.name}: got inputs {', '.join(sorted(feeds)) or 'none'}, "
                f"wanted {', '.join(sorted(self._wanted))}; give each of them"
            )
        for key, (shape, dtype) in self._wanted.items():
            if feeds[key].shape != shape or feeds[key].dtype != dtype:
                raise DataError(
                    f"{self._manifest.name}: {key} is {feeds[key].dtype} {feeds[key].shape}, wanted {dtype} {shape}; "
                    "resize and convert it first, or call Engine.infer, which does"
                )
        return self._infer(feeds)

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

    @abstractmethod
    def _infer(self, feeds: Feeds) -> Outputs: ...

    @abstractmethod
    def _close(self) -> None: ...
