"""Fine-tuning for INT8: a finished student learns on with the rounding of its engine, under a teacher or alone.

What rounds, and how, is in `mdtrain.quantise`; the losses are those of the two recipes that make students.
"""

from __future__ import annotations

from pathlib import Path

from mdtrain.build import Trained, load_trained
from mdtrain.config import PACKAGE, Config, load_config
from mdtrain.loop import Recipe, RunResult, Start, run
from mdtrain.recipes import baseline, distill

CONFIG = PACKAGE / "configs" / "quantise.yaml"
ORIGIN = ("teacher_sha256", "backbone_sha256")  # facts of the student's own run that stay true


def train(
    start: Path, overrides: tuple[str, ...], teacher: Path | None, folder: Path, command: str, *, resume: bool = False
) -> RunResult:
    """Fine-tune a student; see `loop.run` and `make` for what it leaves and raises."""
    config, recipe = make(load_trained(start, "student"), overrides, teacher)
    return run(config, recipe, folder, command, begin(start, resume=resume))


def make(finished: Trained, overrides: tuple[str, ...], teacher: Path | None = None) -> tuple[Config, Recipe]:
    """Settings of the finished run with those of a short fine-tuning on top, and the losses of a student.

    Args:
        finished: the student.
        overrides: `key=value`, on top of both.
        teacher: weights of the teacher that it learns from as well; None for labels alone.

    Raises:
        UsageError: a wrong setting, or a teacher whose maps cannot be compared with the student's.
        EngineError: the teacher's weights cannot be used.
    """
    config = load_config(CONFIG, overrides, finished.config)
    if teacher is not None:
        return distill.make(config, teacher)
    origin = {name: finished.facts[name] for name in ORIGIN if name in finished.facts}
    return config, baseline.make(config)._replace(facts=origin)


def begin(start: Path, *, resume: bool) -> Start:
    """A continued run has weights of its own; the student's settings are still read."""
    return Start(None if resume else start, resume)
