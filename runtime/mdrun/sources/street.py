"""The built-in street as a source: `test://street?seed=7&time=night`."""

from __future__ import annotations

import math
from typing import TYPE_CHECKING, Any

from mdrun.frames import Frame, Modality
from mdrun.sources.base import NS_PER_MS, NS_PER_S, Source
from mdrun.sources.uri import SourceUri

if TYPE_CHECKING:
    from mdrun.street import Street, StreetConfig

DEFAULT_DURATION_S = 10.0
_WHOLE = ("seed", "width", "height", "thermal_width", "thermal_height")
_NUMBERS = {
    "fps": "visible_fps",
    "thermal_fps": "thermal_fps",
    "ffc_every": "ffc_every_s",
    "ffc": "ffc_s",
    "noise": "noise",
}


def street_config(uri: SourceUri) -> StreetConfig:
    """The scene a URI asks for; the same for both modalities, so that both cameras see the same street.

    Raises:
        UsageError: if the options contradict each other.
    """
    from mdrun.street import StreetConfig

    given: dict[str, Any] = {name: uri.whole(name) for name in _WHOLE}
    given |= {target: uri.number(name) for name, target in _NUMBERS.items()}
    given["time"] = uri.options.get("time")
    return StreetConfig(**{name: value for name, value in given.items() if value is not None})


class StreetSource(Source):
    """One camera of the synthetic street. The shutter state comes with every thermal frame, as from a real core."""

    telemetry = True

    def __init__(self, uri: SourceUri, modality: Modality) -> None:
        """Options of `test://street`; `frames` counts visible frames, the thermal camera covers the same time."""
        offset_ms = uri.number("offset_ms") or 0.0
        super().__init__(uri.path, modality, timed=True, offset_ns=round(offset_ms * NS_PER_MS))
        self._config = config = street_config(uri)
        self._street: Street | None = None
        visible = modality is Modality.VISIBLE
        self._rate = config.visible_fps if visible else config.thermal_fps
        self._first_ns = 0 if visible else round(config.thermal_offset_ms * NS_PER_MS)
        count = uri.whole("frames")
        duration_s = uri.number("duration") or DEFAULT_DURATION_S
        frames = max(1, round(duration_s * config.visible_fps)) if count is None else count
        # The thermal camera stops after the last visible frame, so that this one has neighbours on both sides.
        span_s = (frames - 1) / config.visible_fps - config.thermal_offset_ms / 1000
        self._count = frames if visible else max(0, math.ceil(span_s * config.thermal_fps - 1e-9)) + 1

    def open(self) -> None:
        """Lay out the street."""
        if self._street is None:
            from mdrun.street import Street

            self._street = Street(self._config)

    def read(self) -> Frame | None:
        """Render the next frame."""
        if self._street is None or self._sequence >= self._count:
            return None
        elapsed_ns = self._first_ns + round(self._sequence * NS_PER_S / self._rate)
        time_s = elapsed_ns / NS_PER_S
        if self.modality is Modality.VISIBLE:
            return self._frame(self._street.visible(time_s), elapsed_ns, self.name, None)
        closed = self._street.shutter_closed(time_s)
        return self._frame(self._street.thermal(time_s), elapsed_ns, self.name, None, closed)

    def close(self) -> None:
        """Forget the street."""
        self._street = None

    @property
    def start_ns(self) -> int:
        """Capture time of the first frame."""
        return self._first_ns + self._offset_ns

    @property
    def size(self) -> tuple[int, int] | None:
        """(width, height) of the camera."""
        if self.modality is Modality.VISIBLE:
            return (self._config.width, self._config.height)
        return (self._config.thermal_width, self._config.thermal_height)

    @property
    def frame_count(self) -> int | None:
        """Number of frames of the whole run."""
        return self._count
