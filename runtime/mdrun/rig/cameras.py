"""The cameras of a rig as one feed: live ones with a thread each, recordings on a clock of their own."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import TYPE_CHECKING

from mdrun.clocks import wall_minus_monotonic
from mdrun.errors import UsageError
from mdrun.feeds import Event, EventQueue, Feed
from mdrun.frames import Frame, Modality, SourceState, StateChange
from mdrun.rig.config import CameraConfig, RigConfig
from mdrun.rig.environment import check_environment, expand
from mdrun.sources import Source
from mdrun.sources.base import NS_PER_MS, build_source, open_pair, open_source
from mdrun.sources.reader import Reader
from mdrun.sources.uri import SourceUri, is_live, is_video, parse_uri

if TYPE_CHECKING:
    from mdrun.sources.live import LiveReader


FINAL = {SourceState.ENDED, SourceState.FAILED}


@dataclass(frozen=True)
class OpenFeed:
    """A feed and what the loop must know about it.

    Attributes:
        feed: not yet started.
        realtime: its clock is the machine's: what is late is dropped.
        shutter_told: the thermal camera itself says when its shutter is closed.
        lookahead: frames come without waiting, so that a later thermal frame can be looked at.
        offsets_ns: what is added to the capture times of each camera, on purpose.
        compressed: the thermal images come through a video encoder (`mdrun.sources.uri.is_video`).
    """

    feed: Feed
    realtime: bool
    shutter_told: bool
    lookahead: bool
    offsets_ns: Mapping[Modality, int] = field(default_factory=dict)
    compressed: bool = False


class LiveFeed(Feed):
    """Cameras that run whether we look or not."""

    def __init__(self, readers: list[LiveReader], events: EventQueue) -> None:
        """Take over the readers, which put into `events`."""
        super().__init__()
        self._readers = readers
        self._events = events
        self.dropped = events.dropped

    def start(self) -> None:
        """Start every camera's thread."""
        for reader in self._readers:
            reader.start()

    def next(self, timeout_s: float) -> Event | None:
        """The oldest event that waits. A recording that is played has an end; real cameras have none."""
        event = self._events.get(timeout_s)
        if event is None:
            states = {reader.camera.modality: reader.state for reader in self._readers}
            over = states[Modality.VISIBLE] is SourceState.ENDED or set(states.values()) <= FINAL
            self.ended = self.ended or (over and len(self._events) == 0)
        return event

    def now_ns(self) -> int:
        """`time.monotonic_ns`."""
        return time.monotonic_ns()

    def wall_offset_ns(self) -> int:
        """By the machine's clocks, as they are now."""
        return wall_minus_monotonic()

    def damaged(self, modality: Modality) -> int:
        """What the cameras of this modality have counted."""
        return sum(reader.camera.damaged for reader in self._readers if reader.camera.modality is modality)

    @property
    def busy(self) -> bool:
        """More events wait."""
        return len(self._events) > 0

    def close(self) -> None:
        """Stop all cameras."""
        from mdrun.sources.live import close_readers

        close_readers(self._readers)
        self.ended = True


class RecordedFeed(Feed):
    """Folders, files and the built-in street: frames by capture time, as fast as they can be read."""

    def __init__(self, sources: list[Source]) -> None:
        """Take over opened sources."""
        super().__init__()
        self._readers = [Reader(source) for source in sources]
        self._heads: list[Frame | None] = [None] * len(sources)
        self._over = [False] * len(sources)
        self._events: list[Event] = []
        self._now_ns = 0

    def start(self) -> None:
        """Start reading."""
        for reader in self._readers:
            reader.start()
            self._events.append(self._change(reader, SourceState.LIVE))

    def next(self, timeout_s: float) -> Event | None:  # noqa: ARG002  # a recording never waits
        """The frame captured first of those not given yet; of equal ones the thermal one."""
        if self._events:
            return self._events.pop(0)
        for index, reader in enumerate(self._readers):
            if self._heads[index] is None and not self._over[index]:
                self._heads[index] = frame = reader.read()
                if frame is None:
                    self._over[index] = True
                    self._events.append(self._change(reader, SourceState.ENDED))
        waiting = [(frame.captured_ns, frame.modality.value, index) for index, frame in enumerate(self._heads) if frame]
        if not waiting:
            self.ended = not self._events
            return self._events.pop(0) if self._events else None
        index = min(waiting)[2]
        frame, self._heads[index] = self._heads[index], None
        self._now_ns = max(self._now_ns, frame.captured_ns if frame is not None else 0)
        return frame

    def now_ns(self) -> int:
        """Capture time of the newest frame given."""
        return self._now_ns

    def close(self) -> None:
        """Close every source."""
        for reader in self._readers:
            reader.close()
        self.ended = True

    def _change(self, reader: Reader, state: SourceState) -> StateChange:
        return StateChange(reader.source.modality, reader.source.name, state, self._now_ns)


def open_feed(config: RigConfig) -> OpenFeed:
    """The cameras of a rig, all live or all recorded.

    Raises:
        UsageError: a URI that cannot be meant, or live and recorded ones mixed.
        RigError: variables that the environment does not have.
        SourceError: a recording that cannot be read.
        DataError: recordings that do not pair.
    """
    check_environment([config], outputs=False)
    cameras = {
        modality: (name, camera, parse_uri(expand(camera.source, name)))
        for modality in Modality
        if (found := config.camera(modality)) is not None
        for name, camera in [found]
    }
    uris = {modality: uri for modality, (_, _, uri) in cameras.items()}
    check_kinds(config.rig, list(uris.values()))
    offsets_ns = {modality: _offset_ns(camera, uri) for modality, (_, camera, uri) in cameras.items()}
    visible = uris[Modality.VISIBLE]
    if visible.scheme == "replay":
        return _replay(visible, offsets_ns)
    compressed = Modality.THERMAL in uris and is_video(uris[Modality.THERMAL])
    if is_live(visible):
        return replace(_live(cameras), offsets_ns=offsets_ns, compressed=compressed)
    return replace(_recorded(cameras), compressed=compressed)


def check_kinds(rig: str, uris: Sequence[SourceUri]) -> None:
    """Refuse cameras that no clock is common to: all are live, all are recorded, or all are one replay.

    Raises:
        UsageError: they are not.
    """
    if any(uri.scheme == "replay" for uri in uris):
        if len({(uri.scheme, uri.path, tuple(sorted(uri.options.items()))) for uri in uris}) > 1:
            raise UsageError(f"rig {rig}: the cameras name different replays; wanted the same replay://RUN?… for both")
    elif len({is_live(uri) for uri in uris}) > 1:
        raise UsageError(
            f"rig {rig}: one camera is live and the other a recording; wanted both live, or ?pace=live on the "
            "recording, which plays it as a live camera"
        )


def check_source(uri: SourceUri, modality: Modality) -> None:
    """Open a recording and close it again; of a camera, look for the libraries that it needs. Touches no camera.

    Raises:
        UsageError, SourceError, DataError: it cannot be read as this modality, or not here.
    """
    if uri.scheme == "replay":
        from mdrun.record.replay import open_replay

        open_replay(uri)[0].close()
    elif uri.options.get("pace") == "live":
        from mdrun.sources.live import open_camera

        camera = open_camera(uri, modality)
        try:
            camera.connect()
        finally:
            camera.disconnect()
    elif uri.scheme in ("gst", "csi"):
        from mdrun.sources.live.gst import load_gst

        load_gst()
    elif not is_live(uri):
        source = build_source(uri, modality)
        try:
            source.open()
        finally:
            source.close()


def _offset_ns(camera: CameraConfig, uri: SourceUri) -> int:
    """Of the rig file and of the source together; the options of a replay are those of its recording."""
    own_ms = 0.0 if uri.scheme == "replay" else uri.number("offset_ms") or 0.0
    return round((camera.offset_ms + own_ms) * NS_PER_MS)


def _live(cameras: dict[Modality, tuple[str, CameraConfig, SourceUri]]) -> OpenFeed:
    from mdrun.sources.live import LiveReader, Pace, open_camera

    events, pace = EventQueue(), Pace()
    readers = []
    for modality, (name, camera, uri) in cameras.items():
        opened = open_camera(uri, modality, name=name, timeout_s=camera.timeout_s, pace=pace)
        offset_ns = round(camera.offset_ms * NS_PER_MS)
        readers.append(LiveReader(opened, events.put, offset_ns=offset_ns, reconnect_s=camera.reconnect_s))
    return OpenFeed(LiveFeed(readers, events), realtime=True, shutter_told=False, lookahead=False)


def _recorded(cameras: dict[Modality, tuple[str, CameraConfig, SourceUri]]) -> OpenFeed:
    texts = {modality: expand(camera.source, name) for modality, (name, camera, _) in cameras.items()}
    if Modality.THERMAL in texts:
        sources = list(open_pair(texts[Modality.VISIBLE], texts[Modality.THERMAL]))
    else:
        sources = [open_source(texts[Modality.VISIBLE], Modality.VISIBLE)]
    for source in sources:
        name, camera, _ = cameras[source.modality]
        source.name = name
        source.shift(round(camera.offset_ms * NS_PER_MS))
    told = all(source.telemetry for source in sources if source.modality is Modality.THERMAL)
    return OpenFeed(RecordedFeed(sources), realtime=False, shutter_told=told, lookahead=True)


def _replay(uri: SourceUri, offsets_ns: dict[Modality, int]) -> OpenFeed:
    from mdrun.record.replay import open_replay

    feed, live, told = open_replay(uri, offsets_ns)
    return OpenFeed(
        feed,
        realtime=live,
        shutter_told=told,
        lookahead=False,
        offsets_ns=offsets_ns,
        compressed=feed.compressed,
    )
