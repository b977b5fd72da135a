"""One result as a picture: the visible image beside the thermal one, the same boxes on both.

Colours are RGB. The thermal image covers the view of the visible one, so a box keeps its relative place.
"""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mdrun import boxes
from mdrun.frames import Detections, FramePair, Provenance, Result
from mdrun.postprocess import above
from mdrun.sinks.text import BOLD, Colour, Image, draw_text, text_width

# Okabe and Ito, Color Universal Design (2008): eight colours that remain apart with any colour vision;
# blue and black are left out because they vanish in a night image.
PALETTE: tuple[Colour, ...] = (
    (230, 159, 0),  # orange
    (0, 205, 150),  # bluish green, lightened for dark images
    (86, 180, 233),  # sky blue
    (240, 228, 66),  # yellow
    (204, 121, 167),  # reddish purple
    (213, 94, 0),  # vermillion
)
INK: Colour = (16, 18, 22)
PAPER: Colour = (236, 238, 241)
MUTED: Colour = (150, 156, 166)
WARN: Colour = (240, 228, 66)
GAP = 6  # between the two panes
LABEL_PX = 12
CHIP_PX = 12


@dataclass(frozen=True)
class Look:
    """What a picture needs to know about an engine.

    Attributes:
        engine: its name.
        classes: names, in the order of the class index.
        display: lowest score that is drawn.
        thermal_used: the engine takes the thermal image.
    """

    engine: str
    classes: list[str]
    display: float
    thermal_used: bool

    def colour(self, index: int) -> Colour:
        """Colour of one class."""
        return PALETTE[index % len(PALETTE)]


def draw_scene(result: Result, look: Look, pane_wh: tuple[int, int]) -> Image:
    """Both panes of one result, (h, 2 w + GAP, 3) uint8 RGB for panes of (w, h)."""
    width, height = pane_wh
    pair = result.pair
    found = above(result.detections, look.display) if result.detections is not None else None
    canvas = np.full((height, 2 * width + GAP, 3), INK, np.uint8)
    left, right = canvas[:, :width], canvas[:, width + GAP :]
    _paste(pair.visible.image, left)
    _chip(left, "visible", PAPER)
    if pair.thermal is not None:
        _paste(_thermal_rgb(pair.thermal.image), right)
    _chip(right, thermal_caption(pair, look.thermal_used), _marker(pair))
    if found is not None:
        size = (pair.visible.image.shape[1], pair.visible.image.shape[0])
        placed = boxes.scale(found.boxes_xyxy, size, pane_wh)
        _draw_boxes(left, found, placed, look, labels=True)
        _draw_boxes(right, found, placed, look, labels=False)
    return canvas


def thermal_caption(pair: FramePair, used: bool = True) -> str:
    """Provenance of the thermal image in words."""
    if pair.thermal is None:
        return f"thermal · absent ({pair.reason})" if pair.reason else "thermal · absent"
    if not used:
        return "thermal · not used"
    if pair.provenance is Provenance.HELD:
        why = f" ({pair.reason})" if pair.reason else ""
        return f"thermal · held {pair.thermal_age_ms or 0:.0f} ms{why}"
    return f"thermal · {pair.provenance.value}"


def count_caption(result: Result, look: Look) -> str:
    """What is drawn, counted by class: `2 person · 1 car`."""
    if result.detections is None:
        return ""
    counts = Counter(above(result.detections, look.display).classes.tolist())
    return " · ".join(f"{counts[index]} {look.classes[index]}" for index in sorted(counts)) or "nothing found"


def pane_size(visible_wh: tuple[int, int], width: int) -> tuple[int, int]:
    """Even (width, height) of a pane with the proportions of the visible image."""
    height = round(width * visible_wh[1] / visible_wh[0])
    return width // 2 * 2, max(2, height // 2 * 2)


def _paste(image: NDArray[np.uint8], pane: Image) -> None:
    import cv2

    shrinks = image.shape[0] > pane.shape[0]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    pane[:] = cv2.resize(image, (pane.shape[1], pane.shape[0]), interpolation=method)


def _thermal_rgb(image: NDArray[np.uint8] | NDArray[np.uint16]) -> Image:
    """White-hot grey; raw counts are stretched between their 1st and 99th percentile."""
    if image.dtype != np.uint8:
        low, high = np.percentile(image, (1, 99))
        image = np.clip((image - low) * (255.0 / max(high - low, 1.0)), 0, 255).astype(np.uint8)
    return np.repeat(np.asarray(image, np.uint8)[..., None], 3, axis=2)


def _marker(pair: FramePair) -> Colour:
    return PAPER if pair.provenance is Provenance.MEASURED else WARN


def _chip(pane: Image, text: str, colour: Colour) -> None:
    """A caption on a darkened strip in the upper left corner."""
    width, height = text_width(text, CHIP_PX) + 16, CHIP_PX + 10
    corner = pane[:height, :width]
    corner[:] = corner // 4
    draw_text(pane, text, (8, CHIP_PX + 3), CHIP_PX, colour)


def _draw_boxes(pane: Image, found: Detections, placed: boxes.Boxes, look: Look, labels: bool) -> None:
    """Outlines with a dark halo; the best box is drawn last, so that it lies on top."""
    import cv2

    corners = np.rint(placed).astype(int).tolist()
    for index in reversed(range(len(found))):
        x1, y1, x2, y2 = corners[index]
        colour = look.colour(int(found.classes[index]))
        cv2.rectangle(pane, (x1, y1), (x2, y2), INK, 3, cv2.LINE_AA)
        cv2.rectangle(pane, (x1, y1), (x2, y2), colour, 1, cv2.LINE_AA)
        if labels:
            name = look.classes[int(found.classes[index])]
            _label(pane, f"{name} {found.scores[index]:.2f}", x1, y1, colour)


def _label(pane: Image, text: str, x: int, y: int, colour: Colour) -> None:
    """A filled tag above a box, moved inwards where the image ends."""
    import cv2

    width, height = text_width(text, LABEL_PX, BOLD) + 6, LABEL_PX + 3
    x = max(0, min(x, pane.shape[1] - width))
    y = y - height if y >= height else y
    cv2.rectangle(pane, (x, y), (x + width, y + height), colour, cv2.FILLED)
    draw_text(pane, text, (x + 3, y + LABEL_PX - 1), LABEL_PX, INK, weight=BOLD)
