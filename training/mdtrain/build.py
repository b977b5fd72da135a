"""From a configuration or a file of weights to a network."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, NamedTuple

from pydantic import ValidationError
from safetensors import SafetensorError, safe_open
from torch import nn

from mdrun.errors import EngineError
from mdtrain.config import Config
from mdtrain.data.augment import Sizes
from mdtrain.data.records import CLASSES
from mdtrain.models.detector import DecisionLevel, DetectorSpec, Student, Teacher
from mdtrain.state import load_weights


def sizes(config: Config) -> Sizes:
    """Network sizes of a run."""
    return Sizes(config.model.visible, config.model.thermal, config.data.coarser_share)


def spec_of(config: Config) -> DetectorSpec:
    """What the detector of a run is made of."""
    model = config.model
    return DetectorSpec(
        model.backbone,
        model.widths,
        model.neck,
        model.tower,
        model.shared_tower,
        model.anchors,
        model.levels,
        len(CLASSES),
    )


def build_teacher(config: Config) -> Teacher | DecisionLevel:
    """Two-stream detector."""
    fusion = config.model.fusion
    return DecisionLevel(spec_of(config)) if fusion == "decision" else Teacher(spec_of(config), fusion)


def build_student(config: Config) -> Student:
    """One-stream detector."""
    return Student(spec_of(config), config.inputs, config.model.imitates)


class Trained(NamedTuple):
    """A network with its history. `facts` as `state.save_weights` wrote them."""

    model: nn.Module
    kind: str
    config: Config
    facts: dict[str, Any]


def load_trained(path: Path, kind: str | None = None) -> Trained:
    """Read `weights.safetensors` of a finished run.

    Raises:
        EngineError: missing, damaged, not ours, or of another kind than asked for.
    """
    if not path.is_file():
        raise EngineError(f"{path}: no such file of weights; a run of mdtrain leaves RUN/weights.safetensors")
    try:
        with safe_open(path, "pt") as file:
            metadata = file.metadata() or {}
            weights = {name: file.get_tensor(name) for name in file.keys()}  # noqa: SIM118  # not a dict
    except (SafetensorError, OSError) as error:
        raise EngineError(f"{path}: not a readable safetensors file ({error}); copy it again") from error
    if missing := {"kind", "config", "facts"} - metadata.keys():
        raise EngineError(f"{path}: metadata lack {', '.join(sorted(missing))}; wanted weights written by mdtrain")
    if kind is not None and metadata["kind"] != kind:
        raise EngineError(f"{path}: weights of a {metadata['kind']}, wanted those of a {kind}")
    try:
        config = Config.model_validate_json(metadata["config"])
    except ValidationError as error:
        raise EngineError(
            f"{path}: written by another version of mdtrain ({error.error_count()} keys differ)"
        ) from error
    model: nn.Module = build_teacher(config) if metadata["kind"] == "teacher" else build_student(config)
    load_weights(model, weights, path)
    return Trained(model.eval(), metadata["kind"], config, json.loads(metadata["facts"]))
