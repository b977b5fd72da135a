"""Modality Distillation: a frozen two-stream teacher guides the one-stream, low-resolution-thermal student.

Zhang et al., Low-cost Multispectral Scene Analysis with Modality Distillation, WACV 2022, section 3.3. Student and
teacher see the same augmented pair, the teacher with thermal as large as the visible image.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from mdrun.errors import UsageError
from mdtrain.build import build_student, load_trained
from mdtrain.config import Config
from mdtrain.contract import hash_weights
from mdtrain.data.batches import Batch
from mdtrain.loop import FRESH, Recipe, RunResult, Start, channels_last, run
from mdtrain.losses.distill import attention_transfer, focal_mse_transfer, mse_transfer
from mdtrain.models.detector import Prediction, Student, Teacher
from mdtrain.models.gaff import Fusion


def train(config: Config, teacher_weights: Path, folder: Path, command: str, start: Start = FRESH) -> RunResult:
    """Train the student under a finished teacher; see `loop.run` for what it leaves and raises.

    The teacher sees the student's batches: it may have been trained at another size, being fully convolutional.

    Raises:
        UsageError: teacher and student have other widths, so that their maps cannot be compared.
    """
    trained = load_trained(teacher_weights, "teacher")
    teacher = trained.model
    _check_maps(config, trained.config)
    teacher.requires_grad_(requires_grad=False)
    channels_last(teacher)
    semantic_loss = _semantic_loss(config)

    def predict(model: nn.Module, batch: Batch) -> Prediction:
        thermal = batch.thermal_low if config.inputs == "both" else None
        prediction: Prediction = model(batch.visible, thermal)
        return prediction

    def losses(model: nn.Module, batch: Batch) -> tuple[Prediction, dict[str, Tensor]]:
        fusion = _teach(teacher, batch)
        prediction = predict(model, batch)
        assert isinstance(model, Student) and prediction.joint is not None  # noqa: S101, PT018  # built below
        attention = attention_transfer(model.attention_logits(prediction.joint).float(), fusion.teacher_mask())
        semantic = semantic_loss(prediction.feature.float(), fusion.fused)
        weights = config.distill
        return prediction, {"attention": weights.attention * attention, "semantic": weights.semantic * semantic}

    torch.manual_seed(config.seed)  # here: the student starts from the weights of a baseline of the same seed
    student = build_student(config)
    if config.distill.inherit:
        assert isinstance(teacher, Teacher)  # noqa: S101  # load_trained was asked for one
        inherit(student, teacher)
    recipe = Recipe("student", student, predict, losses, {"teacher_sha256": hash_weights(teacher.state_dict())})
    return run(config, recipe, folder, command, start)


def inherit(student: Student, teacher: Teacher) -> None:
    """Start the student from the teacher: last stage, pyramid and head, and the visible stream as its stem.

    What the teacher's later layers learnt fits the student's maps, since these imitate the teacher's
    (Kang et al., Instance-Conditional Knowledge Distillation, NeurIPS 2021, call it inheriting). The first convolution
    is duplicated for the thermal channels and halved, as the paper does with ImageNet weights.
    """
    student.layer4.load_state_dict(teacher.layer4.state_dict())
    student.pyramid.load_state_dict(teacher.pyramid.state_dict())
    student.head.load_state_dict(teacher.head.state_dict())
    stem = dict(teacher.visible.state_dict())
    if student.stem.conv1.in_channels == 6:
        stem["conv1.weight"] = torch.cat([stem["conv1.weight"]] * 2, 1) / 2
    student.stem.load_state_dict(stem)


def _semantic_loss(config: Config) -> Callable[[Tensor, Tensor], Tensor]:
    if config.distill.semantic_loss == "mse":
        return mse_transfer
    temperature = config.model.widths[2] if config.distill.temperature == "mean" else 1
    return partial(focal_mse_transfer, temperature=temperature)


@torch.no_grad()
def _teach(teacher: nn.Module, batch: Batch) -> Fusion:
    """The teacher's fusion, in full precision for the losses."""
    assert isinstance(teacher, Teacher)  # noqa: S101  # load_trained was asked for one
    teacher.to(batch.visible.device)  # where the run is; does nothing from the second batch on
    _, fusion = teacher.fuse(batch.visible, batch.thermal_full)
    return Fusion(*(part.float() for part in fusion))


def _check_maps(student: Config, teacher: Config) -> None:
    got, wanted = student.model.widths, teacher.model.widths
    if got != wanted:
        raise UsageError(f"model.widths of the student is {got}, of the teacher {wanted}; give both the same")
