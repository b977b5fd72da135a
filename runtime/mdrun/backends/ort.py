"""ONNX Runtime on the CPU."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from mdrun.backends.base import Backend, Feeds, Outputs, one_line
from mdrun.backends.tensors import Tensor, check_tensors
from mdrun.errors import EngineError
from mdrun.manifest import Manifest

if TYPE_CHECKING:
    import onnxruntime

PROVIDERS = ["CPUExecutionProvider"]
SILENT = 4  # ORT_LOGGING_LEVEL_FATAL: the library's own lines would stand beside our one-line error

# ONNX Runtime's names of element types (onnxruntime/core/framework/data_types.cc).
DTYPES = {"tensor(uint8)": "uint8", "tensor(float)": "float32", "tensor(int32)": "int32", "tensor(int64)": "int64"}


class OrtBackend(Backend):
    """An ONNX engine in ONNX Runtime, on the CPU."""

    name = "onnxruntime"
    device = "cpu"

    def __init__(self, path: Path, manifest: Manifest, threads: int | None = None) -> None:
        """Load and check an engine.

        Args:
            path: ONNX file.
            manifest: what it must take and give.
            threads: of one operator; None takes one a core.

        Raises:
            EngineError: the library is missing or refuses the file, or the graph is not what the manifest says.
        """
        super().__init__(manifest)
        self._session: onnxruntime.InferenceSession | None = _open_session(path, threads)
        if (got := self._session.get_providers()) != PROVIDERS:
            raise EngineError(f"{path}: asked for {', '.join(PROVIDERS)}, ONNX Runtime runs it on {', '.join(got)}")
        check_tensors(path, manifest, _tensors(self._session.get_inputs()), _tensors(self._session.get_outputs()))
        self._names = list(manifest.outputs)

    def _infer(self, feeds: Feeds) -> Outputs:
        if self._session is None:
            raise EngineError(f"{self._manifest.name}: the engine is closed; load it again")
        try:
            arrays = self._session.run(self._names, feeds)
        except _library_errors() as error:
            raise EngineError(
                f"{self._manifest.name}: ONNX Runtime failed: {one_line(str(error))}; export the engine again"
            ) from error
        return dict(zip(self._names, arrays, strict=True))

    def _close(self) -> None:
        self._session = None


def import_onnxruntime() -> ModuleType:
    """The library with its telemetry off: releases from 1.32 on note device and interpreter in the user's cache.

    The variable has to be there before the first import; a user's own value stays.

    Raises:
        ImportError: it is not installed.
    """
    os.environ.setdefault("ORT_DISABLE_TELEMETRY", "1")
    return importlib.import_module("onnxruntime")


def _open_session(path: Path, threads: int | None) -> onnxruntime.InferenceSession:
    try:
        library = import_onnxruntime()
    except ImportError as error:
        raise EngineError(
            f'{path}: running it wants ONNX Runtime, which is not installed; pip install "mdrun[cpu]"'
        ) from error
    options = library.SessionOptions()
    options.log_severity_level = SILENT
    options.inter_op_num_threads = 1  # one graph at a time, and its operators depend on each other
    if threads is not None:
        options.intra_op_num_threads = threads
    try:
        session: onnxruntime.InferenceSession = library.InferenceSession(str(path), options, providers=PROVIDERS)
    except _library_errors() as error:
        raise EngineError(
            f"{path}: ONNX Runtime refuses it: {one_line(str(error))}; copy or export it again"
        ) from error
    return session


def _tensors(nodes: list[Any]) -> dict[str, Tensor]:
    return {node.name: (DTYPES.get(node.type, node.type), node.shape) for node in nodes}


def _library_errors() -> tuple[type[Exception], ...]:
    """Exception classes of ONNX Runtime; they share no base class of their own."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    found = (kind for kind in vars(state).values() if isinstance(kind, type) and issubclass(kind, Exception))
    return (*found, RuntimeError)
