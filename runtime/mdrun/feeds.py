"""What happens at the cameras of one rig, in the order in which it arrives: images and changes of state.

The same loop runs on a live feed, whose clock is the machine's, and on a replay, whose clock is that of the recording.
"""

from __future__ import annotations

import threading
import time
from abc import ABC, abstractmethod
from collections import Counter, deque
from collections.abc import Mapping
from types import TracebackType
from typing import TypeVar

from mdrun.frames import Frame, Modality, StateChange

Event = Frame | StateChange
# Frames that wait, at most. Visible: only the newest is wanted, and 8 of 1280x1024 are 31 MB. Thermal: each counts for
# the shutter's state, and even a slow engine leaves none of a 60 Hz camera uncounted for a second.
QUEUES = {Modality.VISIBLE: 8, Modality.THERMAL: 64}

F = TypeVar("F", bound="Feed")


class Feed(ABC):
    """Events of the cameras of one rig. `next` is called by one thread.

    Attributes:
        dropped: frames that the feed itself had to give up, by modality.
        ended: no event will follow.
    """

    def __init__(self) -> None:
        self.dropped: Counter[Modality] = Counter()
        self.ended = False

    @abstractmethod
    def start(self) -> None:
        """Begin; twice does no harm.

        Raises:
            MdrunError: it can never give an event.
        """

    @abstractmethod
    def next(self, timeout_s: float) -> Event | None:
        """The next event; None when none came in time, or none will come (`ended`).

        Raises:
            MdrunError: a camera or recording failed in a way that ends the run.
        """

    @abstractmethod
    def now_ns(self) -> int:
        """The time on the clock of the frames."""

    def wall_offset_ns(self) -> int | None:
        """What turns a time on that clock into one since 1970; None: the recording does not know."""
        return None

    @abstractmethod
    def close(self) -> None:
        """Let go of cameras and files; twice does no harm."""

    def damaged(self, modality: Modality) -> int:  # noqa: ARG002  # recordings refuse damage
        """Pictures of this camera that came in parts only, or not at all, so that there is no frame."""
        return 0

    @property
    def busy(self) -> bool:
        """More events wait already."""
        return False

    def __enter__(self: F) -> F:
        self.start()
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()


class EventQueue:
    """Between the threads of the cameras and the loop of the rig: bounded, never blocks a camera.

    Changes of state are never lost; of the frames the oldest go first, counted by modality.
    """

    def __init__(self, sizes: Mapping[Modality, int] | None = None) -> None:
        """`sizes`: most frames that wait, by modality."""
        self._sizes = dict(sizes or QUEUES)
        self._events: deque[Event] = deque()
        self._frames: Counter[Modality] = Counter()
        self._ready = threading.Condition()
        self.dropped: Counter[Modality] = Counter()

    def put(self, event: Event) -> None:
        """Add one event; from any thread."""
        with self._ready:
            if isinstance(event, Frame):
                if self._frames[event.modality] == self._sizes[event.modality]:
                    self._drop_oldest(event.modality)
                self._frames[event.modality] += 1
            self._events.append(event)
            self._ready.notify()

    def get(self, timeout_s: float) -> Event | None:
        """The oldest event, None when none came in time."""
        end = time.monotonic() + timeout_s
        with self._ready:
            while not self._events:
                left = end - time.monotonic()
                if left <= 0 or not self._ready.wait(left):
                    return None
            event = self._events.popleft()
            if isinstance(event, Frame):
                self._frames[event.modality] -= 1
            return event

    def __len__(self) -> int:
        """Events that wait."""
        return len(self._events)

    def _drop_oldest(self, modality: Modality) -> None:
        frames = ((i, event) for i, event in enumerate(self._events) if isinstance(event, Frame))
        index = next(i for i, frame in frames if frame.modality is modality)
        del self._events[index]
        self._frames[modality] -= 1
        self.dropped[modality] += 1
