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

    def __init__(self, config: RigConfig, manifests: Sequence[Manifest], shutter_told: bool) -> None:
        """Load the calibration.

        Raises:
            CalibrationError: it cannot be used.
            EngineError: an engine wants a thermal rule that is not known.
        """
        self._config = config
        found = config.camera(Modality.THERMAL)
        specs = [manifest.inputs["thermal"] for manifest in manifests if "thermal" in manifest.inputs]
        rule = specs[0].normalisation if specs else None
        self.chain = None if found is None else ThermalChain(found[1], rule, telemetry=shutter_told)
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

    def align(self, pair: FramePair) -> FramePair:
        """The pair with the thermal image on the visible view; without a calibration both see the same already."""
        frame, registration = pair.thermal, self._registration
        if frame is None or registration is None:
            return pair
        size = self._size or (frame.image.shape[1], frame.image.shape[0])
        aligned = registration.align(frame.image, size)
        return replace(pair, thermal=replace(frame, image=aligned, unaligned=frame.image))

    def celsius(self, pair: FramePair, boxes_xyxy: NDArray[np.float32]) -> NDArray[np.float32] | None:
        """(N,) hottest temperature in each box of the visible frame; None for cameras that do not measure."""
        if self.chain is None or pair.thermal is None or pair.thermal.counts is None:
            return None
        height, width = pair.visible.image.shape[:2]
        return self.chain.celsius(pair.thermal, self._thermal_boxes(boxes_xyxy, (width, height), pair))

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
        self, boxes_xyxy: NDArray[np.float32], visible_wh: tuple[int, int], pair: FramePair
    ) -> NDArray[np.float32]:
        """Boxes of the visible frame in pixels of the raw thermal image: the smallest that hold all four corners."""
        if pair.thermal is None or pair.thermal.counts is None or not len(boxes_xyxy):
            return boxes_xyxy
        height, width = pair.thermal.counts.shape
        if self._registration is None:
            return boxes_xyxy * np.array([width / visible_wh[0], height / visible_wh[1]] * 2, np.float32)
        corners = boxes_xyxy[:, [0, 1, 2, 1, 2, 3, 0, 3]].reshape(-1, 2)
        points = self._registration.visible_to_thermal(corners).reshape(-1, 4, 2)
        return np.concatenate([points.min(axis=1), points.max(axis=1)], axis=1).astype(np.float32)
