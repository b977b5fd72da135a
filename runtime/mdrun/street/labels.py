"""The truth: boxes, occlusion and the label map of one moment."""

from __future__ import annotations

from typing import TypeVar

import cv2
import numpy as np
from numpy.typing import NDArray

from mdrun.street.arrays import Bytes, Floats
from mdrun.street.camera import Camera
from mdrun.street.config import BICYCLE, CAR, PERSON, Labels
from mdrun.street.figure import Figure, outline
from mdrun.street.person import PERSON_ID
from mdrun.street.scene import Scene

_T = TypeVar("_T", bound=np.generic)
CLASS_OF = {"person": PERSON, "bicycle": BICYCLE, "car": CAR}
HIDDEN_LIMIT = 0.85  # more hidden than this: no box
SMALLEST_PX = 8


class _Ledger:
    """Collects boxes in the order they are found."""

    def __init__(self) -> None:
        self.boxes: list[tuple[float, float, float, float]] = []
        self.classes: list[int] = []
        self.hidden: list[float] = []

    def add(self, box: tuple[int, int, int, int], kind: int, full: int, seen: int) -> None:
        """Enter an object of `full` pixels, `seen` of them visible, unless it is too small or too hidden."""
        hidden = 1.0 - seen / max(full, 1)
        if box[3] - box[1] >= SMALLEST_PX and box[2] - box[0] >= 2 and hidden <= HIDDEN_LIMIT:
            self.boxes.append((float(box[0]), float(box[1]), float(box[2]), float(box[3])))
            self.classes.append(kind)
            self.hidden.append(max(hidden, 0.0))


def make_labels(scene: Scene, time_s: float) -> Labels:
    """Boxes and label map of the visible frame at a time."""
    yaw, pitch = scene.turn(time_s)
    camera = scene.camera.turned(yaw, pitch)
    dx, dy = round(camera.cx - scene.camera.cx), round(camera.cy - scene.camera.cy)
    planes = scene.planes
    depth = _moved(np.where(planes.upright, planes.z, np.float32(1e6)).astype(np.float32), dx, dy)
    still, owner = _moved(planes.label, dx, dy), _moved(planes.owner, dx, dy)
    moving = np.zeros(still.shape, np.uint8)  # label of the nearest actor
    ledger = _Ledger()
    for kind, figure in reversed(scene.figures(time_s)):  # nearest first
        _actor(ledger, moving, depth, CLASS_OF[kind], (figure, camera))
    for index, thing in enumerate(scene.stills):
        x0, y0, x1, y1 = thing.box
        box = (max(x0 + dx, 0), max(y0 + dy, 0), min(x1 + dx, camera.width), min(y1 + dy, camera.height))
        seen = int(((owner == index + 1) & (moving == 0)).sum())
        ledger.add(box, thing.kind, thing.pixels, seen)
    return Labels(
        boxes_xyxy=np.array(ledger.boxes, np.float32).reshape(-1, 4),
        classes=np.array(ledger.classes, np.int64),
        occlusion=np.array(ledger.hidden, np.float32),
        label_map=np.where(moving > 0, moving, still).astype(np.uint8),
    )


def _actor(ledger: _Ledger, moving: Bytes, depth: Floats, number: int, posed: tuple[Figure, Camera]) -> None:
    """Enter one actor and claim the pixels of `moving` that it is the nearest in."""
    figure, camera = posed
    drawn = outline(figure, camera)
    if drawn is None:
        return
    x0, y0, x1, y1 = drawn.window
    full = np.zeros(drawn.shape, np.uint8)
    drawn.fill(full, [(p.paint.label,) for p in figure.parts], cv2.LINE_8)
    if not full.any():
        return
    below = moving[y0:y1, x0:x1]
    seen = (full > 0) & (below == 0) & (depth[y0:y1, x0:x1] > figure.z)
    ledger.add(_bounds(full, x0, y0), number, int((full > 0).sum()), int(seen.sum()))
    if number == BICYCLE:
        rider = (full == PERSON_ID).astype(np.uint8)
        if rider.any():
            ledger.add(_bounds(rider, x0, y0), PERSON, int(rider.sum()), int((seen & (rider > 0)).sum()))
    below[seen] = full[seen]


def _bounds(mask: Bytes, x0: int, y0: int) -> tuple[int, int, int, int]:
    x, y, w, h = cv2.boundingRect(mask)
    return x0 + x, y0 + y, x0 + x + w, y0 + y + h


def _moved(plane: NDArray[_T], dx: int, dy: int) -> NDArray[_T]:
    """The plane moved by whole pixels, its border repeated."""
    if dx == 0 and dy == 0:
        return plane
    height, width = plane.shape
    rows = np.clip(np.arange(height) - dy, 0, height - 1)
    columns = np.clip(np.arange(width) - dx, 0, width - 1)
    return np.asarray(plane[rows[:, None], columns[None]], plane.dtype)
