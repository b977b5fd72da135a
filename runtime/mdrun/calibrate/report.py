"""What a person looks at after a calibration: a picture and a table."""

from __future__ import annotations

import math
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from rich.table import Table

from mdrun.errors import OutputError
from mdrun.files import PartialFile
from mdrun.registration import Origin, Registration
from mdrun.registration.geometry import Size, in_words
from mdrun.registration.model import PARALLAX_AT_M
from mdrun.sinks.scene import GAP, INK, PAPER, chip, pane_size, paste, thermal_rgb
from mdrun.sinks.text import Colour, Image
from mdrun.tables import make_table

PANE_WIDTH = 640
TILES = 8  # of the chequer across a pane
EDGE: Colour = (255, 140, 0)  # orange: no camera's grey, and apart from it with any colour vision
COVERAGE: Colour = (86, 180, 233)  # sky blue
STRONG = 99.0  # percentile of the gradient that is drawn in full
DIM = 0.75  # of the visible image below the edges


def overlay_picture(visible: NDArray[Any], thermal: NDArray[Any], registration: Registration) -> Image:
    """Thermal edges over the visible image, and both in a chequer; left as if nothing were known, right registered.

    Edges that lie on the same things in both are a good registration. A line encloses what the thermal camera sees.

    Args:
        visible: (H, W, 3) uint8 RGB.
        thermal: (h, w) uint8 or uint16.
        registration: of this pair.

    Returns:
        (2 h' + gap, 2 w' + gap, 3) uint8 RGB.
    """
    seen: Size = (visible.shape[1], visible.shape[0])
    felt: Size = (thermal.shape[1], thermal.shape[0])
    size = pane_size(seen, PANE_WIDTH)
    ground = np.empty((size[1], size[0], 3), np.uint8)
    paste(np.repeat(_grey(visible)[..., None], 3, axis=2), ground)
    warm = thermal_rgb(thermal)[..., 0]
    ways = (("before: stretched", Registration.identity(seen, felt)), (_caption(registration), registration))
    columns = []
    for caption, way in ways:
        aligned = way.align(warm, size)
        edges, tiles = _with_edges(ground, aligned), _with_tiles(ground, aligned)
        for pane in (edges, tiles):
            _outline(pane, way.coverage_mask(size))
        chip(edges, caption, PAPER)
        columns.append(_stacked([edges, tiles], axis=0))
    return _stacked(columns, axis=1)


def write_picture(path: Path, picture: Image) -> None:
    """Write an RGB image, whole or not at all; the suffix says in which format.

    Raises:
        OutputError: it cannot be written there, or not in this format.
    """
    import cv2

    try:
        sound, data = cv2.imencode(path.suffix or ".", cv2.cvtColor(picture, cv2.COLOR_RGB2BGR))
    except cv2.error:
        sound = False
    if not sound:
        raise OutputError(f"{path}: no picture format {path.suffix!r}; wanted .png or .jpg")
    partial = PartialFile(path)
    try:
        partial.part.write_bytes(data.tobytes())
        partial.commit()
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}); choose another --picture") from error
    finally:
        partial.discard()


def registration_table(registration: Registration, notes: Sequence[str] = ()) -> Table:
    """What is known about a registration; lengths in pixels of the thermal image."""
    origin, mapping = registration.origin, registration.mapping
    table = make_table("registration", registration.kind)
    table.add_row("made from", origin.method if origin.pairs is None else f"{origin.method}, {origin.pairs} pairs")
    table.add_row(
        "sizes", f"visible {in_words(registration.visible_size)}, thermal {in_words(registration.thermal_size)}"
    )
    table.add_row("error", _error(origin))
    table.add_row("coverage", f"{100 * registration.coverage:.0f} % of the visible view")
    table.add_row("for the depth", _plane(registration))
    if registration.holds_from_m is None or registration.holds_to_m is None:
        table.add_row("parallax", "not known: give --baseline and --thermal-fov, or calibrate with a board")
    else:
        table.add_row("cameras apart", f"{100 * (mapping.baseline_m or 0):.1f} cm")
        table.add_row(
            "parallax",
            ", ".join(f"{registration.parallax_px(depth) or 0:.1f} px at {depth} m" for depth in PARALLAX_AT_M),
        )
        table.add_row(
            f"below {registration.limit_px:.1f} px",
            f"from {_depth(registration.holds_from_m)} to {_depth(registration.holds_to_m)}",
        )
    for note in notes:
        table.add_row("note", note)
    return table


def _error(origin: Origin) -> str:
    if origin.residual_median_px is None:
        return "not known"
    tail = "" if origin.residual_p95_px is None else f", p95 {origin.residual_p95_px:.2f} px"
    return f"median {origin.residual_median_px:.2f} px{tail}"


def _plane(registration: Registration) -> str:
    if registration.depth_m is not None:
        return f"{registration.depth_m:g} m"
    return "far away" if registration.kind == "stereo" else "not told (--depth); taken as far away"


def _depth(metres: float) -> str:
    return "infinity" if math.isinf(metres) else f"{metres:.3g} m"


def _caption(registration: Registration) -> str:
    residual = registration.residual_px
    return "after" if residual is None else f"after: error {residual:.2f} px of {registration.thermal_size[0]}"


def _grey(visible: NDArray[Any]) -> NDArray[np.uint8]:
    import cv2

    return np.asarray(cv2.cvtColor(visible, cv2.COLOR_RGB2GRAY), np.uint8)


def _with_edges(ground: Image, thermal: NDArray[np.uint8]) -> Image:
    """The visible image, with the gradient of the thermal one as an opacity."""
    import cv2

    smooth = cv2.GaussianBlur(thermal.astype(np.float32), (0, 0), 1.5)
    strength = np.hypot(cv2.Scharr(smooth, cv2.CV_32F, 1, 0), cv2.Scharr(smooth, cv2.CV_32F, 0, 1))
    opacity = np.clip(strength / max(float(np.percentile(strength, STRONG)), 1.0), 0, 1)[..., None]
    return np.asarray(ground * (DIM * (1 - opacity)) + np.array(EDGE, np.float32) * opacity, np.uint8)


def _with_tiles(ground: Image, thermal: NDArray[np.uint8]) -> Image:
    """Tiles of both in turn: lines go on from one to the next where the registration is right."""
    side = ground.shape[1] // TILES
    rows, columns = (np.arange(length) // side for length in ground.shape[:2])
    taken = np.add.outer(rows, columns) % 2 == 1
    return np.where(taken[..., None], thermal[..., None], ground)


def _outline(pane: Image, mask: NDArray[np.bool_]) -> None:
    """Enclose what the thermal camera sees, in place; nothing where that is all."""
    import cv2

    if not mask.all():
        found, _ = cv2.findContours(mask.astype(np.uint8), cv2.RETR_EXTERNAL, cv2.CHAIN_APPROX_SIMPLE)
        cv2.drawContours(pane, found, -1, COVERAGE, 1)


def _stacked(panes: Sequence[Image], axis: int) -> Image:
    first = panes[0]
    shape = (GAP, first.shape[1], 3) if axis == 0 else (first.shape[0], GAP, 3)
    gap = np.full(shape, INK, np.uint8)
    return np.concatenate([panes[0], gap, panes[1]], axis=axis)
