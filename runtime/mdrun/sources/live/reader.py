"""One thread a camera: connects, reads, notices when nothing comes, and connects again.

CONNECTING → LIVE ⇄ STALLED → LOST → CONNECTING → …      ENDED and FAILED are final
"""

from __future__ import annotations

import logging
import random
import statistics
import threading
import time
import traceback
from collections import deque
from collections.abc import Callable, Iterable
from contextlib import suppress

from mdrun.errors import (
    DataError,
    MdrunError,
    SourceAuthError,
    SourceChangedError,
    SourceError,
    SourceSupportError,
    UsageError,
)
from mdrun.frames import Frame, SourceState, StateChange
from mdrun.sources.live.camera import Camera, CameraInfo, EndOfRecording, Grab
from mdrun.sources.uri import is_live, redact

__all__ = ["LiveReader", "is_live"]

FIRST_WAIT_S = 0.25  # after the first retry, which comes at once; doubled from there on
PATIENT_S = 30.0  # after a wrong password: many devices lock an account after some attempts in a row
STEADY_S = 5.0  # live for so long, a camera has come back for good: its next retry comes at once again
STALL_PERIODS = 3  # frame times without an image
LEAST_STALL_S = 0.3  # below that a busy network looks like a stall
PERIODS = 9  # frame times that the usual one is the median of
CLOSE_S = 1.5  # what a connection that hangs is given, before its thread is left to end by itself

_log = logging.getLogger(__name__)


class LiveReader:
    """Reads one camera in a thread of its own and puts frames and changes of state, in the order they happen.

    Attributes:
        camera: the one that is read; only this reader's thread uses it.
    """

    def __init__(
        self,
        camera: Camera,
        put: Callable[[Frame | StateChange], None],
        *,
        offset_ns: int = 0,
        reconnect_s: float = 30.0,
        stall_s: float | None = None,
        clock: Callable[[], int] = time.monotonic_ns,
    ) -> None:
        """Make ready.

        Args:
            camera: not connected.
            put: takes each frame and change; must not block; called by the reader's threads, never by two at once.
            offset_ns: added to every capture time, beside the camera's own.
            reconnect_s: longest wait between two attempts.
            stall_s: without an image for so long the camera is STALLED; None: three frame times, at least 0.3 s.
            clock: times of the changes of state.
        """
        self.camera = camera
        self._put = put
        self._offset_ns = offset_ns + camera.offset_ns
        self._stall_s = stall_s
        self._clock = clock
        self._backoff = Backoff(reconnect_s)
        self._sequence = 0
        self._info: CameraInfo | None = None  # of the first connection
        self._state: SourceState | None = None
        self._pulse = Pulse()
        self._lock = threading.Lock()  # around every put, so that nothing overtakes
        self._changed = threading.Condition(self._lock)
        self._stop = threading.Event()
        self._first = threading.Event()
        name = f"camera {camera.name}"
        self._thread = threading.Thread(target=self._work, name=name, daemon=True)
        self._watcher = threading.Thread(target=self._watch, name=f"watch {name}", daemon=True)

    @property
    def state(self) -> SourceState | None:
        """What the camera is doing; None before `start`."""
        return self._state

    @property
    def info(self) -> CameraInfo | None:
        """What the camera said at its first connection; None before."""
        return self._info

    def start(self) -> None:
        """Begin to connect; twice does no harm."""
        if self._thread.ident is None:
            self._thread.start()
            self._watcher.start()

    def first(self, timeout_s: float) -> bool:
        """Wait for the first frame; False where none came in time, or none will come."""
        self._first.wait(timeout_s)
        return self._sequence > 0

    def close(self) -> None:
        """Stop. Nothing is put from here on. Returns within 2 s, also where the camera hangs."""
        with self._changed:
            self._stop.set()
            self._changed.notify_all()
        self._first.set()
        self.camera.interrupt()
        for thread, wait_s in ((self._thread, CLOSE_S), (self._watcher, 0.2)):
            if thread.ident is not None and thread is not threading.current_thread():
                thread.join(wait_s)

    def _work(self) -> None:
        """Connections, one after the other, until the end."""
        while not self._stop.is_set():
            error = self._connection()
            if error is None or self._stop.is_set():
                return
            final = isinstance(error, SourceSupportError | UsageError) or (
                isinstance(error, DataError) and self._info is None
            )
            self._announce(SourceState.FAILED if final else SourceState.LOST, error)
            if final:
                self._first.set()
                return
            self._stop.wait(self._backoff.next(patient=isinstance(error, SourceAuthError)))

    def _connection(self) -> MdrunError | None:
        """One connection from its beginning to its end. Returns what ended it; None: a recording is over."""
        self._announce(SourceState.CONNECTING)
        try:
            self._compare(self.camera.connect())
            self._pulse.begin(self._info.fps if self._info else None)
            while not self._stop.is_set():
                self._give(self.camera.grab())
        except EndOfRecording:
            self._announce(SourceState.ENDED)
            self._first.set()
        except MdrunError as error:
            return error
        except Exception as error:
            _log.error("camera %s: %s", self.camera.name, redact(traceback.format_exc()))
            return SourceError(f"{self.camera.name}: {type(error).__name__}: {error}; please report this")
        finally:
            with suppress(Exception):
                self.camera.disconnect()
        return None

    def _compare(self, info: CameraInfo) -> None:
        """Refuse another camera, or another kind of image, than at first."""
        known = self._info
        if known is None:
            self._info = info
        elif info.identity != known.identity:
            raise SourceChangedError(
                f"{self.camera.name}: another camera answers, {info.identity}; wanted {known.identity}; put the old "
                "one back, or start again with the new one"
            )
        elif (info.width, info.height, info.dtype) != (known.width, known.height, known.dtype):
            raise self._changed_image(info.width, info.height, info.dtype)

    def _changed_image(self, width: int, height: int, dtype: str) -> SourceChangedError:
        known = self._info
        assert known is not None  # noqa: S101  # compared only after the first connection
        return SourceChangedError(
            f"{self.camera.name}: the camera now gives {width}x{height} {dtype}, before {known.width}x{known.height} "
            f"{known.dtype}; set it back, or start again"
        )

    def _give(self, grab: Grab) -> None:
        """Number and freeze one image, and put it."""
        image = grab.image
        height, width = image.shape[:2]
        known = self._info
        if known is not None and (width, height, str(image.dtype)) != (known.width, known.height, known.dtype):
            raise self._changed_image(width, height, str(image.dtype))
        image.flags.writeable = False
        with self._changed:
            if self._stop.is_set():
                return
            self._pulse.beat()
            self._set(SourceState.LIVE)
            self._put(self._frame(grab))
            self._sequence += 1
        self._first.set()
        if self._pulse.steady_s() > STEADY_S:
            self._backoff.reset()

    def _frame(self, grab: Grab) -> Frame:
        return Frame(
            grab.image,
            self.camera.modality,
            grab.captured_ns + self._offset_ns,
            self._sequence,
            self.camera.name,
            grab.name,
            arrived_ns=grab.arrived_ns,
            clock=grab.clock,
            ffc=grab.ffc,
            counts=grab.image if grab.image.dtype == "uint16" else None,
            kelvin=grab.kelvin,
        )

    def _announce(self, state: SourceState, error: MdrunError | None = None) -> None:
        with self._changed:
            if not self._stop.is_set():
                self._set(state, error)

    def _set(self, state: SourceState, error: MdrunError | None = None) -> None:
        """Put a change of state, if it is one; the lock is held."""
        if state is self._state:
            return
        self._state = state
        code, message = (error.code, redact(str(error))) if error else ("", "")
        self._put(StateChange(self.camera.modality, self.camera.name, state, self._clock(), code, message))
        self._changed.notify_all()

    def _watch(self) -> None:
        """Announce a stall when it begins: a blocked read may return seconds later."""
        with self._changed:
            while not self._stop.is_set():
                if self._state is not SourceState.LIVE:
                    self._changed.wait()
                    continue
                left_s = self._pulse.silent_at(self._stall_s) - time.monotonic()
                if left_s > 0:
                    self._changed.wait(left_s)
                else:
                    self._set(SourceState.STALLED)


class Pulse:
    """When the next image of one connection should be there."""

    def __init__(self) -> None:
        self._nominal_s = 0.0
        self._begun = self._last = time.monotonic()
        self._periods: deque[float] = deque(maxlen=PERIODS)

    def begin(self, fps: float | None) -> None:
        """A connection begins, of a camera with this nominal frame rate."""
        self._nominal_s = 1 / fps if fps else 0.0
        self._begun = self._last = time.monotonic()
        self._periods.clear()

    def beat(self) -> None:
        """An image is here."""
        now = time.monotonic()
        self._periods.append(now - self._last)
        self._last = now

    def steady_s(self) -> float:
        """How long the connection has lasted."""
        return self._last - self._begun

    def silent_at(self, stall_s: float | None) -> float:
        """`time.monotonic` of the moment from which the silence is a stall."""
        if stall_s is None:
            usual_s = max(self._nominal_s, statistics.median(self._periods) if self._periods else 0.0)
            stall_s = max(LEAST_STALL_S, STALL_PERIODS * usual_s)
        return self._last + stall_s


class Backoff:
    """How long to wait before the next attempt: not at all, then ever longer.

    With jitter, so that all cameras behind one switch do not come at once.
    """

    def __init__(self, longest_s: float) -> None:
        self._longest_s = longest_s
        self._attempts = 0

    def reset(self) -> None:
        """All is well: the next attempt comes at once again."""
        self._attempts = 0

    def next(self, patient: bool = False) -> float:
        """Seconds until the next attempt. `patient`: too many of them do harm, as wrong passwords lock accounts."""
        attempt, self._attempts = self._attempts, self._attempts + 1
        if patient:
            return max(self._longest_s, PATIENT_S)
        if attempt == 0:
            return 0.0
        wait_s = FIRST_WAIT_S * 2.0 ** min(attempt - 1, 30)  # 30: keeps the power finite
        return min(self._longest_s, wait_s) * random.uniform(0.5, 1.0)  # noqa: S311  # jitter, no secret


def close_readers(readers: Iterable[LiveReader]) -> None:
    """Close several side by side: each may take its time over a connection that is stuck."""
    threads = [threading.Thread(target=reader.close, daemon=True) for reader in readers]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
