"""Stable ids over time, and what happened to the objects that have them."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import TYPE_CHECKING

import numpy as np

from mdrun.errors import RigError
from mdrun.frames import Provenance, Result, TrackEvent
from mdrun.tracking.association import Associator, Step
from mdrun.tracking.motion import Tracks
from mdrun.tracking.places import SLACK, Place, make_places

if TYPE_CHECKING:
    from mdrun.rig.config import AlarmConfig, TrackingConfig


class Tracker:
    """Gives the detections of one camera ids, and tells events; its clock is the capture time of the frames.

    Example:
        >>> tracker = Tracker(TrackingConfig(), engine.manifest.classes)
        >>> for result in results:
        ...     result = tracker.update(result)
        ...     print(result.track_ids, [event.kind for event in result.events])
        >>> tracker.finish(result.pair.visible.captured_ns)
    """

    def __init__(
        self,
        config: TrackingConfig,
        classes: Sequence[str],
        visible_wh: tuple[int, int] | None = None,
        display: float = 0.25,
    ) -> None:
        """Nothing is tracked yet.

        Args:
            config: of the rig file.
            classes: names, in the order of the class index.
            visible_wh: width and height of the visible frame, pixels; None takes them from the first one. Relative
                zones follow the frame where its size changes.
            display: score from which a detection starts a track, of results that have none of their own; weaker ones
                only continue one.

        Raises:
            RigError: a zone or an alarm that could never happen.
            UsageError: the package `lap` is missing.
        """
        self._classes = classes
        self._places = make_places(config.zones, classes)
        self._watching = [[place for place in self._places if place.watches(name)] for name in classes]
        for alarm in config.alarms:
            check_alarm(alarm, self._places, classes)
        self._alarms = config.alarms
        self._associator = Associator(display, round(config.lost_s * 1e9), config.least_hits)
        self._size_wh: tuple[int, int] | None = None
        if visible_wh is not None:
            self._fit(visible_wh)

    def update(self, result: Result) -> Result:
        """The same result with `track_ids` and `events`; one without detections comes back as it is.

        Call it for every result of the camera, in the order of capture.
        """
        if result.task != "detect" or result.detections is None:
            return result
        height, width = result.pair.visible.image.shape[:2]
        self._fit((width, height))
        at_ns = result.pair.visible.captured_ns
        thermal = result.pair.provenance if result.thermal_provenance is None else result.thermal_provenance
        step = self._associator.update(result.detections, at_ns, result.display)
        events = [*self._ended(step.ended, at_ns, thermal), *self._happened(step, at_ns, thermal)]
        return replace(result, track_ids=step.ids, events=tuple(self._judge(event) for event in events))

    def finish(self, at_ns: int) -> tuple[TrackEvent, ...]:
        """End every track, at the end of a run or where the camera is lost; later ones get new ids."""
        return tuple(self._ended(self._associator.finish(), at_ns, Provenance.ABSENT))

    def _fit(self, size_wh: tuple[int, int]) -> None:
        if size_wh != self._size_wh:
            self._size_wh = size_wh
            for place in self._places:
                place.fit(size_wh)

    def _ended(self, tracks: Tracks, at_ns: int, thermal: Provenance) -> Iterator[TrackEvent]:
        for index, number in enumerate(tracks["id"].tolist()):
            for place in self._places:
                place.forget(number)
            yield self._event("end", tracks[index], at_ns, thermal)

    def _happened(self, step: Step, at_ns: int, thermal: Provenance) -> Iterator[TrackEvent]:
        """`new` first, then what happened at places, in the order of the detections."""
        for track in step.seen[step.born]:
            yield self._event("new", track, at_ns, thermal)
        columns = (step.seen[name].tolist() for name in ("id", "class", "found"))
        for index, (number, kind, (left, top, right, bottom)) in enumerate(zip(*columns, strict=True)):
            foot, slack = ((left + right) / 2, bottom), SLACK * (bottom - top)
            for place in self._watching[kind]:
                told = place.observe(number, foot, slack)
                if told is not None:
                    event = self._event(told[0], step.seen[index], at_ns, thermal)
                    yield replace(event, direction=told[1], place=place.name)

    def _event(self, kind: str, track: np.void, at_ns: int, thermal: Provenance) -> TrackEvent:
        box = tuple(track["found"].tolist())
        name = self._classes[track["class"]]
        return TrackEvent(kind, int(track["id"]), name, float(track["score"]), box, at_ns, thermal=thermal)

    def _judge(self, event: TrackEvent) -> TrackEvent:
        """The event, an alarm where a rule says so."""
        return replace(event, alarm=True) if any(_raises(alarm, event) for alarm in self._alarms) else event


def _raises(alarm: AlarmConfig, event: TrackEvent) -> bool:
    return (
        alarm.on == event.kind
        and alarm.place in {"", event.place}
        and (not alarm.classes or event.class_name in alarm.classes)
        and event.score >= alarm.least_score
        and event.thermal.value in alarm.thermal
    )


def check_alarm(alarm: AlarmConfig, places: Sequence[Place], classes: Sequence[str]) -> None:
    """Refuse an alarm that could never be raised: an operator would wait for it.

    Raises:
        RigError: naming what is missing.
    """
    rule = f"alarm on {alarm.on}{f' at {alarm.place}' if alarm.place else ''}"
    unknown = sorted(set(alarm.classes) - set(classes))
    if unknown:
        raise RigError(f"{rule} names the class {', '.join(unknown)}; the engine knows {', '.join(classes)}")
    if not alarm.thermal:
        raise RigError(f"{rule} allows no thermal provenance; name one of measured, held, hallucinated, absent")
    if alarm.on == "new":
        if alarm.place:
            raise RigError(f"{rule} can never be raised: new happens at no place; use enter, or leave place out")
        return
    fitting = [place.name for place in places if alarm.on in place.kinds]
    if alarm.place in fitting if alarm.place else fitting:
        return
    wanted = "a line (two points)" if alarm.on == "cross" else "a zone (three points or more)"
    raise RigError(f"{rule} can never be raised: it wants {wanted}, there is {', '.join(fitting) or 'none'}")
