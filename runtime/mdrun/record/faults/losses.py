"""Frames that do not come through, with and without the connection."""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from mdrun.errors import SourceChangedError, SourceLostError
from mdrun.frames import Modality, SourceState
from mdrun.record.faults.base import Fault
from mdrun.record.plan import Plan, Scene, Shot, Span, Step, ordered

RETRY_NS = 500_000_000  # between a loss and the first attempt to connect again


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
        return _cut(plan, scene, self.modality, self.span, SourceLostError.code, "the connection has ended (replayed)")


@dataclass(frozen=True)
class Swap(Fault):
    """Somebody swapped the two cables: both cameras come back as another one, and are not taken, until it is undone."""

    span: Span
    stage: ClassVar[int] = 42

    def apply(self, plan: Plan, scene: Scene) -> Plan:
        """Lose both cameras; what comes back has another geometry."""
        for modality in scene.names:
            message = "another image size than before the reconnect (replayed)"
            plan = _cut(plan, scene, modality, self.span, SourceChangedError.code, message)
        return plan


def _without(plan: Plan, scene: Scene, modality: Modality, span: Span) -> Plan:
    def stays(step: Step) -> bool:
        return not (isinstance(step, Shot) and step.modality is modality and span.holds(step.at_ns, scene))

    return [step for step in plan if stays(step)]


def _cut(plan: Plan, scene: Scene, modality: Modality, span: Span, code: str, message: str) -> Plan:
    first_ns = scene.start_ns + span.first_ns
    if first_ns > scene.end_ns:
        return plan
    source = scene.names[modality]
    retry_ns = min(first_ns + RETRY_NS, scene.end_ns if span.end_ns is None else scene.start_ns + span.end_ns)
    told: list[Step] = [
        scene.change(modality, SourceState.LOST, first_ns, -1.0, code, f"{source}: {message}"),
        scene.change(modality, SourceState.CONNECTING, retry_ns, -0.5),
    ]
    return ordered(_without(plan, scene, modality, span) + told)
