"""Values that travel through the runtime: frames, pairs, detections, label maps, classes, results.

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


class Clock(str, Enum):
    """Whose clock told when an image was captured."""

    FILE = "file"  # a recording's own timestamps
    SENDER = "sender"  # the camera's wall clock (RTCP sender report), brought to ours
    DEVICE = "device"  # the driver's stamp at the end of exposure
    ARRIVAL = "arrival"  # when the image reached this process: later than its capture by an unknown delay


class FfcState(str, Enum):
    """Flat-field correction of a thermal camera: its shutter closes and the image stands still."""

    NORMAL = "normal"
    IMMINENT = "imminent"  # announced; the image is still live
    RUNNING = "running"  # the shutter is closed
    SETTLING = "settling"  # open again, the image is not yet trusted
    STUCK = "stuck"  # the image has stood still for longer than any shutter event lasts
    UNKNOWN = "unknown"  # no new image comes, or only just again: a shutter event, or the way to us; not yet trusted


class SourceState(str, Enum):
    """What a camera is doing."""

    CONNECTING = "connecting"  # first connection, or again after a loss
    LIVE = "live"  # images come
    STALLED = "stalled"  # connected, but no image for longer than it should take
    LOST = "lost"  # the connection is gone; waiting to connect again
    ENDED = "ended"  # a recording is at its end
    FAILED = "failed"  # given up; no attempt follows


class Verdict(str, Enum):
    """What the energy gate says about one result."""

    PASS = "pass"  # noqa: S105  # not a password
    FLAG = "flag"  # unlike what the engine was trained on: marked
    FALLBACK = "fallback"  # so unlike that the next engine of the ladder takes over


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
        arrived_ns: when the image reached this process, on the same clock; None for recordings.
        clock: whose clock `captured_ns` is.
        ffc: what telemetry says about the shutter, None where it says nothing; behind the thermal chain its state.
        counts: (H, W) uint16 raw counts that `image` was made of; None where the camera gave 8 bits.
        unaligned: (H, W) uint8, the thermal image as the camera sees it, where `image` was laid on the visible view.
        kelvin: of one count, where the camera's telemetry says that its counts are temperatures; else None.
    """

    image: NDArray[Any]
    modality: Modality
    captured_ns: int
    sequence: int
    source: str
    name: str | None = None
    shutter: bool = False
    arrived_ns: int | None = None
    clock: Clock = Clock.FILE
    ffc: FfcState | None = None
    counts: NDArray[np.uint16] | None = None
    unaligned: NDArray[np.uint8] | None = None
    kelvin: float | None = None


@dataclass(frozen=True, slots=True)
class FramePair:
    """One visible frame and the thermal frame that belongs to it, or none.

    Attributes:
        sequence: running number of the pair, from 0.
        visible: the frame that gives the pair its time.
        thermal: its partner; None where `provenance` is ABSENT.
        provenance: of the thermal image.
        reason: why the thermal image is not MEASURED (`stale`, `ffc`, `stuck`, `stalled`, `connecting`, `lost`,
            `failed`, `no_thermal`), else empty.
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
class Classification:
    """Classes of one pair as a whole, the best first.

    Attributes:
        scores: (N,) float32 in [0, 1], descending: softmax probabilities.
        classes: (N,) int64, index into the manifest's class names.
        energy: free energy of the pair, high where it is strange; None where the engine gives none.
    """

    scores: NDArray[np.float32]
    classes: NDArray[np.int64]
    energy: float | None = None

    def __post_init__(self) -> None:
        """Refuse shapes that do not belong together."""
        if self.scores.ndim != 1 or self.classes.shape != self.scores.shape:
            raise ValueError(
                f"a classification wants scores (N,) and classes (N,); got {self.scores.shape}, {self.classes.shape}"
            )

    def __len__(self) -> int:
        """Number of classes that are reported."""
        return len(self.scores)


Found = Detections | Segmentation | Classification  # what an engine says about a pair, by its task


@dataclass(frozen=True, slots=True)
class TrackEvent:
    """Something that happened to one tracked object.

    Attributes:
        kind: `new`, `end` (of a track), `enter`, `leave` (of a zone), `cross` (of a line).
        track_id: of the object, stable while it is seen.
        class_name: from the manifest.
        score: highest so far.
        box_xyxy: last box, pixels of the visible frame as captured.
        at_ns: capture time of the visible frame.
        place: zone or line, else empty.
        direction: `in` or `out` over a line, else empty.
        thermal: provenance of the thermal image that supported it.
        alarm: a rule of the rig made it an alarm.
    """

    kind: str
    track_id: int
    class_name: str
    score: float
    box_xyxy: tuple[float, float, float, float]
    at_ns: int
    place: str = ""
    direction: str = ""
    thermal: Provenance = Provenance.ABSENT
    alarm: bool = False


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
        rig: name of the pair of cameras.
        thermal_provenance: of the thermal input as the engine got it; None: that of the pair.
        rung: place of the engine in its ladder, from 0 (the preferred one).
        rung_reason: why it is not the first (`thermal_lost`, `ffc`, `returning`, …), else empty.
        verdict: of the energy gate; None without one.
        track_ids: (N,) int64 of the detections, -1 where a box has no track; None without tracking.
        celsius: (N,) float32, hottest temperature in each box, NaN where unknown; None for cameras that do not measure.
        events: what began or ended with this frame.
        produced_ns: when the result was there, on the clock of the frames; None for recordings.
        wall_ns: capture time of the visible frame on the wall clock, since 1970; None where nobody knows it.
        display: lowest score that is drawn, counted and begins a track, where engines differ; None: one for the run.
        classification: classes of the pair, for the task `classify`.
    """

    pair: FramePair
    engine: str
    task: str
    detections: Detections | None = None
    energy: float | None = None
    stages_ms: dict[str, float] = field(default_factory=dict)
    segmentation: Segmentation | None = None
    rig: str = "local"
    thermal_provenance: Provenance | None = None
    rung: int = 0
    rung_reason: str = ""
    verdict: Verdict | None = None
    track_ids: NDArray[np.int64] | None = None
    celsius: NDArray[np.float32] | None = None
    events: tuple[TrackEvent, ...] = ()
    produced_ns: int | None = None
    wall_ns: int | None = None
    display: float | None = None
    classification: Classification | None = None


@dataclass(frozen=True, slots=True)
class StateChange:
    """A camera changed its state.

    Attributes:
        modality: which camera.
        source: its name; never holds credentials.
        state: the new one.
        at_ns: when, on the clock of the frames.
        code: `MDR-` code of the error that led here, else empty.
        message: the error's own line, without credentials, else empty.
    """

    modality: Modality
    source: str
    state: SourceState
    at_ns: int
    code: str = ""
    message: str = ""


@dataclass(frozen=True, slots=True)
class Notice:
    """Something worth telling that is not a result: camera states, shutter events, engine switches, alarms.

    Attributes:
        kind: `source`, `ffc`, `thermal`, `clock`, `ladder`, `track`, `drift` or `sink`.
        rig: name of the pair of cameras.
        at_ns: when, on the clock of the frames.
        wall_ns: the same on the wall clock, since 1970; None where nobody knows it.
        data: plain JSON data, keys as docs/results.md lists them.
    """

    kind: str
    rig: str
    at_ns: int
    data: dict[str, Any]
    wall_ns: int | None = None
