"""One result as a picture: the visible image beside the thermal one, the same boxes or areas on both.

Colours are RGB. The thermal image covers the view of the visible one, so a box keeps its relative place.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mdrun import boxes
from mdrun.frames import Classification, Detections, Provenance, Result
from mdrun.pairing import NO_THERMAL
from mdrun.postprocess import above
from mdrun.segment import BACKGROUND, areas
from mdrun.sinks.text import BOLD, SEPARATOR, Colour, Image, draw_text, text_width
from mdrun.sinks.tint import area_caption, tint

# Okabe and Ito, Color Universal Design (2008): eight colours that remain apart with any colour vision.
# Blue and black, which vanish in a night image, gave way to two that are as far from the other six.
PALETTE: tuple[Colour, ...] = (
    (230, 159, 0),  # orange
    (0, 205, 150),  # bluish green, lightened for dark images
    (86, 180, 233),  # sky blue
    (240, 228, 66),  # yellow
    (204, 121, 167),  # reddish purple
    (213, 94, 0),  # vermillion
    (140, 80, 255),  # violet
    (200, 255, 150),  # pale lime
)
INK: Colour = (16, 18, 22)
PAPER: Colour = (236, 238, 241)
MUTED: Colour = (150, 156, 166)
WARN: Colour = (240, 228, 66)
NOTHING = "nothing found"
NO_LABELS = "no labels"
MEASURED = f"thermal · {Provenance.MEASURED.value}"  # the one caption that calls for no attention
GAP = 6  # between the two panes
LABEL_PX = 11
CHIP_PX = 12
STRETCH = (1.0, 99.7)  # percentiles: a person at 100 m fills less than one percent of the image
MAX_GAIN = 3.0


@dataclass(frozen=True)
class Look:
    """What a picture needs to know about an engine.

    Attributes:
        engine: its name.
        classes: names, in the order of the class index.
        display: lowest score that is drawn, of results that have none of their own.
        thermal_used: the engine takes the thermal image.
        task: of the engine.
        labels: what is drawn was not found but labelled, for sure and not by an engine.
    """

    engine: str
    classes: list[str]
    display: float
    thermal_used: bool
    task: str = "detect"
    labels: bool = False

    def colour(self, index: int) -> Colour:
        """Colour of one class; the background of label maps has none of the palette."""
        if self.task == "segment":
            return INK if index == BACKGROUND else PALETTE[(index - 1) % len(PALETTE)]
        return PALETTE[index % len(PALETTE)]

    def shown(self, detections: Detections, result: Result) -> Detections:
        """Those of a result that are drawn."""
        return above(detections, self.display if result.display is None else result.display)

    def caption(self, index: int, score: float) -> str:
        """Class and score of a result, the class of a label."""
        return self.classes[index] if self.labels else f"{self.classes[index]} {score:.2f}"

    def legend(self) -> list[tuple[str, Colour]]:
        """Name and colour of every class that is drawn."""
        first = BACKGROUND + 1 if self.task == "segment" else 0
        return [(name, self.colour(index)) for index, name in enumerate(self.classes)][first:]


class Tag(NamedTuple):
    """A text beside a box.

    Attributes:
        text: one line.
        colour: RGB, of the strip behind the text.
        corner: x1, y1, x2, y2 of the box, pixels of the pane.
    """

    text: str
    colour: Colour
    corner: list[int]


def draw_scene(result: Result, look: Look, pane_wh: tuple[int, int]) -> Image:
    """Both panes of one result, (h, 2 w + GAP, 3) uint8 RGB for panes of (w, h)."""
    width, height = pane_wh
    pair = result.pair
    found = look.shown(result.detections, result) if result.detections is not None else None
    canvas = np.full((height, 2 * width + GAP, 3), INK, np.uint8)
    left, right = canvas[:, :width], canvas[:, width + GAP :]
    paste(pair.visible.image, left)
    if pair.thermal is not None:
        paste(thermal_rgb(pair.thermal.image), right)
    else:
        _say_absent(right, "" if pair.reason == NO_THERMAL else pair.reason)
    if result.segmentation is not None:
        colours = [look.colour(index) for index in range(len(look.classes))]
        tint((left,) if pair.thermal is None else (left, right), result.segmentation.label_map, colours)
    if found is not None:
        size = (pair.visible.image.shape[1], pair.visible.image.shape[0])
        placed = boxes.scale(found.boxes_xyxy, size, pane_wh)
        draw_tags(left, _tags(found, _draw_boxes(left, found, placed, look), look))
        if pair.thermal is not None:
            _draw_boxes(right, found, placed, look)
    chip(left, "visible", PAPER)
    caption = thermal_caption(result, look.thermal_used)
    chip(right, "thermal" if look.labels else caption, PAPER if caption == MEASURED else WARN)
    return canvas


def thermal_caption(result: Result, used: bool = True) -> str:
    """Provenance of the thermal image in words, as the engine got it; `used`: some engine takes it."""
    pair = result.pair
    provenance = pair.provenance if result.thermal_provenance is None else result.thermal_provenance
    why = f" ({pair.reason})" if pair.reason else ""
    if provenance is Provenance.HALLUCINATED or pair.thermal is None:
        return f"thermal · {provenance.value}{why}"
    if provenance is Provenance.ABSENT or not used:
        return "thermal · not used" + (f" ({result.rung_reason})" if result.rung_reason else "")
    if provenance is Provenance.HELD:
        return f"thermal · held {pair.thermal_age_ms or 0:.0f} ms{why}"
    return MEASURED


def count_caption(result: Result, look: Look) -> str:
    """What is drawn, counted by class: `person 2 · car 1`; of label maps the area, `car 12 % · person 1 %`.

    Of the classes of a pair those that are drawn: `night 0.98`.
    """
    if result.classification is not None:
        return class_caption(result.classification, result, look)
    if result.segmentation is not None:
        return area_caption(areas(result.segmentation, look.classes))
    if result.detections is None:
        return ""
    counts = Counter(look.shown(result.detections, result).classes.tolist())
    return SEPARATOR.join(f"{look.classes[index]} {counts[index]}" for index in sorted(counts)) or NOTHING


def class_caption(classification: Classification, result: Result, look: Look) -> str:
    """Classes from the display threshold, the best first: `night 0.98`."""
    least = look.display if result.display is None else result.display
    rows = zip(classification.classes.tolist(), classification.scores.tolist(), strict=True)
    return SEPARATOR.join(look.caption(index, score) for index, score in rows if score >= least) or NOTHING


def pane_size(visible_wh: tuple[int, int], width: int) -> tuple[int, int]:
    """Even (width, height) of a pane with the proportions of the visible image."""
    height = round(width * visible_wh[1] / visible_wh[0])
    return width // 2 * 2, max(2, height // 2 * 2)


def paste(image: NDArray[np.uint8], pane: Image) -> None:
    """Fill a pane (h, w, 3) with an RGB image of any size, in place."""
    import cv2

    shrinks = image.shape[0] > pane.shape[0]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_CUBIC
    pane[:] = cv2.resize(image, (pane.shape[1], pane.shape[0]), interpolation=method)


def thermal_rgb(image: NDArray[np.uint8] | NDArray[np.uint16]) -> Image:
    """White-hot grey, stretched between two percentiles; 8 bits by `MAX_GAIN` at most, so that noise stays noise."""
    low, high = np.percentile(image[::2, ::2], STRETCH)
    gain = 255.0 / max(high - low, 1.0)
    if image.dtype == np.uint8:
        gain = min(gain, MAX_GAIN)
    grey = np.clip((image - low) * gain, 0, 255).astype(np.uint8)
    return np.repeat(grey[..., None], 3, axis=2)


def chip(pane: Image, text: str, colour: Colour) -> None:
    """A caption on a darkened strip in the upper left corner."""
    width, height = text_width(text, CHIP_PX) + 16, CHIP_PX + 10
    corner = pane[:height, :width]
    corner[:] = corner // 4
    draw_text(pane, text, (8, CHIP_PX + 3), CHIP_PX, colour)


def _say_absent(pane: Image, reason: str) -> None:
    """In the middle of an empty pane, for who looks from afar: black alone could be a dark scene."""
    height, width = pane.shape[:2]
    for line, (text, px) in enumerate((("no thermal image", height // 14), (reason, height // 18))):
        draw_text(pane, text, ((width - text_width(text, px)) // 2, height // 2 + line * height // 11), px, WARN)


def _draw_boxes(pane: Image, found: Detections, placed: boxes.Boxes, look: Look) -> list[list[int]]:
    """Outlines with a dark halo; the best box is drawn last, so that it lies on top. Returns their corners."""
    import cv2

    corners: list[list[int]] = np.rint(placed).astype(int).tolist()
    for index in reversed(range(len(found))):
        x1, y1, x2, y2 = corners[index]
        cv2.rectangle(pane, (x1, y1), (x2, y2), INK, 3)
        cv2.rectangle(pane, (x1, y1), (x2, y2), look.colour(int(found.classes[index])), 1)
    return corners


def _tags(found: Detections, corners: list[list[int]], look: Look) -> list[Tag]:
    """Class and score of every box in the colour of its class."""
    kinds = found.classes.tolist()
    return [
        Tag(look.caption(kind, score), look.colour(kind), corner)
        for kind, score, corner in zip(kinds, found.scores, corners, strict=True)
    ]


def draw_tags(pane: Image, tags: Sequence[Tag]) -> None:
    """Write the tags, in place, where there is room, the first ones first; a hidden tag says less than none."""
    taken: list[tuple[int, int, int, int]] = []
    for tag in tags:
        width, height = text_width(tag.text, LABEL_PX, BOLD) + 6, LABEL_PX + 3
        for x, y in _label_places(tag.corner, (width, height), pane.shape[1]):
            inside = y >= 0 and y + height <= pane.shape[0]
            if inside and not any(_touch((x, y, x + width, y + height), other) for other in taken):
                taken.append((x, y, x + width, y + height))
                pane[y : y + height, x : x + width] = tag.colour
                draw_text(pane, tag.text, (x + 3, y + LABEL_PX - 1), LABEL_PX, INK, weight=BOLD)
                break


def _label_places(corner: list[int], size: tuple[int, int], pane_width: int) -> list[tuple[int, int]]:
    """Upper left corners of a tag: above the box, left- or right-aligned, then below it."""
    (x1, y1, x2, y2), (width, height) = corner, size
    limit = max(0, pane_width - width)
    left, right = min(max(x1, 0), limit), min(max(x2 - width + 1, 0), limit)
    return [(left, y1 - height), (right, y1 - height), (left, y2 + 1), (right, y2 + 1)]


def _touch(first: tuple[int, int, int, int], second: tuple[int, int, int, int]) -> bool:
    return first[0] < second[2] and second[0] < first[2] and first[1] < second[3] and second[1] < first[3]
