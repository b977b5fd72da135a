"""The engines of one process: loaded once, warm, shared by the rigs that name the same one."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from mdrun.backends.base import input_shape
from mdrun.engine import Engine
from mdrun.frames import Detections, Segmentation
from mdrun.manifest import Manifest
from mdrun.models import default, resolve
from mdrun.rig.config import LadderConfig, RungConfig


class SharedEngine:
    """One engine for several rigs: one pair at a time.

    Attributes:
        engine: what runs.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self._lock = threading.Lock()

    @property
    def manifest(self) -> Manifest:
        """What the engine takes and gives."""
        return self.engine.manifest

    def run(
        self, visible: NDArray[Any], thermal: NDArray[Any] | None
    ) -> tuple[Detections | Segmentation, dict[str, float]]:
        """What `Engine.run_timed` gives for a thermal image of 8 bits; waiting for another rig is part of no stage."""
        with self._lock:
            return self.engine.run_timed(visible, thermal, normalised=True)

    def warm(self) -> None:
        """Run once on empty images: the first run of every library allocates and compiles."""
        spec = self.manifest.inputs["visible"]
        thermal = self.manifest.inputs.get("thermal")
        self.run(
            np.zeros(input_shape(spec)[1:], np.uint8),
            None if thermal is None else np.zeros(input_shape(thermal)[1:], np.uint8),
        )


@dataclass(frozen=True)
class EngineKey:
    """Engines with equal keys are one."""

    path: Path
    backend: str
    threshold: float | None
    threads: int | None


class EnginePool:
    """Loads each engine once. Use as a context, or `close`."""

    def __init__(self) -> None:
        self._engines: dict[EngineKey, SharedEngine] = {}

    def load(self, config: LadderConfig) -> list[SharedEngine]:
        """The engines of a ladder, warm, the preferred one first; those loaded already are shared.

        Without engines the ladder is the detector that ships.

        Raises:
            EngineError: one of them cannot be loaded.
        """
        rungs = config.engines or [RungConfig(engine=str(default()))]
        return [self._load(rung, config) for rung in rungs]

    def _load(self, rung: RungConfig, config: LadderConfig) -> SharedEngine:
        path = resolve(rung.engine)
        key = EngineKey(path.resolve(), rung.backend, rung.threshold, config.threads)
        if key not in self._engines:
            engine = Engine.load(
                path,
                threshold=rung.threshold,
                threads=config.threads,
                backend=rung.backend,
                require_verified=config.require_verified,
            )
            self._engines[key] = SharedEngine(engine)
            self._engines[key].warm()
        return self._engines[key]

    def close(self) -> None:
        """Release every engine."""
        for shared in self._engines.values():
            shared.engine.close()
        self._engines.clear()

    def __enter__(self) -> EnginePool:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()
