"""Which engine runs: the first of the ladder whose needs the pair meets.

Down at once, because a lost camera gives no second chance; up only after some good pairs in a row, because a
camera that comes and goes would have the engines alternate (hysteresis).
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass

from mdrun.errors import EngineError, UsageError
from mdrun.frames import FramePair, Modality, Provenance
from mdrun.manifest import Manifest
from mdrun.pairing import STALE
from mdrun.rig.config import RigConfig

RETURNING = "returning"  # a better engine could run, but has not been able to for long enough
EVERY_PAIR_HAS = frozenset({"visible"})


@dataclass(frozen=True)
class Choice:
    """The engine for one pair.

    Attributes:
        rung: its place in the ladder, from 0; None where no engine can run.
        reason: why it is not the first, else empty.
        passing: for this pair only, of two cameras whose frames do not fall together: no switch of engines.
    """

    rung: int | None
    reason: str
    passing: bool = False


def name_rungs(manifests: Sequence[Manifest]) -> list[str]:
    """Names of a ladder's engines, each another: `student_int8`, and `student_int8 #2` where that one comes again."""
    names = [manifest.engine_name for manifest in manifests]
    before = [names[:rung].count(name) for rung, name in enumerate(names)]
    return [f"{name} #{again + 1}" if again else name for name, again in zip(names, before, strict=True)]


def check_ladder(manifests: Sequence[Manifest]) -> None:
    """Refuse engines that cannot stand in for each other: their results would not mean the same.

    Raises:
        EngineError: another task, other classes or another thermal rule than the first one's.
    """
    first = manifests[0]
    named = list(zip(name_rungs(manifests), manifests, strict=True))
    for name, other in named[1:]:
        if (other.task, other.classes) != (first.task, first.classes):
            raise EngineError(
                f"ladder: {name} is for {other.task} of {', '.join(other.classes)}, {first.engine_name} for "
                f"{first.task} of {', '.join(first.classes)}; wanted engines of one task with the same classes"
            )
    rules = {name: m.inputs["thermal"].normalisation for name, m in named if "thermal" in m.inputs}
    if len(set(rules.values())) > 1:
        told = ", ".join(f"{name}: {rule}" for name, rule in rules.items())
        raise EngineError(f"ladder: the engines want thermal images by different rules ({told}); wanted one rule")


def check_cameras(config: RigConfig, manifests: Sequence[Manifest]) -> None:
    """Refuse a ladder whose engines do not go together, or of which none could ever run.

    Raises:
        EngineError: as `check_ladder`.
        UsageError: every engine needs a thermal image, and the rig has no thermal camera.
    """
    check_ladder(manifests)
    if config.camera(Modality.THERMAL) is None and all("thermal" in manifest.needs for manifest in manifests):
        first = manifests[0]
        raise UsageError(
            f"rig {config.rig}: engine {first.engine_name} needs {' and '.join(first.needs)}, and there is no "
            "thermal camera; give --thermal, or an engine that needs visible only"
        )


class Ladder:
    """Chooses by what the engines need. Used by one thread."""

    def __init__(self, needs: Sequence[frozenset[str]], back_after: int, age_ns: int = 0) -> None:
        """Begin with none.

        Args:
            needs: of each engine, the preferred one first.
            back_after: good pairs in a row before a better one.
            age_ns: how long after a measured thermal image a pair without one is merely `stale`.
        """
        self._needs = [need - EVERY_PAIR_HAS for need in needs]
        self._back_after = back_after
        self._age_ns = age_ns
        self._rung: int | None = None
        self._good = 0
        self._measured_ns: int | None = None

    def choose(self, pair: FramePair) -> Choice:
        """The engine for this pair."""
        before, able = self._rung, self._able(pair)
        best = able[0] if able else None
        if pair.provenance is Provenance.MEASURED:
            self._measured_ns = pair.visible.captured_ns
        if self.passes(pair):  # it says nothing about the camera, neither for nor against a return
            rung = before if before in able else best
            return Choice(rung, f"thermal_{STALE}" if rung != 0 else "", passing=True)
        self._good = self._good + 1 if before in able and best != before else 0
        if before not in able or self._good >= self._back_after:
            self._rung, self._good = best, 0
        return Choice(self._rung, self._reason(best, pair))

    def passes(self, pair: FramePair) -> bool:
        """There is no thermal image for this pair, and was one a moment ago: the cameras are unlike, and both well."""
        if pair.thermal is not None or pair.reason != STALE or self._measured_ns is None:
            return False
        return 0 <= pair.visible.captured_ns - self._measured_ns <= self._age_ns

    def stop(self) -> None:
        """No engine can run until the next pair, which goes to the best that can: nothing alternates meanwhile."""
        self._rung, self._good = None, 0

    def next_able(self, rung: int, pair: FramePair) -> int | None:
        """The first engine below `rung` that this pair can run; None where there is none."""
        return next((below for below in self._able(pair) if below > rung), None)

    def _able(self, pair: FramePair) -> list[int]:
        has = frozenset() if pair.thermal is None else frozenset({"thermal"})
        return [rung for rung, needs in enumerate(self._needs) if needs <= has]

    def _reason(self, best: int | None, pair: FramePair) -> str:
        if self._rung == 0:
            return ""
        return RETURNING if self._rung != best else f"thermal_{pair.reason or 'missing'}"
