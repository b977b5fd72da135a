"""A small recording of the street, for every test that replays."""

from __future__ import annotations

import atexit
import shutil
import tempfile
from collections.abc import Iterator
from functools import cache
from pathlib import Path

from mdrun.feeds import Event
from mdrun.frames import Frame, Modality, SourceState, StateChange
from mdrun.record.header import describe_camera
from mdrun.record.recorder import Recorder, RecordSummary
from mdrun.street import Street, StreetConfig

SECONDS = 20.0
TURN_S = 1.0  # then the scene runs backwards, and forwards again: rendering is slow, and the clock must not know
FPS = {Modality.VISIBLE: 30, Modality.THERMAL: 9}
FIRST_NS = {Modality.VISIBLE: 0, Modality.THERMAL: 17_000_000}
NAMES = {Modality.VISIBLE: "cam0", Modality.THERMAL: "cam1"}
CAMERAS = {role: describe_camera(role, name, fps=FPS[role]) for role, name in NAMES.items()}


def street_events(seconds: float = SECONDS, seed: int = 1, time: str = "night") -> list[Event]:
    """What two cameras of the street give, by capture time: visible 160x128 at 30 Hz, thermal 40x32 at 9 Hz."""
    config = StreetConfig(seed=seed, time=time, width=160, height=128, thermal_width=40, thermal_height=32)
    street = Street(config)
    render = {Modality.VISIBLE: cache(street.visible), Modality.THERMAL: cache(street.thermal)}
    events: list[Event] = [StateChange(role, name, SourceState.LIVE, 0) for role, name in NAMES.items()]

    def frames(role: Modality) -> Iterator[Frame]:
        for sequence in range(round(seconds * FPS[role])):
            at_ns = FIRST_NS[role] + round(sequence * 1e9 / FPS[role])
            scene_s = TURN_S - abs(TURN_S - round(at_ns / 1e9, 6) % (2 * TURN_S))
            image = render[role](round(scene_s, 6)).copy()
            yield Frame(image, role, at_ns, sequence, NAMES[role], arrived_ns=at_ns)

    found = sorted((frame for role in NAMES for frame in frames(role)), key=lambda frame: frame.captured_ns)
    return events + list(found)


def record_street(
    folder: Path, seconds: float = SECONDS, *, seed: int = 1, time: str = "night", told: bool = False
) -> RecordSummary:
    """Record the street; `told`: the thermal camera says when its shutter is closed (it never is: use `ffc=`)."""
    recorder = Recorder(folder, CAMERAS, rig="street", live=False)
    if told:
        recorder.describe(Modality.THERMAL, ffc_telemetry=True)
    for event in street_events(seconds, seed, time):
        recorder.put(event)
    return recorder.close()


@cache
def street_recording() -> Path:
    """The folder of one such recording of 20 s, made once a process and removed at its end. Read only."""
    place = Path(tempfile.mkdtemp(prefix="mdrun-street-"))
    atexit.register(shutil.rmtree, place, ignore_errors=True)
    record_street(place / "street")
    return place / "street"
