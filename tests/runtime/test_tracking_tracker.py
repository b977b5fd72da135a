"""Ids and events of tracked objects."""

from __future__ import annotations

import json
import sys
from collections import defaultdict
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdrun.errors import RigError, UsageError
from mdrun.frames import Detections, Frame, FramePair, Modality, Provenance, Result, TrackEvent
from mdrun.rig.config import TrackingConfig, read_rigs
from mdrun.tracking import Tracker, event_to_dict
from tests.conftest import ROOT

CLASSES = ["person", "bicycle", "car"]
IMAGE = np.zeros((400, 600, 3), np.uint8)
Row = tuple[float, float, float, int]  # x of the foot, y of the foot, score, class
LINE = {"gate": {"points": [(300, 0), (300, 400)]}}
YARD = {"yard": {"points": [(200, 0), (400, 0), (400, 400), (200, 400)]}}


def result_at(time_s: float, rows: Iterable[Row], thermal: Provenance = Provenance.MEASURED) -> Result:
    """People of 20 x 50 pixels, and others as large."""
    rows = sorted(rows, key=lambda row: -row[2])
    boxes = np.array([(x - 10, y - 50, x + 10, y) for x, y, _, _ in rows], np.float32).reshape(-1, 4)
    found = Detections(boxes, np.array([row[2] for row in rows], np.float32), np.array([row[3] for row in rows], int))
    visible = Frame(IMAGE, Modality.VISIBLE, round(time_s * 1e9), 0, "cam0")
    return Result(FramePair(0, visible, None, thermal), "blob", "detect", found)


def tracker(least_hits: int = 1, lost_s: float = 1.0, **config: Any) -> Tracker:
    return Tracker(TrackingConfig.model_validate({"least_hits": least_hits, "lost_s": lost_s, **config}), CLASSES)


def ids(result: Result) -> list[int]:
    assert result.track_ids is not None
    return [int(number) for number in result.track_ids]


def kinds(events: Iterable[TrackEvent]) -> list[str]:
    return [" ".join(part for part in (event.kind, event.place, event.direction) if part) for event in events]


def walk(tracked: Tracker, xs: Iterable[float], step_s: float = 0.1, start_s: float = 0.0) -> list[TrackEvent]:
    events: list[TrackEvent] = []
    for index, x in enumerate(xs):
        events += tracked.update(result_at(start_s + index * step_s, [(x, 200, 0.9, 0)])).events
    return events


def test_an_object_is_told_after_enough_detections_and_ends() -> None:
    tracked = tracker(least_hits=3)
    told = [tracked.update(result_at(index / 10, [(100 + index, 200, 0.9, 0)])) for index in range(5)]
    assert [ids(result) for result in told] == [[-1], [-1], [1], [1], [1]]
    assert [kinds(result.events) for result in told] == [[], [], ["new"], [], []]
    gone = [tracked.update(result_at(0.4 + age, [])) for age in (0.5, 1.0, 1.1, 2.0)]
    assert [kinds(result.events) for result in gone] == [[], [], ["end"], []]
    assert gone[2].events[0].box_xyxy == (94.0, 150.0, 114.0, 200.0)  # the last one seen
    assert tracked.finish(0) == ()


@pytest.mark.parametrize("fps", [3.0, 10.0, 30.0, 120.0])
def test_the_clock_is_the_capture_time(fps: float) -> None:
    """The same walk at any frame rate is one object, and ends one second after it was last seen."""
    tracked = tracker()
    times = np.arange(0, 3, 1 / fps)
    assert {number for t in times for number in ids(tracked.update(result_at(t, [(50 + 40 * t, 200, 0.9, 0)])))} == {1}
    quiet = [(t, kinds(tracked.update(result_at(t, [])).events)) for t in times[-1] + np.arange(1, 2 * fps) / fps]
    ended = [t for t, events in quiet if events]
    assert len(ended) == 1
    assert 1.0 < ended[0] - times[-1] <= 1.0 + 1 / fps + 1e-6


def test_uneven_frame_times() -> None:
    """A camera of 30 Hz that gives 12 frames a second, in bursts; two people pass each other."""
    rng = np.random.default_rng(5)
    times = np.sort(rng.choice(np.arange(90) / 30, 36, replace=False))
    tracked, seen = tracker(), list[list[int]]()
    for t in times:
        result = tracked.update(result_at(t, [(100 + 90 * t, 200, 0.9, 0), (370 - 90 * t, 240, 0.8, 0)]))
        seen.append(ids(result))
    assert all(row == seen[0] for row in seen)


def test_a_short_gap_keeps_the_id_and_a_long_one_does_not() -> None:
    tracked = tracker()
    walk(tracked, range(100, 160, 5))
    assert ids(tracked.update(result_at(1.1 + 0.6, [(185, 200, 0.9, 0)]))) == [1]
    late = tracked.update(result_at(5.0, [(190, 200, 0.9, 0)]))
    assert ids(late) == [2]
    assert kinds(late.events) == ["end", "new"]


def test_a_weak_detection_continues_a_track_and_starts_none() -> None:
    tracked = tracker()
    assert ids(tracked.update(result_at(0.0, [(100, 200, 0.2, 0)]))) == [-1]
    tracked.update(result_at(0.1, [(100, 200, 0.9, 0)]))
    assert ids(tracked.update(result_at(0.2, [(101, 200, 0.2, 0)]))) == [1]
    assert ids(tracked.update(result_at(0.3, [(102, 200, 0.05, 0)]))) == [-1]  # noise


def test_what_is_weak_is_for_each_result_to_say() -> None:
    tracked = tracker(least_hits=1)
    weak = replace(result_at(0, [(100, 200, 0.2, 0)]), display=None)
    assert ids(tracked.update(weak)) == [-1]
    assert ids(tracked.update(replace(result_at(0.1, [(100, 200, 0.2, 0)]), display=0.15))) == [1]
    assert ids(tracked.update(replace(result_at(0.2, [(400, 200, 0.9, 0)]), display=0.95))) == [-1]


def test_classes_never_mix() -> None:
    tracked = tracker()
    tracked.update(result_at(0.0, [(100, 200, 0.9, 0)]))
    other = tracked.update(result_at(0.1, [(100, 200, 0.9, 2)]))
    assert ids(other) == [2]
    assert other.events[0].class_name == "car"
    both = tracked.update(result_at(0.2, [(100, 200, 0.9, 0), (100, 200, 0.8, 2)]))
    assert ids(both) == [1, 2]


def test_the_score_is_the_highest_so_far() -> None:
    tracked = tracker()
    for index, score in enumerate((0.5, 0.9, 0.6)):
        tracked.update(result_at(index / 10, [(100, 200, score, 0)]))
    assert tracked.finish(7)[0].score == pytest.approx(0.9)


def test_finish_ends_everything_and_ids_go_on() -> None:
    tracked = tracker()
    tracked.update(result_at(0.0, [(100, 200, 0.9, 0), (300, 200, 0.9, 1)]))
    ended = tracked.finish(42)
    assert [(event.kind, event.track_id, event.at_ns) for event in ended] == [("end", 1, 42), ("end", 2, 42)]
    assert ids(tracked.update(result_at(0.1, [(100, 200, 0.9, 0)]))) == [3]


def test_other_tasks_pass_through() -> None:
    result = replace(result_at(0, []), task="segment", detections=None)
    assert tracker().update(result) is result


def test_a_walk_through_zone_and_line() -> None:
    tracked = tracker(zones={**YARD, **LINE})
    events = walk(tracked, [*range(150, 460, 5), *[455] * 10])
    # the line goes down the picture: its right hand is the left part of it
    assert kinds(events) == ["new", "enter yard", "cross gate in", "leave yard"]
    assert kinds(walk(tracked, range(455, 150, -5), start_s=7.2)) == ["enter yard", "cross gate out", "leave yard"]


def test_a_trembling_box_enters_once() -> None:
    rng = np.random.default_rng(2)
    events = walk(tracker(zones=YARD), 200 + rng.uniform(-4, 4, 60))
    assert kinds(events) == ["new", "enter yard"]


def test_a_zone_counts_only_its_classes() -> None:
    zones = {"yard": YARD["yard"] | {"classes": ["car"]}}
    tracked = tracker(zones=zones)
    result = tracked.update(result_at(0, [(300, 200, 0.9, 0), (250, 200, 0.8, 2)]))
    assert [(event.kind, event.class_name) for event in result.events] == [
        ("new", "person"),
        ("new", "car"),
        ("enter", "car"),
    ]


def test_relative_zones_need_no_size() -> None:
    zones = {"right": {"points": [(0.5, 0), (1, 0), (1, 1), (0.5, 1)], "relative": True}}
    assert kinds(tracker(zones=zones).update(result_at(0, [(400, 200, 0.9, 0)])).events) == ["new", "enter right"]


@pytest.mark.parametrize("thermal", list(Provenance))
def test_alarm_only_with_measured_thermal(thermal: Provenance) -> None:
    tracked = tracker(zones=YARD, alarms=[{"on": "enter", "place": "yard"}])
    events = tracked.update(result_at(0, [(300, 200, 0.9, 0)], thermal)).events
    assert [(event.kind, event.alarm, event.thermal) for event in events] == [
        ("new", False, thermal),
        ("enter", thermal is Provenance.MEASURED, thermal),
    ]


def test_what_the_engine_got_outweighs_what_the_camera_gave() -> None:
    tracked = tracker(alarms=[{"on": "new", "thermal": ["hallucinated"]}])
    result = replace(result_at(0, [(300, 200, 0.9, 0)]), thermal_provenance=Provenance.HALLUCINATED)
    assert tracked.update(result).events[0].alarm


@pytest.mark.parametrize(
    ("rule", "raised"),
    [
        ({}, True),
        ({"least_score": 0.95}, False),
        ({"classes": ["car"]}, False),
        ({"classes": ["person"], "least_score": 0.9}, True),
        ({"on": "leave"}, False),
    ],
)
def test_alarm_rules(rule: dict[str, Any], raised: bool) -> None:
    tracked = tracker(zones=YARD, alarms=[{"on": "enter"} | rule])
    events = tracked.update(result_at(0, [(300, 200, 0.92, 0)])).events
    assert [event.alarm for event in events] == [False, raised]


@pytest.mark.parametrize(
    ("rule", "words"),
    [
        ({"on": "cross", "place": "yard"}, "alarm on cross at yard can never be raised: it wants a line"),
        ({"on": "enter", "place": "gate"}, "it wants a zone .* there is yard"),
        ({"on": "new", "place": "yard"}, "new happens at no place"),
        ({"on": "new", "classes": ["dog"]}, "names the class dog; the engine knows person"),
        ({"on": "new", "thermal": []}, "allows no thermal provenance"),
    ],
)
def test_an_alarm_that_could_never_come_is_refused(rule: dict[str, Any], words: str) -> None:
    with pytest.raises(RigError, match=words):
        tracker(zones={**YARD, **LINE}, alarms=[rule])


def test_the_rig_file_of_the_documentation_is_read(tmp_path: Path) -> None:
    """Not for granted: YAML 1.1 reads the key `on` as true."""
    page = (ROOT / "docs" / "tracking.md").read_text(encoding="utf-8")
    (tmp_path / "rig.yaml").write_text(page.split("```yaml\n")[1].split("```")[0], encoding="utf-8")
    config = read_rigs(tmp_path / "rig.yaml")[0].tracking
    assert [alarm.on for alarm in config.alarms] == ["enter", "cross"]
    assert set(config.zones) == {"pavement", "stop_line"}
    Tracker(config, CLASSES)


@pytest.mark.parametrize("text", ["yes", "on", "true", "no", "off", "false"])
def test_truth_values_are_still_read_as_such(tmp_path: Path, text: str) -> None:
    rig = f"cameras: {{a: {{source: x, role: visible}}}}\ntracking: {{enabled: {text}}}\n"
    (tmp_path / "rig.yaml").write_text(rig, encoding="utf-8")
    assert read_rigs(tmp_path / "rig.yaml")[0].tracking.enabled == (text in {"yes", "on", "true"})


def test_an_alarm_without_any_zone_is_refused() -> None:
    with pytest.raises(RigError, match="there is none"):
        tracker(alarms=[{"on": "enter"}])


rows = st.lists(
    st.tuples(st.integers(0, 600), st.integers(0, 400), st.sampled_from([0.05, 0.2, 0.5, 0.9]), st.integers(0, 2)),
    max_size=8,
)


@given(st.lists(st.tuples(st.sampled_from([0.0, 0.03, 0.1, 0.5, 1.5]), rows), max_size=25), st.integers(1, 3))
def test_whatever_comes_events_are_in_order(frames: list[tuple[float, list[Row]]], least_hits: int) -> None:
    tracked = tracker(least_hits, zones={**YARD, **LINE})
    lives: dict[int, list[TrackEvent]] = defaultdict(list)
    now = 0.0
    for step, found in frames:
        now += step
        result = tracked.update(result_at(now, found))
        assert result.detections is not None
        given_ids = [number for number in ids(result) if number != -1]
        assert len(set(given_ids)) == len(given_ids)
        for event in result.events:
            lives[event.track_id].append(event)
        assert set(given_ids) <= set(lives)
    for event in tracked.finish(round(now * 1e9)):
        lives[event.track_id].append(event)
    assert sorted(lives) == list(range(1, len(lives) + 1))
    for events in lives.values():
        names = [event.kind for event in events]
        assert names[0] == "new"
        assert names[-1] == "end"
        assert names.count("new") == names.count("end") == 1
        visits = [name for name in names if name in {"enter", "leave"}]
        assert visits == (["enter", "leave"] * len(visits))[: len(visits)]
        turns = [event.direction for event in events if event.kind == "cross"]
        assert len({event.class_name for event in events}) == 1
        assert set(turns) <= {"in", "out"}


def test_an_event_is_json_with_the_documented_keys() -> None:
    event = TrackEvent("cross", 7, "person", 0.91239, (1.04, 2.0, 3.06, 4.0), 81234567890, "gate", "in")
    line = event_to_dict(event)
    assert json.loads(json.dumps(line)) == line
    assert line == {
        "kind": "cross",
        "track_id": 7,
        "class": "person",
        "score": 0.9124,
        "box_xyxy": [1.0, 2.0, 3.1, 4.0],
        "at_ns": 81234567890,
        "place": "gate",
        "direction": "in",
        "thermal": "absent",
        "alarm": False,
    }
    assert event_to_dict(replace(event, place="", direction=""))["place"] is None


def test_without_the_library_one_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "lap", None)
    with pytest.raises(UsageError, match=r"needs the package lap.*pip install lap"):
        tracker()
