"""When something was captured on the wall clock: live, in a replay, and where nobody knows it."""

from __future__ import annotations

import json
import time
from dataclasses import replace
from datetime import datetime, timezone
from itertools import islice
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdrun.cli import cli
from mdrun.clocks import to_utc, wall_minus_monotonic
from mdrun.command import run_command
from mdrun.frames import Notice
from mdrun.record.header import read_header
from mdrun.record.recorder import Recorder
from mdrun.rig.config import RigConfig
from mdrun.rig.session import Session
from mdrun.sinks import encode
from mdrun.sinks.lines import context_line, event_lines, notice_to_dict
from mdrun.sinks.text import draw_text
from tests.recordings import CAMERAS, street_events
from tests.runtime.engines import write_blob
from tests.runtime.live import make_context, make_event, make_live

MOMENT_NS = 1_764_299_529_417_000_000
MOMENT = "2025-11-28T03:12:09.417Z"


@pytest.fixture(scope="module")
def recording(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A second of live cameras, recorded long ago."""
    folder = tmp_path_factory.mktemp("recording") / "run"
    recorder = Recorder(folder, CAMERAS, rig="street", live=True)
    for event in street_events(1.0):
        recorder.put(event)
    recorder.close()
    header = json.loads((folder / "recording.json").read_text())
    header |= {"wall_ns": MOMENT_NS, "monotonic_ns": 0}
    (folder / "recording.json").write_text(json.dumps(header))
    assert read_header(folder).live
    return folder


def replayed(recording: Path, query: str, folder: Path, *more: dict[str, Any]) -> RigConfig:
    source = f"replay://{recording}{query}"
    cameras = {name: {"source": source, "role": role} for name, role in (("cam0", "visible"), ("cam1", "thermal"))}
    engine = write_blob(folder / "blob.onnx")
    data: dict[str, Any] = {"cameras": cameras, "ladder": {"engines": [str(engine)]}, "drift": {"enabled": False}}
    for keys in more:
        data |= keys
    return RigConfig.model_validate(data)


@given(st.datetimes(min_value=datetime(1970, 1, 1), max_value=datetime(2200, 1, 1)), st.integers(0, 999))
def test_a_moment_is_read_back(moment: datetime, rest_ns: int) -> None:
    aware = moment.replace(tzinfo=timezone.utc)
    whole_us = (aware - datetime(1970, 1, 1, tzinfo=timezone.utc)) // (aware.resolution)
    text = to_utc(whole_us * 1000 + rest_ns)
    assert text.endswith("Z")
    assert datetime.fromisoformat(text.replace("Z", "+00:00")) == aware.replace(
        microsecond=moment.microsecond // 1000 * 1000
    )


def test_a_known_moment() -> None:
    assert to_utc(MOMENT_NS + 999_999) == MOMENT


def test_lines_events_and_notices_tell_the_moment() -> None:
    context = make_context()
    result = replace(make_live(3, events=(make_event(at_ns=3 * 33_000_000 + 500_000_000),)), wall_ns=MOMENT_NS)
    assert context_line(result, context)["time"] == MOMENT
    assert event_lines(result, "gate")[0]["time"] == "2025-11-28T03:12:09.917Z"
    assert notice_to_dict(Notice("ladder", "gate", 5, {"to": "x"}, MOMENT_NS))["time"] == MOMENT
    assert context_line(replace(result, wall_ns=None), context)["time"] is None
    assert notice_to_dict(Notice("ladder", "gate", 5, {"to": "x"}))["time"] is None


def test_a_replay_tells_the_time_of_the_recording(recording: Path, tmp_path: Path) -> None:
    notices: list[Notice] = []
    with Session(replayed(recording, "?kill_thermal=0.4s-0.6s", tmp_path)) as session:
        session.on_notice = notices.append
        results = list(session)
    assert [result.wall_ns for result in results] == [MOMENT_NS + r.pair.visible.captured_ns for r in results]
    assert notices
    assert all(notice.wall_ns == MOMENT_NS + notice.at_ns for notice in notices)


def test_a_replay_at_live_pace_tells_it_too(recording: Path, tmp_path: Path) -> None:
    with Session(replayed(recording, "?pace=live&to=0.5s", tmp_path)) as session:
        results = list(session)
    assert results
    for result in results:
        assert result.wall_ns is not None
        assert 0 <= result.wall_ns - MOMENT_NS < 1e9


def test_the_overlay_of_a_replay_is_stamped_with_it(
    recording: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    texts: list[str] = []
    draw = draw_text

    def look(image: Any, text: str, *rest: Any) -> Any:
        texts.append(text)
        return draw(image, text, *rest)

    monkeypatch.setattr(encode, "draw_text", look)
    rig = tmp_path / "rig.yaml"
    config = replayed(recording, "", tmp_path, {"outputs": [f"video:{tmp_path}/overlay.mp4"]})
    rig.write_text(json.dumps(config.model_dump(mode="json", exclude_unset=True)))
    assert run_command(cli, "mdrun", ["--rig", str(rig)]) == 0
    assert (tmp_path / "overlay.mp4").stat().st_size
    stamped = [text for text in texts if text.startswith("local · ")]
    assert stamped
    assert all(" · 2025-11-28 03:12:09 UTC · " in t or " · 2025-11-28 03:12:10 UTC · " in t for t in stamped)


def test_without_a_wall_clock_the_overlay_counts_from_the_first_picture(monkeypatch: pytest.MonkeyPatch) -> None:
    texts: list[str] = []
    monkeypatch.setattr(encode, "draw_text", lambda _image, text, *_: texts.append(text))
    painter = encode.Painter(make_context(), 160)
    for sequence in (30, 1950):
        painter.draw(make_live(sequence))
    assert [text.split(" · ")[1] for text in texts[::2]] == ["00:00.00", "01:03.36"]


def test_live_cameras_go_by_the_clock_of_the_machine(tmp_path: Path) -> None:
    source = "test://street?pace=live&duration=600"
    cameras = {"cam0": {"source": source, "role": "visible"}, "cam1": {"source": source, "role": "thermal"}}
    data = {"cameras": cameras, "ladder": {"engines": [str(write_blob(tmp_path / "blob.onnx"))]}}
    before_ns = time.time_ns()
    with Session(RigConfig.model_validate(data | {"drift": {"enabled": False}})) as session:
        results = list(islice(session, 3))
    for result in results:
        assert result.wall_ns is not None
        assert abs(result.wall_ns - result.pair.visible.captured_ns - wall_minus_monotonic()) < 5_000_000
        assert before_ns - 1e9 < result.wall_ns < time.time_ns()


def test_files_know_no_time_of_day(tmp_path: Path) -> None:
    cameras = {"cam0": {"source": "test://street?frames=2", "role": "visible"}}
    cameras["cam1"] = {"source": "test://street?frames=2", "role": "thermal"}
    data = {"cameras": cameras, "ladder": {"engines": [str(write_blob(tmp_path / "blob.onnx"))]}}
    with Session(RigConfig.model_validate(data)) as session:
        assert [result.wall_ns for result in session] == [None, None]
