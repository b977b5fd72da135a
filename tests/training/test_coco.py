"""COCO average precision: identities, a hand-computed curve, and the best-F1 threshold."""

from __future__ import annotations

from itertools import pairwise
from random import Random

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from mdtrain.metrics.coco import Found, Truth, average_precision, best_f1

CLASSES = ("person", "bicycle", "car")
Box = tuple[float, float, float, float]
A: Box = (10, 10, 30, 60)
B: Box = (100, 20, 140, 90)
C: Box = (200, 50, 230, 99)


def truth(*boxes: Box, label: int = 0) -> Truth:
    return Truth(np.array(boxes, dtype=np.float32).reshape(-1, 4), np.full(len(boxes), label, dtype=np.int64))


def found(*rows: tuple[Box, float], label: int = 0) -> Found:
    return Found(
        boxes_xyxy=np.array([box for box, _ in rows], dtype=np.float32).reshape(-1, 4),
        scores=np.array([score for _, score in rows], dtype=np.float32),
        classes=np.full(len(rows), label, dtype=np.int64),
    )


BOXES = st.builds(
    lambda x, y, w, h: (x, y, x + w, y + h),
    st.integers(0, 300),
    st.integers(0, 200),
    st.integers(4, 90),
    st.integers(4, 90),
)
IMAGES = st.lists(
    st.lists(st.tuples(BOXES, st.integers(0, 2)), max_size=4, unique_by=lambda item: item[0]), min_size=1, max_size=4
).filter(any)


def as_truth(image: list[tuple[Box, int]]) -> Truth:
    boxes = np.array([box for box, _ in image], dtype=np.float32).reshape(-1, 4)
    return Truth(boxes, np.array([label for _, label in image], dtype=np.int64))


def as_found(wanted: Truth, scores: list[float], shift: float = 0.0) -> Found:
    return Found(wanted.boxes_xyxy + np.float32(shift), np.array(scores, dtype=np.float32), wanted.classes)


@given(IMAGES)
@settings(max_examples=25, deadline=None)
def test_perfect_detections_score_one(images: list[list[tuple[Box, int]]]) -> None:
    wanted = [as_truth(image) for image in images]
    scores = average_precision(wanted, [as_found(t, [0.5] * len(t.classes)) for t in wanted], CLASSES)
    assert [scores["ap50"], scores["ap"]] == pytest.approx([1, 1])
    for label, name in enumerate(CLASSES):
        occurs = any(label in t.classes for t in wanted)
        assert scores["classes"][name]["ap50"] == (pytest.approx(1) if occurs else None)


@given(IMAGES)
@settings(max_examples=15, deadline=None)
def test_no_detections_score_zero(images: list[list[tuple[Box, int]]]) -> None:
    scores = average_precision([as_truth(image) for image in images], [found()] * len(images), CLASSES)
    assert (scores["ap50"], scores["ap"]) == (0, 0)
    assert all(scores["classes"][name]["best_f1"] is None for name in CLASSES)


@given(IMAGES, st.randoms(use_true_random=False), st.sampled_from([0.0, 3.0, 9.0]))
@settings(max_examples=25, deadline=None)
def test_order_does_not_matter(images: list[list[tuple[Box, int]]], random: Random, shift: float) -> None:
    """Images and boxes in any order: scores differ, so nothing depends on ties."""
    wanted = [as_truth(image) for image in images]
    ranks = iter(range(1, 100))
    detected = [as_found(t, [next(ranks) / 100 for _ in t.classes], shift) for t in wanted]
    order = list(range(len(images)))
    random.shuffle(order)
    mixed = [Found(d.boxes_xyxy[::-1], d.scores[::-1], d.classes[::-1]) for d in detected]
    before = average_precision(wanted, detected, CLASSES)
    assert average_precision([wanted[i] for i in order], [mixed[i] for i in order], CLASSES) == before


def test_hand_computed() -> None:
    """Three persons; hit 0.9, miss 0.8, hit 0.7, one never found.

    Precision 1 up to recall 1/3, then 2/3 up to 2/3, then 0; of the 101 recall points 34 and 33.
    The second hit overlaps by 0.8: it counts at the seven thresholds 0.5 to 0.8.
    """
    smaller: Box = (B[0], B[1], B[2], B[1] + 56)  # 56 of 70 rows
    wanted = [truth(A, B), truth(C), truth()]
    detected = [found((A, 0.9), (smaller, 0.7)), found(), found((A, 0.8))]
    person = average_precision(wanted, detected, CLASSES)["classes"]["person"]
    both, one = (34 + 33 * 2 / 3) / 101, 34 / 101
    assert person["objects"] == 3
    assert person["ap50"] == pytest.approx(both)
    assert person["ap"] == pytest.approx((7 * both + 3 * one) / 10)
    best = {"threshold": 0.7, "f1": 2 / 3, "precision": 2 / 3, "recall": 2 / 3}
    assert person["best_f1"] == pytest.approx(best)


def test_the_first_box_can_be_found() -> None:
    """One box, one detection: pycocotools takes an annotation with id 0 for no match."""
    assert average_precision([truth(A)], [found((A, 0.5))], CLASSES)["ap50"] == pytest.approx(1)


def test_empty_images_are_negatives() -> None:
    alone = average_precision([truth(A)], [found((A, 0.5))], CLASSES)
    beside = average_precision([truth(A), truth()], [found((A, 0.5)), found((B, 0.9))], CLASSES)
    assert alone["ap50"] == pytest.approx(1)
    assert beside["ap50"] == pytest.approx(0.5)  # a surer false one before the hit


def test_a_class_is_not_another() -> None:
    scores = average_precision([truth(A, label=2)], [found((A, 0.5), label=1)], CLASSES)
    assert scores["classes"]["car"]["ap50"] == 0
    assert scores["classes"]["bicycle"] == {"objects": 0, "ap50": None, "ap": None, "best_f1": None}


@pytest.mark.parametrize(
    ("images", "ap50"),
    [(None, 0.5049505), ([0], 1.0), ([1], 0.0), ([1, 0], 0.5049505), ([], None)],  # 51 of 101 recall points
)
def test_chosen_images(images: list[int] | None, ap50: float | None) -> None:
    scores = average_precision([truth(A), truth(B)], [found((A, 0.5)), found()], CLASSES, images)
    assert scores["ap50"] == (None if ap50 is None else pytest.approx(ap50))
    assert scores["images"] == (2 if images is None else len(images))


def test_quiet(capsys: pytest.CaptureFixture[str]) -> None:
    average_precision([truth(A)], [found((A, 0.5))], CLASSES)
    assert capsys.readouterr() == ("", "")


@pytest.mark.parametrize(
    ("wanted", "detected", "said"),
    [
        ([truth(A)], [], "truth of 1 images and detections of 0"),
        ([truth(A, label=3)], [found()], "wanted 0 to 2"),
        ([truth(A)], [found((A, 0.5), label=-1)], "wanted 0 to 2"),
        ([truth(A)], [found((A, float("nan")))], "NaN"),
        ([truth((0, 0, float("inf"), 1))], [found()], "infinity"),
    ],
)
def test_refused(wanted: list[Truth], detected: list[Found], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        average_precision(wanted, detected, CLASSES)


def test_truth_of_wrong_shape() -> None:
    with pytest.raises(ValueError, match=r"boxes \(N, 4\)"):
        Truth(np.zeros((2, 4), np.float32), np.zeros(3, np.int64))


@pytest.mark.parametrize(
    ("scores", "hits", "objects", "threshold", "f1"),
    [
        ([0.9, 0.8, 0.1], [1, 1, 0], 2, 0.8, 1.0),  # just above the false one
        ([0.1, 0.8, 0.9], [0, 1, 1], 2, 0.8, 1.0),  # the order does not matter
        ([0.5, 0.5], [1, 0], 1, 0.5, 2 / 3),  # no threshold parts equal scores
        ([0.9, 0.4], [0, 0], 3, 0.9, 0.0),  # all false
        ([0.9, 0.8, 0.7, 0.6], [1, 0, 1, 1], 4, 0.6, 0.75),  # a false one is worth the two hits below
    ],
)
def test_best_f1(scores: list[float], hits: list[int], objects: int, threshold: float, f1: float) -> None:
    best = best_f1(np.array(scores), np.array(hits, dtype=np.bool_), objects)
    assert best is not None
    assert [best["threshold"], best["f1"]] == pytest.approx([threshold, f1])


@given(st.lists(st.tuples(st.integers(1, 5), st.booleans()), min_size=1, max_size=12), st.integers(0, 5))
@settings(deadline=None)
def test_best_f1_is_the_best_of_all_thresholds(rows: list[tuple[int, bool]], missed: int) -> None:
    scores = np.array([float(score) for score, _ in rows])
    hits = np.array([hit for _, hit in rows])
    objects = max(1, int(hits.sum()) + missed)
    best = best_f1(scores, hits, objects)
    assert best is not None
    tried = {t: 2 * hits[scores >= t].sum() / ((scores >= t).sum() + objects) for t in set(scores.tolist())}
    assert best["f1"] == pytest.approx(max(tried.values()))
    assert tried[best["threshold"]] == pytest.approx(best["f1"])


def test_more_noise_never_helps() -> None:
    """A limit: AP50 falls step by step as surer false detections are added."""
    values = []
    for count in range(4):
        false = [((300.0 + 50 * i, 0.0, 340.0 + 50 * i, 50.0), 0.9) for i in range(count)]
        values.append(average_precision([truth(A)], [found((A, 0.5), *false)], CLASSES)["ap50"] or 0.0)
    assert values == pytest.approx([1, 1 / 2, 1 / 3, 1 / 4])
    assert all(before > after for before, after in pairwise(values))
