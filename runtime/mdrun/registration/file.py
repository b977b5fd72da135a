"""Calibration files: YAML, strict, one pair of cameras each. docs/registration.md explains every key."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Annotated, Any, Literal

import numpy as np
import yaml
from pydantic import Field, ValidationError

from mdrun.errors import CalibrationError, OutputError, UsageError
from mdrun.files import PartialFile
from mdrun.problems import Problem, find_problems, in_one_line
from mdrun.registration.geometry import as_homography
from mdrun.registration.lens import Lens, Model
from mdrun.registration.mappings import Homography, Mapping, Stereo
from mdrun.registration.model import Origin, Registration
from mdrun.strict import Strict, read_yaml

Number = Annotated[float, Field(allow_inf_nan=False)]
Above0 = Annotated[float, Field(gt=0, allow_inf_nan=False)]
Side = Annotated[int, Field(ge=1, le=65_536)]
Row = tuple[Number, Number, Number]
Rows = tuple[Row, Row, Row]

HEADER = "# Written by mdrun; a rig file names it as `calibration`. docs/registration.md\n"


class LensEntry(Strict):
    """One camera of a stereo calibration."""

    model: Model = "radtan"
    matrix: Rows
    distortion: list[Number] = Field([], max_length=8)


class OriginEntry(Strict):
    """How it was made."""

    method: str = "none"
    date: str = ""
    pairs: int | None = Field(None, ge=0)
    residual_median_px: Number | None = Field(None, ge=0)
    residual_p95_px: Number | None = Field(None, ge=0)


class CalibrationFile(Strict):
    """What every calibration file holds."""

    version: Literal[1] = 1
    visible_size: tuple[Side, Side]
    thermal_size: tuple[Side, Side]
    depth_m: Above0 | None = None
    origin: OriginEntry = OriginEntry()

    @property
    def plane_m(self) -> float:
        """Depth of the plane, infinity for far away."""
        return math.inf if self.depth_m is None else self.depth_m


class HomographyFile(CalibrationFile):
    """A file of the kind `homography`."""

    kind: Literal["homography"] = "homography"
    homography: Rows
    baseline_m: Above0 | None = None
    focal_px: Above0 | None = None

    def mapping(self) -> Mapping:
        """Its values as arrays."""
        matrix = as_homography(self.homography, self.thermal_size)
        return Homography(matrix, self.plane_m, self.baseline_m, self.focal_px)


class StereoFile(CalibrationFile):
    """A file of the kind `stereo`."""

    kind: Literal["stereo"] = "stereo"
    visible: LensEntry
    thermal: LensEntry
    rotation: Rows
    translation_m: Row

    def mapping(self) -> Mapping:
        """Its values as arrays."""
        lenses = _lens(self.visible), _lens(self.thermal)
        return Stereo(*lenses, np.array(self.rotation), np.array(self.translation_m), self.plane_m)


KINDS: dict[str, type[HomographyFile] | type[StereoFile]] = {"homography": HomographyFile, "stereo": StereoFile}


def load(path: Path) -> Registration:
    """Read a calibration file.

    Raises:
        CalibrationError: no such file, or one line with every problem and its line.
    """
    try:
        data, lines = read_yaml(path)
    except FileNotFoundError:
        raise CalibrationError(f"{path}: no such file; `mdrun calibrate registration` writes one") from None
    except UsageError as error:
        raise CalibrationError(str(error)) from error
    found = KINDS.get(str(data.get("kind")))
    if found is None:
        said = f" is {data['kind']!r}" if "kind" in data else " is missing"
        wrong = Problem("kind", f"{said}, wanted {' or '.join(KINDS)}", lines.get("kind"))
        raise CalibrationError(in_one_line([wrong], path))
    try:
        file = found.model_validate(data)
        origin = Origin(**file.origin.model_dump())
        return Registration(file.visible_size, file.thermal_size, file.mapping(), origin)
    except ValidationError as error:
        raise CalibrationError(in_one_line(find_problems(found, error, lines), path)) from error
    except CalibrationError as error:
        raise CalibrationError(f"{path}: {error}") from error


def save(registration: Registration, path: Path) -> None:
    """Write a calibration file, whole or not at all.

    Raises:
        OutputError: it cannot be written there.
    """
    text = HEADER + yaml.safe_dump(to_dict(registration), sort_keys=False, default_flow_style=None, width=120)
    partial = PartialFile(path)
    try:
        partial.part.write_text(text, encoding="utf-8")
        partial.commit()
    except OSError as error:
        raise OutputError(f"{path}: cannot be written ({error.strerror}); choose another --output") from error
    finally:
        partial.discard()


def to_dict(registration: Registration) -> dict[str, Any]:
    """What a calibration file holds, as plain data."""
    mapping = registration.mapping
    entry: dict[str, Any] = {
        "version": 1,
        "kind": registration.kind,
        "visible_size": list(registration.visible_size),
        "thermal_size": list(registration.thermal_size),
        "depth_m": registration.depth_m,
    }
    if isinstance(mapping, Homography):
        entry["homography"] = mapping.matrix.tolist()
        known = {"baseline_m": mapping.baseline_m, "focal_px": mapping.focal_px}
        entry |= {name: value for name, value in known.items() if value is not None}
    else:
        entry |= {"visible": _lens_entry(mapping.visible), "thermal": _lens_entry(mapping.thermal)}
        entry |= {"rotation": mapping.rotation.tolist(), "translation_m": mapping.translation_m.tolist()}
    origin = registration.origin
    return entry | {"origin": OriginEntry(**vars(origin)).model_dump(exclude_none=True)}


def _lens(entry: LensEntry) -> Lens:
    return Lens(np.array(entry.matrix), np.array(entry.distortion, np.float64), entry.model)


def _lens_entry(lens: Lens) -> dict[str, Any]:
    return {"model": lens.model, "matrix": lens.matrix.tolist(), "distortion": lens.distortion.tolist()}
