"""Results, notices and rigs as the sinks of a running rig get them."""

from __future__ import annotations

from dataclasses import replace

import numpy as np

from mdrun.frames import (
    Clock,
    FfcState,
    Modality,
    Notice,
    Provenance,
    Result,
    SourceState,
    StateChange,
    TrackEvent,
    Verdict,
)
from mdrun.monitor import Monitor
from mdrun.sinks.context import SinkContext
from mdrun.sinks.scene import Look
from mdrun.tracking.lines import event_to_dict
from tests.runtime.engines import CLASSES
from tests.runtime.test_statistics import make_result

RIG = "gate"
FRAME_NS = 33_000_000
# What `make_track_end` is to those who get events one by one: the keys of any other event, without a result's number.
TRACK_END = {
    "schema_version": 1,
    "rig": RIG,
    "id": "gate-7-5000000",
    "sequence": None,
    "kind": "end",
    "track_id": 7,
    "class": "person",
    "score": 0.9123,
    "box_xyxy": [8.0, 8.0, 40.0, 60.0],
    "at_ns": 5_000_000,
    "place": None,
    "direction": None,
    "thermal": "measured",
    "alarm": False,
    "time": "1970-01-01T00:00:01.000Z",
}


def make_context(rig: str = RIG) -> SinkContext:
    """A rig with two live cameras and one engine."""
    monitor = Monitor(rig, {Modality.VISIBLE: "cam0", Modality.THERMAL: "cam1"})
    monitor.engines = [{"name": "blob"}, {"name": "dark"}]
    monitor.set_rung(0, "")
    for modality, name in ((Modality.VISIBLE, "cam0"), (Modality.THERMAL, "cam1")):
        monitor.add_state(StateChange(modality, name, SourceState.LIVE, 0))
    return SinkContext(rig, CLASSES, Look("blob", CLASSES, 0.5, thermal_used=True), monitor)


def make_event(track_id: int = 7, *, alarm: bool = False, at_ns: int = 0) -> TrackEvent:
    """A person enters the yard."""
    box = (8.04, 8.0, 40.0, 60.0)
    return TrackEvent("enter", track_id, "person", 0.91234, box, at_ns, "yard", "", Provenance.MEASURED, alarm)


def make_track_end() -> Notice:
    """A track that is open at the end of a run ends, told as a notice: no result follows that could carry the event."""
    box = (8.04, 8.0, 40.0, 60.0)
    event = TrackEvent("end", 7, "person", 0.91234, box, 5_000_000, "", "", Provenance.MEASURED, alarm=False)
    return Notice("track", RIG, event.at_ns, {"event": event_to_dict(event)}, 1_000_000_000)


def make_live(sequence: int = 0, *, events: tuple[TrackEvent, ...] = (), size: tuple[int, int] = (96, 72)) -> Result:
    """A result with everything a live rig knows; the visible image is `size` (width, height) large."""
    result = make_result(sequence)
    image = np.full((size[1], size[0], 3), sequence % 200, np.uint8)
    visible = replace(result.pair.visible, clock=Clock.SENDER, image=image, captured_ns=sequence * FRAME_NS)
    assert result.pair.thermal is not None
    thermal = replace(result.pair.thermal, clock=Clock.ARRIVAL, ffc=FfcState.IMMINENT)
    return replace(
        result,
        pair=replace(result.pair, visible=visible, thermal=thermal),
        rig=RIG,
        thermal_provenance=Provenance.HALLUCINATED,
        rung=1,
        rung_reason="thermal_lost",
        verdict=Verdict.FLAG,
        track_ids=np.array([7, -1], np.int64),
        celsius=np.array([36.54, np.nan], np.float32),
        events=events,
        produced_ns=sequence * FRAME_NS + 41_500_000,
    )
