"""One engine as a user sees it: images in, detections, a label map or classes out."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from time import perf_counter_ns
from types import TracebackType
from typing import TypeVar

import numpy as np

from mdrun.backends import AUTO, Backend, check_backend, open_backend
from mdrun.backends.base import Inputs, Outputs
from mdrun.backends.cuda_array import Image
from mdrun.classify import ClassifyPostprocess
from mdrun.errors import EngineError, UsageError
from mdrun.frames import Classification, Detections, Found, Segmentation
from mdrun.manifest import Manifest
from mdrun.onnx_file import check_graph, read_manifest
from mdrun.postprocess import Postprocess
from mdrun.preprocess import Preprocess
from mdrun.segment import SegmentPostprocess
from mdrun.verified import check_verified

TASKS = {"detect": "infer", "segment": "segment", "classify": "classify"}  # what it runs, and the method for it
STAGES = ("preprocess", "infer", "postprocess")
MAX_THREADS = 256  # ONNX Runtime starts as many as it is told, and hangs at a million

T = TypeVar("T")
AnyPostprocess = Postprocess | SegmentPostprocess | ClassifyPostprocess


class Engine:
    """Manifest, engine library, preprocessing and postprocessing of one engine. Not for use by two threads at once.

    with Engine.load("student.onnx") as engine:
        detections = engine.infer(visible_rgb, thermal_grey)

    `infer` is for the task `detect`, `segment` and `classify` for the tasks of their names.

    Attributes:
        manifest: what the engine takes and gives.
        path: its file.
        postprocess: reads its outputs; holds no state.
    """

    def __init__(self, path: Path, manifest: Manifest, backend: Backend, threshold: float | None = None) -> None:
        """Put the parts together; `Engine.load` is the usual way."""
        self.path = path
        self.manifest = manifest
        self._backend = backend
        self._preprocess = Preprocess(manifest)
        self.postprocess = make_postprocess(manifest, threshold)

    @classmethod
    def load(
        cls,
        engine: str | Path,
        *,
        threshold: float | None = None,
        threads: int | None = None,
        backend: str = AUTO,
        require_verified: bool = False,
    ) -> Engine:
        """Load an engine.

        Args:
            engine: path of an engine file, or the name of one that ships (`mdrun models`).
            threshold: lowest score to report, in [0, 1]; None takes the manifest's. Label maps have no scores.
            threads: CPU threads; None takes one a core.
            backend: library that runs it, one of `mdrun.backends.BACKENDS`; `auto` takes the best that is here, and
                `Engine.backend_reason` says why.
            require_verified: refuse an engine whose manifest does not prove that it follows what it was made from.

        Raises:
            EngineError: no such engine, damaged, changed after export, without a manifest, for another task, or not
                verified; or the library is not installed.
            UsageError: a threshold or number of threads out of range, a threshold for label maps, no such backend.
        """
        from mdrun.models import resolve

        check_range("threshold", threshold, 0, 1)
        check_range("threads", threads, 1, MAX_THREADS)
        check_backend(backend)
        path = resolve(engine)
        manifest = read_manifest(path)
        check_inputs(manifest, path)
        if require_verified:
            check_verified(manifest, path)
        if threshold is not None:
            check_scores(manifest, "threshold")
        make_postprocess(manifest, threshold)  # outputs it cannot read are refused before a library loads the engine
        check_graph(path, manifest)
        return cls(path, manifest, open_backend(path, manifest, threads, backend), threshold)

    @property
    def backend(self) -> str:
        """The library that runs it, for example `onnxruntime`."""
        return self._backend.name

    @property
    def backend_reason(self) -> str:
        """Why it is this library, for example `asked for`."""
        return self._backend.reason

    @property
    def device(self) -> str:
        """Where it runs, for example `cpu`."""
        return self._backend.device

    @property
    def max_batch(self) -> int:
        """Most pairs that it takes at once; 1 where the graph's batch is fixed."""
        return self._backend.max_batch

    @property
    def takes_thermal(self) -> bool:
        """The engine must be given a thermal image with every visible one."""
        return "thermal" in self.manifest.needs

    def infer(self, visible: Image, thermal: Image | None = None, *, normalised: bool = False) -> Detections:
        """Detections of one pair, in pixels of the visible image given.

        Args:
            visible: (H, W, 3) uint8 RGB, any size; or an array on a GPU (`__cuda_array_interface__`) at the engine's
                size, for a backend that runs there and reads it where it lies.
            thermal: (h, w), the same view, any size, 8 bits or counts as the engine's rule takes them; or on a GPU,
                uint8 at the engine's size; None for a visible-only engine.
            normalised: `thermal` is uint8 because the engine's rule was applied already.

        Raises:
            DataError: an image of another type or shape, or a thermal image is missing.
            EngineError: the engine is for another task or closed, or its library failed.
        """
        if not isinstance(self.postprocess, Postprocess):
            raise self._other_task("infer", "boxes")
        return self._timed(self.postprocess, visible, thermal, normalised)[0]

    def segment(self, visible: Image, thermal: Image | None = None, *, normalised: bool = False) -> Segmentation:
        """Label map of one pair, (H, W) like the visible image given.

        Args:
            visible: (H, W, 3) uint8 RGB, any size; or an array on a GPU (`__cuda_array_interface__`) at the engine's
                size, for a backend that runs there and reads it where it lies.
            thermal: (h, w), the same view, any size, 8 bits or counts as the engine's rule takes them; or on a GPU,
                uint8 at the engine's size; None for a visible-only engine.
            normalised: `thermal` is uint8 because the engine's rule was applied already.

        Raises:
            DataError: an image of another type or shape, or a thermal image is missing.
            EngineError: the engine is for another task or closed, or its library failed.
        """
        if not isinstance(self.postprocess, SegmentPostprocess):
            raise self._other_task("segment", "label maps")
        return self._timed(self.postprocess, visible, thermal, normalised)[0]

    def classify(self, visible: Image, thermal: Image | None = None, *, normalised: bool = False) -> Classification:
        """Classes of one pair as a whole, the best first; arguments and errors are those of `infer`."""
        if not isinstance(self.postprocess, ClassifyPostprocess):
            raise self._other_task("classify", "classes of pairs")
        return self._timed(self.postprocess, visible, thermal, normalised)[0]

    def run_timed(
        self, visible: Image, thermal: Image | None, *, normalised: bool = False
    ) -> tuple[Found, dict[str, float]]:
        """What the engine's task gives, and the wall time of each stage in milliseconds."""
        read: Callable[[Outputs, tuple[int, int]], Found] = self.postprocess
        return self._timed(read, visible, thermal, normalised)

    def infer_batch(self, pairs: Sequence[Inputs]) -> list[Outputs]:
        """Raw outputs of several pairs that were preprocessed, at most `max_batch` of them at once.

        For those who make batches themselves, as rigs do that share an engine: each has a `Preprocess` of its own, and
        `postprocess` reads what comes back.

        Raises:
            DataError: inputs of another type or shape than the engine's.
            EngineError: closed, or its library failed.
        """
        return self._backend.infer_batch(pairs)

    def _timed(
        self,
        postprocess: Callable[[Outputs, tuple[int, int]], T],
        visible: Image,
        thermal: Image | None,
        normalised: bool,
    ) -> tuple[T, dict[str, float]]:
        def infer(feeds: Inputs) -> tuple[Outputs, float]:
            start = perf_counter_ns()
            return self._backend.infer(feeds), since(start)

        return run_stages(self._preprocess, infer, postprocess, visible, thermal, normalised=normalised)

    def _other_task(self, method: str, gives: str) -> EngineError:
        manifest = self.manifest
        return EngineError(
            f"{manifest.engine_name}: its task is {manifest.task!r}, and Engine.{method} gives {gives}; "
            f"call Engine.{TASKS[manifest.task]}"
        )

    def close(self) -> None:
        """Release the engine; a second call does nothing."""
        self._backend.close()

    def __enter__(self) -> Engine:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


def run_stages(
    preprocess: Preprocess,
    infer: Callable[[Inputs], tuple[Outputs, float]],
    postprocess: Callable[[Outputs, tuple[int, int]], T],
    visible: Image,
    thermal: Image | None,
    *,
    normalised: bool,
) -> tuple[T, dict[str, float]]:
    """One pair through an engine.

    Args:
        preprocess: the first stage.
        infer: the second; gives its own time in milliseconds too, without any wait.
        postprocess: the third.
        visible: as `Engine.infer` takes it.
        thermal: likewise.
        normalised: likewise.

    Returns:
        What `postprocess` makes of it, and the time of each of STAGES in milliseconds.
    """
    start = perf_counter_ns()
    feeds = preprocess.inputs(visible, thermal, normalised=normalised)
    preprocess_ms = since(start)
    outputs, infer_ms = infer(feeds)
    start = perf_counter_ns()
    height, width = visible.shape[:2] if isinstance(visible, np.ndarray) else feeds["visible"].shape[1:3]
    found = postprocess(outputs, (width, height))
    return found, dict(zip(STAGES, (preprocess_ms, infer_ms, since(start)), strict=True))


def since(start_ns: int) -> float:
    """Milliseconds since a reading of `perf_counter_ns`."""
    return (perf_counter_ns() - start_ns) / 1e6


def make_postprocess(manifest: Manifest, threshold: float | None) -> AnyPostprocess:
    """What reads the outputs of the manifest's task.

    Raises:
        EngineError: the outputs are not those of the task.
    """
    if manifest.task == "segment":
        return SegmentPostprocess(manifest)
    return (ClassifyPostprocess if manifest.task == "classify" else Postprocess)(manifest, threshold)


def check_range(name: str, value: float | None, low: float, high: float) -> None:
    """Refuse a number that cannot be meant; NaN too.

    Raises:
        UsageError: naming the range.
    """
    if value is not None and not low <= value <= high:
        raise UsageError(f"{name} is {value}, wanted {low} to {high}; leave it out for the default")


def check_scores(manifest: Manifest, name: str) -> None:
    """Refuse a limit on scores where there are none, rather than ignore it.

    Args:
        manifest: of the engine.
        name: of the limit, as the user gave it.

    Raises:
        UsageError: the engine's task is `segment`.
    """
    if manifest.task == "segment":
        raise UsageError(
            f"{name} is given, and {manifest.engine_name} makes label maps, which have no scores; leave it out"
        )


def check_inputs(manifest: Manifest, path: Path) -> None:
    """Refuse an engine whose results would be pixels of nothing, or that wants to run with an empty input.

    Raises:
        EngineError: without a visible input, or with an input that it can do without.
    """
    if "visible" not in manifest.inputs:
        raise EngineError(
            f"{path}: it has no visible input, and results are pixels of the visible frame; choose another"
        )
    if spare := [name for name in manifest.inputs if name not in manifest.needs]:
        raise EngineError(
            f"{path}: it has the input {', '.join(spare)} but does not need it, and nothing can stand for a missing "
            "image; choose an engine without that input"
        )
