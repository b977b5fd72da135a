"""Pairs a fast visible stream with a slow thermal one by capture time.

Each visible frame ends in exactly one pair. Its thermal partner is the frame captured nearest to it; if that is too
far away, an older one is held for a while; during a shutter event (flat-field correction, FFC) and without any frame
of fitting age the thermal image is absent. The limits are explained in docs/sources.md.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Iterator
from dataclasses import dataclass, replace
from types import TracebackType

import numpy as np

from mdrun.errors import UsageError
from mdrun.frames import FfcState, Frame, FramePair, Provenance
from mdrun.sources.base import NS_PER_MS, Source
from mdrun.sources.reader import Reader

KEPT = 32  # thermal frames waiting for a visible one: half a second at 60 Hz, more cannot matter
# A Lepton gives each of its 9 images a second three times (26.3 Hz video, 8.8 Hz content): two repeats are normal.
NORMAL_REPEATS = 2
NO_THERMAL = "no_thermal"  # none yet, or none any more
STALE = "stale"  # the newest is too old


@dataclass(frozen=True)
class PairLimits:
    """How far apart two captures may be.

    Attributes:
        skew_ms: up to here the thermal image counts as measured. 60: half a period of a 9 Hz camera (55.6) and jitter.
        age_ms: up to here an older thermal image is held.

    Raises:
        UsageError: negative, not finite or age below skew.
    """

    skew_ms: float = 60.0
    age_ms: float = 250.0

    def __post_init__(self) -> None:
        """Refuse limits that no pair could meet."""
        if not (math.isfinite(self.age_ms) and 0 <= self.skew_ms <= self.age_ms):
            raise UsageError(
                f"pairing limits are skew {self.skew_ms} ms and age {self.age_ms} ms; wanted 0 <= skew <= age"
            )


class Pairer:
    """Keeps the few thermal frames that can still matter and finds each visible frame's partner."""

    def __init__(self, limits: PairLimits, hold: bool = True) -> None:
        """`hold` False: a thermal frame outside the skew limit is never used."""
        self._limits = limits
        self._hold = hold
        self._thermal: deque[Frame] = deque(maxlen=KEPT)
        self._sequence = 0
        self._ended = False

    def __len__(self) -> int:
        """Number of thermal frames kept."""
        return len(self._thermal)

    def add_thermal(self, frame: Frame) -> None:
        """Take in the next thermal frame, in capture order."""
        self._thermal.append(frame)

    def end_thermal(self) -> None:
        """No thermal frame will follow."""
        self._ended = True

    def forget_before(self, time_ns: int) -> None:
        """Drop the thermal frames that no visible frame from `time_ns` on can want."""
        while len(self._thermal) > 1 and self._thermal[1].captured_ns <= time_ns:
            self._thermal.popleft()

    def pair(self, visible: Frame, now_ns: int) -> FramePair:
        """Find the partner of the next visible frame; `now_ns` is the time on the same clock at which that happens."""
        self.forget_before(visible.captured_ns)
        partner, provenance, reason = self._choose(visible.captured_ns, now_ns)
        sequence, self._sequence = self._sequence, self._sequence + 1
        if partner is None:
            return FramePair(sequence, visible, None, provenance, reason)
        skew_ms = (visible.captured_ns - partner.captured_ns) / NS_PER_MS
        age_ms = max(now_ns - partner.captured_ns, 0) / NS_PER_MS  # a pair is made when its later image is there
        return FramePair(sequence, visible, partner, provenance, reason, skew_ms, age_ms)

    def _choose(self, time_ns: int, now_ns: int) -> tuple[Frame | None, Provenance, str]:
        if not self._thermal:
            return None, Provenance.ABSENT, NO_THERMAL
        nearest = min(self._thermal, key=lambda frame: abs(frame.captured_ns - time_ns))
        if abs(nearest.captured_ns - time_ns) <= self._limits.skew_ms * NS_PER_MS:
            return _unless_shut(nearest, Provenance.MEASURED, "")
        past = self._thermal[0]
        if past.captured_ns > time_ns:
            return None, Provenance.ABSENT, NO_THERMAL
        if self._hold and now_ns - past.captured_ns <= self._limits.age_ms * NS_PER_MS:
            return _unless_shut(past, Provenance.HELD, STALE)
        return None, Provenance.ABSENT, NO_THERMAL if self._ended else STALE


def _unless_shut(frame: Frame, provenance: Provenance, reason: str) -> tuple[Frame | None, Provenance, str]:
    """Behind a closed shutter nothing is measured, and the image before it is not held either; nor where one may be."""
    if not frame.shutter:
        return frame, provenance, reason
    return None, Provenance.ABSENT, "stalled" if frame.ffc is FfcState.UNKNOWN else "ffc"


class FreezeDetector:
    """Finds shutter events of cameras that do not report them: they repeat the last image, byte for byte.

    A repeat counts once there are more than NORMAL_REPEATS and the image is older than the age limit, because
    recordings of a 9 Hz camera at 30 Hz repeat every image three times.
    """

    def __init__(self, limits: PairLimits) -> None:
        self._age_ns = limits.age_ms * NS_PER_MS
        self._first: Frame | None = None
        self._repeats = 0

    def mark(self, frame: Frame) -> Frame:
        """The same frame, with `shutter` set where it repeats an image that is too old."""
        if self._first is None or not np.array_equal(frame.image, self._first.image):
            self._first, self._repeats = frame, 0
            return frame
        self._repeats += 1
        frozen = self._repeats > NORMAL_REPEATS and frame.captured_ns - self._first.captured_ns > self._age_ns
        return replace(frame, shutter=True) if frozen else frame


class PairStream:
    """Iterates over the pairs of two opened recorded sources; both are read in their own threads.

    The thermal stream is read ahead until one frame is later than the visible one, so the result does not depend on
    timing. Iterate once; leaving the loop early or `close` ends the threads and closes the sources.

    Attributes:
        captured_visible: visible frames taken so far.
        captured_thermal: thermal frames taken so far.
    """

    def __init__(self, visible: Source, thermal: Source | None, limits: PairLimits) -> None:
        """Take over two opened sources; `thermal` None pairs every visible frame with nothing."""
        self.captured_visible = 0
        self.captured_thermal = 0
        self._used = 0
        self._last_used = -1
        self._pairer = Pairer(limits)
        self._visible = Reader(visible)
        self._thermal = Reader(thermal) if thermal is not None else None
        watched = thermal is not None and thermal.timed and not thermal.telemetry
        self._freeze = FreezeDetector(limits) if watched else None
        self._ahead_ns: int | None = None  # capture time of the newest thermal frame

    @property
    def thermal_unused(self) -> int:
        """Thermal frames taken so far that are in no pair."""
        return self.captured_thermal - self._used

    def __iter__(self) -> Iterator[FramePair]:
        """Pairs in visible order.

        Raises:
            SourceError: from either source, after all pairs that its sound frames make.
            DataError: from either source.
        """
        try:
            self._visible.start()
            if self._thermal is not None:
                self._thermal.start()
            while (visible := self._visible.read()) is not None:
                self.captured_visible += 1
                self._read_thermal_past(visible.captured_ns)
                pair = self._pairer.pair(visible, visible.captured_ns)
                self._count_use(pair.thermal)
                yield pair
        finally:
            self.close()

    def close(self) -> None:
        """End both threads and close both sources; twice does no harm."""
        try:
            self._visible.close()
        finally:
            if self._thermal is not None:
                self._thermal.close()

    def _read_thermal_past(self, time_ns: int) -> None:
        while self._thermal is not None and (self._ahead_ns is None or self._ahead_ns < time_ns):
            frame = self._thermal.read()
            if frame is None:
                self._pairer.end_thermal()
                return
            self.captured_thermal += 1
            self._ahead_ns = frame.captured_ns
            self._pairer.add_thermal(frame if self._freeze is None else self._freeze.mark(frame))
            self._pairer.forget_before(time_ns)

    def _count_use(self, thermal: Frame | None) -> None:
        if thermal is not None and thermal.sequence != self._last_used:
            self._used += 1
            self._last_used = thermal.sequence

    def __enter__(self) -> PairStream:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()
