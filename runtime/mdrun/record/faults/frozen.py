"""Images that stand still: behind a shutter, or because the camera hangs."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

from mdrun.frames import FfcState, Modality
from mdrun.record.faults.base import Fault
from mdrun.record.plan import Plan, Scene, Shot, Span, map_shots

FFC_NS = 1_000_000_000  # a shutter event of a Lepton takes a second at most


@dataclass(frozen=True)
class Freeze(Fault):
    """A camera repeats its last image and says nothing about it."""

    modality: Modality
    span: Span
    stage: ClassVar[int] = 22

    def apply(self, plan: Plan, scene: Scene) -> Plan:
        """Show the image before the span in all frames of it."""
        return _freeze(plan, scene, self.modality, self.span, shutter=False)


@dataclass(frozen=True)
class Ffc(Fault):
    """The thermal camera closes its shutter (flat-field correction): exact repeats, told where there is telemetry."""

    span: Span
    stage: ClassVar[int] = 21

    def apply(self, plan: Plan, scene: Scene) -> Plan:
        """Show the image before the span in all frames of it, marked where the camera tells."""
        return _freeze(plan, scene, Modality.THERMAL, self.span, shutter=scene.telemetry)


@dataclass(frozen=True)
class FfcEvery(Fault):
    """A shutter event of a second at every multiple of `period_ns`."""

    period_ns: int
    stage: ClassVar[int] = 21

    def apply(self, plan: Plan, scene: Scene) -> Plan:
        """One `Ffc` after the other."""
        for first in range(self.period_ns, scene.end_ns - scene.start_ns, self.period_ns):
            plan = Ffc(Span(first, first + FFC_NS)).apply(plan, scene)
        return plan


@dataclass(frozen=True)
class Telemetry(Fault):
    """What the thermal camera says about its shutter is taken away, or it says what it did not."""

    told: bool
    stage: ClassVar[int] = 20

    def apply(self, plan: Plan, scene: Scene) -> Plan:  # noqa: ARG002
        """Add the state of the shutter to every thermal frame, or take it away."""

        def tell(shot: Shot) -> Shot:
            if not self.told:
                return replace(shot, shutter=False, ffc=None)
            state = FfcState.RUNNING if shot.shutter else FfcState.NORMAL
            return replace(shot, ffc=shot.ffc or state)

        return map_shots(plan, Modality.THERMAL, tell)


def _freeze(plan: Plan, scene: Scene, modality: Modality, span: Span, *, shutter: bool) -> Plan:
    last: Shot | None = None

    def freeze(shot: Shot) -> Shot:
        nonlocal last
        within = span.holds(shot.at_ns, scene)
        if last is None or not within:
            last = shot
        if not within:
            return shot
        frozen = replace(shot, image=last.image, looks=last.looks)
        return replace(frozen, shutter=True, ffc=FfcState.RUNNING) if shutter else frozen

    return map_shots(plan, modality, freeze)
