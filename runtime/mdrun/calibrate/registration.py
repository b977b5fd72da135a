"""What the commands do: one registration by the method that was asked for, one time offset."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np

from mdrun.calibrate.collect import ImagePair, collect_motion, collect_pairs, read_boards, rig_of
from mdrun.errors import CalibrationError, UsageError
from mdrun.frames import Modality
from mdrun.registration import Homography, Origin, Registration
from mdrun.registration.geometry import Size
from mdrun.registration.lens import Lens
from mdrun.rig.config import RigConfig

if TYPE_CHECKING:
    from mdrun.calibrate.time import TimeOffset

SCENE_PAIRS = 12  # two to three seconds each for align_scene


@dataclass(frozen=True, eq=False)
class Calibrated:
    """A registration, and what belongs beside it.

    Attributes:
        registration: the result.
        notes: what the user should know, in words.
        images: a (visible, thermal) pair to show it on; None where no images were given.
    """

    registration: Registration
    notes: tuple[str, ...] = ()
    images: ImagePair | None = None


def calibrate_registration(method: str, flags: dict[str, Any]) -> Calibrated:
    """Calibrate by `board`, `points`, `scene` or `import`; `flags` as of the command line.

    Raises:
        UsageError: a flag is missing.
        CalibrationError: what was given does not make a registration.
        SourceError: a camera or folder gives no images.
        DataError: images that are no pair.
    """
    found = {"board": _board, "points": _points, "scene": _scene, "import": _import}[method](flags)
    if flags["baseline"] is None:
        return found
    return replace(found, registration=_with_baseline(found.registration, flags["baseline"], flags["thermal_fov"]))


def measure_offset(config: RigConfig, seconds: float) -> tuple[str, float, TimeOffset]:
    """Name of the thermal camera, the offset in milliseconds that its times have now, and what is still missing.

    Raises:
        CalibrationError: nothing moves, or too little to tell.
        SourceError: a camera gives nothing.
    """
    from mdrun.calibrate.time import estimate_offset

    camera = config.camera(Modality.THERMAL)
    if camera is None:
        raise UsageError(f"rig {config.rig} has no thermal camera")
    watched, felt = collect_motion(config, seconds)
    homography = size = None
    if config.calibration is not None:
        size = _size_of(watched[0][1])
        registration = Registration.load(config.calibration)
        homography = registration.at(visible_size=size, thermal_size=_size_of(felt[0][1])).homography
    found = estimate_offset(watched, felt, homography=homography, visible_size=size)
    return camera[0], camera[1].offset_ms, found


def _board(flags: dict[str, Any]) -> Calibrated:
    from mdrun.calibrate.board import calibrate_board

    pairs = read_boards(*flags["board"])
    lenses = None
    if flags["visible_lens"] is not None:
        sizes = [(image.shape[1], image.shape[0]) for image in pairs[0]]
        lenses = (_lens(flags["visible_lens"], sizes[0], "visible"), _lens(flags["thermal_lens"], sizes[1], "thermal"))
    fit = calibrate_board(pairs, flags["pattern"], flags["square"], depth_m=flags["depth"], lenses=lenses)
    return Calibrated(fit.registration, fit.notes, pairs[0])


def _points(flags: dict[str, Any]) -> Calibrated:
    from mdrun.calibrate.points import fit_homography, read_points

    visible, thermal = read_points(flags["points"])
    images = _one_pair(flags)
    sizes = _sizes(flags, images)
    fit = fit_homography(visible, thermal, *sizes, depth_m=flags["depth"])
    return Calibrated(fit.registration, fit.notes, images)


def _scene(flags: dict[str, Any]) -> Calibrated:
    from mdrun.calibrate.points import now
    from mdrun.calibrate.scene import align_scene
    from mdrun.sinks.scene import thermal_rgb

    pairs = collect_pairs(rig_of(flags["visible"], flags["thermal"], flags["rig"]), flags["seconds"], SCENE_PAIRS)
    eight_bit = [(v, t if t.dtype == np.uint8 else thermal_rgb(t)[..., 0]) for v, t in pairs]
    visible_size, thermal_size = _size_of(pairs[0][0]), _size_of(pairs[0][1])
    initial = None
    if flags["initial"] is not None:
        start = Registration.load(flags["initial"]).at(visible_size=visible_size, thermal_size=thermal_size)
        initial = start.homography
    found = align_scene(eight_bit, initial=initial)
    origin = Origin("scene", now(), found.pairs_used, found.residual_px)
    registration = Registration.from_homography(
        found.homography, visible_size, thermal_size, depth_m=flags["depth"], origin=origin
    )
    notes = (f"single places lie {found.spread_px:.1f} px off it: parallax, and distortion of the lenses",)
    return Calibrated(registration, notes, pairs[-1])


def _import(flags: dict[str, Any]) -> Calibrated:
    from mdrun.calibrate.imports import Choice, import_calibration

    images = _one_pair(flags)
    told = (_size_of(images[0]), _size_of(images[1])) if images is not None else (None, None)
    choice = Choice(
        visible=flags["visible_camera"],
        thermal=flags["thermal_camera"],
        visible_size=flags["visible_size"] or told[0],
        thermal_size=flags["thermal_size"] or told[1],
        depth_m=flags["depth"],
        metres=flags["unit"],
        direction=flags["direction"],
    )
    registration = import_calibration(flags["imported"], choice)
    if images is not None:
        registration = registration.at(visible_size=told[0], thermal_size=told[1])
    return Calibrated(registration, (), images)


def _lens(path: Path, size: Size, camera: str) -> Lens:
    """Intrinsics for images of this size."""
    from mdrun.calibrate.imports import import_lens
    from mdrun.registration.geometry import check_aspect

    lens, calibrated = import_lens(path)
    if calibrated is None:
        return lens
    check_aspect(size, calibrated, camera)
    return lens.resized(calibrated, size)


def _one_pair(flags: dict[str, Any]) -> ImagePair | None:
    """The first pair of the cameras, where they are given."""
    if flags["rig"] is None and flags["visible"] is None and flags["thermal"] is None:
        return None
    return collect_pairs(rig_of(flags["visible"], flags["thermal"], flags["rig"]), flags["seconds"], 1)[0]


def _sizes(flags: dict[str, Any], images: ImagePair | None) -> tuple[Size, Size]:
    """Image sizes that points belong to: as told, else those of the images."""
    sizes: Sequence[Size | None] = (flags["visible_size"], flags["thermal_size"])
    if images is not None:
        sizes = [told or _size_of(image) for told, image in zip(sizes, images, strict=True)]
    visible, thermal = sizes
    if visible is None or thermal is None:
        raise UsageError("points belong to images; give --visible-size and --thermal-size, or --visible and --thermal")
    return visible, thermal


def _with_baseline(registration: Registration, baseline_m: float, fov_degrees: float) -> Registration:
    """A homography that knows its parallax; focal length in pixels = half the width / tan(half the field of view)."""
    if not isinstance(registration.mapping, Homography):
        raise CalibrationError("a stereo calibration knows its baseline; leave --baseline and --thermal-fov out")
    focal_px = registration.thermal_size[0] / 2 / math.tan(math.radians(fov_degrees) / 2)
    return replace(registration, mapping=replace(registration.mapping, baseline_m=baseline_m, focal_px=focal_px))


def _size_of(image: Any) -> Size:
    return int(image.shape[1]), int(image.shape[0])
