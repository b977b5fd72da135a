"""Changes of state that follow from what faults did to the frames, as a live reader would have told them."""

from __future__ import annotations

from dataclasses import dataclass

from mdrun.errors import SourceTimeoutError
from mdrun.frames import Modality, SourceState
from mdrun.record.plan import Change, Plan, Scene, Shot, Step, ordered, shots_of

RETOLD = {SourceState.STALLED, SourceState.LIVE}  # they follow from the frames
OVER = {SourceState.ENDED, SourceState.FAILED}


@dataclass(frozen=True)
class Silence:
    """How long a camera may be silent.

    Attributes:
        stall_ns: then it is stalled.
        timeout_ns: then the connection is given up.
    """

    stall_ns: int
    timeout_ns: int


def retell_states(plan: Plan, scene: Scene, silences: dict[Modality, Silence]) -> Plan:
    """The plan with the states that its frames imply.

    Between two frames that follow each other as they were recorded, what was recorded holds, so that a plan without
    faults stays as it is.
    """
    steps: list[Step] = []
    for modality, silence in silences.items():
        steps += _Camera(modality, scene, silence).retell([step for step in plan if step.modality is modality])
    return _without_repeats(ordered(steps))


def _without_repeats(plan: Plan) -> Plan:
    """Of two faults that overlap, the second tells nothing new."""
    states: dict[Modality, SourceState] = {}
    kept: list[Step] = []
    for step in plan:
        if isinstance(step, Change):
            if states.get(step.modality) is step.state and not _is_recorded(step):
                continue
            states[step.modality] = step.state
        kept.append(step)
    return kept


def _is_recorded(change: Change) -> bool:
    return change.order >= 0 and change.order % 1 == 0


class _Camera:
    """One camera of a plan."""

    def __init__(self, modality: Modality, scene: Scene, silence: Silence) -> None:
        self._modality = modality
        self._scene = scene
        self._silence = silence
        recorded = shots_of(scene.recorded, modality)
        self._places = {shot.order: place for place, shot in enumerate(recorded)}
        self._recorded = recorded

    def retell(self, steps: list[Step]) -> list[Step]:
        """All frames, and the changes that belong between them."""
        told: list[Step] = []
        last: Shot | None = None
        changes: list[Change] = []
        for step in steps:
            if isinstance(step, Change):
                changes.append(step)
                continue
            told += changes if self._untouched(last, step, changes) else self._between(last, step, changes)
            told.append(step)
            last, changes = step, []
        return told + (changes if self._untouched(last, None, changes) else self._between(last, None, changes))

    def _untouched(self, last: Shot | None, following: Shot | None, changes: list[Change]) -> bool:
        """The two frames followed each other in the recording, at this distance, and so did what is between them."""
        before = -1 if last is None else self._places[last.order]
        after = len(self._recorded) if following is None else self._places[following.order]
        if after != before + 1 or not all(map(_is_recorded, changes)):
            return False
        if last is None or following is None:
            return True
        recorded_ns = self._recorded[after].arrived_ns - self._recorded[before].arrived_ns
        return following.arrived_ns - last.arrived_ns == recorded_ns

    def _between(self, last: Shot | None, following: Shot | None, changes: list[Change]) -> list[Change]:
        """What a reader tells of the time between two frames; `following` None: until the end."""
        kept = [change for change in changes if change.state not in RETOLD]
        until_ns = self._scene.end_ns if following is None else following.arrived_ns
        first_ns = min([until_ns, *(change.at_ns for change in kept)])
        if last is not None:
            kept = self._silent(last, first_ns) + kept
        back = any(change.state is SourceState.LIVE for change in changes) if last is None else bool(kept)
        if following is None or not back or (kept and kept[-1].state in OVER):
            return kept
        if kept and kept[-1].state is SourceState.LOST:
            kept.append(self._change(SourceState.CONNECTING, following.arrived_ns, following.order - 0.75))
        return [*kept, self._change(SourceState.LIVE, following.arrived_ns, following.order - 0.5)]

    def _silent(self, last: Shot, until_ns: int) -> list[Change]:
        """The camera says nothing from its last frame until then."""
        stalled_ns, given_up_ns = last.arrived_ns + self._silence.stall_ns, last.arrived_ns + self._silence.timeout_ns
        told = []
        if stalled_ns < until_ns:
            told.append(self._change(SourceState.STALLED, stalled_ns, last.order + 0.25))
        if given_up_ns < until_ns:
            name = self._scene.names[self._modality]
            message = f"{name}: no image within {self._silence.timeout_ns / 1e9:g} s (replayed)"
            told.append(self._change(SourceState.LOST, given_up_ns, last.order + 0.3, SourceTimeoutError.code, message))
            told.append(self._change(SourceState.CONNECTING, given_up_ns, last.order + 0.35))
        return told

    def _change(self, state: SourceState, at_ns: int, order: float, code: str = "", message: str = "") -> Change:
        return self._scene.change(self._modality, state, at_ns, order, code, message)
