"""The engines of one process: loaded once, warm, shared by the rigs that name the same one."""

from __future__ import annotations

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import numpy as np
from numpy.typing import NDArray

from mdrun.backends.base import input_shape
from mdrun.engine import Engine, run_stages
from mdrun.frames import Found
from mdrun.manifest import Manifest
from mdrun.models import resolve
from mdrun.preprocess import Preprocess
from mdrun.rig.batching import Turns
from mdrun.rig.config import LadderConfig, RungConfig


class SharedEngine:
    """One engine for several rigs, each in a thread of its own. What waits while it is busy runs as one batch.

    Attributes:
        engine: what runs.
        rigs: that share it.
    """

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.rigs = 0
        self._turns = Turns(engine.infer_batch, most=1)
        self._local = threading.local()

    @property
    def manifest(self) -> Manifest:
        """What the engine takes and gives."""
        return self.engine.manifest

    def run(self, visible: NDArray[Any], thermal: NDArray[Any] | None) -> tuple[Found, dict[str, float]]:
        """What `Engine.run_timed` gives for a thermal image of 8 bits; waiting for another rig is part of no stage.

        In a batch, `infer` is the time of the whole batch.
        """
        return run_stages(
            self._preprocess(), self._turns.infer, self.engine.postprocess, visible, thermal, normalised=True
        )

    def add_rig(self) -> None:
        """Let one more rig use it: run once for each batch that can occur now, for libraries allocate and compile then.

        Raises:
            EngineError: the library failed.
        """
        self.rigs += 1
        spec = self.manifest.inputs
        empty = {name: np.zeros(input_shape(spec[name]), np.uint8) for name in spec}
        most = min(self.rigs, self.engine.max_batch)
        if most > self._turns.most or self.rigs == 1:
            self._turns.alone(lambda: self.engine.infer_batch([empty] * most))
        self._turns.most = most

    def _preprocess(self) -> Preprocess:
        """Of this thread: its buffers are read when the thread's turn comes."""
        if not hasattr(self._local, "preprocess"):
            self._local.preprocess = Preprocess(self.manifest)
        return cast("Preprocess", self._local.preprocess)


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

        Raises:
            EngineError: one of them cannot be loaded.
        """
        return [self._load(rung, config) for rung in config.rungs]

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
        self._engines[key].add_rig()
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
