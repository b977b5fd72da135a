"""The replayed fault list: what a rig promises while cameras are pulled, frozen, late, dark or swapped.

The real loop, ladder and thermal chain run on a recording of the street; the clock is the recording's.
"""

from __future__ import annotations

import json
import shutil
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mdrun.frames import Notice, Provenance
from mdrun.observe.metrics import metrics_text
from mdrun.record.standard import STANDARD, StandardFault
from mdrun.rig.config import RigConfig
from mdrun.rig.session import Session
from tests.recordings import FPS, SECONDS, street_recording
from tests.runtime.engines import write_blob, write_constant

FRAMES = round(SECONDS * 30)
QUICK = {
    "none",
    "thermal_pulled",
    "thermal_stalls",
    "visible_pulled",
    "shutter_told",
    "shutter_untold",
    "thermal_frozen",
}
SOUND = {Provenance.MEASURED, Provenance.HELD}


@dataclass(frozen=True)
class Row:
    """One result in short."""

    at_s: float
    thermal: Provenance
    reason: str
    rung: int
    skew_ms: float | None


@dataclass(frozen=True)
class Run:
    """One replay through a rig."""

    rows: list[Row]
    notices: list[Notice]
    captured: int
    drops: Counter[str]
    switches: int
    ffc_events: int

    def between(self, start_s: float, end_s: float) -> list[Row]:
        return [row for row in self.rows if start_s <= row.at_s < end_s]

    def thermal(self, start_s: float, end_s: float) -> set[Provenance]:
        return {row.thermal for row in self.between(start_s, end_s)}

    def reasons(self, start_s: float, end_s: float) -> set[str]:
        return {row.reason for row in self.between(start_s, end_s)}

    def states(self, camera: str) -> list[tuple[float, str]]:
        return [
            (n.at_ns / 1e9, n.data["state"]) for n in self.notices if n.kind == "source" and n.data["camera"] == camera
        ]


@pytest.fixture(scope="module")
def engines(tmp_path_factory: pytest.TempPathFactory) -> list[str]:
    """One that needs the thermal image, and one that does not."""
    root = tmp_path_factory.mktemp("ladder")
    box, score, person = np.array([[8, 8, 40, 60]], np.float32), np.array([0.9], np.float32), np.array([0], np.int32)
    blind = write_constant(root / "blind.onnx", box, score, person)
    return [str(write_blob(root / "blob.onnx")), str(blind)]


def config_of(query: str, engines: list[str], **pairing: object) -> RigConfig:
    source = f"replay://{street_recording()}?{query}" if query else f"replay://{street_recording()}"
    config = {
        "rig": "street",
        "cameras": {"cam0": {"source": source, "role": "visible"}, "cam1": {"source": source, "role": "thermal"}},
        "ladder": {"engines": engines, "threads": 1},
        "pairing": pairing,
        "drift": {"enabled": False},
    }
    return RigConfig.model_validate(config)


def replay(query: str, engines: list[str], **pairing: object) -> Run:
    notices: list[Notice] = []
    with Session(config_of(query, engines, **pairing)) as session:
        session.on_notice = notices.append
        rows = [
            Row(
                result.pair.visible.captured_ns / 1e9,
                result.thermal_provenance or Provenance.ABSENT,
                result.pair.reason,
                result.rung,
                result.pair.skew_ms,
            )
            for result in session
        ]
        session.check()
        snapshot = session.monitor.snapshot()
        return Run(
            rows,
            notices,
            session.pairs.captured_visible,
            Counter(snapshot["drops"]),
            sum(step["count"] for step in snapshot["ladder"]["transitions"]),
            snapshot["cameras"]["thermal"]["ffc_events"],
        )


def all_there(run: Run) -> None:
    assert len(run.rows) == FRAMES
    assert not run.drops


def calm(run: Run) -> None:
    all_there(run)
    assert run.switches == 0
    assert run.thermal(0.1, SECONDS) <= SOUND


def thermal_gone(run: Run, since_s: float, until_s: float, reasons: set[str], back_s: float = 1.0) -> None:
    """Within the gap nothing is measured, soon nothing is held; afterwards it is measured again."""
    all_there(run)
    assert Provenance.MEASURED not in run.thermal(since_s + 0.1, until_s)
    assert run.thermal(since_s + 0.3, until_s) == {Provenance.ABSENT}
    assert run.reasons(since_s + 0.45, until_s) <= reasons
    assert {row.rung for row in run.between(since_s + 0.3, until_s)} == {1}
    if until_s < SECONDS:
        assert Provenance.MEASURED in run.thermal(until_s, until_s + back_s)
        assert {row.rung for row in run.between(until_s + back_s, until_s + back_s + 0.3)} == {0}


def visible_gone(run: Run, since_s: float, until_s: float) -> None:
    assert run.captured == len(run.rows) + run.drops.total()
    assert not run.between(since_s + 0.05, until_s - 0.05)
    assert run.between(until_s, until_s + 0.2)


def shutter(run: Run, spans: list[tuple[float, float]], found_after_s: float) -> None:
    """Behind the shutter nothing is trusted from the moment that it is known; the image returns within a second."""
    all_there(run)
    assert run.ffc_events == len(spans)
    for start_s, end_s in spans:
        assert run.thermal(start_s + found_after_s, end_s) == {Provenance.ABSENT}
        assert run.reasons(start_s + found_after_s, end_s) == {"ffc"}
        assert Provenance.MEASURED in run.thermal(end_s, end_s + 1.0)


def no_shutter(run: Run) -> None:
    """Nobody is told of a shutter: not in results, nor in counts, nor in notices."""
    assert run.ffc_events == 0
    assert not run.reasons(0, SECONDS) & {"ffc", "stuck"}
    assert not [notice.data for notice in run.notices if notice.kind == "ffc"]
    reasons = {notice.data["reason"] for notice in run.notices if notice.kind == "ladder"}
    assert not reasons & {"thermal_ffc", "thermal_stuck"}


def flapping(run: Run) -> None:
    all_there(run)
    assert run.switches <= 8  # four losses, four returns
    assert Provenance.MEASURED in run.thermal(7.5, 8.5)


def slow_thermal(run: Run) -> None:
    all_there(run)
    assert run.thermal(0.1, SECONDS) <= SOUND
    assert "stalled" not in {state for _, state in run.states("thermal")}


def wrong_clock(run: Run) -> None:
    all_there(run)
    assert run.thermal(0.3, SECONDS) <= SOUND
    skews = [row.skew_ms for row in run.rows if row.thermal is Provenance.MEASURED and row.skew_ms is not None]
    assert all(abs(skew) <= 60 for skew in skews)


def very_wrong_clock(run: Run) -> None:
    all_there(run)
    assert run.thermal(1, SECONDS) == {Provenance.ABSENT}
    assert run.reasons(1, SECONDS) == {"stale"}


def frozen(run: Run) -> None:
    all_there(run)
    assert run.thermal(5, 18) == {Provenance.ABSENT}
    assert run.reasons(5, 13) == {"ffc"}
    assert run.reasons(15.5, 18) == {"stuck"}
    assert Provenance.MEASURED in run.thermal(18, 19.5)


def swapped(run: Run) -> None:
    codes = {n.data["code"] for n in run.notices if n.kind == "source"}
    assert "MDR-406" in codes
    assert Provenance.MEASURED in run.thermal(12, 13)


def shutter_often(run: Run) -> None:
    all_there(run)
    assert run.ffc_events == 6
    assert {row.rung for row in run.rows} == {0, 1}


def bad_day(run: Run) -> None:
    assert run.thermal(4.4, 6) == {Provenance.ABSENT}
    assert not run.between(15.1, 15.9)


def half_visible(run: Run) -> None:
    assert len(run.rows) == run.captured == FRAMES - 150
    assert run.switches == 0


CHECKS: dict[str, Callable[[Run], None]] = {
    "none": calm,
    "thermal_pulled": lambda run: thermal_gone(run, 8, 12, {"lost"}),
    "thermal_pulled_for_good": lambda run: thermal_gone(run, 8, SECONDS, {"lost"}),
    "thermal_absent_at_start": lambda run: thermal_gone(run, 0, 5, {"connecting"}),
    "thermal_stalls": lambda run: thermal_gone(run, 8, 12, {"stalled"}),
    "visible_pulled": lambda run: visible_gone(run, 8, 12),
    "visible_stalls": lambda run: visible_gone(run, 8, 12),
    "both_pulled": lambda run: visible_gone(run, 8, 12),
    "pulled_again_and_again": flapping,
    "thermal_slow": slow_thermal,
    "visible_slow": half_visible,
    "clock_wrong": wrong_clock,
    "clock_very_wrong": very_wrong_clock,
    "thermal_late": wrong_clock,
    "network_jitter": all_there,
    "shutter_told": lambda run: shutter(run, [(6, 7), (14, 15.5)], 0.15),
    "shutter_untold": lambda run: shutter(run, [(6, 7), (14, 15.5)], 0.4),
    "shutter_often": shutter_often,
    "thermal_frozen": frozen,
    "visible_frozen": all_there,
    "swapped": swapped,
    "dark": all_there,
    "noisy": all_there,
    "bumped": all_there,  # the alarm itself is tests/runtime/test_drift.py's
    "bad_day": lambda run: None if run.captured == len(run.rows) + run.drops.total() else pytest.fail("uncounted"),
}


def test_every_standard_fault_has_a_check() -> None:
    assert sorted(CHECKS) == sorted(fault.name for fault in STANDARD)
    assert set(FPS.values()) == {30, 9}


@pytest.mark.parametrize(
    "fault",
    [pytest.param(fault, id=fault.name, marks=() if fault.name in QUICK else pytest.mark.slow) for fault in STANDARD],
)
def test_the_rig_keeps_its_promise(fault: StandardFault, engines: list[str]) -> None:
    run = replay(fault.query, engines)
    times = [row.at_s for row in run.rows]
    assert times == sorted(times)
    if "ffc" not in fault.query and "freeze_thermal" not in fault.query:
        no_shutter(run)
    assert run.captured == len(run.rows) + run.drops.total()
    CHECKS[fault.name](run)


def test_without_a_visible_camera_no_engine_runs(engines: list[str]) -> None:
    """What metrics and page show while it is away, and that going and coming back are told and counted."""
    seen: list[tuple[float, float, Any]] = []

    def look(notice: Notice) -> None:
        if notice.kind != "ladder":
            return
        none = 'mdrun_mode{mdrun_mode="none",rig="street"}'
        lines = dict(line.rsplit(" ", 1) for line in metrics_text([session.monitor]).decode().splitlines())
        status = session.monitor.snapshot()["ladder"]
        seen.append((notice.at_ns / 1e9, float(lines[none]), (status["active"], status["reason"])))

    with Session(config_of("kill_visible=8s-12s", engines)) as session:
        session.on_notice = look
        results = list(session)
        session.check()
        steps = session.monitor.snapshot()["ladder"]["transitions"]
    assert seen == [(8.0, 1.0, (None, "visible_lost")), (12.0, 0.0, (0, ""))]
    assert {"from": "blob", "to": "none", "reason": "visible_lost", "count": 1} in steps
    assert {"from": "none", "to": "blob", "reason": "returned", "count": 1} in steps
    assert {result.rung for result in results if result.pair.visible.captured_ns > 12e9} == {0}


def test_images_that_come_late_are_no_shutter(engines: list[str]) -> None:
    """Each up to 900 ms, none before the one before it: silence and bursts, and no gap in capture time."""
    run = replay("jitter=900ms", engines)
    all_there(run)
    no_shutter(run)


@pytest.mark.parametrize("ends_s", [8.6, 9.5])
def test_a_gap_in_capture_time_is_no_shutter_and_is_followed_by_doubt(ends_s: float, engines: list[str]) -> None:
    """As long as a shutter event; a camera may have closed one, so what comes next settles all the same."""
    run = replay(f"drop_thermal=8s-{ends_s}s", engines)
    all_there(run)
    no_shutter(run)
    assert Provenance.MEASURED not in run.thermal(8.1, ends_s + 0.25)
    assert run.reasons(8.5, ends_s + 0.25) == {"stalled"}
    assert Provenance.MEASURED in run.thermal(ends_s + 0.3, ends_s + 1)


def test_compressed_video_that_stands_still_is_no_shutter_and_is_not_measured(
    engines: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What an H.264 camera gives of a scene without motion, or behind a shutter: nobody can know."""
    folder = Path(shutil.copytree(street_recording(), tmp_path / "run"))
    header = json.loads((folder / "recording.json").read_text())
    header["sources"] = {"visible": "rtsp://gate.local/visible", "thermal": "rtsp://gate.local/thermal"}
    (folder / "recording.json").write_text(json.dumps(header))
    monkeypatch.setattr("tests.runtime.test_rig_faults.street_recording", lambda: folder)
    run = replay("freeze_thermal=4s-18s", engines)
    all_there(run)
    no_shutter(run)
    assert run.thermal(4.4, 18.25) == {Provenance.ABSENT}
    assert run.reasons(4.4, 18.25) == {"stalled"}
    assert Provenance.MEASURED in run.thermal(18.3, 19.3)


def test_a_replay_gives_the_same_again(engines: list[str]) -> None:
    query = next(fault.query for fault in STANDARD if fault.name == "bad_day")
    assert replay(query, engines).rows == replay(query, engines).rows
