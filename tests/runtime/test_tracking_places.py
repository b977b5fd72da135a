"""Zones and lines: geometry, hysteresis, and who else counts it so."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from mdrun.errors import RigError
from mdrun.rig.config import ZoneConfig
from mdrun.tracking.places import Line, Place, Zone, crossing, make_places

CLASSES = ["person", "bicycle", "car"]
SQUARE = [(100.0, 100.0), (200.0, 100.0), (200.0, 200.0), (100.0, 200.0)]
OPPOSITE = {"in": "out", "out": "in", "": ""}
points = st.tuples(*[st.integers(-50, 50).map(float)] * 2)  # whole numbers: every sign is exact


def place(corners: list[tuple[float, float]], relative: bool = False) -> Place:
    return make_places({"it": ZoneConfig(points=corners, relative=relative)}, CLASSES)[0]


def told(where: Place, feet: list[tuple[float, float]], slack: float = 5.0) -> list[tuple[str, str] | None]:
    return [where.observe(1, foot, slack) for foot in feet]


@given(points, points, points, points)
@example((0, 0), (10, 0), (5, 5), (5, -5))
def test_crossing_reversed_is_the_other_way(start: tuple, end: tuple, before: tuple, after: tuple) -> None:  # type: ignore[type-arg]
    there = crossing(start, end, before, after)
    assert crossing(start, end, after, before) == OPPOSITE[there]
    assert crossing(end, start, before, after) == OPPOSITE[there]
    assert bool(crossing(before, after, start, end)) == bool(there)  # two segments meet each other


@given(points, points, points, st.floats(0, 1))
def test_touching_is_not_crossing(start: tuple, end: tuple, before: tuple, share: float) -> None:  # type: ignore[type-arg]
    assume(start != end)
    share = round(share * 4) / 4  # quarters of whole numbers are exact
    on_it = (start[0] + share * (end[0] - start[0]), start[1] + share * (end[1] - start[1]))
    assert crossing(start, end, before, on_it) == ""
    assert crossing(start, end, on_it, before) == ""


def test_in_is_to_the_left_hand() -> None:
    """Walking from (0, 100) to (200, 100), the upper part of the picture is on the left."""
    assert crossing((0, 100), (200, 100), (50, 150), (50, 60)) == "in"
    assert crossing((0, 100), (200, 100), (50, 60), (50, 150)) == "out"
    assert crossing((0, 100), (200, 100), (250, 150), (250, 60)) == ""  # beyond the end


@settings(max_examples=25)  # theirs takes its time
@given(st.lists(st.tuples(st.integers(20, 180), st.integers(0, 200)), min_size=2, max_size=20))
def test_lines_count_as_supervision_does(feet: list[tuple[int, int]]) -> None:
    """Away from the ends, where both ask for the line itself and not for a strip beside it."""
    sv = pytest.importorskip("supervision")
    assume(all(y != 100 for _, y in feet))
    anchors = [sv.Position.BOTTOM_CENTER]
    theirs = sv.LineZone(sv.Point(-1000, 100), sv.Point(1200, 100), triggering_anchors=anchors)
    ours = place([(-1000, 100), (1200, 100)])
    for x, y in feet:
        box = np.array([[x - 5, y - 40, x + 5, y]], np.float32)
        entered, left = theirs.trigger(sv.Detections(box, tracker_id=np.array([1]), class_id=np.array([0])))
        event = ours.observe(1, (x, y), 0.0)
        assert (event == ("cross", "in"), event == ("cross", "out")) == (bool(entered[0]), bool(left[0]))


def test_a_line_wants_both_sides_clearly() -> None:
    line = place([(0, 100), (200, 100)])
    assert isinstance(line, Line)
    assert told(line, [(50, 150), (50, 103), (50, 97), (50, 103), (50, 150)]) == [None] * 5
    assert told(line, [(50, 97), (50, 94), (50, 97), (50, 103), (50, 106)]) == [
        None,
        ("cross", "in"),
        None,
        None,
        ("cross", "out"),
    ]


def test_a_line_remembers_who_stood_on_it() -> None:
    line = place([(0, 100), (200, 100)])
    assert told(line, [(50, 150), (50, 100), (50, 100), (50, 50)])[-1] == ("cross", "in")
    line.forget(1)
    assert told(line, [(50, 150)]) == [None]


def test_round_the_end_is_not_crossing() -> None:
    line = place([(0, 100), (200, 100)])
    assert told(line, [(150, 150), (250, 150), (250, 50), (150, 50)]) == [None] * 4


def test_zone_with_a_trembling_foot() -> None:
    zone = place(SQUARE)
    assert isinstance(zone, Zone)
    assert told(zone, [(150, 96), (150, 100), (150, 96), (150, 104), (150, 94), (150, 96), (150, 101)]) == [
        None,
        ("enter", ""),
        None,
        None,
        ("leave", ""),
        None,
        ("enter", ""),
    ]


@given(st.lists(st.tuples(st.floats(50, 250), st.floats(50, 250)), max_size=60), st.floats(0, 30))
def test_enter_and_leave_alternate(feet: list[tuple[float, float]], slack: float) -> None:
    kinds = [event[0] for event in told(place(SQUARE), feet, slack) if event is not None]
    assert kinds == ["enter", "leave"] * (len(kinds) // 2) + ["enter"] * (len(kinds) % 2)


@given(st.tuples(st.floats(0, 300), st.floats(0, 300)))
def test_inside_is_inside(foot: tuple[float, float]) -> None:
    distance = min(foot[0] - 100, 200 - foot[0], foot[1] - 100, 200 - foot[1])
    assume(abs(distance) > 1e-3)  # OpenCV keeps points in single precision
    assert (told(place(SQUARE), [foot]) == [("enter", "")]) == (distance > 0)


def test_objects_do_not_know_each_other() -> None:
    zone = place(SQUARE)
    assert zone.observe(1, (150, 150), 5) == ("enter", "")
    assert zone.observe(2, (150, 150), 5) == ("enter", "")
    zone.forget(1)
    assert zone.observe(1, (0, 0), 5) is None


def test_relative_points_follow_the_frame() -> None:
    zone = place([(0.5, 0.5), (1, 0.5), (1, 1), (0.5, 1)], relative=True)
    zone.fit((100, 100))
    assert zone.observe(1, (75, 75), 1) == ("enter", "")
    zone.fit((200, 200))
    assert zone.observe(1, (75, 75), 1) == ("leave", "")
    line = place([(0, 0.5), (1, 0.5)], relative=True)
    line.fit((200, 200))
    assert told(line, [(50, 150), (50, 50)])[-1] == ("cross", "in")


def test_what_could_never_happen_is_refused() -> None:
    with pytest.raises(RigError, match="zone it names the class dog; the engine knows person, bicycle, car"):
        make_places({"it": ZoneConfig(points=SQUARE, classes=["dog"])}, CLASSES)
    with pytest.raises(RigError, match="the same point"):
        place([(1, 1), (1, 1)])
