"""Feeds and rigs made by hand, for tests of the live loop."""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable

import numpy as np

from mdrun.feeds import Event, Feed
from mdrun.frames import FfcState, Frame, Modality, SourceState, StateChange
from mdrun.sources.base import NS_PER_MS
from tests.runtime.engines import THERMAL_WH, VISIBLE_WH

CAMERAS = {Modality.VISIBLE: "cam0", Modality.THERMAL: "cam1"}


class ScriptedFeed(Feed):
    """Events at the times that a test gives them."""

    def __init__(self, events: Iterable[tuple[float, Event]]) -> None:
        """`events`: arrival in milliseconds, and what arrives; in order."""
        super().__init__()
        self._events = deque(events)
        self._now_ns = 0
        self.closed = False

    def start(self) -> None:
        """Nothing to do."""

    def next(self, timeout_s: float) -> Event | None:
        """The next event; its arrival becomes now."""
        if not self._events:
            self.ended = True
            return None
        arrival_ms, event = self._events.popleft()
        self._now_ns = max(self._now_ns, round(arrival_ms * NS_PER_MS))
        return event

    def now_ns(self) -> int:
        """Arrival of the newest event."""
        return self._now_ns

    def close(self) -> None:
        """Note it."""
        self.closed = True


class FakeShutter:
    """A shutter that does what the frames say."""

    state = FfcState.NORMAL
    events = 0
    seconds = 0.0


class FakeChain:
    """Passes frames on; the shutter's state is the frame's own."""

    def __init__(self) -> None:
        self.ffc = FakeShutter()

    def prepare(self, frame: Frame) -> Frame:
        """The frame as it is."""
        self.ffc.state = frame.ffc or FfcState.NORMAL
        return frame

    def silent(self, now_ns: int) -> FfcState:
        """Knows nothing of silence."""
        return self.ffc.state

    def reset(self) -> None:
        """Open."""
        self.ffc.state = FfcState.NORMAL

    @property
    def problems(self) -> list[str]:
        """None."""
        return []


def frame_at(
    modality: Modality, captured_ms: float, sequence: int, arrived_ms: float | None = None, ffc: FfcState | None = None
) -> Frame:
    """A small image captured then; thermal ones are dark but for a warm body."""
    if modality is Modality.VISIBLE:
        image = np.full((VISIBLE_WH[1], VISIBLE_WH[0], 3), 40, np.uint8)
    else:
        image = np.full((THERMAL_WH[1], THERMAL_WH[0]), 60, np.uint8)
        image[6:18, 10:16] = 250
    image.flags.writeable = False
    arrived_ns = None if arrived_ms is None else round(arrived_ms * NS_PER_MS)
    shut = ffc not in {None, FfcState.NORMAL, FfcState.IMMINENT}
    captured_ns = round(captured_ms * NS_PER_MS)
    return Frame(image, modality, captured_ns, sequence, CAMERAS[modality], None, shut, arrived_ns, ffc=ffc)


def change_at(modality: Modality, state: SourceState, at_ms: float, code: str = "", message: str = "") -> StateChange:
    """A camera's new state."""
    return StateChange(modality, CAMERAS[modality], state, round(at_ms * NS_PER_MS), code, message)


def two_cameras(
    seconds: float,
    fps: tuple[float, float] = (30.0, 9.0),
    delay_ms: tuple[float, float] = (20.0, 60.0),
    missing: tuple[float, float] | None = None,
) -> list[tuple[float, Event]]:
    """Both cameras running; the thermal frames captured within `missing` (seconds) never come."""
    events: list[tuple[float, Event]] = [
        (0.0, change_at(modality, SourceState.LIVE, 0)) for modality in (Modality.VISIBLE, Modality.THERMAL)
    ]
    for modality, rate, delay in zip((Modality.VISIBLE, Modality.THERMAL), fps, delay_ms, strict=True):
        for sequence in range(round(seconds * rate)):
            at_ms = 1000 * sequence / rate
            gone = missing is not None and missing[0] <= at_ms / 1000 < missing[1]
            if modality is Modality.THERMAL and gone:
                continue
            events.append((at_ms + delay, frame_at(modality, at_ms, sequence, at_ms + delay)))
    return sorted(events, key=lambda item: item[0])
