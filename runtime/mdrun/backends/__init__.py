"""Engine libraries behind one small interface."""

from __future__ import annotations

from importlib.util import find_spec
from pathlib import Path

from mdrun.backends.base import Backend, Feeds, Outputs
from mdrun.errors import EngineError, UsageError
from mdrun.manifest import Manifest
from mdrun.onnx_file import PLAN_SUFFIXES

__all__ = ["AUTO", "Backend", "Feeds", "Outputs", "check_backend", "open_backend"]

AUTO = "auto"
LIBRARIES = ("onnxruntime", "openvino")  # of .onnx files; `auto` takes the first that is installed and can run it


def open_backend(path: Path, manifest: Manifest, threads: int | None = None, backend: str = AUTO) -> Backend:
    """Load an engine with the library its file asks for.

    Args:
        path: the engine file.
        manifest: what the engine takes and gives.
        threads: CPU threads of the engine; None takes one a core.
        backend: one of LIBRARIES, or AUTO.

    Raises:
        UsageError: no such backend.
        EngineError: no library for such a file, the library is not installed, or it refuses the file.
    """
    check_backend(backend)
    if path.suffix in PLAN_SUFFIXES:
        kind = "an engine of TensorRT for RTX" if path.suffix == ".rtx" else "a TensorRT plan"
        raise EngineError(
            f"{path}: {kind}; this version runs .onnx engines, others come with a later release; "
            "run the .onnx file it was built from"
        )
    if backend == AUTO:
        backend = _choose(manifest)
    if backend == "openvino":
        from mdrun.backends.openvino import OpenVinoBackend

        return OpenVinoBackend(path, manifest, threads)
    from mdrun.backends.ort import OrtBackend

    return OrtBackend(path, manifest, threads)


def check_backend(backend: str) -> None:
    """Refuse a name that no backend has.

    Raises:
        UsageError: listing those there are.
    """
    if backend not in {AUTO, *LIBRARIES}:
        raise UsageError(f"backend is {backend!r}, wanted one of {', '.join((AUTO, *LIBRARIES))}")


def _choose(manifest: Manifest) -> str:
    """The first library that is installed; where none is, the one whose absence is worth an error."""
    if manifest.origin.precision == "bf16":  # ONNX Runtime has no bfloat16 on a CPU
        return "openvino"
    return next((library for library in LIBRARIES if find_spec(library) is not None), LIBRARIES[0])
