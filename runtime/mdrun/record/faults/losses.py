"""Frames that do not come through, with and without the connection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from mdrun.errors import SourceChangedError, SourceLostError
from mdrun.frames import Modality, SourceState
from mdrun.record.faults.base import Fault
from mdrun.record.plan import Plan, Scene, Shot, Span, Step, ordered

CONNECT_NS = 500_000_000  # until a camera on the network has answered


@dataclass(frozen=True)
class Drop(Fault):
    """Frames of one camera vanish; the connection stays."""

    modality: Modality
    span: Span
    stage: ClassVar[int] = 40

    def apply(self, plan: Plan, scene: Scene) -> Plan:
        """Remove what arrives in the span."""
        return _without(plan, scene, self.modality, self.span)


@dataclass(frozen=True)
class HalfRate(Fault):
    """Every second frame of one camera vanishes."""

    modality: Modality
    span: Span
    stage: ClassVar[int] = 40

    def apply(self, plan: Plan, scene: Scene) -> Plan:
        """Remove the second, fourth, … frame of the span."""
        kept, count = [], 0
        for step in plan:
            if isinstance(step, Shot) and step.modality is self.modality and self.span.holds(step.at_ns, scene):
                count += 1
                if count % 2 == 0:
                    continue
            kept.append(step)
        return kept


@dataclass(frozen=True)
class Kill(Fault):
    """The connection to one camera is gone, and comes back."""

    modality: Modality
    span: Span
    stage: ClassVar[int] = 41

    def apply(self, plan: Plan, scene: Scene) -> Plan:
        """Remove what would arrive in the span, and tell the loss and the way back."""
        return _cut(plan, scene, self.modality, self.span)


@dataclass(frozen=True)
class Swap(Fault):
    """Somebody swapped the two cables: both cameras come back as another one, and are not taken, until it is undone."""

    span: Span
    stage: ClassVar[int] = 42

    def apply(self, plan: Plan, scene: Scene) -> Plan:
        """Lose both cameras; what answers then has another geometry."""
        for modality, source in scene.names.items():
            plan = _cut(plan, scene, modality, self.span)
            told_ns = scene.start_ns + self.span.first_ns + CONNECT_NS
            if self.span.holds(told_ns, scene) and told_ns < scene.end_ns:
                message = f"{source}: another image size or depth than before (replayed)"
                told = scene.change(modality, SourceState.LOST, told_ns, -1.0, SourceChangedError.code, message)
                plan = ordered([*plan, told])
        return plan


def _without(plan: Plan, scene: Scene, modality: Modality, span: Span) -> Plan:
    def stays(step: Step) -> bool:
        return not (isinstance(step, Shot) and step.modality is modality and span.holds(step.at_ns, scene))

    return [step for step in plan if stays(step)]


def _cut(plan: Plan, scene: Scene, modality: Modality, span: Span) -> Plan:
    """Nothing comes through in the span; the loss is told, and the first attempt to connect again comes at once."""
    at_ns = scene.start_ns + span.first_ns
    if at_ns > scene.end_ns:
        return plan
    message = f"{scene.names[modality]}: the connection has ended (replayed)"
    told: list[Step] = [
        scene.change(modality, SourceState.LOST, at_ns, -1.0, SourceLostError.code, message),
        scene.change(modality, SourceState.CONNECTING, at_ns, -0.5),
    ]
    return ordered(_without(plan, scene, modality, span) + told)
