"""All that becomes of a thermal frame before it is paired: shutter state, bad pixels, 8 bits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mdrun.errors import EngineError, RigError
from mdrun.frames import FfcState, Frame
from mdrun.rig.config import CameraConfig
from mdrun.thermal import radiometry
from mdrun.thermal.check import StartCheck
from mdrun.thermal.ffc import FfcMonitor
from mdrun.thermal.normalise import Normaliser, Rule
from mdrun.thermal.pixels import PixelRepair

CENTI = 0.01  # kelvin of a count by the rule `centikelvin`
DEFAULT = Rule("percentile", 1, 99)  # for people's eyes, where no engine takes the image


class ThermalChain:
    """Prepares the frames of one thermal camera. Used by one thread.

    Attributes:
        ffc: the shutter: `state`, `events`, `seconds`.
    """

    def __init__(
        self,
        camera: CameraConfig,
        engine_rule: str | None,
        *,
        telemetry: bool,
        nominal_fps: float | None = None,
        compressed: bool = False,
    ) -> None:
        """Settle the rule.

        Args:
            camera: from the rig file.
            engine_rule: `InputSpec.normalisation` of the engine's thermal input; None without such an input.
            telemetry: the camera itself tells when its shutter is closed.
            nominal_fps: its frame rate; None where it is to be learnt.
            compressed: its 8-bit images come through a video encoder.

        Raises:
            EngineError: a rule of the engine that this version does not know.
            RigError: a rule or radiometry of the camera that contradicts the engine or cannot be meant.
        """
        self.ffc = FfcMonitor(camera.ffc, telemetry=telemetry, nominal_fps=nominal_fps, compressed=compressed)
        self._trusted = True  # the last frame
        rule = _rule(camera, engine_rule)
        self._normaliser = None if rule is None else Normaliser(rule)
        self._radiometry = _radiometry(camera, rule)
        self._given = camera.radiometry is not None
        self._centikelvin = rule is not None and rule.kind == "centikelvin"
        self._bad = camera.bad_pixels
        self._repair: PixelRepair | None = None
        self._check = StartCheck()

    @property
    def problems(self) -> list[str]:
        """What is wrong with the first images of the camera, one line each; empty while they are looked at."""
        return self._check.problems

    def prepare(self, frame: Frame) -> Frame:
        """The frame with an 8-bit image without bad pixels, and with the shutter's state.

        `shutter` is set while the image is not to be trusted; `counts` holds what the camera gave, repaired.

        Raises:
            DataError: counts for an engine that takes 8 bits or the reverse, or a bad pixel outside of the image.
        """
        state = self.ffc.see(frame)
        before, trusted = self._trusted, self.ffc.trusted
        self._trusted = trusted
        if self._normaliser is None:
            self._normaliser = Normaliser(DEFAULT if frame.image.dtype == np.uint16 else Rule())
        if trusted and not before:
            self._normaliser.reset()  # a corrected sensor has another level: its first image sets the limits
        if trusted:
            self._check.see(frame.image, self._scale_problems(frame.kelvin))
        source = self._repaired(frame.image)
        image = self._normaliser(source, frame.captured_ns) if trusted else self._normaliser.hold(source)
        image.flags.writeable = False
        counts = source if source.dtype == np.uint16 else None
        return replace(frame, image=image, counts=counts, shutter=not trusted, ffc=state)

    def silent(self, now_ns: int) -> FfcState:
        """No frame has come up to `now_ns`, on the clock of the frames."""
        return self.ffc.silent(now_ns)

    def reset(self) -> None:
        """The connection was lost: the next frame starts anew."""
        self.ffc.reset()
        if self._normaliser is not None:
            self._normaliser.reset()

    def celsius(self, frame: Frame, boxes: NDArray[np.floating]) -> NDArray[np.float32] | None:
        """Hottest temperature in each box of a prepared frame; None where camera or rig file give no degrees.

        The rig file is believed first, then the camera's telemetry, then a rule whose counts are temperatures.

        Args:
            frame: from `prepare`.
            boxes: (N, 4) xyxy, pixels of the thermal image.
        """
        told = None if self._given or frame.kelvin is None else radiometry.Linear(frame.kelvin)
        used = told or self._radiometry
        if used is None or frame.counts is None:
            return None
        return radiometry.hottest(frame.counts, boxes, used)

    def _scale_problems(self, kelvin: float | None) -> list[str]:
        """The rule `centikelvin` would take coarser counts for a tenth of their temperature."""
        if not self._centikelvin or kelvin is None or kelvin == CENTI:
            return []
        return [f"counts of {kelvin:g} K: the rule centikelvin takes {CENTI:g} K; set the camera's TLinear resolution"]

    def _repaired(self, image: NDArray[Any]) -> NDArray[Any]:
        if not self._bad:
            return image
        if self._repair is None:
            self._repair = PixelRepair(self._bad, (image.shape[1], image.shape[0]))
        return self._repair(image)


def _rule(camera: CameraConfig, engine_rule: str | None) -> Rule | None:
    """What engine and rig file agree on; None where neither says anything.

    Raises:
        EngineError: a rule of the engine that this version does not know.
        RigError: rules that cannot be meant, or contradict each other.
    """
    try:
        wanted = None if engine_rule is None else Rule.parse(engine_rule)
    except ValueError as error:
        raise EngineError(f"the engine's thermal input: {error}; install a newer mdrun") from error
    try:
        given = None if camera.normalise is None else Rule.of(camera.normalise)
    except ValueError as error:
        raise RigError(f"normalise of the thermal camera: {error}") from error
    if wanted is None or given is None:
        return wanted if given is None else given
    if wanted.takes_counts and given != wanted:
        raise RigError(
            f"normalise of the thermal camera is {given}, and the engine was trained with {wanted}; "
            "leave normalise out, the engine's rule is followed"
        )
    return given


def _radiometry(camera: CameraConfig, rule: Rule | None) -> radiometry.Radiometry | None:
    """Of the rig file, else of counts that are temperatures by their rule."""
    if camera.radiometry is None:
        return radiometry.Linear() if rule is not None and rule.kind == "centikelvin" else None
    try:
        return radiometry.of_config(camera.radiometry)
    except ValueError as error:
        raise RigError(f"radiometry of the thermal camera: {error}") from error
