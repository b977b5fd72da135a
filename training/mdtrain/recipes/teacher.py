"""Two-stream GAFF teacher: high-resolution visible + high-resolution thermal, fused at feature level.

Zhang et al., GAFF, WACV 2021: L = L_det + L_intra + L_inter, all weights 1 (Eq. 9).
"""

from __future__ import annotations

from pathlib import Path

import torch
from torch import Tensor, nn

from mdtrain.build import build_teacher
from mdtrain.config import Config
from mdtrain.data.batches import Batch
from mdtrain.loop import FRESH, Recipe, RunResult, Start, run
from mdtrain.losses.attention import ellipse_mask, guidance_loss
from mdtrain.models.detector import Prediction

FUSION_STRIDE = 16  # after layer3


def train(config: Config, folder: Path, command: str, start: Start = FRESH) -> RunResult:
    """Train the teacher; see `loop.run` for what it leaves and raises."""
    torch.manual_seed(config.seed)
    width, height = config.model.visible

    def predict(model: nn.Module, batch: Batch) -> Prediction:
        prediction: Prediction = model(batch.visible, batch.thermal_full)
        return prediction

    def losses(model: nn.Module, batch: Batch) -> tuple[Prediction, dict[str, Tensor]]:
        prediction = predict(model, batch)
        truth = ellipse_mask(batch.boxes, height, width, FUSION_STRIDE).to(batch.visible.device)
        assert prediction.fusion is not None  # noqa: S101  # a teacher always fuses
        intra, inter = guidance_loss(prediction.fusion, truth)
        return prediction, {"intra": intra, "inter": inter}

    return run(config, Recipe("teacher", build_teacher(config), predict, losses), folder, command, start)
