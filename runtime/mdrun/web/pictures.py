"""One result as the pictures of the page: visible, thermal, raw thermal and fused; RGB, at most so wide as asked.

With marks (boxes, captions) they stand alone, as in a stream for another program; without, the page draws the marks
itself, sharp on every screen.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np

from mdrun import boxes
from mdrun.frames import Provenance, Result
from mdrun.preprocess import resize_into
from mdrun.sinks.scene import (
    INK,
    PAPER,
    WARN,
    Look,
    Tag,
    chip,
    count_caption,
    draw_tags,
    pane_size,
    paste,
    thermal_rgb,
)
from mdrun.sinks.text import SEPARATOR, Colour, Image
from mdrun.sinks.tint import tint

VIEWS = ("visible", "thermal", "raw", "fused")
BLANK_WH = (640, 512)  # before the first result
HELD_LIGHT = 0.55  # an older thermal image is darker than a measured one
# Okabe and Ito (scene.PALETTE): apart with any colour vision; the words stand beside the colour
BADGES: dict[Provenance, Colour] = {
    Provenance.MEASURED: (0, 205, 150),
    Provenance.HELD: (240, 228, 66),
    Provenance.HALLUCINATED: (204, 121, 167),
    Provenance.ABSENT: (213, 94, 0),
}


@dataclass(frozen=True)
class Style:
    """How a picture is made.

    Attributes:
        view: one of `VIEWS`.
        marked: with boxes and captions.
        opacity: of the thermal image in the fused view, 0 to 1.
    """

    view: str
    marked: bool = True
    opacity: float = 0.5


def make_jpeg(result: Result, look: Look, style: Style, width: int, quality: int) -> bytes:
    """One view of one result as JPEG."""
    return encode(draw_view(result, look, style, width), quality)


def draw_view(result: Result, look: Look, style: Style, width: int) -> Image:
    """One view of one result, (h, w, 3) uint8 RGB."""
    if style.view == "raw":
        return _raw(result)
    width, height = _size(result, style, width)
    pane: Image = np.empty((height, width, 3), np.uint8)
    if style.view == "thermal":
        _draw_thermal(result, pane)
    else:
        _draw_visible(result, look, pane)
    if style.view == "fused":
        _blend_thermal(result, pane, style.opacity)
    absent = style.view == "thermal" and result.pair.thermal is None  # there is nothing that marks could lie on
    if result.segmentation is not None and style.view == "thermal" and not absent:
        _tint(result, look, pane)
    if style.marked:
        if not absent:
            _mark(result, look, pane)
        _caption(result, look, style.view, pane)
    return pane


def provenance(result: Result) -> Provenance:
    """Of the thermal input as the engine got it."""
    return result.thermal_provenance or result.pair.provenance


def provenance_caption(result: Result) -> str:
    """In words: `thermal held 120 ms (stale)`."""
    kind, pair = provenance(result), result.pair
    age = f" {pair.thermal_age_ms:.0f} ms" if kind is Provenance.HELD and pair.thermal_age_ms is not None else ""
    why = f" ({pair.reason})" if pair.reason and kind is not Provenance.MEASURED else ""
    return f"thermal {kind.value}{age}{why}"


def make_stale(image: Image, text: str) -> Image:
    """The picture in dark grey with a caption: what stands still must not look live."""
    grey = (image.mean(axis=2, keepdims=True) * HELD_LIGHT).astype(np.uint8)
    pane: Image = np.repeat(grey, 3, axis=2)
    chip(pane[pane.shape[0] // 2 :], text, WARN)
    return pane


def blank() -> Image:
    """A picture before the first one."""
    return np.full((BLANK_WH[1], BLANK_WH[0], 3), INK, np.uint8)


def encode(image: Image, quality: int) -> bytes:
    """An RGB picture as JPEG."""
    import cv2

    parameters = [cv2.IMWRITE_JPEG_QUALITY, quality]
    return cv2.imencode(".jpg", cv2.cvtColor(image, cv2.COLOR_RGB2BGR), parameters)[1].tobytes()


def _size(result: Result, style: Style, width: int) -> tuple[int, int]:
    """(width, height) with the proportions of the visible image; a thermal one without marks keeps its few pixels."""
    frame = result.pair.thermal
    if style.view == "thermal" and not style.marked and frame is not None:
        return int(frame.image.shape[1]), int(frame.image.shape[0])
    size = result.pair.visible.image.shape[1], result.pair.visible.image.shape[0]
    return pane_size(size, min(width, size[0]))


def _raw(result: Result) -> Image:
    """The thermal image as the camera gave it, before the registration; a black pixel where there is none."""
    frame = result.pair.thermal
    if frame is None:
        return np.zeros((1, 1, 3), np.uint8)
    return thermal_rgb(frame.image if frame.unaligned is None else frame.unaligned)


def _draw_visible(result: Result, look: Look, pane: Image) -> None:
    resize_into(result.pair.visible.image, pane)
    if result.segmentation is not None:
        _tint(result, look, pane)


def _draw_thermal(result: Result, pane: Image) -> None:
    """Darker where it is older than the visible one; none at all where there is none."""
    frame = result.pair.thermal
    if frame is None:
        pane[:] = INK
        return
    image = thermal_rgb(frame.image)
    if result.pair.provenance is Provenance.HELD:
        image = (image * HELD_LIGHT).astype(np.uint8)
    paste(image, pane)


def _blend_thermal(result: Result, pane: Image, opacity: float) -> None:
    import cv2

    if result.pair.thermal is None:
        return
    thermal = np.empty_like(pane)
    _draw_thermal(result, thermal)
    cv2.addWeighted(pane, 1 - opacity, thermal, opacity, 0, dst=pane)


def _tint(result: Result, look: Look, pane: Image) -> None:
    if result.segmentation is not None:
        tint((pane,), result.segmentation.label_map, [look.colour(index) for index in range(len(look.classes))])


def _mark(result: Result, look: Look, pane: Image) -> None:
    """Boxes with class, score and track; the best one is drawn last, so that it lies on top."""
    import cv2

    if result.detections is None:
        return
    found = look.shown(result.detections, result)
    size = result.pair.visible.image.shape[1], result.pair.visible.image.shape[0]
    placed = boxes.scale(found.boxes_xyxy, size, (pane.shape[1], pane.shape[0]))
    corners: list[list[int]] = np.rint(placed).astype(int).tolist()
    colours = [look.colour(int(kind)) for kind in found.classes]
    tracks = [] if result.track_ids is None else result.track_ids[: len(found)].tolist()
    tags = []
    for index, (kind, score) in enumerate(zip(found.classes.tolist(), found.scores, strict=True)):
        track = f" #{tracks[index]}" if index < len(tracks) and tracks[index] >= 0 else ""
        tags.append(Tag(f"{look.classes[kind]}{track} {score:.2f}", colours[index], corners[index]))
    for (x1, y1, x2, y2), colour in reversed(list(zip(corners, colours, strict=True))):
        cv2.rectangle(pane, (x1, y1), (x2, y2), INK, 3)
        cv2.rectangle(pane, (x1, y1), (x2, y2), colour, 1)
    draw_tags(pane, tags)


def _caption(result: Result, look: Look, view: str, pane: Image) -> None:
    if view == "visible":
        words = "visible" if result.classification is None else f"visible{SEPARATOR}{count_caption(result, look)}"
        chip(pane, words, PAPER)
    else:
        chip(pane, provenance_caption(result), BADGES[provenance(result)])
