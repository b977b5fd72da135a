"""The live page over real HTTP: pictures, state, events, snapshot."""

from __future__ import annotations

import asyncio
import io
import json
import os
import socket
import subprocess
import sys
import threading
import time
import zipfile
from collections.abc import Iterator
from contextlib import ExitStack
from dataclasses import replace
from typing import Any

import cv2
import numpy as np
import pytest

from mdrun.frames import FfcState, Modality, Provenance, Segmentation, TrackEvent
from mdrun.web import app, view
from mdrun.web.describe import describe_shot
from mdrun.web.pictures import Style, draw_view, make_jpeg
from mdrun.web.server import CONNECTIONS, NICE
from mdrun.web.streams import newer, picture_stream
from tests.runtime.web_client import ask, decode, events_of, parts_of, stream, stream_parts, until
from tests.runtime.web_rig import THERMAL_WH, VISIBLE_WH, Rig, serving, shutter, street


@pytest.fixture(scope="module")
def rig() -> Iterator[Rig]:
    street()
    with serving(fps=30) as found:
        found.step()
        yield found


@pytest.fixture
def count_jpegs(monkeypatch: pytest.MonkeyPatch) -> list[str]:
    made: list[str] = []

    def counting(*arguments: Any) -> bytes:
        made.append(arguments[2].view)
        return make_jpeg(*arguments)

    monkeypatch.setattr("mdrun.web.view.make_jpeg", counting)
    return made


def test_status_is_that_of_the_monitor(rig: Rig) -> None:
    rig.step()
    found = until(lambda: (status := ask(f"{rig.url}/api/gate/status").json)["results"] == rig.sequence and status)
    assert set(found) == set(rig.monitor.snapshot()) | {"result_age_s", "stale_s"}
    assert found["cameras"]["thermal"]["width"] == THERMAL_WH[0]
    assert found["cameras"]["visible"]["age_s"] >= 0
    assert ask(f"{rig.url}/api/rigs").json == [{"rig": "gate", "engine": "student", "state": rig.monitor.state()}]
    assert "gate" in ask(f"{rig.url}/api/other/status").json["error"]


def test_frame_holds_pictures_and_data_of_one_result(rig: Rig) -> None:
    rig.provenance, rig.reason = Provenance.MEASURED, ""
    result = rig.step()
    found = until(
        lambda: (p := parts_of(ask(f"{rig.url}/api/gate/frame?views=visible,thermal,raw"))) and _is(p, result) and p
    )
    assert list(found) == ["shot", "visible", "thermal", "raw"]
    shot = json.loads(found["shot"])
    assert decode(found["visible"]).shape == (VISIBLE_WH[1], VISIBLE_WH[0], 3)
    assert decode(found["raw"]).shape[:2] == (THERMAL_WH[1], THERMAL_WH[0])
    assert shot["thermal"] | {"provenance": "measured", "raw_width": THERMAL_WH[0], "stale": False} == shot["thermal"]
    assert result.detections is not None
    assert len(shot["boxes"]) == len(result.detections)
    first = shot["boxes"][0]
    np.testing.assert_allclose(first["box_xyxy"], result.detections.boxes_xyxy[0], atol=0.06)
    assert (first["track_id"], first["colour"]) == (
        1,
        "#{:02x}{:02x}{:02x}".format(*rig.context.look.colour(int(result.detections.classes[0]))),
    )
    smooth = cv2.GaussianBlur(decode(found["visible"])[..., ::-1], (9, 9), 0).astype(int)
    wanted = cv2.GaussianBlur(result.pair.visible.image, (9, 9), 0).astype(int)
    assert np.abs(smooth - wanted).mean() < 4  # no boxes in it: the page draws them


def _is(parts: dict[str, bytes], result: Any) -> bool:
    return bool(json.loads(parts["shot"])["sequence"] == result.pair.sequence)


def test_frame_waits_for_the_next_and_tells_when_there_is_none(rig: Rig) -> None:
    shot = json.loads(parts_of(ask(f"{rig.url}/api/gate/frame"))["shot"])
    nothing = ask(f"{rig.url}/api/gate/frame?after={shot['number']}")
    assert (nothing.status, nothing.body) == (204, b"")
    assert float(nothing.headers["x-age"]) >= app.FRAME_WAIT_S
    rig.step()
    later = json.loads(parts_of(ask(f"{rig.url}/api/gate/frame?after={shot['number']}"))["shot"])
    assert later["number"] == shot["number"] + 1


@pytest.mark.parametrize("provenance", [Provenance.HELD, Provenance.HALLUCINATED, Provenance.ABSENT])
def test_what_is_not_measured_is_marked(rig: Rig, provenance: Provenance) -> None:
    rig.provenance, rig.reason = provenance, "lost"
    result = rig.step()
    parts = until(lambda: (p := parts_of(ask(f"{rig.url}/api/gate/frame"))) and _is(p, result) and p)
    thermal = json.loads(parts["shot"])["thermal"]
    assert (thermal["provenance"], thermal["reason"], thermal["stale"]) == (provenance.value, "lost", True)
    assert thermal["shown"] is (provenance is Provenance.HELD)
    rig.provenance, rig.reason = Provenance.MEASURED, ""
    measured = rig.step()
    until(lambda: _is(parts_of(ask(f"{rig.url}/api/gate/frame")), measured))


def test_a_held_thermal_image_is_darker() -> None:
    with serving(fps=1000) as rig:
        brightness = {}
        for provenance in (Provenance.MEASURED, Provenance.HELD, Provenance.ABSENT):
            rig.provenance, rig.sequence = provenance, 0
            rig.step()
            brightness[provenance] = decode(ask(f"{rig.url}/api/gate/thermal.jpg?marks=0").body).mean()
        assert brightness[Provenance.HELD] < 0.7 * brightness[Provenance.MEASURED]
        assert brightness[Provenance.ABSENT] < 25


def test_an_absent_thermal_picture_carries_no_boxes() -> None:
    with serving(fps=1000) as rig:
        rig.provenance, rig.reason = Provenance.ABSENT, "lost"
        rig.step()
        marked = decode(ask(f"{rig.url}/api/gate/thermal.jpg").body)
        bare = decode(ask(f"{rig.url}/api/gate/thermal.jpg?marks=0").body)
        below = marked.shape[0] // 8  # the caption lies above
        assert int(np.abs(marked[below:].astype(int) - bare[below:]).max()) < 8


def test_fused_lies_between_both(rig: Rig) -> None:
    rig.step()
    pictures = {
        o: decode(ask(f"{rig.url}/api/gate/fused.jpg?marks=0&opacity={o}").body).astype(int) for o in (0, 0.5, 1)
    }
    middle = (pictures[0] + pictures[1]) / 2
    assert np.abs(pictures[0.5] - middle).mean() < 3
    assert np.abs(pictures[0] - pictures[1]).mean() > 10
    assert ask(f"{rig.url}/api/gate/fused.jpg?opacity=2").status == 400
    assert ask(f"{rig.url}/api/gate/sideways.jpg").status == 400


def test_pictures_for_other_programs_carry_marks(rig: Rig) -> None:
    rig.step()
    plain, marked = (decode(ask(f"{rig.url}/api/gate/visible.jpg?marks={on}").body).astype(int) for on in (0, 1))
    assert (np.abs(plain - marked).max(axis=2) > 60).mean() > 0.01


def test_stream_moves_and_greys_when_it_stops() -> None:
    with serving(fps=20) as rig, stream(f"{rig.url}/api/gate/visible.mjpeg") as reply:
        assert reply.headers["content-type"].startswith("multipart/x-mixed-replace")
        pictures = stream_parts(reply)
        assert _colour(next(pictures)) < 3  # before the first result: a caption on dark grey
        rig.run(20)
        until(lambda: rig.sequence > 2)
        seen = [picture for picture, _ in zip(pictures, range(6), strict=False)]
        assert len({bytes(picture) for picture in seen}) > 3
        assert _colour(seen[-1]) > 3
        rig.freeze()
        assert any(_colour(picture) < 3 for picture, _ in zip(pictures, range(10), strict=False))


def _colour(jpeg: bytes) -> float:
    """Mean distance of a picture from grey, away from the captions."""
    image = decode(jpeg).astype(int)
    middle = image[image.shape[0] // 4 : image.shape[0] // 2]
    return float((middle.max(axis=2) - middle.min(axis=2)).mean())


def test_nothing_is_drawn_while_nobody_looks(rig: Rig, count_jpegs: list[str]) -> None:
    for _ in range(20):
        rig.step()
    ask(f"{rig.url}/api/gate/status")
    assert count_jpegs == []


def test_a_picture_is_made_once_for_all_viewers(count_jpegs: list[str]) -> None:
    with serving(fps=10) as rig:
        rig.step()
        answers = [ask(f"{rig.url}/api/gate/visible.jpg").body for _ in range(4)]
        assert len(set(answers)) == 1
        assert count_jpegs == ["visible"]


def test_no_more_pictures_than_fps_and_always_the_latest() -> None:
    with serving(fps=0.5) as rig:
        rig.step()
        shot = json.loads(parts_of(ask(f"{rig.url}/api/gate/frame"))["shot"])
        for _ in range(30):
            rig.step()
        began = time.monotonic()
        later = until(lambda: (a := ask(f"{rig.url}/api/gate/frame?after={shot['number']}")).status == 200 and a)
        assert time.monotonic() - began > 1  # 2 s between two pictures, less what the first answer took
        assert json.loads(parts_of(later)["shot"])["sequence"] == rig.sequence - 1
        assert json.loads(parts_of(later)["shot"])["number"] == shot["number"] + 1


def test_a_slow_viewer_gets_the_newest_next() -> None:
    """The stream makes a picture when it is asked for one; there is no queue that could grow."""
    with serving(fps=1000) as rig:

        async def look() -> list[int]:
            page = view.RigView(rig.context, rig.sink.address)
            shown = []
            page.put(rig.step())
            async for _ in picture_stream(page, Style("visible")):
                shot = page.current()
                assert shot is not None
                shown.append(shot.result.pair.sequence)
                if len(shown) == 3:
                    break
                for _ in range(5):
                    page.put(rig.step())
            return shown

        assert asyncio.run(look()) == [0, 5, 10]


def test_one_result_after_a_gap_is_soon_stale_and_a_time_lapse_is_not(monkeypatch: pytest.MonkeyPatch) -> None:
    with serving() as rig:
        now = 1000.0
        monkeypatch.setattr("mdrun.web.view.time.monotonic", lambda: now)
        page, result = view.RigView(rig.context, rig.sink.address), rig.result()
        for gap_s in (0.0, 0.1, 0.1, 50.0):
            now += gap_s
            page.put(result)
        assert page.stale_s() == view.STALE_S
        for _ in range(view.PERIODS):
            now += 10
            page.put(result)
        assert page.stale_s() == 10 * view.STALE_PERIODS


@pytest.mark.skipif(sys.platform != "linux", reason="a priority belongs to a thread on Linux only")
def test_the_server_gives_way_to_the_pipeline(rig: Rig) -> None:
    ask(f"{rig.url}/api/gate/visible.jpg")
    mine = os.getpriority(os.PRIO_PROCESS, threading.get_native_id())
    (server,) = (t for t in threading.enumerate() if t.name == f"web-{rig.url.rpartition(':')[2]}")
    assert server.native_id is not None
    assert os.getpriority(os.PRIO_PROCESS, server.native_id) == min(mine + NICE, 19)


def test_label_maps_have_areas_in_their_colours() -> None:
    with serving() as rig:
        labels = np.zeros((VISIBLE_WH[1], VISIBLE_WH[0]), np.uint8)
        labels[:100], labels[100:400] = 1, 2
        look = replace(rig.context.look, task="segment")
        page = view.RigView(replace(rig.context, look=look), rig.sink.address)
        page.put(replace(rig.result(), detections=None, segmentation=Segmentation(labels)))
        shot = page.current()
        assert shot is not None
        rows = describe_shot(shot, page)["areas"]
        assert [(row["class"], row["share"]) for row in rows] == [("car", 0.585938), ("bicycle", 0.195312)]
        tinted = draw_view(shot.result, look, Style("visible", marked=False), 640)
        assert np.abs(tinted[:400].astype(int) - shot.result.pair.visible.image[:400]).mean() > 10
        np.testing.assert_array_equal(tinted[420:], shot.result.pair.visible.image[420:])


def test_events_tell_what_was_what_is_and_what_comes() -> None:
    with serving() as rig:
        shutter(rig, FfcState.RUNNING)
        rig.step()
        with stream(f"{rig.url}/api/gate/events") as reply:
            assert reply.headers["content-type"].startswith("text/event-stream")
            told = events_of(reply)
            kind, notice = next(told)
            assert (kind, notice["kind"], notice["to"]) == ("notice", "ffc", "running")
            kind, status = next(told)
            assert (kind, len(status["recent"]), "notices" in status) == ("status", 1, False)
            enter = TrackEvent(
                "enter", 7, "person", 0.9, (1, 2, 3, 4), 0, "gate", alarm=True, thermal=Provenance.MEASURED
            )
            rig.step(events=(enter, TrackEvent("new", 8, "car", 0.9, (1, 2, 3, 4), 0)))
            rig.tell("sink", sink="mqtt://broker", alive=False, message="gone")
            seen = [next(entry for entry in told if entry[0] == "notice")[1] for _ in range(2)]
            assert {entry["kind"] for entry in seen} == {"alarm", "sink"}
            alarm = next(entry for entry in seen if entry["kind"] == "alarm")
            assert (alarm["place"], alarm["track_id"], alarm["thermal"]) == ("gate", 7, "measured")
            points = next(entry for entry in told if entry[0] == "status")[1]["recent"]
            assert len(points) == 1  # only what is new since the last status


def test_newer_tells_everything_once() -> None:
    notices: list[dict[str, Any]] = [{"same": 1} for _ in range(5)]
    assert newer(notices, None) == notices
    assert len(newer(notices, notices[2])) == 2  # equal ones are still other ones
    assert newer(notices[3:], {"gone": 1}) == notices[3:]


def test_snapshot_is_the_moment_as_captured(rig: Rig) -> None:
    result = rig.step()
    answer = ask(f"{rig.url}/api/gate/snapshot.zip")
    assert f"gate-{result.pair.sequence:06d}.zip" in answer.headers["content-disposition"]
    with zipfile.ZipFile(io.BytesIO(answer.body)) as archive:
        files = {name: archive.read(name) for name in archive.namelist()}
    thermal = result.pair.thermal
    assert thermal is not None
    assert set(files) == {
        "visible.png",
        "thermal.png",
        "thermal_aligned.png",
        "thermal_counts.png",
        "result.json",
        "overlay.jpg",
    }
    np.testing.assert_array_equal(decode(files["visible.png"])[..., ::-1], result.pair.visible.image)
    np.testing.assert_array_equal(decode(files["thermal.png"]), thermal.unaligned)
    np.testing.assert_array_equal(decode(files["thermal_aligned.png"]), thermal.image)
    assert decode(files["thermal_counts.png"]).dtype == np.uint16
    np.testing.assert_array_equal(decode(files["thermal_counts.png"]), thermal.counts)
    assert json.loads(files["result.json"])["sequence"] == result.pair.sequence
    assert decode(files["overlay.jpg"]).ndim == 3


def test_before_the_first_result() -> None:
    with serving() as rig:
        for path in ("snapshot.zip", "registration/fit?points=[]"):
            assert "wait for the cameras" in ask(f"{rig.url}/api/gate/{path}").json["error"]
        assert ask(f"{rig.url}/api/gate/frame").status == 204
        assert decode(ask(f"{rig.url}/api/gate/fused.jpg").body).shape == (512, 640, 3)
        assert ask(f"{rig.url}/api/gate/status").json["result_age_s"] is None


def test_probes_and_metrics(rig: Rig) -> None:
    rig.step()
    for kind in app.PROBES:
        assert ask(f"{rig.url}/{kind}").json["rigs"]["gate"]["results"] > 0
    metrics = ask(f"{rig.url}/metrics")
    assert metrics.headers["content-type"].startswith("text/plain; version=")
    assert b"mdrun_frames_captured_total" in metrics.body


@pytest.mark.parametrize("begun", [b"", b"GET /livez HTTP/1.1\r\n", b"GET /livez HTTP/1.1\r\nHost: localhost\r\n\r\n"])
def test_idle_connections_starve_no_probe_and_cut_no_stream(begun: bytes) -> None:
    """Nothing asked, a request that never ends, or one that was answered and kept alive."""
    with serving(fps=20) as rig, ExitStack() as open_:
        pictures = stream_parts(open_.enter_context(stream(f"{rig.url}/api/gate/visible.mjpeg")))
        next(pictures)
        port = int(rig.url.rpartition(":")[2])
        for _ in range(CONNECTIONS + 20):
            idle = open_.enter_context(socket.create_connection(("127.0.0.1", port)))
            idle.sendall(begun)
        for kind in app.PROBES:
            assert ask(f"{rig.url}/{kind}").json["rigs"]["gate"]["results"] == 0
        rig.run(20)
        assert all(next(pictures) for _ in range(5))


def test_import_loads_no_server() -> None:
    code = "import sys, mdrun.web.sink; print(*sys.modules)"
    loaded = set(subprocess.check_output([sys.executable, "-c", code], text=True).split())
    assert not {"starlette", "uvicorn", "cv2", "prometheus_client"} & loaded


def test_thermal_size_is_known_while_the_shutter_is_closed(rig: Rig) -> None:
    rig.provenance, rig.reason = Provenance.ABSENT, "ffc"
    rig.step()
    assert ask(f"{rig.url}/api/gate/registration").json["thermal_size"] == list(THERMAL_WH)
    rig.provenance, rig.reason = Provenance.MEASURED, ""
    rig.step()
    assert rig.monitor.cameras[Modality.THERMAL].width == THERMAL_WH[0]
