"""Zones and lines: where an object stands, and when it comes, goes or crosses.

An object stands where its foot is: the middle of the lower edge of its box. A box trembles from frame to frame, so what
lies within `SLACK` of a border changes nothing: an object on the border neither enters and leaves nor crosses again and
again.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from math import hypot
from typing import TYPE_CHECKING

import numpy as np
from numpy.typing import NDArray

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
            raise RigError(f"zone {name} names the class {', '.join(unknown)}; the engine knows {', '.join(classes)}")
        self.name = name
        self._config = config
        self._points: NDArray[np.float32] = np.asarray(config.points, np.float32)

    def fit(self, size_wh: tuple[int, int]) -> None:
        """Bring relative points to pixels of a frame of this size."""
        if self._config.relative:
            self._points = np.asarray(self._config.points, np.float32) * np.asarray(size_wh, np.float32)

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
    """An area of three corners or more.

    An object enters once its foot is inside or on the border, and leaves once it is outside by more than the slack. One
    that appears inside enters at once.
    """

    kinds = ("enter", "leave")

    def __init__(self, name: str, config: ZoneConfig, classes: Sequence[str]) -> None:
        import cv2

        super().__init__(name, config, classes)
        self._depth = cv2.pointPolygonTest
        self._inside: set[int] = set()

    def observe(self, track_id: int, foot: Point, slack: float) -> tuple[str, str] | None:
        """`enter`, `leave` or nothing."""
        depth = self._depth(self._points, foot, True)  # pixels, negative outside
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
    """A line between two points, not beyond them.

    It is crossed once the foot, clear of the line by more than the slack, is clear of it on the other side. Touching
    the line, or standing on it, is nothing.
    """

    kinds = ("cross",)

    def __init__(self, name: str, config: ZoneConfig, classes: Sequence[str]) -> None:
        """Take the two points.

        Raises:
            RigError: they are one point.
        """
        super().__init__(name, config, classes)
        if config.points[0] == config.points[1]:
            raise RigError(f"zone {name} is a line from {config.points[0]} to the same point; give it another end")
        self._ends = self._line()
        self._clear: dict[int, Point] = {}  # where each object was last clearly on one side

    def fit(self, size_wh: tuple[int, int]) -> None:
        """Bring relative points to pixels of a frame of this size."""
        super().fit(size_wh)
        self._ends = self._line()

    def _line(self) -> tuple[Point, Point]:
        (x0, y0), (x1, y1) = self._points.tolist()
        return (x0, y0), (x1, y1)

    def observe(self, track_id: int, foot: Point, slack: float) -> tuple[str, str] | None:
        """`cross` with `in` or `out`, or nothing."""
        start, end = self._ends
        if abs(cross(start, end, foot)) <= slack * hypot(end[0] - start[0], end[1] - start[1]):
            return None
        before, self._clear[track_id] = self._clear.get(track_id), foot
        direction = "" if before is None else crossing(start, end, before, foot)
        return ("cross", direction) if direction else None

    def forget(self, track_id: int) -> None:
        """Ends without `cross`, also on the line."""
        self._clear.pop(track_id, None)


def make_places(zones: dict[str, ZoneConfig], classes: Sequence[str]) -> list[Place]:
    """Lines of two points, zones of more.

    Raises:
        RigError: a class that the engine does not have, or a line without length.
    """
    return [(Line if len(config.points) == 2 else Zone)(name, config, classes) for name, config in zones.items()]


def cross(start: Point, end: Point, point: Point) -> float:
    """Twice the signed area of a triangle: on which side of start → end a point lies.

    Positive on the right hand as a picture shows it (x to the right, y down), 0 on the straight line through both.
    """
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
