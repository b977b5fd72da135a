"""Two-stream teacher: high-resolution visible + high-resolution thermal, fused at feature (or decision) level.

With GAFF (Zhang et al., WACV 2021): L = L_task + L_intra + L_inter, all weights 1 (Eq. 9). The sum of the streams and
the decision level (`model.fusion`) are what it is compared with; they learn from the task's loss alone, and so does
GAFF where the labels say nothing about places (`classify`).
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from mdtrain.build import build_teacher
from mdtrain.config import Config
from mdtrain.data.batches import Batch
from mdtrain.loop import FRESH, Recipe, RunResult, Start, run
from mdtrain.losses.attention import guidance_loss
from mdtrain.models.streams import Prediction
from mdtrain.tasks import make_task


def train(config: Config, folder: Path, command: str, start: Start = FRESH) -> RunResult:
    """Train the teacher; see `loop.run` for what it leaves and raises."""
    return run(config, make(config), folder, command, start)


def make(config: Config) -> Recipe:
    """Network and losses of the teacher."""
    torch.manual_seed(config.seed)
    task = make_task(config)

    def predict(model: nn.Module, batch: Batch) -> Prediction:
        prediction: Prediction = model(batch.visible, batch.thermal_full)
        return prediction

    def losses(model: nn.Module, batch: Batch) -> tuple[Prediction, dict[str, Tensor]]:
        prediction = predict(model, batch)
        foreground = task.foreground(batch)
        if prediction.fusion is None or foreground is None:
            return prediction, {}
        intra, inter = guidance_loss(prediction.fusion, foreground)
        return prediction, {"intra": intra, "inter": inter}

    return Recipe("teacher", task, build_teacher(config), predict, losses)
