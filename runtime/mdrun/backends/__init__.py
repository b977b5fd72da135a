"""Engine libraries behind one small interface."""

from __future__ import annotations

from pathlib import Path

from mdrun.backends.base import Backend, Feeds, Outputs
from mdrun.errors import EngineError
from mdrun.manifest import Manifest
from mdrun.onnx_file import PLAN_SUFFIXES

__all__ = ["Backend", "Feeds", "Outputs", "open_backend"]


def open_backend(path: Path, manifest: Manifest, threads: int | None = None) -> Backend:
    """Load an engine with the library its file asks for.

    Args:
        path: the engine file.
        manifest: what the engine takes and gives.
        threads: CPU threads of the engine; None takes one a core.

    Raises:
        EngineError: no library for such a file, the library is not installed, or it refuses the file.
    """
    if path.suffix in PLAN_SUFFIXES:
        raise EngineError(
            f"{path}: a TensorRT plan; this version runs .onnx engines, plans come with a later release; "
            "run the .onnx file it was built from"
        )
    from mdrun.backends.ort import OrtBackend

    return OrtBackend(path, manifest, threads)
