"""The energy gate: is this input like what the engine was trained on?"""

from __future__ import annotations

import math

from mdrun.frames import Verdict
from mdrun.manifest import Manifest


class EnergyGate:
    """Compares the free energy of each result with the manifest's threshold for the engine's own precision."""

    def __init__(self, manifest: Manifest, falls_back: bool) -> None:
        """`falls_back`: a strange input is not only flagged, the next engine takes over."""
        self.threshold = manifest.energy_threshold
        self._strange = Verdict.FALLBACK if falls_back else Verdict.FLAG

    def judge(self, energy: float | None) -> Verdict | None:
        """The verdict; None for an engine without an energy or a threshold. An energy that is no number is strange."""
        if energy is None or self.threshold is None:
            return None
        return Verdict.PASS if math.isfinite(energy) and energy <= self.threshold else self._strange
