"""The errors of a detector as pictures: both images of a pair, found, missed and false boxes on both. RGB."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import cv2
import numpy as np
from numpy.typing import NDArray

from mdrun.boxes import Boxes, scale
from mdrun.sinks.scene import INK, MUTED, PAPER, Tag, draw_tags, pane_size
from mdrun.sinks.sheet import BACKGROUND
from mdrun.sinks.text import Colour, Image, draw_text, text_width
from mdtrain.data.records import Record
from mdtrain.metrics.box_errors import MATCH_IOU, PairErrors, most_errors_first
from mdtrain.metrics.error_folder import TIMES, ErrorFolder
from mdtrain.metrics.error_frame import (
    FALSE,
    KEY_BASELINE,
    KEY_HEIGHT,
    MISSED,
    RIGHT,
    TEXT_PX,
    Run,
    beside,
    framed,
    pane_of,
    summary,
    thermal_pane,
    titled,
)
from mdtrain.metrics.pairs import seen_by

PANE_WIDTH = 800
KEY_GAP = 22
SAMPLE = (24, 14)  # width and height of an outline in the key


@dataclass(frozen=True)
class Outline:
    """How a box is drawn; the pattern tells the kinds apart where colours do not.

    Attributes:
        name: of the kind of box.
        colour: of the line.
        dash: pixels drawn and left out in turn; None for a whole line.
        width: of the line, pixels.
    """

    name: str
    colour: Colour
    dash: tuple[int, int] | None
    width: int


HIT = Outline("found", RIGHT, None, 1)
MISS = Outline("missed", MISSED, (8, 5), 2)
ALARM = Outline("false alarm", FALSE, (3, 3), 2)
LEFT_OUT = Outline("not counted", MUTED, (16, 8), 1)


@dataclass(frozen=True)
class BoxRun(Run):
    """A detector or its results.

    Attributes:
        thresholds: lowest score that counts, by class index.
        classes: names by class index.
        outlines: kinds of boxes that the measure knows, in the order of the key.
    """

    thresholds: Sequence[float]
    classes: Sequence[str]
    outlines: Sequence[Outline] = (HIT, MISS, ALARM)

    @property
    def named_thresholds(self) -> dict[str, float]:
        """The thresholds by class."""
        return dict(zip(self.classes, self.thresholds, strict=True))


def draw_worst(
    folder: ErrorFolder, records: Sequence[Record], pairs: Sequence[PairErrors], run: BoxRun, worst: int
) -> None:
    """Pictures of the pairs with the most errors, and the index of all pairs.

    Args:
        folder: takes the files.
        records: the pairs.
        pairs: the boxes of each, in pixels of its visible image.
        run: what was judged.
        worst: most pictures; a pair without errors gets none.
    """
    digits, rows = max(2, len(str(worst))), []
    for rank, index in enumerate(most_errors_first(pairs), start=1):
        record, errors = records[index], pairs[index]
        _, missed, false = errors.counts()
        picture = None
        if rank <= worst and errors.errors:
            pair = record.name.replace("/", "_")
            name = f"{rank:0{digits}d}_{pair}_{missed}-missed_{false}-false.png"
            picture = folder.add_picture(name, draw_pair(record, errors, run))
        rows.append(_row(rank, record, errors, run.classes, picture))
    folder.add_index(rows)


def _row(
    rank: int, record: Record, errors: PairErrors, classes: Sequence[str], picture: str | None
) -> dict[str, object]:
    """The columns of one pair."""
    row: dict[str, object] = {"rank": rank, "name": record.name, "time": TIMES[record.night]}
    for prefix, kind in (("", None), *((f"{name}_", index) for index, name in enumerate(classes))):
        numbers = zip(("objects", "missed", "false"), errors.counts(kind), strict=True)
        row |= {prefix + what: number for what, number in numbers}
    return row | {"picture": picture}


def draw_pair(record: Record, errors: PairErrors, run: BoxRun) -> Image:
    """Both images of a pair with all its boxes, what they are called on the visible one, and a key."""
    visible = record.visible
    frame = visible.shape[1], visible.shape[0]
    size = pane_size(frame, PANE_WIDTH)
    left = titled(pane_of(visible, size), "visible")
    right = thermal_pane(seen_by(record.thermal, run.thermal_size), size, run.thermal_used)
    marks = [
        (outline, Tag(text, outline.colour, corner))
        for outline, boxes, texts, chosen in _kinds(errors, run.classes)
        for corner, text, wanted in zip(_corners(boxes, frame, size), texts, chosen, strict=True)
        if wanted
    ]
    for corner in _corners(errors.left_out, frame, size):
        draw_outline(left, corner, LEFT_OUT)
        draw_outline(right, corner, LEFT_OUT)
    for outline, tag in reversed(marks):  # errors lie on top
        draw_outline(left, tag.corner, outline)
        draw_outline(right, tag.corner, outline)
    draw_tags(left, [tag for _, tag in marks])
    _, missed, false = errors.counts()
    counts = [f"{missed} missed", f"{false} false alarm{'s' * (false != 1)}", f"{errors.hits.sum()} found"]
    return framed(beside((left, right)), record.name, summary(counts, record.night), _caption(run), _key(run.outlines))


def _corners(boxes_xyxy: Boxes, frame_wh: tuple[int, int], pane_wh: tuple[int, int]) -> list[list[int]]:
    """Boxes in whole pixels of a pane; what reaches beyond it ends at its border, where a line is still seen."""
    placed = scale(boxes_xyxy, frame_wh, pane_wh).clip(0, np.array(pane_wh * 2, np.float32) - 1)
    corners: list[list[int]] = np.rint(placed).astype(int).tolist()
    return corners


def _kinds(errors: PairErrors, classes: Sequence[str]) -> list[tuple[Outline, Boxes, list[str], NDArray[np.bool_]]]:
    """Kinds of boxes, errors first: outline, all boxes that it chooses from, what they are called, which ones."""
    truth, found = errors.truth, errors.found
    scored = [f"{classes[kind]} {score:.2f}" for kind, score in zip(found.classes, found.scores, strict=True)]
    return [
        (MISS, truth.boxes_xyxy, [f"missed {classes[kind]}" for kind in truth.classes], errors.missed),
        (ALARM, found.boxes_xyxy, scored, ~errors.hits),
        (HIT, found.boxes_xyxy, scored, errors.hits),
    ]


def _caption(run: BoxRun) -> str:
    scores = ", ".join(f"{name} {least:.2f}" for name, least in run.named_thresholds.items())
    return f"{run.title} · scores from {scores} · a match overlaps by an IoU of {MATCH_IOU:g} or more"


def _key(kinds: Sequence[Outline]) -> Image:
    """An outline of each kind with its name."""
    widths = [SAMPLE[0] + 8 + text_width(kind.name, TEXT_PX) for kind in kinds]
    key: Image = np.full((KEY_HEIGHT, sum(widths) + (len(kinds) - 1) * KEY_GAP, 3), BACKGROUND, np.uint8)
    x = 0
    for kind, width in zip(kinds, widths, strict=True):
        draw_outline(key, [x + 1, 2, x + SAMPLE[0], 2 + SAMPLE[1]], kind)
        draw_text(key, kind.name, (x + SAMPLE[0] + 8, KEY_BASELINE), TEXT_PX, PAPER)
        x += width + KEY_GAP
    return key


def draw_outline(pane: Image, corner: Sequence[int], outline: Outline) -> None:
    """Draw a box x1, y1, x2, y2 in pixels of the pane, in place, with a dark halo."""
    x1, y1, x2, y2 = corner
    cv2.rectangle(pane, (x1, y1), (x2, y2), INK, outline.width + 2)
    for start, end in (((x1, y1), (x2, y1)), ((x2, y1), (x2, y2)), ((x2, y2), (x1, y2)), ((x1, y2), (x1, y1))):
        way = np.subtract(end, start)
        length = int(np.abs(way).max())
        drawn, left_out = outline.dash or (length + 1, 0)
        for begin in range(0, length + 1, drawn + left_out):
            ends = [np.add(start, way * at // max(length, 1)) for at in (begin, min(begin + drawn - 1, length))]
            first, last = (tuple(map(int, point)) for point in ends)
            cv2.line(pane, first, last, outline.colour, outline.width)
