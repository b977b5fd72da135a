"""snapshot.zip: one moment as it was captured, for a report or a calibration."""

from __future__ import annotations

import io
import json
import zipfile

import numpy as np
from numpy.typing import NDArray

from mdrun.frames import Result
from mdrun.sinks.context import SinkContext
from mdrun.sinks.jsonl import to_line
from mdrun.sinks.scene import draw_scene, pane_size
from mdrun.web.pictures import encode

PANE_WIDTH = 640  # of each side of the overlay
PNG_EFFORT = 1  # of zlib, 0 to 9: 40 ms at 1280x1024; more effort costs four times that and gains a tenth
Pixels = NDArray[np.uint8] | NDArray[np.uint16]


def make_snapshot(result: Result, context: SinkContext, quality: int) -> bytes:
    """A zip file.

    Returns:
        `visible.png` and `thermal.png` as captured, `thermal_counts.png` (16 bits) where the camera gives raw counts,
        `thermal_aligned.png` where a registration laid it on the visible view, `result.json` (the line of
        docs/results.md) and `overlay.jpg`.
    """
    pair = result.pair
    images: dict[str, Pixels] = {"visible.png": pair.visible.image}
    if pair.thermal is not None:
        frame = pair.thermal
        images["thermal.png"] = frame.image if frame.unaligned is None else frame.unaligned
        if frame.unaligned is not None:
            images["thermal_aligned.png"] = frame.image
        if frame.counts is not None:
            images["thermal_counts.png"] = frame.counts
    line = to_line(result, context.classes, context.rig, context.thermal_used)
    width = min(pair.visible.image.shape[1], PANE_WIDTH)
    scene = draw_scene(
        result, context.look, pane_size((pair.visible.image.shape[1], pair.visible.image.shape[0]), width)
    )
    buffer = io.BytesIO()
    with zipfile.ZipFile(buffer, "w") as archive:  # stored: what is in it is compressed already
        for name, image in images.items():
            archive.writestr(name, _png(image))
        archive.writestr("result.json", json.dumps(line, ensure_ascii=False, indent=2) + "\n")
        archive.writestr("overlay.jpg", encode(scene, quality))
    return buffer.getvalue()


def _png(image: Pixels) -> bytes:
    import cv2

    ordered = cv2.cvtColor(image, cv2.COLOR_RGB2BGR) if image.ndim == 3 else image
    return cv2.imencode(".png", ordered, [cv2.IMWRITE_PNG_COMPRESSION, PNG_EFFORT])[1].tobytes()
