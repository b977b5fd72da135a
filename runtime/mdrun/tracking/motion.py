"""Where tracked boxes will be: a Kalman filter over any time step, for all tracks at once.

Each edge of a box moves with a nearly constant speed; its acceleration is white noise (Bar-Shalom, Li, Kirubarajan,
Estimation with Applications to Tracking and Navigation, 2001, 6.2.2). Noise grows with the size of a box, and all four
edges are measured at the same moments, so one 2x2 covariance serves the four of them.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from mdrun.boxes import Boxes

Rows = NDArray[np.intp]
Tracks = NDArray[np.void]  # (T,) of TRACK

TRACK = np.dtype(
    [
        ("id", np.int64),  # 0 until the track is told
        ("class", np.int64),
        ("hits", np.int64),  # detections so far
        ("seen_ns", np.int64),  # capture time of the last one
        ("score", np.float64),  # highest so far
        ("found", np.float64, 4),  # last detection, x1 y1 x2 y2, pixels
        ("size", np.float64),  # of that detection, pixels: what noise is measured in
        ("box", np.float64, 4),  # the filter's estimate, pixels
        ("speed", np.float64, 4),  # of each edge, pixels a second
        ("place_var", np.float64),  # variance of an edge's place, square pixels
        ("cross_var", np.float64),  # its covariance with the speed
        ("speed_var", np.float64),  # variance of the speed
    ]
)

# Standard deviations in sizes of the box (geometric mean of its sides), after the weights of DeepSORT (Wojke et al.,
# ICIP 2017) at 30 frames a second: place 1/20 of the height, speed 1/160 of it a frame, for people 0.4 as wide as high.
MEASURED = 0.08  # 1/20 / sqrt(0.4): of a detected edge
WANDER = 0.8  # of the speed after a second, sizes a second; half of 30/160 x sqrt(30 / 0.4): fewer ids change then
UNKNOWN_SPEED = 3.0  # 10 x 30/160 / sqrt(0.4): of a track seen once, sizes a second


def sizes(boxes_xyxy: Boxes) -> NDArray[np.float32]:
    """Geometric mean of width and height of each box, pixels, (N,); at least 1."""
    extent = np.maximum(boxes_xyxy[:, 2:] - boxes_xyxy[:, :2], 1.0)
    return np.asarray(np.sqrt(extent[:, 0] * extent[:, 1]), np.float32)


def start(boxes_xyxy: Boxes, classes: NDArray[np.int64], scores: NDArray[np.float32], at_ns: int) -> Tracks:
    """Tracks of objects seen for the first time, with unknown speed."""
    tracks = np.zeros(len(boxes_xyxy), TRACK)
    tracks["class"], tracks["score"] = classes, scores
    tracks["hits"], tracks["seen_ns"] = 1, at_ns
    tracks["found"] = tracks["box"] = boxes_xyxy
    tracks["size"] = sizes(boxes_xyxy)
    tracks["place_var"] = (MEASURED * tracks["size"]) ** 2
    tracks["speed_var"] = (UNKNOWN_SPEED * tracks["size"]) ** 2
    return tracks


def predict(tracks: Tracks, seconds: float) -> None:
    """Move every track on by so much time, in place."""
    noise = (WANDER * tracks["size"]) ** 2
    tracks["box"] += tracks["speed"] * seconds
    cross, speed = tracks["cross_var"], tracks["speed_var"]
    tracks["place_var"] += seconds * (2 * cross + seconds * speed) + noise * seconds**3 / 3
    cross += seconds * speed + noise * seconds**2 / 2
    speed += noise * seconds


def correct(tracks: Tracks, boxes_xyxy: Boxes, scores: NDArray[np.float32], at_ns: int) -> Tracks:
    """The same tracks after each was detected once more, as a copy."""
    tracks = tracks.copy()
    place, cross, speed = tracks["place_var"], tracks["cross_var"], tracks["speed_var"]
    total = place + (MEASURED * tracks["size"]) ** 2
    place_gain, speed_gain = place / total, cross / total
    surprise = boxes_xyxy - tracks["box"]
    tracks["box"] += place_gain[:, None] * surprise
    tracks["speed"] += speed_gain[:, None] * surprise
    speed -= speed_gain * cross
    cross *= 1 - place_gain
    place *= 1 - place_gain
    tracks["found"], tracks["size"], tracks["seen_ns"] = boxes_xyxy, sizes(boxes_xyxy), at_ns
    tracks["score"] = np.maximum(tracks["score"], scores)
    tracks["hits"] += 1
    return tracks


def spread(tracks: Tracks) -> NDArray[np.float64]:
    """Standard deviation of the difference between a track's edge and its next detection, pixels, (T,)."""
    return np.asarray(np.sqrt(tracks["place_var"] + (MEASURED * tracks["size"]) ** 2))
