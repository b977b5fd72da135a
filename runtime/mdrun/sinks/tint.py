"""A label map in a picture: pixels tinted in the colour of their class, and areas in words."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from mdrun.segment import BACKGROUND, resize_labels
from mdrun.sinks.text import SEPARATOR, Colour, Image

OPACITY = 0.45  # the colour tells the class, the image below stays readable


def tint(panes: Sequence[Image], label_map: NDArray[np.uint8], colours: Sequence[Colour]) -> None:
    """Tint the labelled pixels of panes of one size, in place; those of class 0 stay as they are.

    Args:
        panes: (h, w, 3) each; the label map covers the view of all of them.
        label_map: (H, W), index into `colours`.
        colours: RGB, one a class.
    """
    import cv2

    height, width = panes[0].shape[:2]
    labels = resize_labels(label_map, (width, height))
    table = np.zeros((256, 3), np.uint8)
    table[: len(colours)] = colours
    table[BACKGROUND] = 0
    paint = table.take(labels, axis=0)
    labelled = (labels != BACKGROUND).astype(np.uint8)
    for pane in panes:
        blended = np.asarray(cv2.addWeighted(pane, 1 - OPACITY, paint, OPACITY, 0), np.uint8)
        pane[:] = cv2.copyTo(blended, labelled, pane.copy())


def area_caption(shares: dict[str, float]) -> str:
    """Areas of all classes but the first, the largest first: `car 12 % · person <1 %`."""
    labelled = [(share, name) for name, share in list(shares.items())[BACKGROUND + 1 :] if share > 0]
    ordered = sorted(labelled, key=lambda entry: -entry[0])
    return SEPARATOR.join(f"{name} {_percent(share)}" for share, name in ordered) or "nothing found"


def _percent(share: float) -> str:
    return f"{100 * share:.0f} %" if share >= 0.005 else "<1 %"
