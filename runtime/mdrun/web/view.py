"""What the page knows about one rig: its latest result, pictures of it on demand, its state and notices."""

from __future__ import annotations

import asyncio
import time
from collections import deque
from typing import Any

from mdrun.frames import Result, TrackEvent
from mdrun.sinks.context import SinkContext
from mdrun.sinks.scene import Look
from mdrun.web.address import WebAddress
from mdrun.web.pictures import Style, blank, draw_view, encode, make_jpeg, make_stale

STALE_S = 2.0  # a picture older than this is shown as stale: eighteen periods of a 9 Hz camera
STALE_PERIODS = 3.0  # of a time lapse, whose pictures are further apart
STALE_MOST_S = 60.0
PERIODS = 3
ALARMS = 100  # kept for the list
POLL_S = 0.02  # how often a waiting viewer looks: a fifth of the period of the pictures
STATUS_S = 0.5  # all viewers share a status of this age, so that many of them cost the rig no more than one


class Shot:
    """One result that viewers see, and its pictures, each made once for all of them.

    Attributes:
        number: running number of what was published, from 1.
        result: what it shows.
        at: `time.monotonic` when the result came.
    """

    def __init__(self, number: int, result: Result, at: float) -> None:
        self.number = number
        self.result = result
        self.at = at
        self._pictures: dict[Style, bytes] = {}
        self._making = asyncio.Lock()

    @property
    def age_s(self) -> float:
        """Seconds since the result came."""
        return time.monotonic() - self.at

    async def jpeg(self, style: Style, look: Look, address: WebAddress) -> bytes:
        """One view as JPEG; made by the first viewer who asks, on a thread beside the server's."""
        async with self._making:
            if style not in self._pictures:
                width, quality = address.width, address.quality
                self._pictures[style] = await asyncio.to_thread(make_jpeg, self.result, look, style, width, quality)
            return self._pictures[style]


class RigView:
    """One rig as the page sees it. `put` may be called from any thread, the rest belongs to the server's loop.

    Attributes:
        context: the rig.
        address: options of its page.
        closed: the rig is gone; its viewers leave.
    """

    def __init__(self, context: SinkContext, address: WebAddress) -> None:
        self.context = context
        self.address = address
        self.closed = False
        self._latest: tuple[Result, float] | None = None
        self._shot: Shot | None = None
        self._published = 0.0
        self._periods_s: deque[float] = deque(maxlen=PERIODS)
        self._alarms: deque[dict[str, Any]] = deque(maxlen=ALARMS)
        self._status: tuple[dict[str, Any], float] | None = None

    @property
    def name(self) -> str:
        """Of the rig."""
        return self.context.rig

    def put(self, result: Result) -> None:
        """Keep the latest result, and every alarm."""
        now = time.monotonic()
        if self._latest is not None:
            self._periods_s.append(now - self._latest[1])
        self._latest = (result, now)
        self._alarms.extend(_alarm(event) for event in result.events if event.alarm)

    def latest(self) -> tuple[Result, float] | None:
        """The latest result and `time.monotonic` when it came."""
        return self._latest

    def age_s(self) -> float | None:
        """Seconds since the latest result came; None before the first."""
        latest = self._latest
        return None if latest is None else time.monotonic() - latest[1]

    def stale_s(self) -> float:
        """A picture of this age is shown as stale; the shortest of the last periods counts, so that a gap does not."""
        period_s = min(list(self._periods_s), default=0.0)
        return min(max(STALE_S, STALE_PERIODS * period_s), STALE_MOST_S)

    def current(self) -> Shot | None:
        """What viewers see now: the latest result, but no more than `fps` new ones a second, the same for all."""
        latest, now = self._latest, time.monotonic()
        if latest is None:
            return None
        fresh = self._shot is None or self._shot.result is not latest[0]
        if fresh and now - self._published >= 1 / self.address.fps:
            self._shot = Shot(1 if self._shot is None else self._shot.number + 1, *latest)
            self._published = now
        return self._shot

    async def following(self, number: int | None, wait_s: float) -> Shot | None:
        """The first shot with another number than this; None when none came in time."""
        end = time.monotonic() + wait_s
        while not self.closed:
            shot = self.current()
            if shot is not None and shot.number != number:
                return shot
            if time.monotonic() >= end:
                return None
            await asyncio.sleep(POLL_S)
        return None

    async def picture(self, style: Style, shot: Shot | None) -> bytes:
        """A shot as JPEG; dark grey and captioned where it is stale or none has come."""
        if shot is not None and shot.age_s < self.stale_s():
            return await shot.jpeg(style, self.context.look, self.address)
        return await asyncio.to_thread(self._stale_picture, style, shot)

    def status(self) -> dict[str, Any]:
        """Everything about the rig as plain JSON data, and the age of its latest result."""
        now = time.monotonic()
        if self._status is None or now - self._status[1] >= STATUS_S:
            self._status = (self.context.monitor.snapshot(), now)
        age_s = self.age_s()
        return self._status[0] | {
            "result_age_s": None if age_s is None else round(age_s, 3),
            "stale_s": round(self.stale_s(), 3),
        }

    def state(self) -> str:
        """How the rig is, as its status says."""
        monitor = self.context.monitor
        with monitor.lock:
            return monitor.state()

    def registration(self) -> dict[str, Any]:
        """The registration in use at this very moment; a status may be older than what was just saved."""
        monitor = self.context.monitor
        with monitor.lock:
            return dict(monitor.registration)

    def notices(self) -> list[dict[str, Any]]:
        """The last notices, oldest first."""
        monitor = self.context.monitor
        with monitor.lock:
            return list(monitor.notices)

    def alarms(self) -> list[dict[str, Any]]:
        """The last alarms, oldest first."""
        return list(self._alarms)

    def _stale_picture(self, style: Style, shot: Shot | None) -> bytes:
        if shot is None:
            return encode(make_stale(blank(), "no picture yet"), self.address.quality)
        image = draw_view(shot.result, self.context.look, style, self.address.width)
        return encode(make_stale(image, f"no new picture for {shot.age_s:.0f} s"), self.address.quality)


def _alarm(event: TrackEvent) -> dict[str, Any]:
    return {
        "kind": "alarm",
        "at_s": round(event.at_ns / 1e9, 3),
        "event": event.kind,
        "place": event.place,
        "direction": event.direction,
        "class": event.class_name,
        "track_id": event.track_id,
        "score": round(event.score, 3),
        "thermal": event.thermal.value,
    }
