"""Overlap and suppression: identities, limits, and a naive reference."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp
from numpy.typing import NDArray

from mdrun import boxes

COORDINATE = st.integers(0, 60).map(float)


@st.composite
def box_sets(draw: st.DrawFn, most: int = 24) -> NDArray[np.float32]:
    """(N, 4) boxes with whole corners, so that overlaps are exact in float32."""
    count = draw(st.integers(0, most))
    corners = draw(hnp.arrays(np.float32, (count, 4), elements=COORDINATE))
    return np.concatenate([np.minimum(corners[:, :2], corners[:, 2:]), np.maximum(corners[:, :2], corners[:, 2:])], 1)


def naive_iou(a: NDArray[np.float32], b: NDArray[np.float32]) -> float:
    width = max(0.0, min(a[2], b[2]) - max(a[0], b[0]))
    height = max(0.0, min(a[3], b[3]) - max(a[1], b[1]))
    union = (a[2] - a[0]) * (a[3] - a[1]) + (b[2] - b[0]) * (b[3] - b[1]) - width * height
    return float(width * height / union) if union > 0 else 0.0


def naive_nms(found: NDArray[np.float32], scores: list[float], classes: list[int], limit: float) -> list[int]:
    left = sorted(range(len(scores)), key=lambda i: -scores[i])
    kept: list[int] = []
    for i in left:
        if all(classes[i] != classes[k] or naive_iou(found[i], found[k]) <= limit for k in kept):
            kept.append(i)
    return kept


@given(box_sets(), box_sets())
def test_iou_equals_naive(first: NDArray[np.float32], second: NDArray[np.float32]) -> None:
    got = boxes.iou_matrix(first, second)
    wanted = [[naive_iou(a, b) for b in second] for a in first]
    assert got.shape == (len(first), len(second))
    np.testing.assert_allclose(got, np.array(wanted).reshape(got.shape), atol=1e-6)


@given(box_sets())
def test_iou_is_symmetric_and_one_with_itself(found: NDArray[np.float32]) -> None:
    matrix = boxes.iou_matrix(found, found)
    np.testing.assert_array_equal(matrix, matrix.T)
    np.testing.assert_allclose(np.diag(matrix), (boxes.areas(found) > 0).astype(float), atol=1e-6)


@settings(max_examples=150)
@given(box_sets(), st.data())
def test_suppression_equals_naive(found: NDArray[np.float32], data: st.DataObject) -> None:
    found = found[boxes.areas(found) > 0]
    count = len(found)
    # few distinct scores, so that ties are drawn; 0.4031 is met by no ratio of such small whole areas
    scores = data.draw(st.lists(st.sampled_from([0.2, 0.5, 0.5, 0.9]), min_size=count, max_size=count))
    classes = data.draw(st.lists(st.integers(0, 2), min_size=count, max_size=count))
    limit = data.draw(st.sampled_from([0.0, 0.4031, 1.0]))
    kept = boxes.suppress(found, np.array(scores, np.float32), np.array(classes, np.int64), limit)
    assert kept.tolist() == naive_nms(found, scores, classes, limit)


def test_suppression_is_idempotent() -> None:
    rng = np.random.default_rng(0)
    corner = rng.uniform(0, 300, (200, 2))
    found = np.concatenate([corner, corner + rng.uniform(10, 60, (200, 2))], 1).astype(np.float32)
    scores, classes = rng.random(200).astype(np.float32), rng.integers(0, 3, 200)
    kept = boxes.suppress(found, scores, classes, 0.5)
    again = boxes.suppress(found[kept], scores[kept], classes[kept], 0.5)
    assert again.tolist() == list(range(len(kept)))
    assert len(kept) < 200


@given(box_sets())
def test_scaling_there_and_back_changes_nothing(found: NDArray[np.float32]) -> None:
    there = boxes.scale(found, (384, 288), (1280, 1024))
    np.testing.assert_allclose(boxes.scale(there, (1280, 1024), (384, 288)), found, atol=1e-4)


@pytest.mark.parametrize(
    ("box", "wanted"),
    [
        ((10, 10, 20, 20), (10, 10, 20, 20)),  # inside: untouched
        ((-5, -5, 20, 20), (0, 0, 20, 20)),  # left and top border
        ((90, 50, 120, 99), (90, 50, 100, 80)),  # right and lower border
        ((200, 200, 300, 300), (100, 80, 100, 80)),  # outside: empty, not negative
    ],
)
def test_clip(box: tuple[float, ...], wanted: tuple[float, ...]) -> None:
    assert boxes.clip(np.array([box], np.float32), (100, 80))[0].tolist() == list(wanted)


def test_areas_of_inverted_boxes_are_zero() -> None:
    assert boxes.areas(np.array([[5, 5, 1, 1], [5, 1, 1, 5], [0, 0, 2, 3]], np.float32)).tolist() == [0, 0, 6]
