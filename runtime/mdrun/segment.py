"""Engine output to a label map in pixels of the captured visible frame, and what a label map covers."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mdrun.backends.base import Outputs
from mdrun.errors import EngineError
from mdrun.frames import Segmentation
from mdrun.manifest import Manifest

MOST_CLASSES = 256  # of an 8-bit label map
AREA_DIGITS = 6  # of a share in results: one pixel of a million
BACKGROUND = 0  # index of the class that stands for nothing in particular


class SegmentPostprocess:
    """Labels of the model's pixels to labels of the frame's pixels. Holds no state between frames."""

    def __init__(self, manifest: Manifest) -> None:
        """Check that the engine gives a label map.

        Raises:
            EngineError: other outputs than `labels` at the size of the visible input and perhaps `energy`, or classes
                that no 8-bit map can tell apart.
        """
        visible = manifest.inputs["visible"]
        labels, energy = f"labels int32 {[1, visible.height, visible.width]}", "energy float32 [1]"
        got = sorted(f"{name} {spec.dtype} {spec.shape}" for name, spec in manifest.outputs.items())
        if got not in ([labels], [energy, labels]):
            raise EngineError(
                f"{manifest.engine_name}: outputs are {', '.join(got) or 'none'}, wanted {labels} and perhaps "
                f"{energy}; export again with `mdexport onnx`"
            )
        self._count = len(manifest.classes)
        if self._count > MOST_CLASSES or len(set(manifest.classes)) < self._count:
            raise EngineError(
                f"{manifest.engine_name}: {self._count} classes, {len(set(manifest.classes))} of them by different "
                f"names, wanted at most {MOST_CLASSES} with a name of its own each; export again with `mdexport onnx`"
            )

    def __call__(self, outputs: Outputs, frame_wh: tuple[int, int]) -> Segmentation:
        """Label map of one frame. A value that is no index of a class counts as class 0, the background.

        Args:
            outputs: `labels` (1, H, W) int32, index into the classes; `energy` (1,) float32 where the engine gives it.
            frame_wh: size of the captured visible frame; the label map comes back at it.
        """
        raw = outputs["labels"][0]
        unsigned = raw.view(np.uint32)  # a negative number becomes a large one: one comparison finds both
        if int(unsigned.max()) >= self._count:
            raw = np.where(unsigned < self._count, raw, BACKGROUND)
        energy = float(outputs["energy"][0]) if "energy" in outputs else None
        return Segmentation(resize_labels(raw.astype(np.uint8), frame_wh), energy)


def resize_labels(label_map: NDArray[np.uint8], size_wh: tuple[int, int]) -> NDArray[np.uint8]:
    """Label map (H, W) at another size, (h, w): each pixel takes the label at its own centre, none is mixed."""
    import cv2

    if (label_map.shape[1], label_map.shape[0]) == size_wh:
        return label_map
    # not INTER_NEAREST, which takes the upper left corner of a pixel for its place and so shifts the map
    return np.asarray(cv2.resize(label_map, size_wh, interpolation=cv2.INTER_NEAREST_EXACT), np.uint8)


def areas(segmentation: Segmentation, classes: Sequence[str]) -> dict[str, float]:
    """Share of the frame's pixels in [0, 1] by class, every class in its order."""
    labels = segmentation.label_map
    # class by class: for the nine of MFNet four times faster than np.bincount, which wants wide integers
    return {name: np.count_nonzero(labels == index) / labels.size for index, name in enumerate(classes)}
