"""What a street is asked for and what it tells: configuration, labels, class names."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from mdrun.errors import UsageError

DETECTION_CLASSES = ("person", "bicycle", "car")
PERSON, BICYCLE, CAR = range(3)

# The nine classes and the palette (RGB) of MFNet: Ha et al., IROS 2017. `curve` is the kerb line.
LABEL_NAMES = ("unlabelled", "car", "person", "bike", "curve", "car_stop", "guardrail", "color_cone", "bump")
LABEL_PALETTE = (
    (0, 0, 0),
    (64, 0, 128),
    (64, 64, 0),
    (0, 128, 192),
    (0, 0, 192),
    (128, 128, 0),
    (64, 64, 128),
    (192, 128, 128),
    (192, 64, 0),
)
TIMES_OF_DAY = ("day", "dusk", "night")


@dataclass(frozen=True)
class StreetConfig:
    """Everything a street is made from; equal configurations give equal bytes.

    Attributes:
        seed: layout, people, traffic, camera pose and weather all follow from it.
        time: `day`, `dusk` or `night`.
        width: of the visible image, pixels.
        height: of the visible image, pixels.
        thermal_width: of the thermal image, pixels; the field of view is that of the visible camera.
        thermal_height: of the thermal image, pixels.
        visible_fps: frame rate of the visible camera, Hz.
        thermal_fps: frame rate of the thermal camera, Hz.
        thermal_offset_ms: first thermal capture after the first visible one.
        ffc_every_s: period of the thermal shutter (flat-field correction), 0 for never.
        ffc_s: how long the shutter stays closed; the last image is repeated meanwhile.
        noise: scale of the thermal noise, 0 for none.

    Raises:
        UsageError: a value that no camera can have.
    """

    seed: int = 0
    time: str = "night"
    width: int = 640
    height: int = 512
    thermal_width: int = 160
    thermal_height: int = 128
    visible_fps: float = 30.0
    thermal_fps: float = 9.0
    thermal_offset_ms: float = 17.0
    ffc_every_s: float = 0.0
    ffc_s: float = 0.6
    noise: float = 1.0

    def __post_init__(self) -> None:
        """Refuse what cannot be rendered."""
        if self.time not in TIMES_OF_DAY:
            raise UsageError(f"street time is {self.time!r}; use one of {', '.join(TIMES_OF_DAY)}")
        if self.seed < 0:
            raise UsageError(f"street seed is {self.seed}; use 0 or a positive whole number")
        for name in ("width", "height", "thermal_width", "thermal_height"):
            if not 16 <= getattr(self, name) <= 8192:
                raise UsageError(f"street {name} is {getattr(self, name)} px; use 16 to 8192")
        for name in ("visible_fps", "thermal_fps"):
            if not 0 < getattr(self, name) <= 1000:
                raise UsageError(f"street {name} is {getattr(self, name)} Hz; use more than 0 and at most 1000")
        if not 0 <= self.noise <= 100:
            raise UsageError(f"street noise is {self.noise}; use 0 (none) to 100, 1 is a common camera")
        if self.ffc_every_s < 0 or (self.ffc_every_s and not 0 <= self.ffc_s < self.ffc_every_s):
            raise UsageError(
                f"street shutter closes for {self.ffc_s} s every {self.ffc_every_s} s; "
                "use a period longer than the closure, or 0 for never"
            )


@dataclass(frozen=True)
class Labels:
    """The truth about one visible frame.

    Attributes:
        boxes_xyxy: (N, 4) float32, pixels of the frame, clipped to it; extents of what is drawn before occlusion.
        classes: (N,) int64, index into `DETECTION_CLASSES`; a cyclist is a bicycle box around both and a person box.
        occlusion: (N,) float32, hidden fraction in [0, 1].
        label_map: (H, W) uint8, index into `LABEL_NAMES`.
    """

    boxes_xyxy: NDArray[np.float32]
    classes: NDArray[np.int64]
    occlusion: NDArray[np.float32]
    label_map: NDArray[np.uint8]


def random_config(seed: int, width: int, height: int) -> StreetConfig:
    """Draw a configuration for a training set: half of them night, the rest day and dusk.

    Args:
        seed: of the draw and of the street.
        width: of the visible image, pixels.
        height: of the visible image, pixels.

    Returns:
        A configuration whose thermal image has a quarter of the visible size.
    """
    rng = np.random.default_rng((seed, 77))
    return StreetConfig(
        seed=seed,
        time=str(rng.choice(TIMES_OF_DAY, p=(0.38, 0.12, 0.5))),
        width=width,
        height=height,
        thermal_width=max(16, width // 4),
        thermal_height=max(16, height // 4),
        noise=float(rng.uniform(0.5, 1.6)),
    )
