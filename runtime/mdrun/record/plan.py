"""What a replay will give, before any image is decoded: frames and changes of state by the time they arrive.

A fault is a pure function from one plan to another, so faults compose, cost nothing and always give the same.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from typing import Any

from numpy.typing import NDArray

from mdrun.frames import Clock, FfcState, Modality, SourceState, StateChange
from mdrun.record.index import Entry

Look = Callable[[NDArray[Any]], NDArray[Any]]  # what a fault does to the pixels; a frozen dataclass, so it compares


@dataclass(frozen=True, slots=True)
class Shot:
    """One frame of a plan.

    Attributes:
        order: place in the recording, unique; decides between equal times.
        modality, sequence, captured_ns, arrived_ns, clock, name, shutter, ffc: as `mdrun.frames.Frame` has them.
        image: which recorded image it shows.
        looks: what is then done to the image, in this order.
    """

    order: float
    modality: Modality
    sequence: int
    captured_ns: int
    arrived_ns: int
    clock: Clock
    name: str | None
    shutter: bool
    ffc: FfcState | None
    image: Entry
    looks: tuple[Look, ...] = ()

    @property
    def at_ns(self) -> int:
        """When it arrives."""
        return self.arrived_ns

    def looking(self, look: Look) -> Shot:
        """The same frame with one more thing done to its image."""
        return replace(self, looks=(*self.looks, look))


@dataclass(frozen=True, slots=True)
class Change:
    """One change of state of a plan.

    Attributes:
        order: a whole number for a recorded one; faults add theirs in between.
        change: what happens.
    """

    order: float
    change: StateChange

    @property
    def at_ns(self) -> int:
        """When it happens."""
        return self.change.at_ns

    @property
    def modality(self) -> Modality:
        """Which camera."""
        return self.change.modality

    @property
    def state(self) -> SourceState:
        """The new state."""
        return self.change.state


Step = Shot | Change
Plan = list[Step]


@dataclass(frozen=True)
class Scene:
    """What faults may know about the recording.

    Attributes:
        start_ns: of its first event: the zero of all times in faults.
        end_ns: of its last event.
        seed: of everything random.
        telemetry: the thermal camera tells when its shutter is closed.
        names: of the cameras as results show them.
        periods_ns: nominal time between two frames.
        recorded: the plan before any fault.
    """

    start_ns: int
    end_ns: int
    seed: int
    telemetry: bool
    names: Mapping[Modality, str]
    periods_ns: Mapping[Modality, int]
    recorded: Plan

    def change(
        self, modality: Modality, state: SourceState, at_ns: int, order: float, code: str = "", message: str = ""
    ) -> Change:
        """A new change of state of one camera."""
        return Change(order, StateChange(modality, self.names[modality], state, at_ns, code, message))


@dataclass(frozen=True, order=True)
class Span:
    """From `first_ns` until before `end_ns` after the start of the recording; None: until its end."""

    first_ns: int
    end_ns: int | None = None

    def holds(self, at_ns: int, scene: Scene) -> bool:
        """A time on the recording's clock lies in it."""
        since = at_ns - scene.start_ns
        return self.first_ns <= since and (self.end_ns is None or since < self.end_ns)


def ordered(steps: Iterable[Step]) -> Plan:
    """By arrival; equal times as they were recorded."""
    return sorted(steps, key=lambda step: (step.at_ns, step.order))


def as_recorded(steps: Iterable[Step]) -> Plan:
    """By arrival, where each camera's own order is that of the recording.

    A live camera's state is noted after the image that it is known by has arrived, and before that image.
    """
    found: list[Step] = []
    arrived_ns: dict[Modality, int] = {}  # of the frame that follows
    for step in sorted(steps, key=lambda step: step.order, reverse=True):
        following_ns = arrived_ns.get(step.modality, step.at_ns)
        if isinstance(step, Shot):
            arrived_ns[step.modality] = min(step.arrived_ns, following_ns)
            found.append(step)
        else:
            found.append(replace(step, change=replace(step.change, at_ns=min(step.at_ns, following_ns))))
    return ordered(found)


def shots_of(plan: Plan, modality: Modality) -> list[Shot]:
    """The frames of one camera."""
    return [step for step in plan if isinstance(step, Shot) and step.modality is modality]


def map_shots(plan: Plan, modality: Modality, change: Callable[[Shot], Shot]) -> Plan:
    """Every frame of one camera changed; their order of arrival must stay."""
    return [change(step) if isinstance(step, Shot) and step.modality is modality else step for step in plan]
