"""Engine libraries behind one small interface."""

from __future__ import annotations

from pathlib import Path

from mdrun.backends.base import Backend, Feeds, Inputs, Outputs
from mdrun.backends.choice import AUTO, BACKENDS, LIBRARIES, Choice, check_backend, choose
from mdrun.errors import BackendError
from mdrun.manifest import Manifest

__all__ = ["AUTO", "BACKENDS", "LIBRARIES", "Backend", "Feeds", "Inputs", "Outputs", "check_backend", "open_backend"]


def open_backend(path: Path, manifest: Manifest, threads: int | None = None, backend: str = AUTO) -> Backend:
    """Load an engine with the library its file asks for.

    Args:
        path: the engine file.
        manifest: what the engine takes and gives.
        threads: CPU threads of the engine; None takes one a core.
        backend: one of BACKENDS, or AUTO, which also goes on to the next best where one does not start.

    Raises:
        UsageError: no such backend, or not for such a file.
        BackendError: the library is not installed, or does not run where it was asked to.
        EngineError: it refuses the file.
    """
    check_backend(backend)
    return _open_first(choose(path, manifest, backend), path, manifest, threads)


def _open_first(
    choices: list[Choice], path: Path, manifest: Manifest, threads: int | None, failed: str = ""
) -> Backend:
    """The first that starts; its reason tells of those that did not."""
    best, *others = choices
    try:
        opened = _open(best.backend, path, manifest, threads)
    except BackendError as error:
        if not others:
            raise
        failed += f"; {best.backend} did not start: {str(error).removeprefix(f'{path}: ')}"
        return _open_first(others, path, manifest, threads, failed)
    opened.reason = best.reason + failed
    return opened


def _open(backend: str, path: Path, manifest: Manifest, threads: int | None) -> Backend:
    if backend.startswith("tensorrt"):
        from mdrun.backends.tensorrt import TensorRtBackend

        return TensorRtBackend(path, manifest, backend)
    if backend == "openvino":
        from mdrun.backends.openvino import OpenVinoBackend

        return OpenVinoBackend(path, manifest, threads)
    from mdrun.backends.ort import OrtBackend

    return OrtBackend(path, manifest, threads, backend)
