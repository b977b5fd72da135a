"""Confusion matrices and the three definitions, against numbers computed by hand."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from mdtrain.data.records import IGNORE_LABEL, LABEL_CLASSES
from mdtrain.metrics.segmentation import (
    IGNORED,
    Matrix,
    class_accuracy,
    class_iou,
    class_precision,
    confusion,
    mfnet_overall_accuracy,
    mfnet_scores,
    present_scores,
    rtfnet_scores,
)

NINE = len(LABEL_CLASSES)
NAN = float("nan")

# truth 0: 6 right, 2 as class 1; truth 1: 1 as 0, 3 right; truth 2: all 4 as 1; class 3 is nowhere
SMALL: Matrix = np.array([[6, 2, 0, 0], [1, 3, 0, 0], [0, 4, 0, 0], [0, 0, 0, 0]])


def matrices(classes: int = 4, most: int = 50) -> st.SearchStrategy[Matrix]:
    rows = st.lists(st.integers(0, most), min_size=classes**2, max_size=classes**2)
    return rows.map(lambda values: np.array(values, np.int64).reshape(classes, classes))


def maps(seed: int, classes: int = NINE) -> tuple[NDArray[np.uint8], NDArray[np.uint8]]:
    rng = np.random.default_rng(seed)
    truth, found = rng.integers(0, classes, (2, 12, 17), dtype=np.uint8)
    truth[rng.random(truth.shape) < 0.2] = IGNORE_LABEL
    return truth, found


def test_the_ignored_value_is_that_of_the_records() -> None:
    assert IGNORED == IGNORE_LABEL


def test_confusion_counts_rows_of_truth() -> None:
    truth = np.array([[0, 0, 1], [1, 2, 255]], np.uint8)
    found = np.array([[0, 1, 1], [0, 1, 2]], np.uint8)
    wanted = [[1, 1, 0], [1, 1, 0], [0, 1, 0]]
    np.testing.assert_array_equal(confusion(truth, found, 3), wanted)
    assert confusion(truth, found, 3).dtype == np.int64


@given(st.integers(0, 10_000))
def test_confusion_is_the_count_of_pairs_of_values(seed: int) -> None:
    truth, found = maps(seed)
    matrix = confusion(truth, found, NINE)
    for row in range(NINE):
        for column in range(NINE):
            assert matrix[row, column] == ((truth == row) & (found == column)).sum()


@given(st.integers(0, 10_000))
def test_confusions_add_up(seed: int) -> None:
    truth, found = maps(seed)
    parts = [confusion(truth[rows], found[rows], NINE) for rows in (slice(0, 5), slice(5, None))]
    np.testing.assert_array_equal(parts[0] + parts[1], confusion(truth, found, NINE))


@pytest.mark.parametrize(
    ("truth", "found", "said"),
    [
        (np.zeros((2, 3), np.uint8), np.zeros((3, 2), np.uint8), r"truth is \(2, 3\), prediction \(3, 2\)"),
        (np.full((2, 2), 3, np.uint8), np.zeros((2, 2), np.uint8), "truth holds 3 to 3, wanted 0 to 2"),
        (np.zeros((2, 2), np.uint8), np.full((2, 2), 255, np.uint8), "prediction holds 255 to 255"),
        (np.zeros((2, 2), np.int64), np.full((2, 2), -1), "prediction holds -1 to -1"),
    ],
)
def test_what_is_no_pair_of_label_maps(truth: NDArray[np.integer], found: NDArray[np.integer], said: str) -> None:
    with pytest.raises(ValueError, match=said):
        confusion(truth, found, 3)


def test_recall_precision_and_iou_by_hand() -> None:
    np.testing.assert_allclose(class_accuracy(SMALL), [6 / 8, 3 / 4, 0, NAN])
    np.testing.assert_allclose(class_precision(SMALL), [6 / 7, 3 / 9, NAN, NAN])
    np.testing.assert_allclose(class_iou(SMALL), [6 / 9, 3 / 10, 0, NAN])


def test_the_three_definitions_by_hand() -> None:
    rtfnet, present, mfnet = rtfnet_scores(SMALL), present_scores(SMALL), mfnet_scores(SMALL)
    assert rtfnet.mean_accuracy == pytest.approx((6 / 8 + 3 / 4) / 4)  # the absent class is 0 of four
    assert rtfnet.mean_iou == pytest.approx((6 / 9 + 3 / 10) / 4)
    assert present.mean_accuracy == pytest.approx((6 / 8 + 3 / 4) / 3)
    assert present.mean_iou == pytest.approx((6 / 9 + 3 / 10) / 3)
    np.testing.assert_allclose(mfnet.accuracy, [6 / 7, 3 / 9, 0, 0])  # precision
    # without row and column 0: class 1 has 3 right, and 4 pixels of class 2 that were taken for it
    np.testing.assert_allclose(mfnet.iou, [0, 3 / 7, 0, 0])
    assert mfnet.mean_accuracy == pytest.approx((6 / 7 + 3 / 9) / 4)
    assert mfnet.mean_iou == pytest.approx(3 / 7 / 4)
    assert mfnet_overall_accuracy(SMALL) == pytest.approx(3 / 8)


def test_a_class_predicted_but_absent_has_an_iou_of_zero_and_no_recall() -> None:
    matrix = np.array([[5, 1], [0, 0]])
    np.testing.assert_allclose(class_accuracy(matrix), [5 / 6, NAN])
    np.testing.assert_allclose(class_iou(matrix), [5 / 6, 0])
    assert present_scores(matrix).mean_iou == pytest.approx(5 / 6)
    assert rtfnet_scores(matrix).mean_iou == pytest.approx(5 / 12)
    assert np.isnan(mfnet_overall_accuracy(matrix))  # nothing is labelled


def test_guardrail_absent_by_day() -> None:
    """MFNet's day test list has none: perfect otherwise, the mean of nine is 8/9, of present classes 1."""
    guardrail = LABEL_CLASSES.index("guardrail")
    counts = np.arange(10, 10 + NINE)
    counts[guardrail] = 0
    day = np.diag(counts)
    assert np.isnan(class_accuracy(day)[guardrail])
    assert rtfnet_scores(day).mean_accuracy == rtfnet_scores(day).mean_iou == pytest.approx(8 / 9)
    assert present_scores(day).mean_accuracy == present_scores(day).mean_iou == 1
    assert mfnet_scores(day).mean_iou == pytest.approx(7 / 9)  # unlabelled counts as 0 as well


def test_day_and_night_need_not_lie_on_both_sides_of_all() -> None:
    """Each has its own matrix: by day no car, by night nothing else; both means are lower than that of all."""
    day, night = np.array([[8, 0], [0, 0]]), np.array([[0, 0], [0, 8]])
    means = [rtfnet_scores(matrix).mean_iou for matrix in (day, night, day + night)]
    assert means == [0.5, 0.5, 1.0]


def test_without_pixels_there_is_no_score() -> None:
    empty = np.zeros((3, 3), np.int64)
    for scores in (rtfnet_scores(empty), present_scores(empty), mfnet_scores(empty)):
        assert np.isnan(scores.mean_accuracy)
        assert np.isnan(scores.mean_iou)


@given(st.integers(0, 10_000))
def test_a_perfect_prediction_scores_one(seed: int) -> None:
    truth, found = maps(seed)
    matrix = confusion(truth, np.where(truth == IGNORE_LABEL, found, truth), NINE)
    scores = present_scores(matrix)
    assert scores.mean_accuracy == scores.mean_iou == 1
    assert mfnet_overall_accuracy(matrix) == 1
    np.testing.assert_array_equal(mfnet_scores(matrix).iou, [0, *(matrix.sum(1)[1:] > 0)])


@given(matrices(), st.permutations(range(4)))
def test_renumbering_the_classes_renumbers_the_scores(matrix: Matrix, order: list[int]) -> None:
    moved = matrix[np.ix_(order, order)]
    for measure in (class_accuracy, class_precision, class_iou):
        np.testing.assert_array_equal(measure(moved), measure(matrix)[order])
    np.testing.assert_allclose(rtfnet_scores(moved).mean_iou, rtfnet_scores(matrix).mean_iou)


@given(matrices())
def test_order_and_bounds(matrix: Matrix) -> None:
    """IoU is the lowest of the three, present means are at least RTFNet's, transposing swaps recall and precision."""
    recall, precision, iou = class_accuracy(matrix), class_precision(matrix), class_iou(matrix)
    for values in (recall, precision):
        both = ~np.isnan(values)
        assert (iou[both] <= values[both]).all()
    np.testing.assert_array_equal(class_accuracy(matrix.T), precision)
    np.testing.assert_array_equal(class_iou(matrix.T), iou)
    rtfnet, present = rtfnet_scores(matrix), present_scores(matrix)
    if matrix.any():
        assert 0 <= rtfnet.mean_iou <= present.mean_iou + 1e-12 <= 1 + 1e-12
        assert 0 <= rtfnet.mean_accuracy <= present.mean_accuracy + 1e-12
        # leaving row and column 0 out takes false positives and negatives away, never true positives
        assert (mfnet_scores(matrix).iou[1:] >= np.nan_to_num(iou[1:]) - 1e-12).all()


@given(matrices(), st.integers(1, 1000))
def test_scores_do_not_depend_on_the_number_of_pixels(matrix: Matrix, factor: int) -> None:
    for measure in (rtfnet_scores, present_scores, mfnet_scores):
        one, many = measure(matrix), measure(matrix * factor)
        np.testing.assert_allclose(one.iou, many.iou)
        np.testing.assert_allclose(one.mean_accuracy, many.mean_accuracy)
