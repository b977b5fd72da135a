"""Modality Distillation: a frozen two-stream teacher guides the one-stream, low-resolution-thermal student.

Zhang et al., Low-cost Multispectral Scene Analysis with Modality Distillation, WACV 2022, section 3.3. Student and
teacher see the same augmented pair, the teacher with thermal as large as the visible image.
"""

from __future__ import annotations

import copy
from collections.abc import Callable
from functools import partial
from pathlib import Path

import torch
from torch import Tensor, nn

from mdrun.errors import UsageError
from mdtrain.build import build_student, load_trained, spec_of
from mdtrain.config import Config
from mdtrain.data.batches import Batch
from mdtrain.loop import FRESH, Recipe, RunResult, Start, channels_last, run
from mdtrain.losses.distill import attention_transfer, focal_mse_transfer, mse_transfer
from mdtrain.models.sizes import matching_size
from mdtrain.models.streams import Prediction, Student, Teacher
from mdtrain.models.weights import adapt_channels, hash_weights
from mdtrain.tasks import make_task
from mdtrain.teaching import TeacherCache, ask


def train(config: Config, teacher_weights: Path, folder: Path, command: str, start: Start = FRESH) -> RunResult:
    """Train the student under a finished teacher; see `loop.run` and `make` for what it leaves and raises."""
    config, recipe = make(config, teacher_weights)
    return run(config, recipe, folder, command, start)


def make(config: Config, teacher_weights: Path) -> tuple[Config, Recipe]:
    """Network and losses of the student under its teacher, and the configuration fitted to the teacher.

    The teacher sees the student's batches: it may have been trained at another size, being fully convolutional.

    Raises:
        UsageError: the maps of teacher and student cannot be compared.
    """
    trained = load_trained(teacher_weights, "teacher")
    teacher = trained.model
    config = _fit(config, trained.config)
    assert isinstance(teacher, Teacher)  # noqa: S101  # the other kind is refused by _fit
    teacher.requires_grad_(requires_grad=False)
    channels_last(teacher)
    semantic_loss = _semantic_loss(config)
    teacher_sha256 = hash_weights(teacher.state_dict())
    ask_teacher = ask
    if config.distill.cache is not None:
        ask_teacher = TeacherCache(config.distill.cache, teacher_sha256, config.computed_precision).ask

    def predict(model: nn.Module, batch: Batch) -> Prediction:
        thermal = None if config.inputs == "visible" else batch.thermal_low
        prediction: Prediction = model(batch.visible, thermal)
        return prediction

    def losses(model: nn.Module, batch: Batch) -> tuple[Prediction, dict[str, Tensor]]:
        prediction, weights = predict(model, batch), config.distill
        if not (weights.attention or weights.semantic):
            return prediction, {}
        taught = ask_teacher(teacher, batch)
        assert prediction.attention is not None and prediction.feature is not None  # noqa: S101, PT018  # a student's
        attention = attention_transfer(prediction.attention.float(), taught.mask)
        semantic = semantic_loss(prediction.feature.float(), taught.fused)
        return prediction, {"attention": weights.attention * attention, "semantic": weights.semantic * semantic}

    torch.manual_seed(config.seed)  # here: the student starts from the weights of a baseline of the same seed
    student = build_student(config)
    if config.distill.inherit:
        inherit(student, teacher)
    facts = {"teacher_sha256": teacher_sha256}
    return config, Recipe("student", make_task(config), student, predict, losses, facts, config.distill.inherit)


def inherit(student: Student, teacher: Teacher) -> None:
    """Start the student from the teacher: last stage, pyramid and head, and the visible stream as its stem.

    What the teacher's later layers learnt fits the student's maps, since these imitate the teacher's
    (Kang et al., Instance-Conditional Knowledge Distillation, NeurIPS 2021, call it inheriting). The first convolution
    is duplicated for the thermal channels and halved, as the paper does with ImageNet weights.
    """
    for part in ("top", "pyramid", "head"):
        student.get_submodule(part).load_state_dict(teacher.get_submodule(part).state_dict())
    stem = copy.deepcopy(teacher.visible)
    stem.first.weight = nn.Parameter(adapt_channels(stem.first.weight, student.stem.first.in_channels))
    student.stem.load_state_dict(stem.state_dict())


def _semantic_loss(config: Config) -> Callable[[Tensor, Tensor], Tensor]:
    if config.distill.semantic_loss == "mse":
        return mse_transfer
    channels = config.model.imitates or spec_of(config).maps.fused  # of the maps that are compared
    temperature = channels if config.distill.temperature == "mean" else 1
    return partial(focal_mse_transfer, temperature=temperature)


def _fit(student: Config, teacher: Config) -> Config:
    """The student's configuration with an adapter where the widths differ.

    Raises:
        UsageError: another task or kind of teacher, other classes, another fusion stride, or weights to inherit that do
            not fit.
    """
    if student.task != teacher.task:
        raise UsageError(f"the student has task={student.task}, its teacher task={teacher.task}; give both the same")
    if student.class_names != teacher.class_names:
        raise UsageError(
            f"the student has data.classes={student.class_names}, its teacher {teacher.class_names}; give both the same"
        )
    own, other = spec_of(student), spec_of(teacher)
    if teacher.model.fusion != "gaff":
        raise UsageError(
            f"the teacher has model.fusion={teacher.model.fusion}, the two transfers want masks of gaff; train one"
        )
    if own.maps.fusion_stride != other.maps.fusion_stride:
        raise UsageError(
            f"the maps of the student have stride {own.maps.fusion_stride}, those of the teacher "
            f"{other.maps.fusion_stride}; give both the same model.backbone and model.output_stride"
        )
    if student.distill.inherit and own != other:
        differing = [
            f"model.{key} is {a}, of the teacher {b}"
            for key, a, b in zip(own._fields, own, other, strict=True)
            if a != b
        ]
        size = matching_size(other._asdict())
        raise UsageError(
            f"distill.inherit wants equal networks: {'; '.join(differing)}; "
            f"{f'--set model.size={size}, or ' if size else ''}--set distill.inherit=false"
        )
    imitates = None if own.maps.fused == other.maps.fused else other.maps.fused
    return student.model_copy(update={"model": student.model.model_copy(update={"imitates": imitates})})
