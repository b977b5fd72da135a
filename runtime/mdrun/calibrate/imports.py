"""Calibrations that other programs made: Kalibr, OpenCV, ROS, and bare homographies.

Every reader gives the same: cameras by name, or a homography. Which camera is which comes from the user, or from names.
"""

from __future__ import annotations

import json
import math
import re
from collections.abc import Mapping as Keys
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, Literal

import numpy as np
import yaml
from numpy.typing import NDArray

from mdrun.calibrate.opencv_file import is_opencv, read_opencv
from mdrun.errors import CalibrationError, UsageError
from mdrun.registration import Origin, Registration, Stereo
from mdrun.registration.geometry import ASPECT_TOLERANCE, Size, in_words
from mdrun.registration.lens import Lens
from mdrun.strict import read_yaml

Direction = Literal["thermal-to-visible", "visible-to-thermal"]

VISIBLE_HINTS = ("visible", "color", "colour", "rgb", "eo", "mono", "grey", "gray", "left_rgb", "vis")
THERMAL_HINTS = ("thermal", "boson", "lepton", "flir", "lwir", "ir", "infrared", "tir", "seek", "tau", "hadron")
# Cameras of one housing are centimetres apart, of one mast a metre or two: more is a file in millimetres or squares.
FARTHEST_M = 5.0
CENTRE = 0.2, 0.8  # shares of an image between which a lens looks


@dataclass(frozen=True)
class Choice:
    """What the user says about a file, where it does not say so itself.

    Attributes:
        visible, thermal: names of the cameras in the file, such as `cam0`.
        visible_size, thermal_size: (width, height) of the images it was made at.
        depth_m: distance that the registration is for; None: far away.
        metres: length of the file's unit, 0.001 for millimetres.
        direction: of a bare homography.
    """

    visible: str | None = None
    thermal: str | None = None
    visible_size: Size | None = None
    thermal_size: Size | None = None
    depth_m: float | None = None
    metres: float = 1.0
    direction: Direction = "thermal-to-visible"


@dataclass(frozen=True, eq=False)
class Camera:
    """One camera of a file.

    Attributes:
        name: in that file.
        lens: intrinsics.
        size: (width, height), None where the file does not say.
        pose: (4, 4) from the first camera of the file to this one; None where the file does not say.
        hint: more text that may tell what camera it is.
    """

    name: str
    lens: Lens
    size: Size | None = None
    pose: NDArray[np.float64] | None = None
    hint: str = ""


def import_calibration(path: Path, choice: Choice = Choice()) -> Registration:
    """Read a stereo calibration or a homography that another program wrote.

    Known: Kalibr camera chains (`cam0:` …, radtan and equidistant), OpenCV files (M1 D1 M2 D2 R T, XML, YAML or JSON),
    a homography as nine numbers or as JSON, and our own files, whose depth it may change.

    Raises:
        CalibrationError: not such a file, or it leaves something open that `choice` does not say.
    """
    if is_opencv(path):
        return _stereo(path, cameras_of_opencv(path), choice)
    text = _read(path)
    matrix = _find_matrix(text)
    if matrix is not None:
        return _from_matrix(path, matrix, choice)
    data = _read_keys(path)
    if data.get("kind") in ("homography", "stereo"):
        registration = Registration.load(path)
        return registration if choice.depth_m is None else registration.at_depth(choice.depth_m)
    if any(isinstance(value, dict) and "intrinsics" in value for value in data.values()):
        return _stereo(path, _cameras_of_kalibr(path, data), choice)
    raise CalibrationError(
        f"{path}: keys {', '.join(map(str, list(data)[:6])) or 'none'}; wanted a Kalibr camera chain (cam0, cam1), an "
        "OpenCV file (M1, D1, M2, D2, R, T), nine numbers of a homography, or a calibration file of mdrun"
    )


def import_lens(path: Path) -> tuple[Lens, Size | None]:
    """Intrinsics of one camera, and the image size where the file says it.

    Known: ROS camera_info YAML, OpenCV files of one camera, and lines as `thermal_intrinsic: [fx, fy, cx, cy]` with
    `thermal_distortion: [k1, k2, p1, p2, k3]`.

    Raises:
        CalibrationError: not such a file.
    """
    if is_opencv(path):
        camera = cameras_of_opencv(path)[0]
        return camera.lens, camera.size
    data = _read_keys(path)
    try:
        if "camera_matrix" in data:
            return _lens_of_ros(data)
        focal = next(value for key, value in data.items() if re.search("intrinsic", str(key)))
        distortion: Any = next((value for key, value in data.items() if re.search("distortion", str(key))), [])
        return Lens(_pinhole(focal), _numbers(distortion)), None
    except StopIteration:
        raise CalibrationError(f"{path}: no camera_matrix and no line of intrinsics; wanted one camera") from None
    except (KeyError, TypeError, ValueError) as error:
        raise CalibrationError(f"{path}: not the intrinsics of one camera: {error}") from error


def cameras_of_opencv(path: Path) -> list[Camera]:
    """Cameras of an OpenCV file: two and their pose, or one.

    Raises:
        CalibrationError: it cannot be read, or holds no camera.
    """
    found = read_opencv(path)
    try:
        cameras = [
            Camera(f"camera{number}", Lens(matrix, distortion), found.size)
            for number, (matrix, distortion) in enumerate(found.lenses, 1)
        ]
    except CalibrationError as error:
        raise CalibrationError(f"{path}: {error}") from error
    if found.rotation is not None and found.translation is not None and len(cameras) == 2:
        pose = _pose(found.rotation, found.translation)
        cameras = [replace(cameras[0], pose=np.eye(4)), replace(cameras[1], pose=pose)]
    return cameras


def _cameras_of_kalibr(path: Path, data: Keys[str, Any]) -> list[Camera]:
    cameras: list[Camera] = []
    for name, entry in data.items():
        cameras.append(_camera_of_kalibr(f"{path}: {name}", name, entry, cameras[-1].pose if cameras else None))
    return cameras


def _camera_of_kalibr(where: str, name: str, entry: Any, before: NDArray[np.float64] | None) -> Camera:
    """T_cn_cnm1 takes points of the camera before to this one; `before`, its pose, is None for the first."""
    try:
        if entry["camera_model"] != "pinhole":
            raise CalibrationError(f"{where} has the model {entry['camera_model']}, wanted pinhole")
        pose = np.eye(4) if before is None else np.asarray(entry["T_cn_cnm1"], np.float64).reshape(4, 4) @ before
        lens = Lens(_pinhole(entry["intrinsics"]), *_kalibr_distortion(where, entry))
        width, height = (int(side) for side in entry["resolution"])
    except KeyError as error:
        raise CalibrationError(f"{where} has no {error.args[0]}, which Kalibr camera chains have") from error
    except (TypeError, ValueError) as error:
        raise CalibrationError(f"{where}: {error}") from error
    return Camera(name, lens, (width, height), np.asarray(pose, np.float64), str(entry.get("rostopic", "")))


def _kalibr_distortion(
    where: str, entry: Keys[str, Any]
) -> tuple[NDArray[np.float64], Literal["radtan", "equidistant"]]:
    model = entry["distortion_model"]
    if model == "none":
        return np.zeros(0), "radtan"
    if model not in ("radtan", "equidistant"):
        raise CalibrationError(f"{where} has the distortion model {model}, wanted radtan, equidistant or none")
    return _numbers(entry["distortion_coeffs"]), model


def _stereo(path: Path, cameras: list[Camera], choice: Choice) -> Registration:
    visible, thermal = _assign(path, cameras, choice)
    if visible.pose is None or thermal.pose is None:
        raise CalibrationError(f"{path}: no R and T between the cameras; wanted a stereo calibration")
    pose = thermal.pose @ np.linalg.inv(visible.pose)
    translation_m = pose[:3, 3] * choice.metres
    baseline_m = float(np.linalg.norm(translation_m))
    if baseline_m > FARTHEST_M:
        raise CalibrationError(
            f"{path}: the cameras are {baseline_m:g} m apart; if the file counts in other units, say how long one is, "
            "as in --unit 0.001 for millimetres"
        )
    sizes = [
        _size(path, flag, camera.size, told)
        for flag, camera, told in (
            ("visible", visible, choice.visible_size),
            ("thermal", thermal, choice.thermal_size),
        )
    ]
    for flag, camera, size in zip(("visible", "thermal"), (visible, thermal), sizes, strict=True):
        _check_centre(path, flag, camera.lens, size)
    plane_m = math.inf if choice.depth_m is None else choice.depth_m
    try:
        mapping = Stereo(visible.lens, thermal.lens, pose[:3, :3], translation_m, plane_m)
        return Registration(sizes[0], sizes[1], mapping, Origin(f"import of {path.name}"))
    except CalibrationError as error:
        raise CalibrationError(f"{path}: {error}") from error


def _assign(path: Path, cameras: list[Camera], choice: Choice) -> tuple[Camera, Camera]:
    """The visible and the thermal camera: as the user says, else as names say, else the one that is left."""
    by_name = {camera.name: camera for camera in cameras}
    for name in (choice.visible, choice.thermal):
        if name is not None and name not in by_name:
            raise CalibrationError(f"{path}: no camera {name}; it has {', '.join(by_name)}")
    visible = by_name[choice.visible] if choice.visible else _hinted(cameras, VISIBLE_HINTS, THERMAL_HINTS)
    thermal = by_name[choice.thermal] if choice.thermal else _hinted(cameras, THERMAL_HINTS, VISIBLE_HINTS)
    if len(cameras) == 2:
        visible = visible or next((camera for camera in cameras if thermal and camera is not thermal), None)
        thermal = thermal or next((camera for camera in cameras if visible and camera is not visible), None)
    if visible is None or thermal is None or visible is thermal:
        raise CalibrationError(
            f"{path}: which of {', '.join(by_name)} is the visible camera and which the thermal one? say so with "
            "--visible-camera NAME and --thermal-camera NAME"
        )
    return visible, thermal


def _hinted(cameras: list[Camera], hints: tuple[str, ...], against: tuple[str, ...]) -> Camera | None:
    """The only camera whose names speak for it and not for the other kind."""
    found = []
    for camera in cameras:
        words = set(re.findall(r"[a-z]+", f"{camera.name} {camera.hint}".lower()))
        if words & set(hints) and not words & set(against):
            found.append(camera)
    return found[0] if len(found) == 1 else None


def _from_matrix(path: Path, matrix: NDArray[np.float64], choice: Choice) -> Registration:
    visible_size = _size(path, "visible", None, choice.visible_size)
    thermal_size = _size(path, "thermal", None, choice.thermal_size)
    try:
        if choice.direction == "visible-to-thermal":
            matrix = np.asarray(np.linalg.inv(matrix), np.float64)
        return Registration.from_homography(
            matrix, visible_size, thermal_size, depth_m=choice.depth_m, origin=Origin(f"import of {path.name}")
        )
    except (CalibrationError, np.linalg.LinAlgError) as error:
        raise CalibrationError(f"{path}: {error}") from error


def _find_matrix(text: str) -> NDArray[np.float64] | None:
    """(3, 3) where the text is nine numbers, or JSON of them, maybe as the one 3x3 value of an object."""
    try:
        data = json.loads(text)
    except ValueError:
        words = re.split(r"[\s,;]+", re.sub(r"#.*|[\[\]()]", " ", text).strip())
        data = words if len(words) == 9 else None
    values = list(data.values()) if isinstance(data, dict) else [data]
    found = [matrix for value in values if (matrix := _as_matrix(value)) is not None]
    return found[0] if len(found) == 1 else None


def _as_matrix(value: Any) -> NDArray[np.float64] | None:
    try:
        array = np.array(value, np.float64)
    except (TypeError, ValueError):
        return None
    return array.reshape(3, 3) if array.size == 9 and array.shape in {(9,), (3, 3)} else None


def _lens_of_ros(data: Keys[str, Any]) -> tuple[Lens, Size | None]:
    model = data.get("distortion_model", "plumb_bob")
    if model not in ("plumb_bob", "rational_polynomial", "equidistant"):
        raise CalibrationError(f"distortion model {model}, wanted plumb_bob, rational_polynomial or equidistant")
    distortion = _numbers(data["distortion_coefficients"]["data"])
    matrix = _numbers(data["camera_matrix"]["data"]).reshape(3, 3)
    size = (int(data["image_width"]), int(data["image_height"])) if "image_width" in data else None
    return Lens(matrix, distortion, "equidistant" if model == "equidistant" else "radtan"), size


def _pinhole(values: Any) -> NDArray[np.float64]:
    fx, fy, cx, cy = _numbers(values)
    return np.array([[fx, 0, cx], [0, fy, cy], [0, 0, 1]])


def _numbers(values: Any) -> NDArray[np.float64]:
    return np.asarray(values, np.float64).ravel()


def _pose(rotation: NDArray[np.float64], translation: NDArray[np.float64]) -> NDArray[np.float64]:
    pose = np.eye(4)
    pose[:3, :3], pose[:3, 3] = rotation, translation
    return pose


def _check_centre(path: Path, camera: str, lens: Lens, size: Size) -> None:
    """A lens looks about at the middle of its image: else the size is another camera's, or that of another resolution.

    Raises:
        CalibrationError: naming both.
    """
    centre = lens.matrix[:2, 2] / size
    if ((centre < CENTRE[0]) | (centre > CENTRE[1])).any():
        x, y = lens.matrix[:2, 2]
        raise CalibrationError(
            f"{path}: the {camera} lens looks at ({x:.0f}, {y:.0f}), which is not about the middle of an image of "
            f"{in_words(size)}; give the size that it was calibrated at (--visible-size, --thermal-size), or exchange "
            "the cameras"
        )


def _size(path: Path, camera: str, found: Size | None, told: Size | None) -> Size:
    if found is not None and told is not None:
        if is_opencv(path):  # which has one size for two cameras
            return told
        if abs(told[0] * found[1] / (told[1] * found[0]) - 1) > ASPECT_TOLERANCE:
            raise CalibrationError(
                f"{path}: says that the {camera} image was {in_words(found)}, got {in_words(told)} of other "
                f"proportions; leave out --{camera}-size, or look at the images"
            )
    size = found or told
    if size is None:
        raise CalibrationError(
            f"{path}: does not say how large the {camera} image was; give --{camera}-size WIDTHxHEIGHT"
        )
    return size


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise CalibrationError(f"{path}: cannot be read: {error}") from error


def _read_keys(path: Path) -> dict[str, Any]:
    try:
        return read_yaml(path)[0]
    except (OSError, yaml.YAMLError, UsageError) as error:
        raise CalibrationError(str(error)) from error
