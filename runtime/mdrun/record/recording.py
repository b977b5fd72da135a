"""An opened recording: its plan, and the images that a plan asks for."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mdrun.errors import SourceError, UsageError
from mdrun.frames import Frame, Modality
from mdrun.record.header import EVENTS, CameraHeader, Header, read_header
from mdrun.record.index import Entry, read_events, read_index
from mdrun.record.plan import Change, Plan, Scene, Shot, Step, as_recorded
from mdrun.record.stream import StreamReader
from mdrun.sources.uri import is_video, parse_uri

NS_PER_S = 1_000_000_000
FALLBACK_FPS = 9.0  # of a stream of one frame, whose rate nobody knows: the slowest camera of the trade


class Recording:
    """A folder that `mdrun record` wrote, whole or cut off. Used by one thread.

    Attributes:
        folder: where it is.
        header: as read; its counts are those of the header, `plan` is what is really there.
        plan: every frame and change of state, by arrival.
    """

    def __init__(self, folder: Path) -> None:
        """Read header and indices, and open the streams.

        Raises:
            SourceError: there is no recording, it is damaged, or it holds no frame.
        """
        self.folder = folder
        self.header: Header = read_header(folder)
        self._streams: dict[Modality, StreamReader] = {}
        steps: list[Step] = [Change(order, change) for order, change in read_events(folder / EVENTS)]
        try:
            for modality, camera in self.header.cameras.items():
                steps += [_shot(modality, entry) for entry in self._entries(modality, camera)]
        except BaseException:
            self.close()
            raise
        self.plan: Plan = as_recorded(steps)
        if not any(isinstance(step, Shot) for step in self.plan):
            self.close()
            raise SourceError(f"{folder}: the recording holds no frame; record again")

    def scene(self, seed: int = 0, telemetry: bool | None = None) -> Scene:
        """What faults may know; `telemetry` None: as the camera was."""
        thermal = self.header.cameras.get(Modality.THERMAL)
        told = thermal is not None and thermal.ffc_telemetry
        told = told or any(isinstance(step, Shot) and (step.shutter or step.ffc is not None) for step in self.plan)
        return Scene(
            start_ns=self.plan[0].at_ns,
            end_ns=self.plan[-1].at_ns,
            seed=seed,
            telemetry=told if telemetry is None else telemetry,
            names={modality: camera.source for modality, camera in self.header.cameras.items()},
            periods_ns={modality: self._period_ns(modality) for modality in self.header.cameras},
            recorded=self.plan,
        )

    def compressed(self, modality: Modality) -> bool:
        """Its images had come through a video encoder; False where the header does not name their source."""
        try:
            return is_video(parse_uri(self.header.sources[modality]))
        except (KeyError, UsageError):
            return False

    def frame(self, shot: Shot) -> Frame:
        """Decode the image of one frame of a plan.

        Raises:
            SourceError: the stream is damaged there.
        """
        image: NDArray[Any] = self._streams[shot.modality].read(shot.image)
        for look in shot.looks:
            image = look(image)
        image.flags.writeable = False
        return Frame(
            image=image,
            modality=shot.modality,
            captured_ns=shot.captured_ns,
            sequence=shot.sequence,
            source=self.header.cameras[shot.modality].source,
            name=shot.name,
            shutter=shot.shutter,
            arrived_ns=shot.arrived_ns,
            clock=shot.clock,
            ffc=shot.ffc,
            counts=image if image.dtype == np.uint16 else None,
            kelvin=shot.image.kelvin,
        )

    def close(self) -> None:
        """Close the streams; twice does no harm."""
        for stream in self._streams.values():
            stream.close()

    def _entries(self, modality: Modality, camera: CameraHeader) -> list[Entry]:
        """The camera's frames; of a recording that was cut off, those that came whole onto the disk."""
        entries = read_index(self.folder / camera.index)
        if not entries:
            return entries
        if camera.codec is None:
            raise SourceError(f"{self.folder}: its header does not tell the codec of {camera.stream}; record again")
        stream = self._streams[modality] = StreamReader(self.folder, camera)
        while entries and not self.header.finished and not stream.holds(entries[-1]):
            entries.pop()
        return entries

    def _period_ns(self, modality: Modality) -> int:
        """Nominal time between two frames: as the camera says, else the median of their arrivals."""
        fps = self.header.cameras[modality].fps
        if fps is None:
            arrivals = [step.at_ns for step in self.plan if isinstance(step, Shot) and step.modality is modality]
            steps = np.diff(np.array(arrivals, np.int64))
            fps = NS_PER_S / float(np.median(steps)) if len(steps) and np.median(steps) > 0 else FALLBACK_FPS
        return round(NS_PER_S / fps)


def _shot(modality: Modality, entry: Entry) -> Shot:
    return Shot(
        order=entry.order,
        modality=modality,
        sequence=entry.sequence,
        captured_ns=entry.captured_ns,
        arrived_ns=entry.arrived_ns,
        clock=entry.clock,
        name=entry.name,
        shutter=entry.shutter,
        ffc=entry.ffc,
        image=entry,
    )
