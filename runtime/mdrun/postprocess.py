"""Engine outputs to detections in pixels of the captured visible frame."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from mdrun import boxes
from mdrun.backends.base import Outputs
from mdrun.errors import EngineError
from mdrun.frames import Detections, Result
from mdrun.manifest import Manifest

OUTPUTS = {"boxes": "float32", "scores": "float32", "classes": "int32"}


class Postprocess:
    """Threshold, scale, clip, suppress. Holds no state between frames."""

    def __init__(self, manifest: Manifest, threshold: float | None = None) -> None:
        """Check that the engine gives boxes.

        Args:
            manifest: of the engine.
            threshold: lowest score to report; None takes the manifest's.

        Raises:
            EngineError: the outputs are not boxes, scores and classes.
        """
        got = {name: spec.dtype for name, spec in manifest.outputs.items()}
        if got != OUTPUTS:
            raise EngineError(
                f"{manifest.engine_name}: outputs are {_list(got)}, wanted {_list(OUTPUTS)}; "
                "export again with `mdexport onnx`"
            )
        visible = manifest.inputs["visible"]
        self._model_wh = (visible.width, visible.height)
        self._limits = manifest.thresholds
        if threshold is not None:
            self._limits = replace(manifest.thresholds, report=threshold)
        self._class_count = len(manifest.classes)

    def __call__(self, outputs: Outputs, frame_wh: tuple[int, int]) -> Detections:
        """Detections of one frame.

        Args:
            outputs: `boxes` (1, K, 4) in pixels of the visible input, `scores` (1, K), `classes` (1, K).
            frame_wh: size of the captured visible frame; boxes come back in its pixels.
        """
        raw, scores, classes = outputs["boxes"][0], outputs["scores"][0], outputs["classes"][0]
        sane = (scores >= self._limits.report) & (classes >= 0) & (classes < self._class_count)
        sane &= np.isfinite(raw).all(axis=1)
        found = boxes.clip(boxes.scale(raw[sane], self._model_wh, frame_wh), frame_wh)
        scores, classes = scores[sane], classes[sane]
        solid = boxes.areas(found) > 0
        found, scores, classes = found[solid], scores[solid], classes[solid]
        keep = boxes.suppress(found, scores, classes, self._limits.nms_iou)[: self._limits.max_detections]
        return Detections(found[keep], scores[keep], classes[keep].astype(np.int64))


def above(detections: Detections, threshold: float) -> Detections:
    """The detections with at least this score."""
    keep: NDArray[np.bool_] = detections.scores >= threshold
    return Detections(detections.boxes_xyxy[keep], detections.scores[keep], detections.classes[keep])


def counted(result: Result, display: float) -> list[int]:
    """Class index of everything that counts: boxes from the display threshold; of a pair's classes the best, if so."""
    if result.detections is not None:
        indices: list[int] = above(result.detections, display).classes.tolist()
        return indices
    best = result.classification
    return [] if best is None or not len(best) or best.scores[0] < display else [int(best.classes[0])]


def _list(names: dict[str, str]) -> str:
    return ", ".join(f"{name} {dtype}" for name, dtype in names.items())
