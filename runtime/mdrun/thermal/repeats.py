"""How often a camera repeats an image in normal operation, learnt from its stream.

A shutter event of a camera that does not report it is a run of repeats, byte for byte. Repeats alone prove nothing:
a Lepton gives each image three times, and a 9 Hz camera recorded at 30 Hz three or four times. Runs of the normal
lengths come all the time, one of a shutter event once in minutes; so what came twice lately is normal.
"""

from __future__ import annotations

from collections import Counter, deque
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mdrun.frames import Frame
from mdrun.pairing import NORMAL_REPEATS

LEARNT_AFTER = 16  # different images before the pattern counts as known: 2 s at 9 Hz
REMEMBERED = 64  # different images whose runs are remembered: 7 s at 9 Hz, less than between two shutter events
# No shutter event is shorter: a Tau 2 takes 0.4 s, a Lepton 23 frames at 26 Hz, 0.9 s (engineering datasheet 203,
# FFC states). Longer runs are therefore never taken for the normal pattern.
SHORTEST_NS = 250_000_000


class Repeats:
    """Follows one stream and says when an image has been repeated more often than is normal. Used by one thread."""

    def __init__(self) -> None:
        self._first: Frame | None = None
        self._run = 0  # repeats of it so far
        self._last_ns = 0
        self._normal: deque[int] = deque(maxlen=REMEMBERED)
        self._seen = 0

    @property
    def pattern(self) -> int | None:
        """Most repeats of one image in normal operation; None until enough was seen."""
        if self._seen < LEARNT_AFTER:
            return None
        return max((run for run, times in Counter(self._normal).items() if times > 1), default=0)

    def frozen_since(self, frame: Frame) -> int | None:
        """Capture time of the image that this frame, the next of the stream, repeats more often than is normal."""
        if self._first is None or not same(frame.image, self._first.image):
            self._learn()
            self._first, self._run, self._last_ns = frame, 0, frame.captured_ns
            return None
        self._run += 1
        self._last_ns = frame.captured_ns
        since_ns, pattern = self._first.captured_ns, self.pattern
        if pattern is None:
            frozen = self._run > NORMAL_REPEATS and frame.captured_ns - since_ns > SHORTEST_NS
        else:
            frozen = self._run > pattern
        return since_ns if frozen else None

    def reset(self) -> None:
        """Forget the last image, not the pattern: the stream was interrupted."""
        self._first, self._run = None, 0

    def _learn(self) -> None:
        if self._first is None:
            return
        self._seen += 1
        if self._last_ns - self._first.captured_ns <= SHORTEST_NS:
            self._normal.append(self._run)


def same(one: NDArray[Any], other: NDArray[Any]) -> bool:
    """Whether two images are equal in every bit; the middle row alone tells live ones apart."""
    if one.shape != other.shape or one.dtype != other.dtype:
        return False
    middle = len(one) // 2
    return np.array_equal(one[middle], other[middle]) and np.array_equal(one, other)
