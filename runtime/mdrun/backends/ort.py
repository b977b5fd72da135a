"""ONNX Runtime on the CPU."""

from __future__ import annotations

import importlib
import os
from pathlib import Path
from types import ModuleType
from typing import TYPE_CHECKING, Any

from mdrun.backends.base import Backend, Feeds, Outputs, input_shape
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
        _check_graph(self._session, manifest, path)
        self._names = list(manifest.outputs)

    def _infer(self, feeds: Feeds) -> Outputs:
        if self._session is None:
            raise EngineError(f"{self._manifest.name}: the engine is closed; load it again")
        try:
            arrays = self._session.run(self._names, feeds)
        except _library_errors() as error:
            raise EngineError(
                f"{self._manifest.name}: ONNX Runtime failed: {error}; export the engine again"
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
        raise EngineError(f"{path}: ONNX Runtime refuses it: {error}; copy or export it again") from error
    return session


def _check_graph(session: onnxruntime.InferenceSession, manifest: Manifest, path: Path) -> None:
    """Refuse a graph whose inputs or outputs are not those of its manifest; list every difference."""
    wanted = {key: (spec.dtype, input_shape(spec)) for key, spec in manifest.inputs.items()}
    problems = _differences("input", session.get_inputs(), wanted)
    wanted = {key: (spec.dtype, tuple(spec.shape)) for key, spec in manifest.outputs.items()}
    problems += _differences("output", session.get_outputs(), wanted)
    if problems:
        raise EngineError(
            f"{path}: graph and manifest differ: {'; '.join(problems)}; export again with `mdexport onnx`"
        )


def _differences(kind: str, nodes: list[Any], wanted: dict[str, tuple[str, tuple[int, ...]]]) -> list[str]:
    got = {node.name: (DTYPES.get(node.type, node.type), tuple(node.shape)) for node in nodes}
    problems = [f"{kind} {name} is missing" for name in wanted if name not in got]
    problems += [f"{kind} {name} is not in the manifest" for name in got if name not in wanted]
    for name in got.keys() & wanted.keys():
        (dtype, shape), (want_dtype, want_shape) = got[name], wanted[name]
        if dtype != want_dtype or not _fits(shape, want_shape):
            problems.append(f"{kind} {name} is {dtype} {shape}, manifest says {want_dtype} {want_shape}")
    return sorted(problems)


def _fits(shape: tuple[Any, ...], wanted: tuple[int, ...]) -> bool:
    """Equal rank and equal numbers; a named or unknown dimension fits any number."""
    return len(shape) == len(wanted) and all(
        not isinstance(got, int) or got == want for got, want in zip(shape, wanted, strict=True)
    )


def _library_errors() -> tuple[type[Exception], ...]:
    """Exception classes of ONNX Runtime; they share no base class of their own."""
    from onnxruntime.capi import onnxruntime_pybind11_state as state

    found = (kind for kind in vars(state).values() if isinstance(kind, type) and issubclass(kind, Exception))
    return (*found, RuntimeError)
