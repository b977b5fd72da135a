"""Found, missed, false: boxes of one pair against their truth, by hand and against the average precision's best F1."""

from __future__ import annotations

import numpy as np
import pytest

from mdtrain.data.records import CLASSES
from mdtrain.metrics.box_errors import class_thresholds, find_errors, most_errors_first
from mdtrain.metrics.coco import Found, Truth, average_precision

PERSON, BICYCLE, CAR = range(3)
HALF = [0.5] * 3
BOX = (10.0, 10.0, 20.0, 30.0)


def truth(*objects: tuple[int, tuple[float, ...]]) -> Truth:
    boxes = np.array([box for _, box in objects], np.float32).reshape(-1, 4)
    return Truth(boxes, np.array([kind for kind, _ in objects], np.int64))


def found(*boxes: tuple[int, float, tuple[float, ...]]) -> Found:
    return Found(
        np.array([box for _, _, box in boxes], np.float32).reshape(-1, 4),
        np.array([score for _, score, _ in boxes], np.float32),
        np.array([kind for kind, _, _ in boxes], np.int64),
    )


def moved(box: tuple[float, ...], pixels: float) -> tuple[float, ...]:
    return box[0] + pixels, box[1], box[2] + pixels, box[3]


@pytest.mark.parametrize(
    ("objects", "detections", "counts"),
    [
        ([], [], (0, 0, 0)),
        ([(PERSON, BOX)], [], (1, 1, 0)),
        ([], [(PERSON, 0.9, BOX)], (0, 0, 1)),
        ([(PERSON, BOX)], [(PERSON, 0.9, BOX)], (1, 0, 0)),
        ([(PERSON, BOX)], [(PERSON, 0.5, BOX)], (1, 0, 0)),  # the threshold itself counts
        ([(PERSON, BOX)], [(PERSON, 0.49, BOX)], (1, 1, 0)),
        ([(PERSON, BOX)], [(CAR, 0.9, BOX)], (1, 1, 1)),  # another class
        ([(PERSON, BOX)], [(PERSON, 0.9, moved(BOX, 3.3))], (1, 0, 0)),  # IoU 6.7 / 13.3
        ([(PERSON, BOX)], [(PERSON, 0.9, moved(BOX, 3.4))], (1, 1, 1)),  # IoU 6.6 / 13.4
        ([(PERSON, BOX)], [(PERSON, 0.9, BOX), (PERSON, 0.8, BOX)], (1, 0, 1)),  # each object is found once
        ([(PERSON, BOX), (PERSON, moved(BOX, 2))], [(PERSON, 0.8, BOX), (PERSON, 0.9, BOX)], (2, 0, 0)),
    ],
)
def test_counts(
    objects: list[tuple[int, tuple[float, ...]]],
    detections: list[tuple[int, float, tuple[float, ...]]],
    counts: tuple[int, int, int],
) -> None:
    errors = find_errors(truth(*objects), found(*detections), HALF)
    assert errors.counts() == counts
    assert errors.errors == counts[1] + counts[2]


def test_the_better_score_chooses_first_and_what_it_overlaps_most() -> None:
    """The order given does not matter: 0.9 takes the object it lies on, 0.8 the one that is left."""
    errors = find_errors(
        truth((PERSON, BOX), (PERSON, moved(BOX, 2))),
        found((PERSON, 0.8, BOX), (PERSON, 0.9, moved(BOX, 1.9)), (PERSON, 0.7, moved(BOX, 40))),
        HALF,
    )
    assert errors.found.scores.tolist() == pytest.approx([0.9, 0.8, 0.7])
    assert errors.hits.tolist() == [True, True, False]
    assert not errors.missed.any()


def test_classes_have_their_own_threshold_and_their_own_counts() -> None:
    errors = find_errors(
        truth((PERSON, BOX), (CAR, BOX), (CAR, moved(BOX, 40))),
        found((PERSON, 0.3, BOX), (CAR, 0.3, BOX), (BICYCLE, 0.6, BOX)),
        [0.2, 0.5, 0.4],
    )
    assert [errors.counts(kind) for kind in range(3)] == [(1, 0, 0), (0, 0, 1), (2, 2, 0)]
    assert errors.counts() == (3, 2, 1)


def random_pair(rng: np.random.Generator) -> tuple[Truth, Found]:
    """Crowded boxes of all classes, and detections near them with scores of two digits, so that many are equal."""
    corners = rng.uniform(0, 80, (rng.integers(0, 12), 2))
    boxes = np.hstack([corners, corners + rng.uniform(8, 30, corners.shape)]).astype(np.float32)
    kinds = rng.integers(0, 3, len(boxes))
    near = np.vstack([boxes + rng.normal(0, 4, boxes.shape), boxes + rng.normal(0, 2, boxes.shape)]).astype(np.float32)
    scores = rng.uniform(0, 1, len(near)).round(2).astype(np.float32)
    return Truth(boxes, kinds), Found(near, scores, np.concatenate([kinds, rng.permutation(kinds)]))


def test_sums_over_a_set_are_those_of_the_best_f1() -> None:
    """Precision and recall of the best F1, whose hits pycocotools counted, follow from our counts."""
    rng = np.random.default_rng(5)
    pairs = [random_pair(rng) for _ in range(60)]
    scores = average_precision([t for t, _ in pairs], [f for _, f in pairs], CLASSES)
    thresholds = class_thresholds(scores, None, 1.0)
    errors = [find_errors(t, f, thresholds) for t, f in pairs]
    for kind, name in enumerate(CLASSES):
        objects, missed, false = np.sum([pair.counts(kind) for pair in errors], axis=0)
        best = scores["classes"][name]["best_f1"]
        assert best is not None
        assert thresholds[kind] == best["threshold"]
        assert (objects - missed) / objects == pytest.approx(best["recall"])
        assert (objects - missed) / (objects - missed + false) == pytest.approx(best["precision"])


def test_a_class_without_a_best_f1_takes_the_other_threshold() -> None:
    scores = average_precision([truth((PERSON, BOX))], [found((PERSON, 0.7, BOX), (CAR, 0.9, BOX))], CLASSES)
    assert class_thresholds(scores, None, 0.25) == pytest.approx([0.7, 0.25, 0.25])
    assert class_thresholds(scores, 0.6, 0.25) == [0.6] * 3


def test_rank() -> None:
    """Most errors first; equal ones keep their order."""
    alarm = (PERSON, 0.9, BOX)
    pairs = [find_errors(truth(), found(*[alarm] * count), HALF) for count in (1, 3, 0, 3)]
    assert most_errors_first(pairs) == [1, 3, 0, 2]
