"""The thermal image on its way to the engine: 8 bits, dead pixels mended, laid on the visible view."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

import numpy as np
from numpy.typing import NDArray

from mdrun.frames import FramePair, Modality
from mdrun.manifest import Manifest
from mdrun.registration.model import Registration
from mdrun.rig.config import RigConfig
from mdrun.thermal.chain import ThermalChain

if TYPE_CHECKING:
    from mdrun.registration.drift import DriftMonitor, DriftReading


class ThermalPath:
    """Everything that a rig does to its thermal frames. Used by the rig's thread.

    Attributes:
        chain: normalisation, dead pixels and shutter; None without a thermal camera.
    """

    def __init__(
        self, config: RigConfig, manifests: Sequence[Manifest], *, shutter_told: bool, compressed: bool
    ) -> None:
        """Load the calibration; `shutter_told` and `compressed` as `mdrun.rig.cameras.OpenFeed` has them.

        Raises:
            CalibrationError: it cannot be used.
            EngineError: an engine wants a thermal rule that is not known.
        """
        self._config = config
        found = config.camera(Modality.THERMAL)
        specs = [manifest.inputs["thermal"] for manifest in manifests if "thermal" in manifest.inputs]
        rule = specs[0].normalisation if specs else None
        self.chain = (
            None if found is None else ThermalChain(found[1], rule, telemetry=shutter_told, compressed=compressed)
        )
        self._size = (specs[0].width, specs[0].height) if specs else None
        self._registration: Registration | None = None
        if config.calibration is not None:
            self.load_registration(config.calibration)

    def load_registration(self, path: Path) -> None:
        """Take another calibration from the next pair on.

        Raises:
            CalibrationError: it cannot be used.
        """
        self._registration = Registration.load(path)

    def describe(self) -> dict[str, Any]:
        """The registration as pages and metrics show it."""
        return {"kind": "none"} if self._registration is None else self._registration.describe()

    def check(self, pair: FramePair) -> None:
        """Refuse a thermal image that the calibration cannot lay on the visible one.

        Raises:
            CalibrationError, UsageError: it was made for other images.
        """
        if pair.thermal is not None and self._registration is not None:
            _fitted(self._registration, pair.visible.image, pair.thermal.image)

    def align(self, pair: FramePair) -> FramePair:
        """The pair with the thermal image on the visible view; without a calibration both see the same already."""
        frame = pair.thermal
        if frame is None or self._registration is None:
            return pair
        size = self._size or (frame.image.shape[1], frame.image.shape[0])
        aligned = _fitted(self._registration, pair.visible.image, frame.image).align(frame.image, size)
        return replace(pair, thermal=replace(frame, image=aligned, unaligned=frame.image))

    def celsius(self, pair: FramePair, boxes_xyxy: NDArray[np.float32]) -> NDArray[np.float32] | None:
        """(N,) hottest temperature in each box of the visible frame; None for cameras that do not measure."""
        if self.chain is None or pair.thermal is None or pair.thermal.counts is None:
            return None
        boxes = self._thermal_boxes(boxes_xyxy, pair.visible.image, pair.thermal.counts)
        return self.chain.celsius(pair.thermal, boxes)

    def watch_drift(self, on_change: Callable[[DriftReading], None]) -> DriftMonitor | None:
        """A monitor of the registration, where there is a thermal camera and the rig wants one."""
        drift = self._config.drift
        if self.chain is None or not drift.enabled:
            return None
        from mdrun.registration.drift import DriftMonitor

        monitor = DriftMonitor(drift.limit_px, drift.every_s)
        monitor.on_change = on_change
        return monitor

    def _thermal_boxes(
        self, boxes_xyxy: NDArray[np.float32], visible: NDArray[Any], counts: NDArray[np.uint16]
    ) -> NDArray[np.float32]:
        """Boxes of the visible frame in pixels of the raw thermal image: the smallest that hold all four corners."""
        if self._registration is None:
            scale = [counts.shape[1] / visible.shape[1], counts.shape[0] / visible.shape[0]]
            return boxes_xyxy * np.array(scale * 2, np.float32)
        corners = boxes_xyxy[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 2)
        points = _fitted(self._registration, visible, counts).visible_to_thermal(corners).reshape(-1, 4, 2)
        return np.concatenate([points.min(axis=1), points.max(axis=1)], axis=1).astype(np.float32)


def _fitted(registration: Registration, visible: NDArray[Any], thermal: NDArray[Any]) -> Registration:
    """The registration for images of these sizes; it was measured at others, perhaps."""
    visible_size, thermal_size = (visible.shape[1], visible.shape[0]), (thermal.shape[1], thermal.shape[0])
    return registration.at(visible_size=visible_size, thermal_size=thermal_size)
