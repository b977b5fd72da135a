"""The registration tab: how the thermal image lies on the visible one, and a new fit from clicked point pairs.

Points are pixels as captured, the centre of the first pixel is (0, 0), as everywhere in mdrun.registration.
"""

from __future__ import annotations

import json
from datetime import datetime, timezone
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mdrun.errors import DataError, UsageError
from mdrun.frames import Modality
from mdrun.web.view import RigView

if TYPE_CHECKING:
    from mdrun.calibrate.points import Fit

SET = "set_registration"

Sizes = tuple[tuple[int, int], tuple[int, int]]


def describe_registration(rig: RigView) -> dict[str, Any]:
    """The registration now in use, the sizes of both images, and whether the page may save another."""
    visible, thermal = _sizes_or_none(rig)
    return {
        "current": rig.registration(),
        "visible_size": visible,
        "thermal_size": thermal,
        "savable": bool(rig.address.token) and SET in rig.context.commands,
    }


def fit(rig: RigView, pairs: Any) -> tuple[Fit, dict[str, Any]]:
    """Fit a homography through point pairs.

    Args:
        rig: whose images the points lie in.
        pairs: decoded JSON, a list of [visible x, visible y, thermal x, thermal y].

    Returns:
        The fit, and what the page shows of it: that of `mdrun.calibrate.points.to_json`, and `matrix`, thermal to
        visible, in coordinates whose (0, 0) is the corner of the first pixel, as screens count.

    Raises:
        CalibrationError: no list of point pairs, too few, or points that lie badly.
        DataError: there is no thermal image yet.
    """
    from mdrun.calibrate.points import fit_json

    visible, thermal = _sizes(rig)
    found, shown = fit_json({"visible_size": visible, "thermal_size": thermal, "pairs": pairs})
    return found, shown | {"matrix": _corner_matrix(found)}


def save(rig: RigView, found: Fit) -> Path:
    """Write a fit as a calibration file and let the rig take it.

    Returns:
        Its path; an older file is never written over.

    Raises:
        UsageError: this run takes no other registration.
        OutputError: the file cannot be written.
        MdrunError: the rig cannot use it.
    """
    command = rig.context.commands.get(SET)
    if command is None:
        raise UsageError("this run takes no other registration; save the points and use mdrun calibrate registration")
    stamp = datetime.now(timezone.utc).strftime("%Y%m%d-%H%M%S-%f")  # microseconds: no older file has this name
    path = rig.address.calibrations / f"{rig.name}-{stamp}.yaml"
    found.registration.save(path)
    command(path)
    return path


def parse_points(text: str) -> Any:
    """JSON of a query or body.

    Raises:
        UsageError: it is none.
    """
    try:
        return json.loads(text)
    except (ValueError, RecursionError):
        raise UsageError("points are no JSON; wanted [[visible x, visible y, thermal x, thermal y], ...]") from None


def _sizes(rig: RigView) -> Sizes:
    visible, thermal = _sizes_or_none(rig)
    if visible is None or thermal is None:
        raise DataError("no pair of images has come yet, so there is nothing to register; wait for the cameras")
    return visible, thermal


def _sizes_or_none(rig: RigView) -> tuple[tuple[int, int] | None, tuple[int, int] | None]:
    """(width, height) of the visible and of the raw thermal image; the thermal one also while its shutter is closed."""
    latest = rig.latest()
    if latest is None:
        return None, None
    image = latest[0].pair.visible.image
    visible = (int(image.shape[1]), int(image.shape[0]))
    thermal = rig.context.monitor.cameras.get(Modality.THERMAL)
    return visible, None if thermal is None or not thermal.width else (thermal.width, thermal.height)


def _corner_matrix(found: Fit) -> list[list[float]]:
    """(3, 3): pixel centres are half a pixel from the corners that screens count from."""
    from mdrun.registration.mappings import Homography

    shift = np.array([[1, 0, 0.5], [0, 1, 0.5], [0, 0, 1]])
    mapping = found.registration.mapping
    if not isinstance(mapping, Homography):
        raise TypeError(f"a fit of points gives a homography, not {mapping.kind}")
    matrix = shift @ mapping.matrix @ np.linalg.inv(shift)
    rows: list[list[float]] = (matrix / matrix[2, 2]).tolist()
    return rows
