"""The checkpoint as the reference of a check: the student as it was trained, in PyTorch."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np

from mdexport.pairs import Scene
from mdexport.parity import Feed, reference, reference_classes, reference_labels
from mdexport.proof import progress
from mdrun.backends.base import Outputs
from mdrun.errors import UsageError
from mdrun.manifest import Manifest
from mdtrain.build import load_trained
from mdtrain.contract import TOP_CLASSES, TOP_K
from mdtrain.models.classifier import ClassifierSpec
from mdtrain.models.segmenter import SegmenterSpec
from mdtrain.models.streams import Student
from mdtrain.models.weights import hash_weights


def load_student(weights: Path, engine: Path, manifest: Manifest) -> Student:
    """The checkpoint that an engine was made of.

    Raises:
        EngineError: the weights cannot be used.
        UsageError: they are of another network.
    """
    student = load_trained(weights, "student").model
    assert isinstance(student, Student)  # noqa: S101  # load_trained was asked for one
    if hash_weights(student.state_dict()) != manifest.origin.checkpoint_sha256:
        raise UsageError(f"{weights}: not the checkpoint that {engine.name} was made of; name that one")
    return student


def checkpoint_outputs(student: Student, scenes: Sequence[Scene]) -> list[Outputs]:
    """The same outputs from the checkpoint, in PyTorch in full precision."""
    outputs: list[Outputs] = []
    for scene in progress(scenes, "checkpoint in PyTorch"):
        feed = Feed.of(scene)
        if isinstance(student.spec, SegmenterSpec):
            labels, energy = reference_labels(student, feed)
            outputs.append({"labels": labels[None], "energy": energy})
        elif isinstance(student.spec, ClassifierSpec):
            scores, energy = reference_classes(student, feed)
            best = np.argsort(-scores, kind="stable")[:TOP_CLASSES]
            outputs.append({"scores": scores[best][None], "classes": best[None].astype(np.int32), "energy": energy})
        else:
            boxes, scores, classes = reference(student, feed, TOP_K)
            outputs.append({"boxes": boxes[None], "scores": scores[None], "classes": classes[None]})
    return outputs
