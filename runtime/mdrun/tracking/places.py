"""Zones and lines: where an object stands, and when it comes, goes or crosses.

An object stands where its foot is: the middle of the lower edge of its box. A box trembles, so nothing is told before
the foot is clearly (`SLACK`) on the other side; then the way back is as far.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from math import hypot
from typing import TYPE_CHECKING

from mdrun.errors import RigError

if TYPE_CHECKING:
    from mdrun.rig.config import ZoneConfig

Point = tuple[float, float]

SLACK = 0.1  # of the box's height; detectors of 0.7 overlap misplace an edge by up to about this much


class Place(ABC):
    """An area or a line of the rig file.

    Attributes:
        name: its key in the rig file.
        kinds: of the events it can tell.
    """

    kinds: tuple[str, ...]

    def __init__(self, name: str, config: ZoneConfig, classes: Sequence[str]) -> None:
        """Take points and classes.

        Raises:
            RigError: a class that the engine does not have.
        """
        unknown = sorted(set(config.classes) - set(classes))
        if unknown:
            raise RigError(
                f"zone {name} names the class {', '.join(unknown)}; the engine knows {', '.join(classes)}"
            )
        self.name = name
        self._config = config
        self._points = config.points

    def fit(self, size_wh: tuple[int, int]) -> None:
        """Bring relative points to pixels of a frame of this size."""
        if self._config.relative:
            self._points = [(x * size_wh[0], y * size_wh[1]) for x, y in self._config.points]

    def watches(self, class_name: str) -> bool:
        """Whether objects of this class count."""
        return not self._config.classes or class_name in self._config.classes

    @abstractmethod
    def observe(self, track_id: int, foot: Point, slack: float) -> tuple[str, str] | None:
        """Kind and direction of what has happened now that an object stands at `foot`; None for nothing.

        Args:
            track_id: of the object.
            foot: pixels.
            slack: distance that counts as trembling, pixels.
        """

    @abstractmethod
    def forget(self, track_id: int) -> None:
        """The track has ended."""


class Zone(Place):
    """An area. An object enters once its foot is inside, its border included, and leaves once the foot is outside by
    more than the slack; one that appears inside enters at once.
    """  # noqa: D205  # one sentence a line would say less

    kinds = ("enter", "leave")

    def __init__(self, name: str, config: ZoneConfig, classes: Sequence[str]) -> None:
        super().__init__(name, config, classes)
        self._inside: set[int] = set()

    def observe(self, track_id: int, foot: Point, slack: float) -> tuple[str, str] | None:
        """`enter`, `leave` or nothing."""
        depth = depth_inside(self._points, foot)
        if track_id in self._inside:
            if depth >= -slack:
                return None
            self._inside.remove(track_id)
            return ("leave", "")
        if depth < 0:
            return None
        self._inside.add(track_id)
        return ("enter", "")

    def forget(self, track_id: int) -> None:
        """Ends without `leave`: it was not seen to go."""
        self._inside.discard(track_id)


class Line(Place):
    """A line between two points, not beyond them. Crossed once the foot was further than the slack from it on one
    side and then is on the other; coming near or standing on it is nothing.
    """  # noqa: D205  # one sentence a line would say less

    kinds = ("cross",)

    def __init__(self, name: str, config: ZoneConfig, classes: Sequence[str]) -> None:
        """Take the two points.

        Raises:
            RigError: they are one point.
        """
        super().__init__(name, config, classes)
        if self._points[0] == self._points[1]:
            raise RigError(f"zone {name} is a line from {self._points[0]} to the same point; give it another end")
        self._clear: dict[int, Point] = {}  # where each object was last clearly on one side

    def observe(self, track_id: int, foot: Point, slack: float) -> tuple[str, str] | None:
        """`cross` with `in` or `out`, or nothing."""
        start, end = self._points
        if abs(cross(start, end, foot)) <= slack * hypot(end[0] - start[0], end[1] - start[1]):
            return None
        before, self._clear[track_id] = self._clear.get(track_id), foot
        direction = "" if before is None else crossing(start, end, before, foot)
        return ("cross", direction) if direction else None

    def forget(self, track_id: int) -> None:
        """The next object with this place starts anew."""
        self._clear.pop(track_id, None)


def make_places(zones: dict[str, ZoneConfig], classes: Sequence[str]) -> list[Place]:
    """Lines of two points, zones of more.

    Raises:
        RigError: a class that the engine does not have, or a line without length.
    """
    return [(Line if len(config.points) == 2 else Zone)(name, config, classes) for name, config in zones.items()]


def cross(start: Point, end: Point, point: Point) -> float:
    """Twice the signed area of a triangle: positive where `point` is on the right hand of start → end in a picture
    (x to the right, y down), 0 on the straight line through both.
    """  # noqa: D205  # the sign needs the whole sentence
    return (end[0] - start[0]) * (point[1] - start[1]) - (end[1] - start[1]) * (point[0] - start[0])


def crossing(start: Point, end: Point, before: Point, after: Point) -> str:
    """Which way the move before → after crosses the line start → end.

    Returns:
        `in`: to the left hand of start → end; `out`: to its right hand; empty where the move only touches the line, or
        passes beyond its ends.
    """
    was, now = cross(start, end, before), cross(start, end, after)
    one, other = cross(before, after, start), cross(before, after, end)
    if not (min(was, now) < 0 < max(was, now) and min(one, other) < 0 < max(one, other)):
        return ""
    return "in" if now < 0 else "out"


def depth_inside(corners: Sequence[Point], point: Point) -> float:
    """Distance from a point to the border of a polygon, pixels: positive inside, negative outside, 0 on it."""
    import cv2
    import numpy as np

    return float(cv2.pointPolygonTest(np.asarray(corners, np.float32), point, True))
