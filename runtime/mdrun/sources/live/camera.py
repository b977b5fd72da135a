"""What every live camera can do: connect, give the next image, let go."""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

from numpy.typing import NDArray

from mdrun.frames import Clock, FfcState, Modality


@dataclass(frozen=True, slots=True)
class CameraInfo:
    """What a connected camera says about itself; compared again after every reconnect.

    Attributes:
        width, height: pixels.
        dtype: numpy name, `uint8` or `uint16`.
        identity: serial number, USB path or stream address, without credentials; empty where there is none.
        fps: nominal frames a second; None where it does not say.
        detail: codec or pixel format in words, for people.
        timed_by: whose clock its first images carry.
        ffc_telemetry: the camera itself tells when its shutter is closed.
    """

    width: int
    height: int
    dtype: str
    identity: str = ""
    fps: float | None = None
    detail: str = ""
    timed_by: Clock = Clock.ARRIVAL
    ffc_telemetry: bool = False


@dataclass(frozen=True, slots=True)
class Grab:
    """One image as it came in.

    Attributes:
        image: visible: (H, W, 3) uint8 RGB; thermal: (H, W) uint8 or uint16.
        captured_ns: capture time, nanoseconds of `time.monotonic_ns`.
        arrived_ns: when it reached this process, same clock.
        clock: whose clock `captured_ns` is.
        name: file name where there is one.
        ffc: what telemetry says about the shutter; None where it says nothing.
        kelvin: of one count, where telemetry says that counts are temperatures.
    """

    image: NDArray[Any]
    captured_ns: int
    arrived_ns: int
    clock: Clock = Clock.ARRIVAL
    name: str | None = None
    ffc: FfcState | None = None
    kelvin: float | None = None


class EndOfRecording(Exception):  # noqa: N818  # no error: a recording that is played as a camera is over
    """No image will follow, and no reconnect can change that."""


class Camera(ABC):
    """One live camera. Used by one thread at a time; `interrupt` may come from another.

    Attributes:
        name: how results call it; never holds credentials.
        modality: which camera of the rig.
        offset_ns: what its URI adds to capture times; added by the reader, not by the camera.
        damaged: images that were lost on the way or could not be decoded whole, since the first connection.
    """

    def __init__(self, name: str, modality: Modality) -> None:
        self.name = name
        self.modality = modality
        self.offset_ns = 0
        self.damaged = 0

    @abstractmethod
    def connect(self) -> CameraInfo:
        """Connect, within the camera's timeout.

        Raises:
            SourceError: one of its subclasses, by what is wrong.
            DataError: its images cannot belong to this modality.
        """

    @abstractmethod
    def grab(self) -> Grab:
        """Wait for the next image, within the camera's timeout.

        Raises:
            EndOfRecording: the recording that it plays is over.
            SourceTimeoutError: none came.
            SourceLostError: the connection has ended.
            SourceError: another subclass, by what is wrong.
        """

    @abstractmethod
    def disconnect(self) -> None:
        """Let go of the connection; twice does no harm."""

    def interrupt(self) -> None:
        """Make a waiting `connect` or `grab`, and every later one, return soon, from another thread."""
