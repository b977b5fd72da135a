"""Untrained students of a few kilobytes: what export does with them does not depend on what they learnt."""

from __future__ import annotations

from pathlib import Path

import torch
from numpy.random import default_rng

from mdrun.backends import Feeds
from mdrun.backends.base import input_shape
from mdrun.manifest import Manifest
from mdtrain.build import build_student
from mdtrain.config import load_config
from mdtrain.state import save_weights
from tests.training.test_recipes import TINY

STREET = "test://street?seed=11&width=128&height=96&frames=2"
FACTS = {"command": "tests/export/students.py", "accuracy": {"none/person/ap50": 0.5}, "display_score": 0.5}
SETTINGS = {  # by task
    "detect": ("name=tiny",),
    "segment": ("name=tiny", "task=segment", "model.decoder=16", "data.sets=[]", "data.street=street"),
    "classify": ("name=tiny", "task=classify", "data.classes=[day,night]", "data.mosaic_share=0"),
}


def write_student(path: Path, task: str = "detect", *settings: str) -> Path:
    """`weights.safetensors` of a student whose outputs depend on its inputs.

    Args:
        path: file to write.
        task: `detect`, `segment` or `classify`.
        settings: further ones, as `--set` takes them.
    """
    torch.manual_seed(0)
    config = load_config(None, (*TINY, *SETTINGS[task], *settings))
    student = build_student(config)
    for name, parameter in student.head.named_parameters():
        if name.endswith("weight") and parameter.dim() > 1:
            torch.nn.init.kaiming_normal_(parameter)  # the initial classifier gives the same everywhere
    save_weights(path, student.eval(), config, "student", FACTS)
    return path


def random_feeds(manifest: Manifest, batch: int) -> Feeds:
    """`batch` pairs of noise."""
    shapes = {name: (batch, *input_shape(spec)[1:]) for name, spec in manifest.inputs.items()}
    return {name: default_rng(7).integers(0, 256, shape, "uint8") for name, shape in shapes.items()}
