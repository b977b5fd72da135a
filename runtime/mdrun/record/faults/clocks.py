"""Wrong clocks and slow ways: when a frame says it was captured, and when it arrives."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import ClassVar

import numpy as np

from mdrun.frames import Modality
from mdrun.record.faults.base import Fault
from mdrun.record.plan import Plan, Scene, Shot, map_shots, ordered, shots_of


@dataclass(frozen=True)
class Skew(Fault):
    """The clock of the thermal camera is wrong: capture times are `by_ns` later than the truth."""

    by_ns: int
    stage: ClassVar[int] = 30

    def apply(self, plan: Plan, scene: Scene) -> Plan:  # noqa: ARG002
        """Shift the capture times, and nothing else."""
        return map_shots(plan, Modality.THERMAL, lambda shot: replace(shot, captured_ns=shot.captured_ns + self.by_ns))


@dataclass(frozen=True)
class Delay(Fault):
    """A camera's frames arrive `by_ns` later; their capture times are true."""

    modality: Modality
    by_ns: int
    stage: ClassVar[int] = 31

    def apply(self, plan: Plan, scene: Scene) -> Plan:  # noqa: ARG002
        """Shift the arrivals, and nothing else."""
        return ordered(
            map_shots(plan, self.modality, lambda shot: replace(shot, arrived_ns=shot.arrived_ns + self.by_ns))
        )


@dataclass(frozen=True)
class Jitter(Fault):
    """Every frame of both cameras arrives later by up to `most_ns`, evenly spread; none overtakes the one before."""

    most_ns: int
    stage: ClassVar[int] = 32

    def apply(self, plan: Plan, scene: Scene) -> Plan:
        """Shift every arrival by its own random time."""
        for number, modality in enumerate((Modality.VISIBLE, Modality.THERMAL)):
            shots = shots_of(plan, modality)
            extra = np.random.default_rng((scene.seed, number)).integers(0, self.most_ns + 1, len(shots))
            late = np.maximum.accumulate(np.array([shot.arrived_ns for shot in shots], np.int64) + extra)
            arrivals = {shot.order: arrived for shot, arrived in zip(shots, late.tolist(), strict=True)}

            def shift(shot: Shot, arrivals: dict[float, int] = arrivals) -> Shot:
                return replace(shot, arrived_ns=arrivals[shot.order])

            plan = map_shots(plan, modality, shift)
        return ordered(plan)
