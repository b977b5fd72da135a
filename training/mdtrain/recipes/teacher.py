"""Two-stream teacher: high-resolution visible + high-resolution thermal, fused at feature (or decision) level.

With GAFF (Zhang et al., WACV 2021): L = L_det + L_intra + L_inter, all weights 1 (Eq. 9). The sum of the streams and
the decision level (`model.fusion`) are what it is compared with; they learn from the detection loss alone.
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from mdtrain.build import build_teacher, spec_of
from mdtrain.config import Config
from mdtrain.data.batches import Batch
from mdtrain.loop import FRESH, Recipe, RunResult, Start, run
from mdtrain.losses.attention import ellipse_mask, guidance_loss
from mdtrain.models.detector import Prediction


def train(config: Config, folder: Path, command: str, start: Start = FRESH) -> RunResult:
    """Train the teacher; see `loop.run` for what it leaves and raises."""
    return run(config, make(config), folder, command, start)


def make(config: Config) -> Recipe:
    """Network and losses of the teacher."""
    torch.manual_seed(config.seed)
    width, height = config.model.visible
    stride = spec_of(config).maps.fusion_stride

    def predict(model: nn.Module, batch: Batch) -> Prediction:
        prediction: Prediction = model(batch.visible, batch.thermal_full)
        return prediction

    def losses(model: nn.Module, batch: Batch) -> tuple[Prediction, dict[str, Tensor]]:
        prediction = predict(model, batch)
        if prediction.fusion is None:
            return prediction, {}
        truth = ellipse_mask(batch.boxes, height, width, stride).to(batch.visible.device)
        intra, inter = guidance_loss(prediction.fusion, truth)
        return prediction, {"intra": intra, "inter": inter}

    return Recipe("teacher", build_teacher(config), predict, losses)
