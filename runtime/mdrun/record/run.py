"""From cameras to a recording: live ones as they come, recorded ones as fast as they can be written."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mdrun.errors import OutputError, SourceTimeoutError, from_code
from mdrun.feeds import Event
from mdrun.frames import Frame, Modality, SourceState, StateChange
from mdrun.record.header import CameraHeader, describe_camera
from mdrun.record.recorder import Recorder, RecordSummary
from mdrun.rig.cameras import open_feed
from mdrun.rig.config import RigConfig
from mdrun.rig.environment import check_environment, expand
from mdrun.signals import StopRequest
from mdrun.sources.uri import is_live, parse_uri, redact

if TYPE_CHECKING:
    from mdrun.sources.live import LiveReader

FIRST_S = 15.0  # longest wait for the first image of all: a camera may take seconds to start
LOOK_S = 0.1  # between two looks at signals and limits
OVER = {SourceState.ENDED, SourceState.FAILED}

Progress = Callable[[Recorder], None]


@dataclass(frozen=True)
class RecordLimits:
    """When a recording ends by itself.

    Attributes:
        seconds: after the first image; None: never.
        bytes: of all files together; None: any number.
    """

    seconds: float | None = None
    bytes: int | None = None


def record(
    config: RigConfig, folder: Path, limits: RecordLimits, stop: StopRequest, progress: Progress | None = None
) -> RecordSummary:
    """Record the cameras of a rig until they end, a limit is reached or `stop` has caught a signal.

    Of one that was stopped before its first visible image nothing is left.

    Raises:
        UsageError: sources that cannot be meant, or variables that the environment does not have.
        SourceError: a camera that cannot be used, or gives no image.
        OutputError: the folder cannot be written, or the disk is full; what was written until then replays.
    """
    check_environment([config], outputs=False)
    config = _as_it_comes(config)
    if _is_live(config):
        summary = _record_live(config, folder, limits, stop, progress)
    else:
        summary = _record_feed(config, folder, limits, stop, progress)
    if stop.signal is None and summary.is_empty:
        raise OutputError(f"{folder}: no image was recorded; nothing is left of it")
    if summary.failure:
        raise OutputError(
            f"{folder}: cannot be written any more ({summary.failure}); what came before replays; free some space"
        )
    return summary


class Watch:
    """Looks at the events of live cameras on their way to the recorder. `put` may come from any thread."""

    def __init__(self, recorder: Recorder, cameras: set[Modality]) -> None:
        self._recorder = recorder
        self._began = time.monotonic()
        self._states: dict[Modality, StateChange] = {}
        self._losses: dict[Modality, StateChange] = {}  # the last of each camera
        self._seen: set[Modality] = set()
        self._cameras = cameras

    def put(self, event: Event) -> None:
        """Record it, and remember what it says about its camera."""
        self._recorder.put(event)
        if isinstance(event, Frame):
            self._seen.add(event.modality)
        else:
            self._states[event.modality] = event
            if event.code:
                self._losses[event.modality] = event

    @property
    def ended(self) -> bool:
        """No camera will give another image.

        Raises:
            SourceError: a camera has failed before its first image, or none has given one in time.
        """
        for modality, change in list(self._states.items()):
            if change.state is SourceState.FAILED and modality not in self._seen:
                raise from_code(change.code, change.message)
        if time.monotonic() - self._began > FIRST_S:
            self.check()
        states = [change.state for change in list(self._states.values())]
        return len(states) == len(self._cameras) and all(state in OVER for state in states)

    def check(self) -> None:
        """Refuse what cannot be replayed.

        Raises:
            SourceError: the visible camera has given no image; why, as far as it has said.
        """
        if Modality.VISIBLE in self._seen:
            return
        if (loss := self._losses.get(Modality.VISIBLE)) is not None:
            raise from_code(loss.code, f"{loss.message}; without visible images nothing can be replayed")
        raise SourceTimeoutError(
            "no image of the visible camera, and nothing can be replayed without; check the camera"
        )


def _record_live(
    config: RigConfig, folder: Path, limits: RecordLimits, stop: StopRequest, progress: Progress | None
) -> RecordSummary:
    from mdrun.sources.live import LiveReader, Pace, close_readers, open_camera

    found = {modality: camera for modality in Modality if (camera := config.camera(modality)) is not None}
    pace = Pace()  # recordings that are played as cameras keep step
    opened = {
        modality: open_camera(
            parse_uri(expand(camera.source, name)), modality, name=name, timeout_s=camera.timeout_s, pace=pace
        )
        for modality, (name, camera) in found.items()
    }
    recorder = _recorder(config, folder, limits, live=True)
    watch = Watch(recorder, set(found))
    readers = {
        modality: LiveReader(camera, watch.put, reconnect_s=found[modality][1].reconnect_s)
        for modality, camera in opened.items()
    }
    try:
        for reader in readers.values():
            reader.start()
        while stop.signal is None and recorder.stopped_by is None and not watch.ended:
            time.sleep(LOOK_S)
            _tell(recorder, progress)
    finally:
        close_readers(readers.values())
        _describe(recorder, readers)
        summary = recorder.close(_cause(stop))
    if stop.signal is None:
        watch.check()
    return summary


def _record_feed(
    config: RigConfig, folder: Path, limits: RecordLimits, stop: StopRequest, progress: Progress | None
) -> RecordSummary:
    opened = open_feed(config)
    with opened.feed as feed:
        recorder = _recorder(config, folder, limits, live=opened.realtime, told=opened.shutter_told)
        try:
            while not feed.ended and stop.signal is None and recorder.stopped_by is None:
                event = feed.next(LOOK_S)
                if event is not None:
                    recorder.put(event)
                _tell(recorder, progress)
        finally:
            summary = recorder.close(_cause(stop))
    return summary


def _as_it_comes(config: RigConfig) -> RigConfig:
    """The same rig without time offsets: a recording holds what the cameras gave, the rig file corrects it later."""
    cameras = {name: camera.model_copy(update={"offset_ms": 0.0}) for name, camera in config.cameras.items()}
    return config.model_copy(update={"cameras": cameras})


def _is_live(config: RigConfig) -> bool:
    return all(is_live(parse_uri(expand(camera.source, name))) for name, camera in config.cameras.items())


def _recorder(config: RigConfig, folder: Path, limits: RecordLimits, *, live: bool, told: bool = False) -> Recorder:
    cameras: dict[Modality, CameraHeader] = {}
    sources = {}
    for modality in Modality:
        if (found := config.camera(modality)) is not None:
            name, camera = found
            cameras[modality] = describe_camera(modality, name, ffc_telemetry=told and modality is Modality.THERMAL)
            sources[modality] = redact(camera.source)
    return Recorder(
        folder,
        cameras,
        rig=config.rig,
        sources=sources,
        live=live,
        max_bytes=limits.bytes,
        max_seconds=limits.seconds,
    )


def _describe(recorder: Recorder, readers: dict[Modality, LiveReader]) -> None:
    """What the cameras said about themselves goes into the header."""
    for modality, reader in readers.items():
        if (info := reader.info) is not None:
            recorder.describe(modality, identity=info.identity, fps=info.fps, ffc_telemetry=info.ffc_telemetry)


def _tell(recorder: Recorder, progress: Progress | None) -> None:
    if progress is not None:
        progress(recorder)


def _cause(stop: StopRequest) -> str:
    return "end" if stop.signal is None else "signal"
