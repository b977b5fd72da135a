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
            display: score from which a detection starts a track; weaker ones only continue one.

        Raises:
            RigError: a zone or an alarm that could never happen.
            UsageError: the package `lap` is missing.
        """
        self._classes = classes
        self._places = make_places(config.zones, classes)
        for alarm in config.alarms:
            _check_alarm(alarm, self._places, classes)
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
        step = self._associator.update(result.detections, at_ns)
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
        for event in self._events("end", tracks, at_ns, thermal):
            for place in self._places:
                place.forget(event.track_id)
            yield event

    def _happened(self, step: Step, at_ns: int, thermal: Provenance) -> Iterator[TrackEvent]:
        """`new` first, then what happened at places, in the order of the detections."""
        yield from self._events("new", step.seen[step.born], at_ns, thermal)
        if not self._places:
            return
        for event in self._events("", step.seen, at_ns, thermal):
            left, top, right, bottom = event.box_xyxy
            for place in self._places:
                if not place.watches(event.class_name):
                    continue
                told = place.observe(event.track_id, ((left + right) / 2, bottom), SLACK * (bottom - top))
                if told is not None:
                    yield replace(event, kind=told[0], direction=told[1], place=place.name)

    def _events(self, kind: str, tracks: Tracks, at_ns: int, thermal: Provenance) -> Iterator[TrackEvent]:
        if not len(tracks):
            return
        columns = (tracks[name].tolist() for name in ("id", "class", "score", "found"))
        for number, index, score, box in zip(*columns, strict=True):
            yield TrackEvent(kind, number, self._classes[index], score, tuple(box), at_ns, thermal=thermal)

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


def _check_alarm(alarm: AlarmConfig, places: Sequence[Place], classes: Sequence[str]) -> None:
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
