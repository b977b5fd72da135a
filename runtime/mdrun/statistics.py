"""What happened in a run: every captured frame accounted for, every stage with its percentiles.

The invariant: captured visible frames = results + drops, summed over their causes, always.
"""

from __future__ import annotations

from collections import Counter, deque
from dataclasses import dataclass, field
from typing import Any

import numpy as np

from mdrun.frames import FramePair, Provenance, Result
from mdrun.postprocess import counted
from mdrun.segment import AREA_DIGITS, areas

SCHEMA_VERSION = 1
WINDOW = 100_000  # values kept for percentiles: an hour at 30 Hz, under 1 MB, so that a run may last for months
PERCENTILES = {"p50": 50.0, "p95": 95.0, "p99": 99.0}
STAGES = ("pair", "preprocess", "infer", "postprocess", "sinks")


class Distribution:
    """Percentiles of the last `WINDOW` values, or of the last `window`, and the largest of all."""

    def __init__(self, window: int | None = None) -> None:
        self._values: deque[float] = deque(maxlen=WINDOW if window is None else window)
        self.count = 0
        self._max = float("-inf")

    def add(self, value: float) -> None:
        """Take one value."""
        self._values.append(value)
        self.count += 1
        self._max = max(self._max, value)

    def to_dict(self) -> dict[str, float] | None:
        """`p50`, `p95`, `p99`, `max`, rounded to 0.001; None without values."""
        if not self._values:
            return None
        points = np.percentile(np.fromiter(self._values, float), list(PERCENTILES.values()))
        named = dict(zip(PERCENTILES, points.tolist(), strict=True)) | {"max": self._max}
        return {name: round(value, 3) for name, value in named.items()}


@dataclass
class Statistics:
    """Counters of one run. One thread writes them.

    Attributes:
        classes: names, in the order of the class index.
        display: lowest score that counts as an object.
        thermal_used: the engine takes the thermal image; else its provenance is `absent`.
        task: of the engine.
        results: pairs that went through the engine.
        drops: visible frames without a result, by cause.
        provenance: results by the provenance of their thermal image.
        objects: detections that count, by class; for the task `classify` pairs by their best class.
        areas: shares of the frame's pixels by class, summed over the results; empty without label maps.
    """

    classes: list[str]
    display: float
    thermal_used: bool = True
    task: str = "detect"
    results: int = 0
    drops: Counter[str] = field(default_factory=Counter)
    provenance: Counter[str] = field(default_factory=Counter)
    objects: Counter[str] = field(default_factory=Counter)
    areas: dict[str, float] = field(default_factory=dict)
    _stages: dict[str, Distribution] = field(default_factory=lambda: {stage: Distribution() for stage in STAGES})
    _skew: Distribution = field(default_factory=Distribution)
    _age: Distribution = field(default_factory=Distribution)

    def add_result(self, result: Result) -> None:
        """Count a pair that went through the engine."""
        self.results += 1
        self.provenance[(result.pair.provenance if self.thermal_used else Provenance.ABSENT).value] += 1
        for stage, milliseconds in result.stages_ms.items():
            self._stages[stage].add(milliseconds)
        if self.thermal_used and result.pair.skew_ms is not None:
            self._skew.add(abs(result.pair.skew_ms))
        if self.thermal_used and result.pair.thermal_age_ms is not None:
            self._age.add(result.pair.thermal_age_ms)
        self.objects.update(self.classes[index] for index in counted(result, self.display))
        if result.segmentation is not None:
            for name, share in areas(result.segmentation, self.classes).items():
                self.areas[name] = self.areas.get(name, 0.0) + share

    def add_stage(self, stage: str, wall_ms: float) -> None:
        """Take the time of one stage that ran after its result was made."""
        self._stages[stage].add(wall_ms)

    def add_drop(self, pair: FramePair) -> None:
        """Count a pair whose thermal image is missing although the engine takes one."""
        self.drops[f"thermal_{pair.reason or 'missing'}"] += 1

    def check(self, captured_visible: int) -> None:
        """Hold this class to its invariant.

        Raises:
            ValueError: a captured frame is in neither results nor drops, or in both.
        """
        counted = self.results + self.drops.total()
        if counted != captured_visible:
            raise ValueError(f"{captured_visible} visible frames captured, {counted} accounted for")

    def to_dict(self) -> dict[str, Any]:
        """Counts and percentiles as plain JSON data."""
        return {
            "results": self.results,
            "drops": dict(sorted(self.drops.items())),
            "thermal_provenance": dict(self.provenance),
            "objects": {name: self.objects[name] for name in self.classes} if self.task != "segment" else {},
            "areas": {name: round(total / self.results, AREA_DIGITS) for name, total in self.areas.items()} or None,
            "skew_ms": self._skew.to_dict(),
            "thermal_age_ms": self._age.to_dict(),
            "stages_ms": {stage: values.to_dict() for stage, values in self._stages.items()},
        }
