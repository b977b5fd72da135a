"""The street: a paired visible and thermal camera on a scene that never ends."""

from __future__ import annotations

from functools import cached_property
from math import floor

import numpy as np
from numpy.typing import NDArray

from mdrun.street.config import Labels, StreetConfig
from mdrun.street.labels import make_labels
from mdrun.street.scene import make_scene
from mdrun.street.thermal import ThermalCamera
from mdrun.street.visible import VisibleCamera


class Street:
    """Renders one street; every method is a pure function of the configuration and the time.

    Example:
        >>> street = Street(StreetConfig(seed=3, time="night"))
        >>> street.visible(0.5).shape, street.thermal(0.5).shape
        ((512, 640, 3), (128, 160))
    """

    def __init__(self, config: StreetConfig) -> None:
        self.config = config
        self._scene = make_scene(config)
        self._thermal: dict[tuple[int, int], ThermalCamera] = {}

    def visible(self, time_s: float) -> NDArray[np.uint8]:
        """The visible frame at a time: (H, W, 3) uint8 RGB."""
        return self._visible.frame(time_s)

    @cached_property
    def _visible(self) -> VisibleCamera:
        return VisibleCamera(self._scene)

    def thermal(self, time_s: float) -> NDArray[np.uint8]:
        """The thermal frame at a time: (h, w) uint8; the last one before the shutter while that is closed."""
        config = self.config
        if self.shutter_closed(time_s):
            time_s = self._last_open(time_s)
        return self.thermal_at(time_s, config.thermal_width, config.thermal_height, config.noise)

    def thermal_at(self, time_s: float, width: int, height: int, noise: float) -> NDArray[np.uint8]:
        """The same scene through a thermal camera of any resolution without a shutter: (height, width) uint8."""
        size = (width, height)
        if size not in self._thermal:
            self._thermal[size] = ThermalCamera(self._scene, width, height)
        return self._thermal[size].frame(time_s, noise)

    def labels(self, time_s: float) -> Labels:
        """Boxes, classes, occlusion and label map of the visible frame at a time."""
        return make_labels(self._scene, time_s)

    def shutter_closed(self, time_s: float) -> bool:
        """Whether the thermal shutter is closed; it first closes one period after the start."""
        config = self.config
        if config.ffc_every_s <= 0 or time_s < config.ffc_every_s:
            return False
        return time_s % config.ffc_every_s < config.ffc_s

    def _last_open(self, time_s: float) -> float:
        """Capture time of the last thermal frame before the shutter closed."""
        config = self.config
        closed = floor(time_s / config.ffc_every_s) * config.ffc_every_s
        first = config.thermal_offset_ms / 1000
        frames = np.ceil((closed - first) * config.thermal_fps - 1e-6) - 1
        return max(first + float(frames) / config.thermal_fps, 0.0)
