"""Which detection belongs to which track: ByteTrack (Zhang et al., ECCV 2022) on a clock instead of a frame count.

Boxes are compared by their overlap after both were widened by the filter's own uncertainty (buffered overlap: Yang et
al., WACV 2023, with fixed buffers), so that an object that has moved by its own width between two frames, at 5 frames a
second or after a gap, is still the same one.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from mdrun.errors import UsageError
from mdrun.frames import Detections
from mdrun.tracking import motion
from mdrun.tracking.motion import Rows, Tracks

Matrix = NDArray[np.float64]
Mask = NDArray[np.bool_]

LOW = 0.1  # ByteTrack: detections below this score are noise
LEAST_OVERLAP = 0.3  # SORT (Bewley et al., ICIP 2016)
WEAK_OVERLAP = 0.5  # ByteTrack, where the detection itself is doubtful
WIDEST = 0.5  # sizes of the box; Yang et al. widen by 0.3 and 0.5, further away it may as well be a neighbour


class Step(NamedTuple):
    """What one frame did to the tracks.

    Attributes:
        ids: (N,) of the detections, -1 where a detection has no track that is told.
        seen: (S,) tracks that are told and were seen in this frame, in the order of the detections.
        born: (S,) whether it is told for the first time.
        ended: tracks that were told and are given up.
    """

    ids: NDArray[np.int64]
    seen: Tracks
    born: Mask
    ended: Tracks


class Associator:
    """Keeps the tracks of one camera.

    Detections from `high` on are given to tracks first, and they alone start tracks; weaker ones go to tracks of the
    frame before that are left over, as those of an object that is half hidden. A track is told once it has `least_hits`
    detections; until then one frame without a detection ends it. Classes never mix.
    """

    def __init__(self, high: float, lost_ns: int, least_hits: int) -> None:
        """Nothing is tracked yet.

        Raises:
            UsageError: the package `lap` is missing.
        """
        self._solve = _solver()
        self._high = high
        self._lost_ns = lost_ns
        self._least_hits = least_hits
        self._tracks = np.zeros(0, motion.TRACK)
        self._told = 0  # tracks so far, and the newest id
        self._now_ns = 0

    def update(self, found: Detections, at_ns: int, high: float | None = None) -> Step:
        """Take the detections of one frame.

        Args:
            found: its detections.
            at_ns: capture time; an earlier one than the last counts as that.
            high: of this frame, where its engine is another; None takes the usual one.
        """
        strong = found.scores >= (self._high if high is None else high)
        before_ns, self._now_ns = self._now_ns, max(at_ns, self._now_ns)
        if not len(self._tracks) and not strong.any():  # nobody there, as most of the time
            return Step(np.full(len(found), -1, np.int64), self._tracks, np.zeros(0, bool), self._tracks)
        tracks, ended = self._expire()
        motion.predict(tracks, (self._now_ns - before_ns) / 1e9)
        owner = self._match(tracks, found, strong, before_ns)
        old = np.flatnonzero(owner >= 0)
        tracks[owner[old]] = motion.correct(tracks[owner[old]], found.boxes_xyxy[old], found.scores[old], self._now_ns)
        fresh = np.flatnonzero((owner < 0) & strong)
        if fresh.size:
            owner[fresh] = len(tracks) + np.arange(len(fresh))
            started = motion.start(found.boxes_xyxy[fresh], found.classes[fresh], found.scores[fresh], self._now_ns)
            tracks = np.concatenate([tracks, started])
        due = self._tell(tracks)
        self._tracks = tracks[(tracks["id"] > 0) | (tracks["seen_ns"] == self._now_ns)]
        rows = np.flatnonzero(owner >= 0)
        rows = rows[tracks["id"][owner[rows]] > 0]
        ids = np.full(len(found), -1, np.int64)
        ids[rows] = tracks["id"][owner[rows]]
        return Step(ids, tracks[owner[rows]], due[owner[rows]], ended)

    def finish(self) -> Tracks:
        """Give up every track; those that were told."""
        ended, self._tracks = self._tracks, self._tracks[:0]
        return ended[ended["id"] > 0]

    def _expire(self) -> tuple[Tracks, Tracks]:
        """The tracks that go on, and those that were told and have been unseen for too long."""
        lost = self._tracks["seen_ns"] < self._now_ns - self._lost_ns
        if not lost.any():
            return self._tracks, self._tracks[:0]
        return self._tracks[~lost], self._tracks[lost & (self._tracks["id"] > 0)]

    def _match(self, tracks: Tracks, found: Detections, strong: Mask, before_ns: int) -> Rows:
        """(N,) the track of each detection, -1 for none, in ByteTrack's three rounds."""
        owner = np.full(len(found), -1, np.intp)
        if not len(tracks) or not len(found):
            return owner
        overlap = _overlap(tracks, found)
        told = tracks["id"] > 0
        weak = ~strong & (found.scores >= LOW)
        self._assign(overlap, told, strong, LEAST_OVERLAP, owner)
        self._assign(overlap, told & (tracks["seen_ns"] == before_ns), weak, WEAK_OVERLAP, owner)
        self._assign(overlap, ~told, strong, LEAST_OVERLAP, owner)
        return owner

    def _assign(self, overlap: Matrix, tracks: Mask, found: Mask, least: float, owner: Rows) -> None:
        """Give detections to tracks, where neither has the other yet: most overlap in total, none below `least`."""
        if not tracks.any() or not found.any():
            return
        free = tracks.copy()
        free[owner[owner >= 0]] = False
        rows, columns = np.flatnonzero(free), np.flatnonzero(found & (owner < 0))
        if rows.size and columns.size:
            chosen = self._solve(1.0 - overlap[rows[:, None], columns], 1.0 - least)
            owner[columns[chosen[chosen >= 0]]] = rows[chosen >= 0]

    def _tell(self, tracks: Tracks) -> Mask:
        """Number the tracks that have detections enough, in place; which ones these are."""
        due: Mask = (tracks["id"] == 0) & (tracks["hits"] >= self._least_hits)
        count = int(np.count_nonzero(due))
        tracks["id"][due] = self._told + 1 + np.arange(count)
        self._told += count
        return due


def _overlap(tracks: Tracks, found: Detections) -> Matrix:
    """(T, N) intersection over union, both boxes widened by the track's uncertainty; 0 across classes."""
    box = tracks["box"]
    twice = 2 * np.minimum(motion.spread(tracks), WIDEST * tracks["size"])[:, None, None]
    first, last = box[:, None, :2], box[:, None, 2:] + twice  # upper left, lower right; widening both is moving one
    other_first, other_last = found.boxes_xyxy[:, :2], found.boxes_xyxy[:, 2:] + twice
    shared = _area(np.minimum(last, other_last) - np.maximum(first, other_first))
    area, other = _area(last - first), _area(other_last - other_first)
    same = tracks["class"][:, None] == found.classes
    return np.asarray(np.where(same, shared / (area + other - shared), 0.0))


def _area(extent: Matrix) -> Matrix:
    """Width x height of the last axis; 0 where one is negative."""
    extent = np.maximum(extent, 0)
    return np.asarray(extent[..., 0] * extent[..., 1])


def _solver() -> Callable[[Matrix, float], Rows]:
    """Optimal assignment of rows to columns: (T, N) costs and the highest allowed → (T,) column of each row or -1.

    `lap` rather than SciPy: it loads in milliseconds, not in a second, and needs nothing but numpy.
    """
    try:
        from lap import lapjv  # type: ignore[import-untyped, unused-ignore]
    except ImportError as error:
        raise UsageError(
            "tracking needs the package lap, which is not installed; "
            "pip install lap, or switch it off in the rig file (tracking: {enabled: false})"
        ) from error

    def solve(costs: Matrix, limit: float) -> Rows:
        chosen, _ = lapjv(costs, extend_cost=True, cost_limit=limit, return_cost=False)
        return np.asarray(chosen, np.intp)

    return solve
