"""Engine output to the classes of a pair, the best first."""

from __future__ import annotations

import numpy as np

from mdrun.backends.base import Outputs
from mdrun.errors import EngineError
from mdrun.frames import Classification
from mdrun.manifest import Manifest


class ClassifyPostprocess:
    """Threshold of what the graph has ranked. Holds no state between frames."""

    def __init__(self, manifest: Manifest, threshold: float | None = None) -> None:
        """Check that the engine gives classes.

        Args:
            manifest: of the engine.
            threshold: lowest score to report; None takes the manifest's.

        Raises:
            EngineError: other outputs than `scores` and `classes` of equal length, one to the number of classes, and
                perhaps `energy`.
        """
        got = sorted(f"{name} {spec.dtype} {spec.shape}" for name, spec in manifest.outputs.items())
        count = manifest.outputs["scores"].shape[-1] if "scores" in manifest.outputs else 0
        classes, energy, scores = f"classes int32 {[1, count]}", "energy float32 [1]", f"scores float32 {[1, count]}"
        known = len(manifest.classes)
        if got not in ([classes, scores], [classes, energy, scores]) or not 1 <= count <= known:
            raise EngineError(
                f"{manifest.engine_name}: outputs are {', '.join(got) or 'none'}, wanted scores float32 and classes "
                f"int32 [1, K], K from 1 to {known}, and perhaps {energy}; export again with `mdexport onnx`"
            )
        self._report = manifest.thresholds.report if threshold is None else threshold
        self._count = known

    def __call__(self, outputs: Outputs, frame_wh: tuple[int, int]) -> Classification:  # noqa: ARG002  # as all of them
        """Classes of one pair. A value that is no index of a class is left out, and so is a score that is no number.

        Args:
            outputs: `scores` (1, K) float32, descending, `classes` (1, K) int32, index into the classes; `energy` (1,)
                float32 where the engine gives it.
            frame_wh: size of the captured visible frame; says nothing here.
        """
        scores, classes = outputs["scores"][0], outputs["classes"][0]
        sane = (scores >= self._report) & (classes >= 0) & (classes < self._count)
        energy = float(outputs["energy"][0]) if "energy" in outputs else None
        return Classification(scores[sane].astype(np.float32), classes[sane].astype(np.int64), energy)
