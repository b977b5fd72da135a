"""The rig file, as docs/rig.md explains it."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Annotated, Any, Literal

from pydantic import AfterValidator, Field, NonNegativeInt, ValidationError, field_validator, model_validator

from mdrun.errors import RigError, UsageError
from mdrun.frames import Modality
from mdrun.problems import find_problems, in_one_line
from mdrun.strict import Strict, read_yaml


def _check_name(text: str) -> str:
    if re.fullmatch(r"[A-Za-z0-9][A-Za-z0-9_.\-]{0,63}", text) is None:
        raise ValueError(f"{text!r} is no name, wanted 1 to 64 of A-Z a-z 0-9 _ . - that begin with a letter or digit")
    return text


Name = Annotated[str, AfterValidator(_check_name)]  # goes into topics, labels and file names
Share = Annotated[float, Field(ge=0, le=1)]
Milliseconds = Annotated[float, Field(ge=0, le=3_600_000, allow_inf_nan=False)]
Point = tuple[float, float]

NO_HURRY_MS = 3_600_000.0  # `wait_ms` of recordings: a later frame is there to be read

NormaliseRule = Literal["agc8", "fixed", "percentile", "centikelvin"]
Policy = Literal["strict", "hold", "lone"]


class NormaliseConfig(Strict):
    """How 16-bit counts of a thermal camera become the 8 bits that an engine takes; docs/thermal.md has the formulas.

    `low` and `high`: counts that become 0 and 255 (`fixed`), or degrees Celsius (`centikelvin`). `low_percent` and
    `high_percent`: the same as percentiles of each image, smoothed over `smooth_s` seconds (`percentile`).
    """

    rule: NormaliseRule = "percentile"
    low: float | None = None
    high: float | None = None
    low_percent: float = Field(1.0, ge=0, lt=50)
    high_percent: float = Field(99.0, gt=50, le=100)
    smooth_s: float = Field(1.0, ge=0, le=60)
    least_span: float = Field(64.0, gt=0, description="counts: a scene flatter than this is not stretched further")

    @model_validator(mode="after")
    def _limits_belong_to_their_rule(self) -> NormaliseConfig:
        limits = (self.low, self.high)
        if self.rule in {"fixed", "centikelvin"}:
            if self.low is None or self.high is None or not self.low < self.high:
                raise ValueError(f"rule {self.rule} wants low below high, got {self.low} and {self.high}")
        elif limits != (None, None):
            raise ValueError(f"low and high go with the rules fixed and centikelvin, not with {self.rule}")
        return self


class RadiometryConfig(Strict):
    """How counts of a radiometric thermal camera become degrees Celsius.

    `linear`: scale x counts + offset (a Lepton with TLinear at 0.01 K: scale 0.01, offset -273.15). `planck`: the five
    constants of a FLIR file and the emissivity.
    """

    kind: Literal["linear", "planck"] = "linear"
    scale: float = 0.01
    offset: float = -273.15
    r1: float | None = None
    b: float | None = None
    f: float | None = None
    o: float | None = None
    r2: float | None = None
    emissivity: float = Field(1.0, gt=0, le=1)
    reflected_celsius: float = 20.0

    @model_validator(mode="after")
    def _planck_is_whole(self) -> RadiometryConfig:
        missing = [name for name in ("r1", "b", "f", "o", "r2") if getattr(self, name) is None]
        if self.kind == "planck" and missing:
            raise ValueError(f"planck wants r1, b, f, o and r2; missing: {', '.join(missing)}")
        return self


class FfcConfig(Strict):
    """Limits of shutter events; docs/thermal.md tells how they are found."""

    settle_ms: Milliseconds = Field(300.0, description="after the shutter opens, before the image is trusted again")
    stuck_s: float = Field(10.0, gt=0, le=3600, description="longer than any shutter event: the camera is stuck")


THERMAL_KEYS = {"normalise", "radiometry", "bad_pixels", "ffc"}


class CameraConfig(Strict):
    """One named camera.

    `source` is a URI of docs/sources.md; `${NAME}` in it is the environment's. `offset_ms` is added to its capture
    times; `mdrun calibrate time` measures it. `reconnect_s`: longest wait between two attempts.
    """

    source: str = Field(min_length=1)
    role: Literal["visible", "thermal"]
    offset_ms: float = Field(0.0, ge=-86_400_000, le=86_400_000, allow_inf_nan=False)
    timeout_s: float = Field(5.0, gt=0, le=300, description="without an image for so long the connection is dropped")
    reconnect_s: float = Field(0.5, gt=0, le=3600)
    normalise: NormaliseConfig | None = None
    radiometry: RadiometryConfig | None = None
    bad_pixels: list[tuple[NonNegativeInt, NonNegativeInt]] = Field(
        [], description="(x, y) of dead pixels; replaced by their neighbours"
    )
    ffc: FfcConfig = FfcConfig()

    @model_validator(mode="after")
    def _thermal_keys_are_thermal(self) -> CameraConfig:
        given = self.model_fields_set & THERMAL_KEYS
        if self.role != "thermal" and given:
            raise ValueError(f"only a thermal camera has {', '.join(sorted(given))}, this one's role is {self.role}")
        return self


class PairingConfig(Strict):
    """When two captures are one moment; docs/sources.md#pairing explains the policies."""

    policy: Policy = "hold"
    skew_ms: Milliseconds = 60.0
    age_ms: Milliseconds = 250.0
    wait_ms: Milliseconds = Field(0.0, description="a visible frame waits so long for a nearer thermal one")

    @model_validator(mode="after")
    def _age_covers_skew(self) -> PairingConfig:
        if self.age_ms < self.skew_ms:
            raise ValueError(f"age_ms is {self.age_ms}, wanted at least skew_ms, which is {self.skew_ms}")
        return self


class RungConfig(Strict):
    """One engine of the ladder."""

    engine: str = Field(min_length=1)
    backend: str = "auto"
    threshold: Share | None = None
    display_threshold: Share | None = Field(None, description="in the place of the rig's")


class LadderConfig(Strict):
    """Engines in order of preference, all warm; the first whose needs a pair meets runs."""

    engines: list[RungConfig] = Field([], description="empty: the detector that ships and its stand-in")
    back_after: int = Field(3, ge=1, le=1000, description="good pairs in a row before a better engine takes over again")
    threads: int | None = Field(None, ge=1, le=256)
    require_verified: bool = False
    strange: Literal["flag", "fallback"] = Field(
        "flag", description="a result above the energy threshold is marked, or the next engine that can run replaces it"
    )

    @field_validator("engines", mode="before")
    @classmethod
    def _a_name_is_an_engine(cls, value: Any) -> Any:
        if not isinstance(value, list):
            return value
        return [{"engine": item} if isinstance(item, str) else item for item in value]

    @property
    def rungs(self) -> list[RungConfig]:
        """`engines`; where there are none, the detector that ships and its stand-in without a thermal camera.

        Raises:
            UsageError: no engine is named, and none or several could be meant.
            EngineError: an engine that ships is damaged.
        """
        from mdrun.models import default_ladder

        return self.engines or [RungConfig(engine=str(path)) for path in default_ladder()]


class ZoneConfig(Strict):
    """An area (three corners or more) or a line (two points) in pixels of the visible frame, or shares of it."""

    points: list[Point] = Field(min_length=2)
    relative: bool = Field(False, description="points are shares of width and height, 0 to 1")
    classes: list[str] = Field([], description="empty: every class")

    @model_validator(mode="after")
    def _shares_are_shares(self) -> ZoneConfig:
        if self.relative and not all(0 <= share <= 1 for point in self.points for share in point):
            raise ValueError("relative points are shares, wanted 0 to 1; leave relative out for pixels")
        return self


class AlarmConfig(Strict):
    """A rule that makes an event an alarm."""

    on: Literal["new", "enter", "leave", "cross"]
    place: str = ""
    classes: list[str] = []
    least_score: Share = 0.0
    thermal: list[Literal["measured", "held", "hallucinated", "absent"]] = Field(
        ["measured"], description="provenance of the thermal image that may raise it"
    )


class TrackingConfig(Strict):
    """Stable ids over time, zones, lines and alarms; docs/tracking.md."""

    enabled: bool = True
    lost_s: float = Field(1.0, gt=0, le=60, description="a track unseen for so long ends")
    least_hits: int = Field(2, ge=1, le=100, description="detections before a track is told")
    zones: dict[Name, ZoneConfig] = {}
    alarms: list[AlarmConfig] = []

    @model_validator(mode="after")
    def _alarms_name_zones(self) -> TrackingConfig:
        unknown = sorted({alarm.place for alarm in self.alarms if alarm.place} - set(self.zones))
        if unknown:
            raise ValueError(f"alarms name {', '.join(unknown)}, which zones does not have")
        return self


class DriftConfig(Strict):
    """Watches whether the two cameras still look the same way."""

    enabled: bool = True
    every_s: float = Field(10.0, gt=0, le=86_400)
    limit_px: float = Field(3.0, gt=0, description="pixels of the thermal image before the alarm")


class RigConfig(Strict):
    """One pair of cameras and everything that belongs to it."""

    rig: Name = "local"
    cameras: dict[Name, CameraConfig]
    calibration: Path | None = Field(None, description="written by `mdrun calibrate registration`")
    pairing: PairingConfig = PairingConfig()
    ladder: LadderConfig = LadderConfig()
    tracking: TrackingConfig = TrackingConfig()
    drift: DriftConfig = DriftConfig()
    outputs: list[str] = Field([], description="URIs of docs/outputs.md")
    start: Literal["require", "degraded"] = Field("require", description="what a camera missing at the start means")
    display_threshold: Share | None = None

    @field_validator("cameras")
    @classmethod
    def _one_camera_a_role(cls, cameras: dict[str, CameraConfig]) -> dict[str, CameraConfig]:
        roles = [camera.role for camera in cameras.values()]
        if roles.count("visible") != 1 or roles.count("thermal") > 1:
            raise ValueError(
                f"the roles are {', '.join(sorted(roles)) or 'none'}, wanted one visible and at most one thermal"
            )
        return cameras

    def display(self, rung: int, own: float) -> float:
        """Lowest score that is drawn, counted and begins a track, of an engine of the ladder; `own`: the engine's."""
        engines = self.ladder.engines
        asked = (engines[rung].display_threshold if engines else None, self.display_threshold, own)
        return next(value for value in asked if value is not None)

    def camera(self, modality: Modality) -> tuple[str, CameraConfig] | None:
        """Name and configuration of the camera with this role, None where there is none."""
        return next(((name, found) for name, found in self.cameras.items() if found.role == modality.value), None)


class RigsConfig(Strict):
    """Several rigs of one process."""

    rigs: list[RigConfig] = Field(min_length=1)

    @field_validator("rigs")
    @classmethod
    def _names_differ(cls, rigs: list[RigConfig]) -> list[RigConfig]:
        names = [rig.rig for rig in rigs]
        if len(set(names)) != len(names):
            raise ValueError(f"their names are {', '.join(names)}, wanted names that differ")
        return rigs


def read_rigs(path: Path) -> list[RigConfig]:
    """The rigs of a rig file: the file itself is one, or holds several under `rigs:`.

    Relative paths in it count from the file's own folder.

    Raises:
        RigError: no such file, or one line with every problem and its line.
    """
    try:
        data, lines = read_yaml(path)
    except FileNotFoundError:
        raise RigError(f"{path}: no such file; docs/rig.md shows how to write one") from None
    except RigError:
        raise
    except UsageError as error:
        raise RigError(str(error)) from error
    shape = RigsConfig if "rigs" in data else RigConfig
    try:
        read = shape.model_validate(data)
    except ValidationError as error:
        raise RigError(in_one_line(find_problems(shape, error, lines), path)) from error
    rigs = read.rigs if isinstance(read, RigsConfig) else [read]
    return [_beside(rig, path.resolve().parent) for rig in rigs]


def _beside(rig: RigConfig, folder: Path) -> RigConfig:
    """Files that lie beside the rig file, by their whole path; the name of an engine that ships stays a name."""
    data = rig.model_dump(mode="json", exclude_unset=True)
    if rig.calibration is not None:
        data["calibration"] = str(folder / rig.calibration)
    if rig.ladder.engines:
        rungs = [rung.model_dump(mode="json", exclude_unset=True) for rung in rig.ladder.engines]
        for rung in rungs:
            rung["engine"] = str(near) if (near := folder / rung["engine"]).is_file() else rung["engine"]
        data["ladder"]["engines"] = rungs
    return RigConfig.model_validate(data)
