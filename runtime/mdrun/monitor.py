"""What a rig is doing right now: counters, distributions and the last events, for the page, metrics and `mdrun top`.

Written by the rig's loop and its sinks, read by servers: one lock, held for a few additions or one copy.
"""

from __future__ import annotations

import bisect
import threading
import time
from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

from mdrun.frames import FfcState, Frame, Modality, Notice, Result, SourceState, StateChange
from mdrun.statistics import Distribution

RETURNED = "returned"  # why the preferred engine runs again
STARTED = "started"  # why it runs for the first time, where others or none had to go before it

NOTICES = 100  # kept for the page
POINTS = 300  # of each chart: ten seconds at 30 Hz
SILENT_S = 15.0  # without a result a rig has failed: three times a camera's timeout, so that most losses mend first
RATE_WINDOW = 60  # arrivals that a frame rate is counted over
PERCENTILE_WINDOW = 3600  # values: two minutes at 30 Hz; a snapshot holds the lock while it sorts them, 4 ms in all
SKEW_EDGES_MS = (-250.0, -100.0, -60.0, -40.0, -20.0, -10.0, 0.0, 10.0, 20.0, 40.0, 60.0, 100.0, 250.0)
LATENCY_EDGES_S = (0.005, 0.01, 0.02, 0.03, 0.04, 0.05, 0.06, 0.08, 0.1, 0.15, 0.2, 0.3, 0.5, 1.0, 2.0, 5.0)
STAGE_EDGES_S = (0.0001, 0.0002, 0.0005, 0.001, 0.002, 0.005, 0.01, 0.02, 0.05, 0.1, 0.2, 0.5, 1.0)
ENERGY_EDGES = (-20.0, -15.0, -12.0, -10.0, -8.0, -6.0, -5.0, -4.0, -3.0, -2.0, -1.0, 0.0)


class Histogram:
    """Counts by fixed upper edges (less or equal), and one more for what is above all; with sum and percentiles."""

    def __init__(self, edges: tuple[float, ...]) -> None:
        self.edges = edges
        self.counts = [0] * (len(edges) + 1)
        self.sum = 0.0
        self.count = 0

    def add(self, value: float) -> None:
        """Take one value."""
        self.counts[bisect.bisect_left(self.edges, value)] += 1
        self.sum += value
        self.count += 1


@dataclass
class CameraStatus:
    """One camera, as last seen."""

    name: str
    state: SourceState = SourceState.CONNECTING
    code: str = ""
    message: str = ""
    captured: int = 0
    dropped: Counter[str] = field(default_factory=Counter)  # without `Monitor.drops`
    reconnects: int = 0
    width: int = 0
    height: int = 0
    dtype: str = ""
    clock: str = ""
    last_captured_ns: int | None = None
    lost: bool = False  # since its last image the connection has gone
    last_seen: float | None = None  # `time.monotonic` when the last image came
    ffc: FfcState = FfcState.NORMAL
    ffc_events: int = 0
    ffc_seconds: float = 0.0
    arrivals: deque[tuple[int, int]] = field(default_factory=lambda: deque(maxlen=RATE_WINDOW))  # captured_ns, sequence

    def fps(self) -> float | None:
        """Frames a second by the last capture times, those dropped on the way included; None before the second."""
        if len(self.arrivals) < 2:
            return None
        (first_ns, first), (last_ns, last) = self.arrivals[0], self.arrivals[-1]
        if last_ns <= first_ns:
            return None
        return max(last - first, len(self.arrivals) - 1) * 1e9 / (last_ns - first_ns)


@dataclass
class SinkStatus:
    """One place for results. `lost`: notices and other messages that are no results; all others count results."""

    written: int = 0
    dropped: int = 0
    errors: int = 0
    alive: bool = True
    message: str = ""
    lost: int = 0


class Monitor:
    """The state of one rig. Every method may be called from any thread.

    Attributes:
        rig: its name.
        started: `time.monotonic` of its start.
        beat: `time.monotonic` of the last turn of the rig's loop; it turns ten times a second even without images.
    """

    def __init__(self, rig: str, names: dict[Modality, str]) -> None:
        self.rig = rig
        self.started = time.monotonic()
        self.beat = self.started
        self.lock = threading.Lock()
        self.cameras = {modality: CameraStatus(name) for modality, name in names.items()}
        self.sinks: dict[str, SinkStatus] = {}
        self.results = 0
        self.last_result: float | None = None  # `time.monotonic`
        self.drops: Counter[str] = Counter()
        self.provenance: Counter[str] = Counter()
        self.verdicts: Counter[str] = Counter()
        self.objects: Counter[str] = Counter()
        self.events: Counter[str] = Counter()
        self.transitions: Counter[tuple[str, str, str]] = Counter()
        self.engines: list[dict[str, Any]] = []
        self.rung: int | None = None
        self.rung_reason = ""
        self.registration: dict[str, Any] = {"kind": "none"}
        self.skew_s = Histogram(tuple(edge / 1000 for edge in SKEW_EDGES_MS))
        self.latency_s = Histogram(LATENCY_EDGES_S)
        self.energy = Histogram(ENERGY_EDGES)
        self.stages_s: dict[str, Histogram] = {}
        self.percentiles: dict[str, Distribution] = {}
        self.notices: deque[dict[str, Any]] = deque(maxlen=NOTICES)
        self.recent: deque[tuple[float, float | None, float | None]] = deque(maxlen=POINTS)  # s, skew ms, latency ms

    def add_frame(self, frame: Frame) -> None:
        """A camera gave an image."""
        height, width = frame.image.shape[:2]
        with self.lock:
            camera = self.cameras[frame.modality]
            camera.captured += 1
            camera.width, camera.height, camera.dtype = width, height, str(frame.image.dtype)
            camera.clock = frame.clock.value
            camera.last_captured_ns = frame.captured_ns
            camera.last_seen = time.monotonic()
            camera.arrivals.append((frame.captured_ns, frame.sequence))

    def add_state(self, change: StateChange) -> None:
        """A camera changed its state."""
        with self.lock:
            camera = self.cameras[change.modality]
            if change.state is SourceState.LOST and camera.captured:
                camera.lost = True
            if change.state is SourceState.LIVE and camera.lost:
                camera.reconnects, camera.lost = camera.reconnects + 1, False
            camera.state, camera.code, camera.message = change.state, change.code, change.message
            if change.state is SourceState.LIVE:
                camera.arrivals.clear()

    def add_ffc(self, state: FfcState, events: int, seconds: float) -> None:
        """The shutter of the thermal camera: its state, and events and seconds so far."""
        with self.lock:
            camera = self.cameras[Modality.THERMAL]
            camera.ffc, camera.ffc_events, camera.ffc_seconds = state, events, seconds

    def add_frame_drop(self, modality: Modality, cause: str, count: int = 1) -> None:
        """Frames of one camera that no pair will hold."""
        with self.lock:
            self.cameras[modality].dropped[cause] += count

    def add_lost(self, modality: Modality, count: int) -> None:
        """Frames that came and were given up unseen; their drop is counted besides."""
        with self.lock:
            self.cameras[modality].captured += count

    def add_drop(self, cause: str, count: int = 1) -> None:
        """Visible frames that end without a result."""
        with self.lock:
            self.drops[cause] += count

    def add_result(self, result: Result, objects: Counter[str]) -> None:
        """A result went to the sinks."""
        latency_ms = None
        if result.produced_ns is not None:
            latency_ms = (result.produced_ns - result.pair.visible.captured_ns) / 1e6
        provenance = result.thermal_provenance or result.pair.provenance
        skew_ms = result.pair.skew_ms
        with self.lock:
            self.results += 1
            self.last_result = time.monotonic()
            self.provenance[provenance.value] += 1
            self.objects.update(objects)
            self.events.update(event.kind for event in result.events)
            if result.verdict is not None:
                self.verdicts[result.verdict.value] += 1
            if result.energy is not None:
                self.energy.add(result.energy)
            if skew_ms is not None:
                self.skew_s.add(skew_ms / 1000)
                self._distribution("skew").add(abs(skew_ms))
            if latency_ms is not None:
                self.latency_s.add(latency_ms / 1000)
                self._distribution("latency").add(latency_ms)
            for stage, wall_ms in result.stages_ms.items():
                self.stages_s.setdefault(stage, Histogram(STAGE_EDGES_S)).add(wall_ms / 1000)
                self._distribution(stage).add(wall_ms)
            self.recent.append((result.pair.visible.captured_ns / 1e9, skew_ms, latency_ms))

    def set_rung(self, rung: int | None, reason: str) -> None:
        """The engine that runs from now on, None: none of them can."""
        with self.lock:
            self.rung, self.rung_reason = rung, reason

    def add_switch(self, before: int | None, rung: int | None, why: str) -> None:
        """Count a switch from one engine to another; None: none."""
        with self.lock:
            self.transitions[(self._engine(before), self._engine(rung), why)] += 1

    def add_notice(self, notice: Notice) -> None:
        """Keep a notice for the page."""
        with self.lock:
            self.notices.append({"kind": notice.kind, "at_s": round(notice.at_ns / 1e9, 3), **notice.data})

    def set_sink(self, name: str, status: SinkStatus) -> None:
        """The state of one sink."""
        with self.lock:
            self.sinks[name] = status

    def set_registration(self, values: dict[str, Any]) -> None:
        """Kind, residual and depth of the registration, and what the drift monitor last saw; merged."""
        with self.lock:
            self.registration = self.registration | values

    def state(self) -> str:
        """What it is worth to who waits for results; docs/observability.md has the rule.

        Returns:
            `starting`: no result yet. `failed`: none for SILENT_S, or the visible camera is given up. `degraded`: a
            camera is not there, or another engine than the preferred one runs, or none. `ready`: all is well.
        """
        states = {modality: camera.state for modality, camera in self.cameras.items()}
        visible = states.get(Modality.VISIBLE)
        if visible is SourceState.FAILED:
            return "failed"
        if self.last_result is None:
            return "starting"
        if visible is not SourceState.ENDED and time.monotonic() - self.last_result > SILENT_S:
            return "failed"
        whole = all(state in {SourceState.LIVE, SourceState.ENDED} for state in states.values())
        return "ready" if whole and self.rung == 0 else "degraded"

    def dropped(self, modality: Modality) -> Counter[str]:
        """Images of one camera without a result, by cause; for those who hold the lock."""
        own = self.cameras[modality].dropped
        return own + self.drops if modality is Modality.VISIBLE else own

    def snapshot(self) -> dict[str, Any]:
        """Everything as plain JSON data; docs/web.md lists the keys."""
        with self.lock:
            return {
                "rig": self.rig,
                "uptime_s": round(time.monotonic() - self.started, 3),
                "state": self.state(),
                "cameras": {
                    modality.value: _camera(modality, camera, self.dropped(modality))
                    for modality, camera in self.cameras.items()
                },
                "results": self.results,
                "drops": dict(self.drops),
                "thermal_provenance": dict(self.provenance),
                "verdicts": dict(self.verdicts),
                "objects": dict(self.objects),
                "events": dict(self.events),
                "skew_ms": self._points("skew"),
                "skew_histogram": {"edges_ms": list(SKEW_EDGES_MS), "counts": list(self.skew_s.counts)},
                "latency_ms": self._points("latency"),
                "stages_ms": {stage: self._points(stage) for stage in self.stages_s},
                "ladder": {
                    "engines": [dict(engine) for engine in self.engines],
                    "active": self.rung,
                    "reason": self.rung_reason,
                    "transitions": [
                        {"from": a, "to": b, "reason": reason, "count": count}
                        for (a, b, reason), count in self.transitions.items()
                    ],
                },
                "registration": dict(self.registration),
                "sinks": {name: dict(vars(sink)) for name, sink in self.sinks.items()},
                "recent": [list(point) for point in self.recent],
                "notices": list(self.notices),
            }

    def _engine(self, rung: int | None) -> str:
        return "none" if rung is None else str(self.engines[rung]["name"])

    def _distribution(self, name: str) -> Distribution:
        return self.percentiles.setdefault(name, Distribution(PERCENTILE_WINDOW))

    def _points(self, name: str) -> dict[str, float] | None:
        found = self.percentiles.get(name)
        return None if found is None else found.to_dict()


def _camera(modality: Modality, camera: CameraStatus, dropped: Counter[str]) -> dict[str, Any]:
    fps = camera.fps()
    described = {
        "name": camera.name,
        "state": camera.state.value,
        "code": camera.code,
        "message": camera.message,
        "captured": camera.captured,
        "dropped": dict(dropped),
        "reconnects": camera.reconnects,
        "width": camera.width,
        "height": camera.height,
        "dtype": camera.dtype,
        "clock": camera.clock,
        "fps": None if fps is None else round(fps, 2),
        "last_captured_s": None if camera.last_captured_ns is None else round(camera.last_captured_ns / 1e9, 3),
        "age_s": None if camera.last_seen is None else round(time.monotonic() - camera.last_seen, 3),
    }
    if modality is Modality.THERMAL:  # only they have a shutter
        described["ffc"] = camera.ffc.value
        described["ffc_events"] = camera.ffc_events
        described["ffc_seconds"] = round(camera.ffc_seconds, 2)
    return described
