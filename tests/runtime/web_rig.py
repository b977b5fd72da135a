"""A rig without cameras for the tests of the live page: the built-in street, in real time, through a real WebSink."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import replace
from functools import cache
from pathlib import Path
from typing import Any, NamedTuple

import cv2
import numpy as np
from numpy.typing import NDArray

from mdrun.frames import (
    Detections,
    FfcState,
    Frame,
    FramePair,
    Modality,
    Notice,
    Provenance,
    Result,
    SourceState,
    StateChange,
)
from mdrun.monitor import Monitor, SinkStatus
from mdrun.sinks.context import SinkContext
from mdrun.sinks.scene import Look
from mdrun.street import Street, StreetConfig
from mdrun.web.address import WebAddress
from mdrun.web.sink import WebSink

CLASSES = ["person", "bicycle", "car"]
ENGINES = [
    {
        "name": "student",
        "task": "detect",
        "needs": ["visible", "thermal"],
        "precision": "int8",
        "backend": "openvino",
        "device": "CPU",
        "digest": "d1",
    },
    {
        "name": "visible-only",
        "task": "detect",
        "needs": ["visible"],
        "precision": "fp32",
        "backend": "onnxruntime",
        "device": "CPU",
        "digest": "d2",
    },
]
FRAMES = 10  # of the street, shown again and again
VISIBLE_WH, THERMAL_WH = (640, 512), (160, 128)
# Raw thermal pixel to visible pixel: shifted, turned a little and scaled, as two cameras side by side are.
TRUE_MATRIX = np.array([[3.9, 0.12, 14.0], [-0.1, 4.05, -9.0], [0.0, 0.0, 1.0]])


class Moment(NamedTuple):
    """One frame of the street."""

    visible: NDArray[np.uint8]
    thermal: NDArray[np.uint8]
    raw: NDArray[np.uint8]
    found: Detections


@cache
def street(seed: int = 4, time_of_day: str = "dusk") -> list[Moment]:
    """Frames of a tenth of a second each."""
    config = StreetConfig(
        seed=seed,
        time=time_of_day,
        width=VISIBLE_WH[0],
        height=VISIBLE_WH[1],
        thermal_width=THERMAL_WH[0],
        thermal_height=THERMAL_WH[1],
    )
    scene = Street(config)
    return [_moment(scene, 2 + index / 10) for index in range(FRAMES)]


def _moment(scene: Street, time_s: float) -> Moment:
    labels = scene.labels(time_s)
    clear = labels.occlusion < 0.5
    scores = np.linspace(0.95, 0.55, int(clear.sum()), dtype=np.float32)
    found = Detections(labels.boxes_xyxy[clear], scores, labels.classes[clear])
    thermal = scene.thermal(time_s)
    # what the raw camera sees: the view of the visible one, taken through the inverse of the true matrix
    full = cv2.resize(thermal, VISIBLE_WH, interpolation=cv2.INTER_CUBIC)
    raw = cv2.warpPerspective(full, np.linalg.inv(TRUE_MATRIX), THERMAL_WH, flags=cv2.INTER_AREA)
    return Moment(scene.visible(time_s), thermal, np.asarray(raw, np.uint8), found)


class Rig:
    """Feeds one sink; the state of the thermal camera is whatever the test sets.

    Attributes:
        sink: under test, started.
        monitor: its rig's state.
        provenance: of the next results.
        reason: why it is not measured.
        saved: paths that the page asked the rig to take.
    """

    def __init__(self, address: WebAddress, name: str = "gate") -> None:
        self.monitor = Monitor(name, {Modality.VISIBLE: "cam0", Modality.THERMAL: "cam1"})
        self.monitor.engines = [dict(engine) for engine in ENGINES]
        self.monitor.set_rung(0, "")
        self.monitor.set_registration({"kind": "homography", "residual_px": 0.8, "depth_m": 20.0})
        self.provenance, self.reason = Provenance.MEASURED, ""
        self.saved: list[Path] = []
        commands: dict[str, Callable[..., Any]] = {"set_registration": self._take}
        look = Look("student", CLASSES, 0.5, thermal_used=True)
        self.context = SinkContext(name, CLASSES, look, self.monitor, commands=commands)
        self.sink = WebSink(address, self.context)
        self.sink.start()
        self.sequence = 0
        self._stop = threading.Event()
        self._thread: threading.Thread | None = None

    @property
    def url(self) -> str:
        return self.sink.url

    def _take(self, path: Path) -> None:
        self.saved.append(path)
        self.monitor.set_registration({"kind": "homography", "method": "points"})

    def result(self) -> Result:
        """The next result, captured now."""
        moment = street()[self.sequence % FRAMES]
        now_ns = time.monotonic_ns()
        visible = Frame(moment.visible, Modality.VISIBLE, now_ns - 40_000_000, self.sequence, "cam0")
        age_ms = {Provenance.MEASURED: 12.0, Provenance.HELD: 180.0}.get(self.provenance)
        thermal = None
        if age_ms is not None:
            counts = moment.raw.astype(np.uint16) * 8 + 29_000
            thermal = Frame(
                moment.thermal, Modality.THERMAL, visible.captured_ns - 8_000_000, self.sequence, "cam1", counts=counts
            )
            thermal = replace(thermal, unaligned=moment.raw)
        skew_ms = None if thermal is None else 8.0 + 20 * np.sin(self.sequence / 3)
        seen = Provenance.ABSENT if thermal is None else self.provenance
        pair = FramePair(self.sequence, visible, thermal, seen, self.reason, skew_ms, age_ms)
        stages = {"pair": 0.2, "preprocess": 0.6, "infer": 22.0 + self.sequence % 5, "postprocess": 0.3}
        ids = np.arange(1, len(moment.found) + 1, dtype=np.int64)
        produced_ns = now_ns + 2_000_000 * (self.sequence % 7)
        return Result(
            pair, "student", "detect", moment.found, None, stages, rig=self.context.rig, track_ids=ids,
            thermal_provenance=self.provenance, rung_reason="", produced_ns=produced_ns,
        )  # fmt: skip

    def step(self, **changes: Any) -> Result:
        """One frame of both cameras, and its result."""
        result = replace(self.result(), **changes)
        self.monitor.add_frame(result.pair.visible)
        if result.pair.thermal is not None:
            raw = result.pair.thermal.unaligned
            assert raw is not None
            self.monitor.add_frame(replace(result.pair.thermal, image=raw))
        self.monitor.add_result(result, Counter({"person": 2, "car": 1}))
        self.monitor.set_sink(self.sink.name, SinkStatus(written=self.sequence))
        self.sink.write(result)
        self.sequence += 1
        return result

    def tell(self, kind: str, **data: Any) -> None:
        notice = Notice(kind, self.context.rig, time.monotonic_ns(), data)
        self.monitor.add_notice(notice)
        self.sink.notice(notice)

    def state(self, modality: Modality, state: SourceState, code: str = "", message: str = "") -> None:
        source = self.monitor.cameras[modality].name
        change = StateChange(modality, source, state, time.monotonic_ns(), code, message)
        self.monitor.add_state(change)
        self.tell("source", camera=modality.value, source=source, state=state.value, code=code, message=message)

    def run(self, fps: float = 10.0) -> None:
        """Results on a thread, until `freeze`."""
        for modality in Modality:
            self.state(modality, SourceState.LIVE)
        self._stop.clear()
        self._thread = threading.Thread(target=self._feed, args=(fps,), daemon=True)
        self._thread.start()

    def freeze(self) -> None:
        """No more results; the page is still served."""
        self._stop.set()
        if self._thread is not None:
            self._thread.join()

    def close(self) -> None:
        self.freeze()
        self.sink.finish()

    def _feed(self, fps: float) -> None:
        while not self._stop.wait(1 / fps):
            self.step()


@contextmanager
def serving(name: str = "gate", **options: Any) -> Iterator[Rig]:
    """A rig on a free port of the loopback interface."""
    rig = Rig(WebAddress(port=options.pop("port", 0), **options), name)
    try:
        yield rig
    finally:
        rig.close()


def shutter(rig: Rig, state: FfcState, events: int = 1) -> None:
    """The thermal shutter closes or opens."""
    before = rig.monitor.cameras[Modality.THERMAL].ffc
    rig.monitor.add_ffc(state, events, 0.6 * events)
    rig.tell("ffc", **{"from": before.value, "to": state.value, "events": events})
