"""What the pictures of errors share: colours of errors, panes side by side, a heading and a caption. RGB throughout."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mdrun.sinks.scene import GAP, MUTED, PALETTE, PAPER, chip, paste, thermal_rgb
from mdrun.sinks.sheet import BACKGROUND, BASELINE, HEADER, MARGIN
from mdrun.sinks.text import BOLD, SEPARATOR, Colour, Image, draw_text, shorten, text_width
from mdtrain.metrics.error_folder import TIMES

# Sky blue, yellow and vermillion: of all triples of the palette among those farthest apart for any colour vision.
RIGHT: Colour = PALETTE[2]
MISSED: Colour = PALETTE[3]
FALSE: Colour = PALETTE[5]
TITLE_PX, TEXT_PX = 22, 14
CAPTION = 34  # height of the line below the panes
KEY_HEIGHT, KEY_BASELINE = 20, 15  # of what explains the colours in that line


@dataclass(frozen=True)
class Run:
    """What was judged, as pictures name it.

    Attributes:
        title: engine or results, set, split.
        thermal_size: width and height in pixels of the simulated camera; None for the images as stored.
        thermal_used: the engine takes the thermal image.
    """

    title: str
    thermal_size: tuple[int, int] | None
    thermal_used: bool


def summary(parts: Sequence[str], night: bool | None) -> str:
    """What follows the name of a pair: its errors, and its time where the set says it."""
    return SEPARATOR.join([*parts, *([TIMES[night]] if TIMES[night] else [])])


def pane_of(image: NDArray[np.uint8], size_wh: tuple[int, int]) -> Image:
    """A visible (H, W, 3) or thermal (H, W) image as a pane (h, w, 3)."""
    pane: Image = np.zeros((size_wh[1], size_wh[0], 3), np.uint8)
    paste(image if image.ndim == 3 else thermal_rgb(image), pane)
    return pane


def titled(pane: Image, text: str) -> Image:
    """The pane, with its name in the corner."""
    chip(pane, text, PAPER)
    return pane


def thermal_pane(thermal: NDArray[np.uint8], size_wh: tuple[int, int], used: bool) -> Image:
    """The thermal image (h, w) as the engine saw it; `used` is False where it looks at the visible image alone."""
    size = f"{thermal.shape[1]}x{thermal.shape[0]}"
    return titled(pane_of(thermal, size_wh), f"thermal · {size}" if used else "thermal · not used")


def beside(panes: Sequence[Image]) -> Image:
    """Panes of one height in a row."""
    gap = np.full((panes[0].shape[0], GAP, 3), BACKGROUND, np.uint8)
    parts = [part for pane in panes for part in (gap, pane)]
    return np.concatenate(parts[1:], axis=1)


def framed(body: Image, title: str, told: str, caption: str, key: Image) -> Image:
    """A picture with a heading and a caption.

    Args:
        body: the panes.
        title: name of the pair.
        told: what follows it; its last parts go where there is no room, and so with the caption.
        caption: line below the panes.
        key: explanation of colours (KEY_HEIGHT, w, 3), at the right end of that line; narrower than the body.
    """
    height, width = body.shape[:2]
    picture: Image = np.full((HEADER + height + CAPTION + MARGIN // 2, width + 2 * MARGIN, 3), BACKGROUND, np.uint8)
    picture[HEADER : HEADER + height, MARGIN : MARGIN + width] = body
    draw_text(picture, title, (MARGIN, BASELINE), TITLE_PX, PAPER, weight=BOLD)
    left = MARGIN + text_width(title, TITLE_PX, BOLD) + TEXT_PX
    draw_text(picture, shorten(told, TEXT_PX, MARGIN + width - left), (left, BASELINE), TEXT_PX, MUTED)
    below, right = HEADER + height + CAPTION * 3 // 4, MARGIN + width - key.shape[1]
    picture[below - KEY_BASELINE : below - KEY_BASELINE + KEY_HEIGHT, right : right + key.shape[1]] = key
    line = shorten(caption, TEXT_PX, right - TEXT_PX - MARGIN)
    draw_text(picture, line, (MARGIN, below), TEXT_PX, MUTED)
    return picture
