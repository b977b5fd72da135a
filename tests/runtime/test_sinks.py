"""Result files: what is in them, and that they are whole or not there."""

from __future__ import annotations

import json
import os
import threading
from dataclasses import replace
from pathlib import Path

import av
import cv2
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdrun.errors import OutputError
from mdrun.frames import Provenance, Result
from mdrun.sinks import FileSink, JsonlSink, Look, Overflow, SheetSink, SinkWorker, VideoSink
from mdrun.sinks.jsonl import to_line
from mdrun.sinks.scene import PALETTE, draw_scene, thermal_caption
from mdrun.sinks.sheet import EvenlySpread, Moment
from tests.runtime.engines import CLASSES
from tests.runtime.test_statistics import make_result

LOOK = Look("blob", CLASSES, 0.5, thermal_used=True)
KEYS = ["schema_version", "rig", "sequence", "captured_ns", "visible", "thermal", "skew_ms", "engine", "task"]
KEYS += ["detections", "label_map", "areas", "classification", "energy", "stages_ms"]


def test_the_line_is_the_documented_one() -> None:
    line = to_line(make_result(412), CLASSES, "gate")
    assert list(line) == KEYS
    assert line["visible"] == {"provenance": "measured", "source": "cam0", "name": "412.png", "frame": 412}
    assert line["thermal"] == {
        "provenance": "measured",
        "source": "cam1",
        "name": None,
        "frame": 412,
        "age_ms": 5.0,
    }
    assert line["detections"][0] == {"class": "person", "score": 0.9, "box_xyxy": [8.0, 8.0, 40.0, 60.0]}
    assert len(line["detections"]) == 2  # those below the display threshold too
    assert list(line["stages_ms"]) == ["pair", "preprocess", "infer", "postprocess"]
    assert json.loads(json.dumps(line, allow_nan=False)) == line


def test_numbers_are_rounded_not_cut() -> None:
    result = make_result(scores=(0.123456,))
    found = replace(result.detections, boxes_xyxy=np.array([[0.04, 0.06, 10.26, 20.24]], np.float32))  # type: ignore[type-var]  # never None
    line = to_line(replace(result, detections=found), CLASSES, "gate")
    assert line["detections"] == [{"class": "person", "score": 0.1235, "box_xyxy": [0.0, 0.1, 10.3, 20.2]}]


def test_thermal_that_was_not_used_is_absent() -> None:
    line = to_line(make_result(), CLASSES, "gate", thermal_used=False)
    assert line["thermal"] == {"provenance": "absent", "source": None, "name": None, "frame": None, "age_ms": None}
    assert line["skew_ms"] is None


def _sinks(folder: Path) -> list[FileSink]:
    return [
        JsonlSink(folder / "results.jsonl", CLASSES, "gate", thermal_used=True),
        VideoSink(folder / "overlay.mp4", LOOK, timed=True),
        SheetSink(folder / "overlay.png", LOOK, timed=True),
    ]


def test_files_have_their_names_only_when_complete(tmp_path: Path) -> None:
    for sink in _sinks(tmp_path):
        for sequence in range(5):
            sink.write(make_result(sequence))
        sink.finish()
        assert not (tmp_path / sink.name).exists()
        assert sink.commit() == tmp_path / sink.name
    assert sorted(path.name for path in tmp_path.iterdir()) == ["overlay.mp4", "overlay.png", "results.jsonl"]
    lines = (tmp_path / "results.jsonl").read_text(encoding="utf-8").splitlines()
    assert [json.loads(line)["sequence"] for line in lines] == list(range(5))


def test_discard_leaves_the_older_files(tmp_path: Path) -> None:
    for sink in _sinks(tmp_path):
        (tmp_path / sink.name).write_text("older", encoding="utf-8")
        sink.write(make_result())
        sink.discard()
        assert (tmp_path / sink.name).read_text(encoding="utf-8") == "older"
    assert len(list(tmp_path.iterdir())) == 3


def test_without_results_there_are_lines_but_no_pictures(tmp_path: Path) -> None:
    committed = []
    for sink in _sinks(tmp_path):
        sink.finish()
        committed.append(sink.commit())
    assert committed == [tmp_path / "results.jsonl", None, None]


def test_video_keeps_the_rhythm_of_the_capture(tmp_path: Path) -> None:
    sink = VideoSink(tmp_path / "overlay.mp4", LOOK, timed=True)
    for sequence in (0, 1, 2, 12):  # nine frames were dropped before the last one
        sink.write(make_result(sequence))
    sink.finish()
    sink.commit()
    with av.open(str(tmp_path / "overlay.mp4")) as container:
        stream = container.streams.video[0]
        times = [float(frame.time) for frame in container.decode(stream) if frame.time is not None]
        assert (stream.codec_context.name, stream.codec_context.pix_fmt) == ("h264", "yuv420p")
    np.testing.assert_allclose(np.diff(times), [0.033, 0.033, 0.33], atol=0.0015)


def test_video_of_odd_sized_frames(tmp_path: Path) -> None:
    """yuv420p wants even sizes; cameras do not care."""
    result = make_result()
    odd = replace(result.pair.visible, image=np.zeros((333, 501, 3), np.uint8))
    sink = VideoSink(tmp_path / "overlay.mp4", LOOK, timed=False)
    sink.write(replace(result, pair=replace(result.pair, visible=odd)))
    sink.finish()
    sink.commit()
    with av.open(str(tmp_path / "overlay.mp4")) as container:
        assert sum(1 for _ in container.decode(video=0)) == 1


def _count(image: np.ndarray[tuple[int, ...], np.dtype[np.uint8]], colour: tuple[int, int, int]) -> int:
    return int((image == colour).all(axis=-1).sum())


def test_boxes_are_drawn_on_both_panes_from_the_display_threshold() -> None:
    drawn = draw_scene(make_result(scores=(0.9,)), LOOK, (320, 240))
    below = draw_scene(make_result(scores=(0.49,)), LOOK, (320, 240))
    left, right = drawn[:, :320], drawn[:, 326:]
    # 8..40 of 96 and 8..60 of 72 pixels, on 320x240: an outline of 2 * (107 + 173) pixels
    assert _count(right, PALETTE[0]) == pytest.approx(2 * (107 + 173), abs=12)
    assert _count(left, PALETTE[0]) > _count(right, PALETTE[0])  # the tag
    assert _count(below, PALETTE[0]) == 0


def test_an_absent_thermal_image_carries_no_boxes() -> None:
    drawn = draw_scene(make_result(scores=(0.9,), provenance=Provenance.ABSENT), LOOK, (320, 240))
    assert _count(drawn[:, :320], PALETTE[0]) > 0
    assert _count(drawn[:, 326:], PALETTE[0]) == 0


@pytest.mark.parametrize(
    ("pair", "engine", "reason", "caption"),
    [
        (Provenance.MEASURED, None, "", "thermal · measured"),
        (Provenance.MEASURED, Provenance.MEASURED, "", "thermal · measured"),
        (Provenance.MEASURED, Provenance.ABSENT, "returning", "thermal · not used (returning)"),
        (Provenance.MEASURED, Provenance.ABSENT, "", "thermal · not used"),
        (Provenance.MEASURED, Provenance.HALLUCINATED, "energy", "thermal · hallucinated"),
        (Provenance.ABSENT, Provenance.HALLUCINATED, "thermal_lost", "thermal · hallucinated (lost)"),
        (Provenance.ABSENT, Provenance.ABSENT, "thermal_lost", "thermal · absent (lost)"),
        (Provenance.HELD, Provenance.HELD, "", "thermal · held 5 ms (lost)"),
    ],
)
def test_the_caption_says_what_the_engine_got(
    pair: Provenance, engine: Provenance | None, reason: str, caption: str
) -> None:
    result = make_result(scores=(), provenance=pair)
    why = "" if pair is Provenance.MEASURED else "lost"
    given = replace(result.pair, reason=why)
    if pair is Provenance.HELD:
        given = replace(given, thermal_age_ms=5.2)
    assert thermal_caption(replace(result, pair=given, thermal_provenance=engine, rung_reason=reason)) == caption


def test_an_empty_thermal_pane_says_why_in_its_middle() -> None:
    result = make_result(scores=(), provenance=Provenance.ABSENT)
    why = {
        reason: draw_scene(replace(result, pair=replace(result.pair, reason=reason)), LOOK, (320, 240))[60:180, 326:]
        for reason in ("", "no_thermal", "lost", "ffc")
    }
    assert (why[""] > 200).any()
    np.testing.assert_array_equal(why[""], why["no_thermal"])  # which says the same
    assert not np.array_equal(why["lost"], why["ffc"])
    assert not np.array_equal(why["lost"], why[""])


def test_held_thermal_is_marked() -> None:
    measured = draw_scene(make_result(scores=()), LOOK, (320, 240))
    held = draw_scene(make_result(scores=(), provenance=Provenance.HELD), LOOK, (320, 240))
    absent = draw_scene(make_result(scores=(), provenance=Provenance.ABSENT), LOOK, (320, 240))
    assert not np.array_equal(measured[:24, 326:], held[:24, 326:])
    assert not np.array_equal(held[:24, 326:], absent[:24, 326:])
    np.testing.assert_array_equal(measured[:, :320], held[:, :320])


@pytest.mark.parametrize("count", [1, 2, 5, 40])
def test_sheet_is_an_image_for_any_number_of_results(tmp_path: Path, count: int) -> None:
    sink = SheetSink(tmp_path / "overlay.png", LOOK, timed=True)
    for sequence in range(count):
        sink.write(make_result(sequence))
    sink.finish()
    sink.commit()
    image = cv2.imread(str(tmp_path / "overlay.png"))
    assert image is not None
    assert image.shape[0] > 300
    assert image.std() > 5


@given(st.integers(0, 300), st.integers(1, 9))
def test_moments_are_evenly_spread(total: int, wanted: int) -> None:
    moments = EvenlySpread(wanted)
    blank = np.zeros((1, 1, 3), np.uint8)
    for index in range(total):
        moments.add(Moment(blank, str(index), "") if moments.wants() else None)
    picked = [int(moment.frame) for moment in moments.pick()]
    assert len(picked) == min(total, wanted)
    assert picked == sorted(set(picked))
    if total > wanted > 1:
        assert picked[0] == 0
        assert picked[-1] >= total // 2
        gaps = np.diff(picked)
        assert gaps.max() <= 2 * gaps.min() + 1


class Gate(FileSink):
    """Writes nothing until it is opened; notes what came through."""

    def __init__(self, path: Path) -> None:
        super().__init__(path)
        self.open = threading.Event()
        self.seen: list[int] = []

    def write(self, result: Result) -> None:
        self.open.wait(10)
        self.seen.append(result.pair.sequence)

    def finish(self) -> None:
        pass

    def abandon(self) -> None:
        pass


def test_a_full_queue_drops_the_newest_and_counts(tmp_path: Path) -> None:
    gate = Gate(tmp_path / "gate")
    worker = SinkWorker(gate, Overflow.DROP_NEWEST, size=2)
    for sequence in range(10):
        worker.offer(make_result(sequence))
    gate.open.set()
    worker.finish()
    assert worker.drops + len(gate.seen) == 10
    assert worker.drops >= 7  # two in the queue, at most one in hand
    assert gate.seen == list(range(len(gate.seen)))


def test_waiting_loses_nothing(tmp_path: Path) -> None:
    gate = Gate(tmp_path / "gate")
    worker = SinkWorker(gate, Overflow.WAIT, size=2)
    threading.Timer(0.05, gate.open.set).start()
    for sequence in range(10):
        worker.offer(make_result(sequence))
    worker.finish()
    assert (gate.seen, worker.drops) == (list(range(10)), 0)


class Full(Gate):
    """A disk without space."""

    def write(self, result: Result) -> None:
        raise OSError(28, "No space left on device")


def test_a_failing_sink_is_reported_and_never_blocks(tmp_path: Path) -> None:
    worker = SinkWorker(Full(tmp_path / "full.bin"), size=1)
    with pytest.raises(OutputError, match=r"full\.bin: cannot be written \(No space left on device\)"):
        _offer_many(worker)
    worker.discard()


def _offer_many(worker: SinkWorker) -> None:
    for sequence in range(100):
        worker.offer(make_result(sequence))


def test_results_that_do_not_fit_on_the_disk_leave_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Closing fails like writing: the last bytes are still in the buffer."""
    sink = JsonlSink(tmp_path / "results.jsonl", ["person"], "local", thermal_used=True)
    sink.write(make_result(0))
    (part,) = tmp_path.iterdir()
    os.dup2(os.open("/dev/full", os.O_WRONLY), sink._open().fileno())
    with pytest.raises(OSError, match="No space left"):
        sink.discard()
    assert not part.exists()


def test_a_name_that_is_not_utf8_makes_a_readable_line(tmp_path: Path) -> None:
    result = make_result(0)
    named = replace(result, pair=replace(result.pair, visible=replace(result.pair.visible, name="\udcff0.jpg")))
    sink = JsonlSink(tmp_path / "results.jsonl", ["person"], "local", thermal_used=True)
    sink.write(named)
    sink.finish()
    sink.commit()
    (line,) = (tmp_path / "results.jsonl").read_text(encoding="utf-8").splitlines()
    assert json.loads(line)["visible"]["name"] == "\udcff0.jpg"


def test_the_encoders_refusal_is_an_output_error(tmp_path: Path) -> None:
    """The error classes of PyAV are no OSErrors."""

    class Refusing(JsonlSink):
        def write(self, result: Result) -> None:
            raise av.error.ExternalError(542398533, "Generic error in an external library")

    worker = SinkWorker(Refusing(tmp_path / "overlay.mp4", ["person"], "local", thermal_used=True))
    with pytest.raises(OutputError, match=r"overlay\.mp4: cannot be written"):
        _offer_many(worker)
    worker.discard()
