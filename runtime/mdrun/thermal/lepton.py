"""The telemetry of a FLIR Lepton: rows below or above its image that say what the image is worth.

Layout: Lepton engineering datasheet 203, tables 2 and 3. Over USB (PureThermal boards, 16-bit words as the pixels are)
rows A, B and C of 80 words follow each other: in three rows of a Lepton 2's 80 pixels, in two of a Lepton 3's 160 with
80 words to spare. 32-bit numbers have their low word first.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mdrun.frames import FfcState

ROWS = {(122, 160): 2, (63, 80): 3}  # (height, width) with telemetry -> its rows
REPEATS = 2  # a board sends each of a Lepton 2's 9 images a second three times
LOOKS = (
    9  # images of a connection, a second, among which two with telemetry must follow each other: the first may be torn
)

_C = 160  # first word of row C
_STATE_AT, _STATE_MASK = 4, 0b11  # FFC state: bits 4 and 5 of the status
_STATES = (
    FfcState.NORMAL,  # 00 never commanded: the factory's correction
    FfcState.IMMINENT,  # 01, for 52 frames at 26 Hz before an automatic event
    FfcState.RUNNING,  # 10, for 23 frames at 26 Hz
    FfcState.NORMAL,  # 11 complete
)
_RESOLUTION = (0.1, 0.01)  # kelvin of a count with TLinear, by word 49 of row C
# Recognition must never take an image for telemetry, nor telemetry for an image. Real rows (Lepton 3.5) have revision
# 14 and a sensor of 21 to 33 °C; a Lepton works from -10 to 80 °C and switches itself off above.
_REVISIONS = range(1, 0x1000)  # major number below 16
_FPA_CENTIKELVIN = range(21_315, 39_816)  # -60 to 125 °C
_WIDEST = 160  # pixels
_LONGEST_MS = 60_000  # between two images that follow each other
_FASTEST_MS = 30  # of a new image: 9 a second, or 27 of the models without export limit


@dataclass(frozen=True, slots=True)
class Telemetry:
    """What a Lepton says about one image.

    Attributes:
        revision: of this layout: major number in the high byte, minor in the low one.
        time_ms: since it was switched on, modulo 2^32.
        status: 32 bits, see the properties; reserved ones are not always 0.
        frame: running number, modulo 2^32; an image that is sent again has the same.
        fpa_centikelvin: temperature of the sensor, 0.01 K.
        last_ffc_centikelvin: the same at the last shutter event; 0 before the first.
        last_ffc_ms: `time_ms` then.
        agc_roi: columns and rows that the camera's gain control looks at, as the camera orders them.
        tlinear: kelvin of a count where TLinear is on, else None.
    """

    revision: int
    time_ms: int
    status: int
    frame: int
    fpa_centikelvin: int
    last_ffc_centikelvin: int
    last_ffc_ms: int
    agc_roi: tuple[int, int, int, int]
    tlinear: float | None

    @classmethod
    def parse(cls, rows: NDArray[np.uint16]) -> Telemetry:
        """Read the rows of one image, 240 words at least; whether they are telemetry, `plausible` says."""
        words = [int(word) for word in rows.ravel()]

        def number(at: int) -> int:
            return words[at] | words[at + 1] << 16

        tlinear = words[_C + 48] == 1 and words[_C + 49] < len(_RESOLUTION)
        return cls(
            revision=words[0],
            time_ms=number(1),
            status=number(3),
            frame=number(20),
            fpa_centikelvin=words[24],
            last_ffc_centikelvin=words[29],
            last_ffc_ms=number(30),
            agc_roi=(words[34], words[35], words[36], words[37]),
            tlinear=_RESOLUTION[words[_C + 49]] if tlinear else None,
        )

    @property
    def ffc(self) -> FfcState:
        """State of the shutter."""
        return state_of_status(self.status)

    @property
    def ffc_desired(self) -> bool:
        """A shutter event is due that the host is to command."""
        return bool(self.status >> 3 & 1)

    @property
    def agc(self) -> bool:
        """The camera's gain control has made 8 bits of the counts."""
        return bool(self.status >> 12 & 1)

    @property
    def locked(self) -> bool:
        """Too cold or too hot for the shutter to move."""
        return bool(self.status >> 15 & 1)

    @property
    def overheated(self) -> bool:
        """It switches itself off within 10 s."""
        return bool(self.status >> 20 & 1)

    @property
    def kelvin(self) -> float | None:
        """Kelvin of a count where counts are temperatures, else None."""
        return None if self.agc else self.tlinear

    @property
    def plausible(self) -> bool:
        """No image has such numbers side by side, and no camera that works has others."""
        left, top, right, bottom = self.agc_roi
        return (
            self.revision in _REVISIONS
            and self.fpa_centikelvin in _FPA_CENTIKELVIN
            and (self.last_ffc_centikelvin == 0 or self.last_ffc_centikelvin in _FPA_CENTIKELVIN)
            and left <= right < _WIDEST
            and top <= bottom < _WIDEST
        )

    def follows(self, before: Telemetry) -> bool:
        """Its image is the next one, or the same again: the counters have gone on by what an image may take."""
        passed_ms = (self.time_ms - before.time_ms) % 2**32
        taken = (self.frame - before.frame) % 2**32
        return self.revision == before.revision and passed_ms <= _LONGEST_MS and taken <= passed_ms // _FASTEST_MS + 1


@dataclass(frozen=True, slots=True)
class Layout:
    """Where the rows are: `image[layout.telemetry]` and `image[layout.image]`."""

    telemetry: slice
    image: slice

    def split(self, image: NDArray[Any]) -> tuple[NDArray[Any], Telemetry] | None:
        """The image without its rows of telemetry, and what they say; None where they say nothing that can be."""
        told = Telemetry.parse(image[self.telemetry])
        return (image[self.image], told) if told.plausible else None


def find_layout(before: NDArray[Any], after: NDArray[Any]) -> Layout | None:
    """Where two images of a camera that follow each other hold telemetry; None where they hold none."""
    rows = ROWS.get(after.shape) if after.dtype == before.dtype == np.uint16 and after.shape == before.shape else None
    if rows is None:
        return None
    footer, header = Layout(slice(-rows, None), slice(None, -rows)), Layout(slice(None, rows), slice(rows, None))
    for layout in (footer, header):
        first, second = layout.split(before), layout.split(after)
        if first is not None and second is not None and second[1].follows(first[1]):
            return layout
    return None


class Repeated:
    """Finds images that a board has only sent again: their time would be wrong. Used by one thread.

    At most `REPEATS` in a row: what repeats longer stands still, which is for others to see.
    """

    def __init__(self) -> None:
        self._last: Telemetry | None = None
        self._times = 0

    def see(self, told: Telemetry) -> bool:
        """Whether the image of the next telemetry has come before, and says nothing new."""
        last, self._last = self._last, told
        again = last is not None and (told.frame, told.status) == (last.frame, last.status)
        self._times = self._times + 1 if again else 0
        return again and self._times <= REPEATS and told.ffc is not FfcState.RUNNING


def state_of_status(status: int) -> FfcState:
    """Shutter state of the 32-bit status of a frame."""
    return _STATES[status >> _STATE_AT & _STATE_MASK]


def state_since_ffc(time_on_ms: int, last_ffc_ms: int, settle_ms: float) -> FfcState:
    """Shutter state of a frame that holds only two times, as frames of CPTV recordings do.

    Args:
        time_on_ms: since the camera was switched on.
        last_ffc_ms: the same clock at the last shutter event; 0 before the first.
        settle_ms: so long after it the image is not trusted.
    """
    return FfcState.SETTLING if last_ffc_ms and time_on_ms - last_ffc_ms < settle_ms else FfcState.NORMAL
