"""One-stream student without a teacher: the native model that distillation is measured against.

`inputs: both` is image-level fusion with low-resolution thermal, `inputs: visible` the visible-only model.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from mdtrain.build import build_student
from mdtrain.config import Config
from mdtrain.data.batches import Batch
from mdtrain.loop import FRESH, Recipe, RunResult, Start, run
from mdtrain.models.streams import Prediction
from mdtrain.tasks import make_task


def train(config: Config, folder: Path, command: str, start: Start = FRESH) -> RunResult:
    """Train the student alone; see `loop.run` for what it leaves and raises."""
    return run(config, make(config), folder, command, start)


def make(config: Config) -> Recipe:
    """Network and losses of the student alone."""
    torch.manual_seed(config.seed)

    def predict(model: nn.Module, batch: Batch) -> Prediction:
        thermal = None if config.inputs == "visible" else batch.thermal_low
        prediction: Prediction = model(batch.visible, thermal)
        return prediction

    def losses(model: nn.Module, batch: Batch) -> tuple[Prediction, dict[str, Tensor]]:
        return predict(model, batch), {}

    return Recipe("student", make_task(config), build_student(config), predict, losses)
