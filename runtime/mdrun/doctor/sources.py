"""Cameras that were asked for: connected, looked at for a few seconds, and held against what a rig wants of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from numpy.typing import NDArray

from mdrun.doctor.base import Check, Status, failed, ok
from mdrun.errors import DataError, MdrunError
from mdrun.frames import Clock, Frame, Modality
from mdrun.sources.uri import SourceUri, is_live, parse_uri

LOOK_S = 3.0  # 27 images of a 9 Hz camera: enough for its rate and its bad pixels
KEPT = 32  # thermal images; twice what the search for bad pixels wants
SLOW = 0.8  # of the rate that the camera promises
SHOWN_PIXELS = 10

Shot = tuple[NDArray[Any], int, Clock]  # image, capture time in ns, whose clock


@dataclass(frozen=True)
class Wanted:
    """A camera to look at. `role` None: found out by looking."""

    name: str
    source: str
    role: Modality | None = None
    timeout_s: float = 5.0


@dataclass
class Look:
    """What one camera gave.

    Attributes:
        role: as which camera it was opened.
        detail: codec or pixel format.
        promised: frames a second, None where it does not say.
        first_s: from connecting to the first image.
        times: capture times, in nanoseconds.
        clock: whose clock the last image carries.
        image: the first one.
        thermal: the last KEPT different images of a thermal camera.
        damaged: images that were lost on the way or could not be decoded whole.
    """

    role: Modality
    detail: str = ""
    promised: float | None = None
    first_s: float = 0.0
    times: list[int] = field(default_factory=list)
    clock: Clock = Clock.FILE
    image: NDArray[Any] | None = None
    thermal: list[NDArray[Any]] = field(default_factory=list)
    damaged: int = 0

    def see(self, shot: Shot) -> None:
        """One more image."""
        image, captured_ns, self.clock = shot
        self.times.append(captured_ns)
        self.image = image if self.image is None else self.image
        if self.role is Modality.THERMAL and not (self.thermal and (self.thermal[-1] == image).all()):
            self.thermal = [*self.thermal[1 - KEPT :], image]

    @property
    def fps(self) -> float | None:
        """By the median of the steps between capture times."""
        steps = [after - before for before, after in zip(self.times, self.times[1:], strict=False)]
        middle = statistics.median(steps) if steps else 0
        return 1e9 / middle if middle > 0 else None


def look_at(wanted: Wanted) -> tuple[list[Check], list[Look]]:
    """Checks of one source, and what it gave: one look; none where it failed; two of a recording of both cameras."""
    try:
        uri = parse_uri(wanted.source)
        looks = [_look(uri, wanted, role) for role in roles_of(uri, wanted.role)]
    except MdrunError as error:
        return [failed("sources", wanted.name, error)], []
    return [check for look in looks for check in describe(wanted, look)], looks


def roles_of(uri: SourceUri, role: Modality | None) -> list[Modality | None]:
    """As which cameras a source is opened; None: as the one that it turns out to be.

    Raises:
        SourceError: a recording that cannot be read.
    """
    if role is not None:
        return [role]
    if uri.scheme == "test":
        return list(Modality)
    if uri.scheme == "replay":
        from mdrun.record.header import read_header

        return list(read_header(Path(uri.path).expanduser()).cameras)
    return [None]


def _look(uri: SourceUri, wanted: Wanted, role: Modality | None) -> Look:
    if role is not None:
        return _watch(uri, wanted, role)
    try:  # a thermal camera's formats hold those of a visible one, and its images show at once if they are in colour
        return _watch(uri, wanted, Modality.THERMAL)
    except DataError:
        return _watch(uri, wanted, Modality.VISIBLE)


def _watch(uri: SourceUri, wanted: Wanted, role: Modality) -> Look:
    look = Look(role)
    began = time.monotonic()
    with _opened(uri, wanted, look) as shots:
        for shot in shots:
            if not look.times:
                look.first_s, began = time.monotonic() - began, time.monotonic()
            look.see(shot)
            seen_s = (look.times[-1] - look.times[0]) / 1e9
            if seen_s >= LOOK_S or time.monotonic() - began >= LOOK_S:
                break
    return look


@contextmanager
def _opened(uri: SourceUri, wanted: Wanted, look: Look) -> Iterator[Iterator[Shot]]:
    """The images of a live camera, a recording of `mdrun record`, or files."""
    if uri.scheme == "replay":
        from mdrun.record.replay import open_replay

        feed, _, _ = open_replay(uri, {look.role: 0})
        with feed:
            look.detail = "recording"
            yield (_shot(event) for event in iter(lambda: None if feed.ended else feed.next(1.0), None)
                   if isinstance(event, Frame))  # fmt: skip
    elif is_live(uri):
        from mdrun.sources.live import open_camera

        camera = open_camera(uri, look.role, name=wanted.name, timeout_s=wanted.timeout_s)
        try:
            info = camera.connect()
            look.detail, look.promised = info.detail, info.fps
            yield _grabs(camera)
        finally:
            look.damaged = camera.damaged
            camera.disconnect()
    else:
        from mdrun.sources import open_source

        with open_source(wanted.source, look.role) as source:
            look.detail = "recording" if source.timed else "stills without times"
            yield (_shot(frame) for frame in iter(source.read, None))


def _grabs(camera: Any) -> Iterator[Shot]:
    from mdrun.sources.live import EndOfRecording

    with suppress(EndOfRecording):
        while True:
            grab = camera.grab()
            yield grab.image, grab.captured_ns, grab.clock


def _shot(frame: Frame) -> Shot:
    return frame.image, frame.captured_ns, frame.clock


def describe(wanted: Wanted, look: Look) -> list[Check]:
    """What one look says: the camera itself, its rate, and its thermal images."""
    assert look.image is not None  # noqa: S101  # every source gives an image or an error
    height, width = look.image.shape[:2]
    name = f"{wanted.name}, {look.role.value}"
    fps, promised = look.fps, look.promised
    timed = look.detail != "stills without times"
    words = [f"{width}x{height} {look.image.dtype}", look.detail, f"first image after {look.first_s:.2f} s"]
    if timed and fps is not None:
        words.append(f"{fps:.1f} frames/s")
    data = {
        "role": look.role.value, "width": width, "height": height, "dtype": str(look.image.dtype),
        "detail": look.detail, "first_s": round(look.first_s, 3), "frames": len(look.times),
        "fps": round(fps, 2) if timed and fps is not None else None, "promised_fps": promised,
        "clock": look.clock.value if timed else None, "damaged": look.damaged,
    }  # fmt: skip
    checks = [ok("sources", name, ", ".join(filter(None, words)), _clock_words(look) if timed else "", data)]
    if fps is not None and promised and fps < SLOW * promised:
        found = f"{fps:.1f} frames/s of the {promised:.1f} it promises"
        means = "a long exposure by night, a slow link or a busy machine"
        checks.append(Check("sources", f"{name}: rate", Status.WARNING, found, means))
    if look.damaged:
        found = f"{look.damaged} lost or damaged images in {LOOK_S:g} s"
        checks.append(Check("sources", f"{name}: damage", Status.WARNING, found, "check cable, hub and network"))
    return checks + (_thermal_checks(name, look) if look.role is Modality.THERMAL else [])


def _clock_words(look: Look) -> str:
    return {
        Clock.FILE: "times of the recording",
        Clock.SENDER: "times of the camera's own clock",
        Clock.DEVICE: "times of the driver",
        Clock.ARRIVAL: "times of arrival: the camera has told none within the first seconds; "
        "`mdrun calibrate time` measures the offset",
    }[look.clock]


def _thermal_checks(name: str, look: Look) -> list[Check]:
    from mdrun.thermal.check import StartCheck

    start = StartCheck(min(len(look.thermal), 9))
    for image in look.thermal:
        start.see(image)
    checks = [Check("sources", f"{name}: images", Status.WARNING, text, "detections will be poor")
              for text in start.problems]  # fmt: skip
    return checks if checks else _bad_pixels(name, look.thermal)


def _bad_pixels(name: str, images: list[NDArray[Any]]) -> list[Check]:
    import numpy as np

    from mdrun.thermal.pixels import LEAST_FRAMES, find_bad_pixels

    if len(images) < LEAST_FRAMES or images[0].dtype != np.uint16:  # what a codec or gain control left says nothing
        return []
    pixels = find_bad_pixels(np.stack(images))
    if not pixels:
        return []
    shown = ", ".join(f"[{x}, {y}]" for x, y in pixels[:SHOWN_PIXELS])
    more = "" if len(pixels) <= SHOWN_PIXELS else ", …"
    means = "dead pixels, or small things that stand still; those that stay while the camera moves go into the rig file"
    return [Check("sources", f"{name}: pixels", Status.WARNING, f"{len(pixels)} look dead or hot", means,
                  f"bad_pixels: [{shown}{more}]", data={"bad_pixels": [list(pixel) for pixel in pixels]})]  # fmt: skip


def check_roles(rig: str, looks: list[Look]) -> list[Check]:
    """Do the cameras of a rig look like what they are said to be?"""
    from mdrun.sources.images import refuse_colour

    visible = next((look.image for look in looks if look.role is Modality.VISIBLE and look.image is not None), None)
    thermal = next((look.image for look in looks if look.role is Modality.THERMAL and look.image is not None), None)
    swapped = "exchange `role:` of the two cameras"
    if visible is None:
        return []
    checks = []
    try:
        refuse_colour(visible, rig)
    except DataError:  # coloured, as it should be
        pass
    else:
        means = "the cameras are swapped, or the visible one is in its night mode (infrared, without colour)"
        found = "the visible camera gives grey images, as thermal ones do"
        checks.append(Check("rig", f"{rig}: roles", Status.WARNING, found, means, swapped))
    if thermal is not None and thermal.size * 3 > visible.size:
        found = f"the thermal image, {thermal.shape[1]}x{thermal.shape[0]}, has more pixels than the visible one"
        checks.append(Check("rig", f"{rig}: sizes", Status.WARNING, found, "are the cameras swapped?", swapped))
    return checks
