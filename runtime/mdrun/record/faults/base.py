"""What every fault is, and in which order several act."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterable
from typing import ClassVar

from mdrun.record.plan import Plan, Scene


class Fault(ABC):
    """One thing that goes wrong. A frozen dataclass; times count from the start of the recording.

    Attributes:
        stage: faults act in this order, whatever the order they were given in: first what the sensor does to the
            images (10), then its shutter and frozen electronics (20), then clocks and the way to us (30), and last
            what does not come through (40).
    """

    stage: ClassVar[int]

    @abstractmethod
    def apply(self, plan: Plan, scene: Scene) -> Plan:
        """Another plan, ordered by arrival as this one is."""


def apply_faults(faults: Iterable[Fault], plan: Plan, scene: Scene) -> Plan:
    """All of them, by stage; within one stage as they were given."""
    for fault in sorted(faults, key=lambda fault: fault.stage):
        plan = fault.apply(plan, scene)
    return plan
