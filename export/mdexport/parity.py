"""Parity: the same pairs through the checkpoint in PyTorch and through the exported graph.

The reference is the student as it was trained: six channels, separate normalisation, nothing folded.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Mapping
from typing import Any, NamedTuple

import numpy as np
import torch
from numpy.typing import NDArray

from mdexport.batches import in_batches, run_batch, takes_many
from mdexport.computed import computed_in_memory
from mdexport.pairs import Scene
from mdrun.backends.base import Feeds
from mdrun.manifest import Parity
from mdtrain.data.batches import normalise_thermal, normalise_visible
from mdtrain.models.anchors import decode
from mdtrain.models.classifier import Classes, ClassifierSpec
from mdtrain.models.detector import Boxes, DetectorSpec
from mdtrain.models.energy import free_energy
from mdtrain.models.segmenter import SegmenterSpec, Segments, label_map
from mdtrain.models.streams import Output, Prediction, Student

LIMITS = {"scores": 1e-3, "boxes_px": 0.5}  # of detectors
LABEL_LIMITS = {"labels": 1e-4, "energy": 1e-3}  # of segmenters: share of a pair's pixels with another class
CLASS_LIMITS = {"scores": 1e-3, "energy": 1e-3}  # of classifiers
COMPARED_SCORE = 0.01  # boxes below it never reach a result
ROUNDING = 1e-6  # of a score, whatever it is: sigmoids of two libraries differ by 1e-7
FEWEST_BOXES = 10  # of a pair that are compared, whatever their score: a network that finds nothing has boxes too
BOXES = "boxes"  # number that was compared
NO_BOX = "no box was compared, for the scores of the checkpoint are all equal; is the network trained?"
Outputs = tuple[NDArray[np.float32], NDArray[np.float32], NDArray[Any]]


class Feed(NamedTuple):
    """One pair at network size: visible (1, H, W, 3) uint8 RGB, thermal (1, h, w) uint8 or None."""

    visible: NDArray[np.uint8]
    thermal: NDArray[np.uint8] | None

    @classmethod
    def of(cls, scene: Scene) -> Feed:
        """What the cameras give."""
        return cls(scene.feeds["visible"], scene.feeds.get("thermal"))


def predict(student: Student, feed: Feed) -> Output:
    """The student in PyTorch, full precision."""
    thermal = None if feed.thermal is None else normalise_thermal(torch.from_numpy(feed.thermal))
    prediction: Prediction = student(normalise_visible(torch.from_numpy(feed.visible)), thermal)
    return prediction.output


def reference(student: Student, feed: Feed, top_k: int) -> Outputs:
    """Boxes (K, 4), scores (K,), classes (K,) of a detector in PyTorch."""
    height, width = feed.visible.shape[1:3]
    assert isinstance(student.spec, DetectorSpec)  # noqa: S101  # of the task
    with torch.inference_mode():
        output = predict(student, feed)
        assert isinstance(output, Boxes)  # noqa: S101
        logits, deltas = output.logits[0], output.deltas[0]
        best, index = logits.flatten().topk(top_k)
        anchor = index // logits.shape[1]
        boxes = decode(deltas[anchor], student.spec.make_anchors((width, height))[anchor])
    return boxes.numpy(), best.sigmoid().numpy(), (index % logits.shape[1]).numpy()


def reference_labels(student: Student, feed: Feed) -> tuple[NDArray[np.int64], NDArray[np.float32]]:
    """Label map (H, W) and energy (1,) of a segmenter in PyTorch."""
    height, width = feed.visible.shape[1:3]
    with torch.inference_mode():
        output = predict(student, feed)
        assert isinstance(output, Segments)  # noqa: S101
        labels: NDArray[np.int64] = label_map(output.logits, (width, height))[0].numpy()
        energy: NDArray[np.float32] = free_energy(output.logits).numpy()
    return labels, energy


def reference_classes(student: Student, feed: Feed) -> tuple[NDArray[np.float32], NDArray[np.float32]]:
    """Probability of every class (classes,) and energy (1,) of a classifier in PyTorch."""
    with torch.inference_mode():
        output = predict(student, feed)
        assert isinstance(output, Classes)  # noqa: S101
        scores: NDArray[np.float32] = output.logits.softmax(1)[0].numpy()
        energy: NDArray[np.float32] = free_energy(output.logits).numpy()
    return scores, energy


def class_difference(
    wanted: tuple[NDArray[np.float32], NDArray[np.float32]],
    got: tuple[NDArray[np.float32], NDArray[np.float32], NDArray[np.int32]],
) -> dict[str, float]:
    """Largest difference of the K best scores, rank by rank and each from that of its class, and of the energy.

    Args:
        wanted: as `reference_classes` gives them.
        got: scores (K,), energy (1,), classes (K,) of a graph.
    """
    (probabilities, wanted_energy), (scores, energy, classes) = wanted, got
    if not (np.isfinite(scores).all() and np.isfinite(energy).all()):
        return dict.fromkeys(CLASS_LIMITS, math.inf)  # max() would let NaN pass
    ranked = np.sort(probabilities)[::-1][: len(scores)]
    worst = max(float(np.abs(other - scores).max()) for other in (ranked, probabilities[classes]))
    return {"scores": worst, "energy": float(np.abs(wanted_energy - energy).max())}


def difference(wanted: Outputs, got: Outputs) -> dict[str, float]:
    """Largest difference of scores (rank by rank) and of boxes (each against its counterpart).

    Equal scores may swap ranks, so a box is compared with the nearest box of its class and score. For the same reason
    the last place of the K may be another box's, so what only rounding keeps in is not looked for.
    """
    boxes, scores, classes = wanted
    got_boxes, got_scores, got_classes = got
    if not (np.isfinite(got_boxes).all() and np.isfinite(got_scores).all()):
        return dict.fromkeys(LIMITS, math.inf)  # max() would let NaN pass
    shift = float(np.abs(scores - got_scores).max())
    count = compared_boxes(scores, got_scores)
    worst = 0.0
    for box, score, label in zip(boxes[:count], scores[:count], classes[:count], strict=True):
        near = max(LIMITS["scores"] * min(1.0, float(score) / COMPARED_SCORE), 2 * shift, ROUNDING)
        same = (got_classes == label) & (np.abs(got_scores - score) <= near)
        worst = max(worst, float(np.abs(got_boxes[same] - box).max(1).min()) if same.any() else math.inf)
    return {"scores": shift, "boxes_px": worst}


def compared_boxes(scores: NDArray[np.float32], got_scores: NDArray[np.float32]) -> int:
    """Of how many of the K best ranks the boxes are compared: those that can reach a result, and FEWEST_BOXES at least.

    Not of the last ones, where rounding decides which box is among the K; and of none where all scores are equal and
    small, as a head without weights gives them: any K of its boxes would do.
    """
    sure = int((scores > max(scores[-1], got_scores[-1]) + np.abs(scores - got_scores).max()).sum())
    seen = int((scores >= COMPARED_SCORE).sum())
    if not sure:
        return seen
    return min(sure, max(seen, FEWEST_BOXES))


def compare(student: Student, session: Any, feeds: Iterable[Feed], top_k: int, data: str) -> Parity:
    """Run every feed through both and report the largest differences.

    The student sees each alone; a graph that takes any number of pairs gets some of them together, as a server does it.

    Args:
        student: the checkpoint, in evaluation mode.
        session: `onnxruntime.InferenceSession` of the exported graph.
        feeds: pairs at network size.
        top_k: boxes a detector's graph gives.
        data: where the pairs come from, for the report.

    Raises:
        EngineError: the graph does not take several pairs, though its first dimension has a name.
    """
    limits = _limits(student)
    largest = dict.fromkeys(limits, 0.0)
    count = boxes = 0
    for batch in in_batches(list(feeds), together=takes_many(session)):
        for feed, got in zip(
            batch, run_batch(session, [_arrays(feed) for feed in batch], "the exported graph"), strict=True
        ):
            found = _differences(student, got, feed, top_k)
            boxes += int(found.pop(BOXES, 0))
            largest = {name: max(value, found[name]) for name, value in largest.items()}
            count += 1
    passed = count > 0 and all(largest[name] <= limit for name, limit in limits.items())
    finite = {name: min(value, 1e9) for name, value in largest.items()}  # JSON has no infinity
    return Parity(
        f"PyTorch {torch.__version__} fp32",
        count,
        data,
        finite,
        dict(limits),
        passed,
        doubt=NO_BOX if "boxes_px" in limits and not boxes else None,
        computed_by=computed_in_memory(),
    )


def _limits(student: Student) -> dict[str, float]:
    if isinstance(student.spec, SegmenterSpec):
        return LABEL_LIMITS
    return CLASS_LIMITS if isinstance(student.spec, ClassifierSpec) else LIMITS


def _arrays(feed: Feed) -> Feeds:
    return {"visible": feed.visible} | ({} if feed.thermal is None else {"thermal": feed.thermal})


def _differences(student: Student, got: Mapping[str, NDArray[Any]], feed: Feed, top_k: int) -> dict[str, float]:
    """Of one pair, by the names of the task's limits."""
    if isinstance(student.spec, SegmenterSpec):
        wanted, wanted_energy = reference_labels(student, feed)
        shift = float(np.abs(got["energy"] - wanted_energy).max())
        labels = float((got["labels"][0] != wanted).mean())
        return {"labels": labels, "energy": math.inf if math.isnan(shift) else shift}
    if isinstance(student.spec, ClassifierSpec):
        ranked = got["scores"][0], got["energy"], got["classes"][0]
        return class_difference(reference_classes(student, feed), ranked)
    boxes, scores, classes = (got[name][0] for name in ("boxes", "scores", "classes"))
    wanted_boxes = reference(student, feed, top_k)
    found = difference(wanted_boxes, (boxes, scores, classes))
    return found | {BOXES: compared_boxes(wanted_boxes[1], scores)}
