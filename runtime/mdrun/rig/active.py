"""Which engine runs, as pages, metrics and notices are told."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from mdrun.frames import Modality, Notice
from mdrun.monitor import RETURNED, STARTED, Monitor
from mdrun.pairing import NO_THERMAL
from mdrun.rig.ladder import RETURNING

ENERGY = "energy"  # why another engine ran: the scene is strange to the first
FIRST_IMAGES = (f"thermal_{NO_THERMAL}", RETURNING)  # why a rig whose cameras are there starts with another engine


class ActiveEngine:
    """Tells switches: each once, and none where there is nothing to tell. Used by one thread."""

    def __init__(
        self, monitor: Monitor, names: Sequence[str], tell: Callable[[Notice], None], *, back_after: int
    ) -> None:
        """Nothing runs yet.

        Args:
            monitor: of the rig.
            names: of the ladder's engines.
            tell: gets the notices.
            back_after: results in a row without a strange scene before a better engine counts as back; else a scene at
                the threshold would be told with every frame.
        """
        self._monitor, self._names, self._tell, self._back_after = monitor, names, tell, back_after
        self._told: int | None = 0  # a start with the preferred engine needs no word
        self._begun = False  # the engine that was told has run
        self._ran = False  # any has
        self._usual = 0  # results in a row that were not strange

    def show(self, rung: int | None, reason: str, at_ns: int) -> None:
        """The engine that ran, or why none could, for the pair captured then."""
        monitor = self._monitor
        self._usual = 0 if reason == ENERGY else self._usual + 1
        up = rung is not None and monitor.rung is not None and rung < monitor.rung
        if monitor.rung_reason == ENERGY and up and self._usual < self._back_after:
            return
        if (rung, reason) != (monitor.rung, monitor.rung_reason):
            self._switch(rung, reason, at_ns, told=rung != self._told and not self._only_begins(reason))
        self._ran = self._ran or rung is not None
        self._begun = self._begun or rung == self._told

    def stop(self, reason: str, at_ns: int, *, down: bool) -> bool:
        """No engine can run, for there is no pair; True where that is new. `down`: the camera is known to be away."""
        changed = (self._monitor.rung, self._monitor.rung_reason) != (None, reason)
        told = (self._ran or down) and (changed or self._told is not None)
        if changed or told:
            self._switch(None, reason, at_ns, told=told)
        return changed or told

    def _only_begins(self, reason: str) -> bool:
        """One camera's first image came before the other's, which is nothing to tell: the other is there."""
        quiet = self._told == 0 and not self._begun
        return quiet and Modality.THERMAL in self._monitor.cameras and reason in FIRST_IMAGES

    def _switch(self, rung: int | None, reason: str, at_ns: int, *, told: bool) -> None:
        before, why = self._monitor.rung, reason or (RETURNED if self._ran else STARTED)
        before = None if before == rung else before  # ran already, which was nothing to tell before
        self._monitor.set_rung(rung, reason)
        if told:
            self._told = rung
            if before != rung:
                self._monitor.add_switch(before, rung, why)
            names = [None if number is None else self._names[number] for number in (before, rung)]
            data = {"from": names[0], "to": names[1], "reason": why}
            self._tell(Notice("ladder", self._monitor.rig, at_ns, data))
