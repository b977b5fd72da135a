"""Values that travel through the runtime: frames, pairs, detections, label maps, results.

Everything here crosses threads and is frozen; every time is in nanoseconds of one monotonic clock.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from enum import Enum
from typing import Any

import numpy as np
from numpy.typing import NDArray


class Modality(str, Enum):
    """Which camera an image comes from."""

    VISIBLE = "visible"
    THERMAL = "thermal"


class Provenance(str, Enum):
    """How the content of one model input came about."""

    MEASURED = "measured"  # captured within the skew limit of the visible frame
    HELD = "held"  # an older capture, still within the age limit
    HALLUCINATED = "hallucinated"  # made up by the network
    ABSENT = "absent"  # not there at all


@dataclass(frozen=True, slots=True)
class Frame:
    """One image of one camera. `image` is read-only from here on.

    Attributes:
        image: visible: (H, W, 3) uint8 RGB; thermal: (H, W) uint8 or uint16.
        modality: which camera.
        captured_ns: capture time, nanoseconds of the run's monotonic clock.
        sequence: running number of this source, from 0.
        source: name of the camera as results show it, for example `cam0`; never holds credentials.
        name: the file's name where the source has files.
        shutter: the camera says that its shutter (flat-field correction) is closed: the image is stale.
    """

    image: NDArray[Any]
    modality: Modality
    captured_ns: int
    sequence: int
    source: str
    name: str | None = None
    shutter: bool = False


@dataclass(frozen=True, slots=True)
class FramePair:
    """One visible frame and the thermal frame that belongs to it, or none.

    Attributes:
        sequence: running number of the pair, from 0.
        visible: the frame that gives the pair its time.
        thermal: its partner; None where `provenance` is ABSENT.
        provenance: of the thermal image.
        reason: why the thermal image is not MEASURED (`stale`, `ffc`, `no_thermal`), else empty.
        skew_ms: visible capture time minus thermal capture time; None without a thermal frame.
        thermal_age_ms: age of the thermal image when the pair was made; None without a thermal frame.
    """

    sequence: int
    visible: Frame
    thermal: Frame | None
    provenance: Provenance
    reason: str = ""
    skew_ms: float | None = None
    thermal_age_ms: float | None = None


@dataclass(frozen=True, slots=True)
class Detections:
    """Boxes of one visible frame, best first.

    Attributes:
        boxes_xyxy: (N, 4) float32, pixels of the visible frame as captured.
        scores: (N,) float32 in [0, 1], descending.
        classes: (N,) int64, index into the manifest's class names.
    """

    boxes_xyxy: NDArray[np.float32]
    scores: NDArray[np.float32]
    classes: NDArray[np.int64]

    def __post_init__(self) -> None:
        """Refuse shapes that do not belong together."""
        count = len(self.scores)
        if self.boxes_xyxy.shape != (count, 4) or self.classes.shape != (count,):
            raise ValueError(
                f"detections want boxes (N, 4), scores (N,), classes (N,); got {self.boxes_xyxy.shape}, "
                f"{self.scores.shape}, {self.classes.shape}"
            )

    def __len__(self) -> int:
        """Number of boxes."""
        return len(self.scores)


@dataclass(frozen=True, slots=True)
class Segmentation:
    """The class of every pixel of one visible frame.

    Attributes:
        label_map: (H, W) uint8, index into the manifest's class names, pixels of the visible frame as captured.
        energy: free energy of the pair, high where it is strange; None where the engine gives none.
    """

    label_map: NDArray[np.uint8]
    energy: float | None = None

    def __post_init__(self) -> None:
        """Refuse what is no label map."""
        if self.label_map.ndim != 2 or self.label_map.dtype != np.uint8 or not self.label_map.size:
            raise ValueError(
                f"a segmentation wants a label map (H, W) uint8; got {self.label_map.dtype} {self.label_map.shape}"
            )


@dataclass(frozen=True, slots=True)
class Result:
    """What one engine said about one pair.

    Attributes:
        pair: the input.
        engine: name of the engine that ran.
        task: `detect`, `segment` or `classify`.
        detections: boxes, for the task `detect`.
        energy: energy score of the input, where the engine gives one.
        stages_ms: wall time of each stage.
        segmentation: label map, for the task `segment`.
    """

    pair: FramePair
    engine: str
    task: str
    detections: Detections | None = None
    energy: float | None = None
    stages_ms: dict[str, float] = field(default_factory=dict)
    segmentation: Segmentation | None = None
