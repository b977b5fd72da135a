"""The parity gate on outputs made by hand: what passes, what does not, and what is measured."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from numpy.typing import NDArray

from mdexport import gate
from mdexport.gate import (
    ACCURACY_LOSS,
    AUROC,
    AUROC_LOSS,
    DETECTION_RATE_LOSS,
    LEAST_MATCHED,
    LOSS,
    MOST_LABELS,
    NEAR,
    TNR95,
    box_differences,
    describe,
    follows,
    judge,
    label_differences,
    label_measures,
    threshold_of,
)
from mdexport.pairs import INTACT, Scene
from mdrun.backends.base import Outputs
from mdrun.manifest import PRECISIONS, Parity, parse_manifest
from mdtrain.data.records import ImageFile, LabelFile, Record, make_record
from tests.runtime.engines import VISIBLE_WH, make_manifest, make_segment_manifest

DETECTOR, SEGMENTER = make_manifest(count=3), make_segment_manifest()
NAMES = ("the reference", "these tests")
BOXES = np.array([[10, 10, 30, 50], [50, 20, 80, 60], [0, 0, 5, 5]], np.float32)
SCORES = np.array([0.9, 0.8, 0.01], np.float32)
CLASSES = np.array([0, 2, 0], np.int32)


def detections(
    boxes: NDArray[np.float32] = BOXES, scores: NDArray[np.float32] = SCORES, classes: NDArray[np.int32] = CLASSES
) -> Outputs:
    return {"boxes": boxes[None], "scores": scores[None], "classes": classes[None]}


def with_one_more() -> Outputs:
    """A third person where the reference has none."""
    boxes = np.concatenate([BOXES[:2], [[60, 70, 75, 90]]]).astype(np.float32)
    return detections(boxes, np.array([0.9, 0.8, 0.7], np.float32))


def label_map(label: int = 2, columns: int = 48) -> NDArray[np.int32]:
    labels = np.zeros(VISIBLE_WH[::-1], np.int32)
    labels[:, :columns] = label
    return labels


def labels(of: NDArray[np.int32], energy: float | None = None) -> Outputs:
    return {"labels": of[None]} | ({} if energy is None else {"energy": np.array([energy], np.float32)})


def scenes(conditions: Sequence[str] = (INTACT,)) -> list[Scene]:
    """Scenes whose labels are BOXES and `label_map()`."""
    image = np.zeros((*VISIBLE_WH[::-1], 3), np.uint8)
    unit = np.divide(BOXES[:2], np.array(VISIBLE_WH * 2), dtype=np.float32)
    record: Record = replace(
        make_record("a", (Path("vi"), Path("ir")), unit, CLASSES[:2]),
        visible_file=ImageFile(Path("vi"), colour=True, kept=image),
        label_map_file=LabelFile(Path("labels"), kept=label_map().astype(np.uint8)),
    )
    return [Scene({}, record, condition) for condition in conditions]


def judge_boxes(got: Outputs, precision: str = "fp16", reference: Outputs | None = None) -> Parity:
    return judge(DETECTOR, scenes(), [reference or detections()], [got], precision, NAMES)


def test_every_precision_has_limits_and_lower_ones_may_lose_more() -> None:
    for table in (LOSS, LEAST_MATCHED, MOST_LABELS, AUROC_LOSS, DETECTION_RATE_LOSS, ACCURACY_LOSS):
        assert tuple(table) == PRECISIONS
    for table in (LOSS, MOST_LABELS, AUROC_LOSS, DETECTION_RATE_LOSS, ACCURACY_LOSS):
        assert table["fp32"] < table["fp16"] <= table["bf16"] < table["int8"]
    assert LEAST_MATCHED["fp32"] > LEAST_MATCHED["fp16"] >= LEAST_MATCHED["bf16"] > LEAST_MATCHED["int8"]


@pytest.mark.parametrize("precision", PRECISIONS)
def test_identical_boxes_pass_with_no_difference(precision: str) -> None:
    parity = judge_boxes(detections(), precision)
    assert parity.passed
    assert parity.matched == 1
    assert set(parity.max_abs.values()) == set(parity.mean_abs.values()) == {0.0}
    assert set(parity.metrics) == {"person/ap50", "mean/ap50", "person/detection_rate"}
    for change in parity.metrics.values():
        assert change.reference == change.engine == pytest.approx(1)
    assert (parity.reference, parity.data, parity.pairs) == (*NAMES, 1)


@pytest.mark.parametrize(
    ("classes", "measured"),
    [
        (["forklift", "dog", "crane"], {"mean/ap50"}),
        (["dog", "crane", "Person"], {"person/ap50", "mean/ap50", "person/detection_rate"}),
    ],
)
def test_an_engine_of_other_categories_is_judged_by_their_mean(classes: list[str], measured: set[str]) -> None:
    """AP50 of persons is measured where they are a class, wherever it stands; the limits hold for all."""
    manifest = replace(DETECTOR, classes=classes)
    same, worse = (judge(manifest, scenes(), [detections()], [got], "fp16", NAMES) for got in (detections(), moved(40)))
    assert (set(same.metrics), same.passed) == (measured, True)
    assert {name: change.engine for name, change in same.metrics.items()} == dict.fromkeys(measured, pytest.approx(1))
    assert worse.limits.keys() == measured | {"matched", "invented"}
    assert not worse.passed


@pytest.mark.parametrize("precision", PRECISIONS)
def test_identical_label_maps_pass_with_no_difference(precision: str) -> None:
    outputs = [labels(label_map(), 0.5)]
    parity = judge(SEGMENTER, scenes(), outputs, outputs, precision, NAMES)
    assert parity.passed
    assert parity.matched is None
    assert set(parity.max_abs.values()) == set(parity.mean_abs.values()) == {0.0}
    assert parity.limits["labels"] == MOST_LABELS[precision]


@pytest.mark.parametrize("name", ["boxes", "scores"])
@pytest.mark.parametrize("value", [math.nan, math.inf])
def test_values_that_are_not_finite_fail(name: str, value: float) -> None:
    broken = detections()
    broken[name] = broken[name].copy()
    broken[name].flat[-1] = value  # of the weakest detection, which no result would show
    parity = judge_boxes(broken)
    assert not parity.passed
    assert parity.matched == 0
    again = parse_manifest(replace(DETECTOR, parity=parity).to_json(), "manifest")  # JSON knows no infinity
    assert again.parity == parity
    assert "0.0% of detections found again" in describe(parity)


def test_where_nothing_is_found_a_file_has_not_said_what_its_twin_says() -> None:
    nothing = detections(scores=SCORES * np.float32(0.01))
    assert not follows(DETECTOR, [nothing], [nothing], "fp16")
    assert follows(DETECTOR, [nothing, detections()], [nothing, detections()], "fp16")


def test_what_nobody_would_see_need_not_be_found_again() -> None:
    """Below the display threshold a detection is neither drawn nor counted, though it is written to results."""
    faint = SCORES.copy()
    faint[1] = (DETECTOR.thresholds.report + DETECTOR.thresholds.display) / 2
    lost = detections(BOXES[:1], faint[:1], CLASSES[:1])
    found = box_differences(DETECTOR, [detections(scores=faint)], [lost])
    assert (found.matched, found.mean["invented"]) == (1, 0)
    assert box_differences(DETECTOR, [lost], [detections(scores=faint)]).mean["invented"] == 0


def test_what_rounding_takes_below_the_report_threshold_is_not_lost() -> None:
    """Of a poor network, whose best F1 lies below the lowest score that is written."""
    manifest = replace(DETECTOR, thresholds=replace(DETECTOR.thresholds, report=0.05, display=0.033))
    at, below = (detections(scores=np.array([0.9, score, 0.01], np.float32)) for score in (0.0501, 0.0499))
    for one, two in ((at, below), (below, at)):
        found = box_differences(manifest, [one], [two])
        assert (found.matched, found.mean["invented"]) == (1, 0)
    clear = detections(scores=np.array([0.9, 0.061, 0.01], np.float32))
    assert box_differences(manifest, [clear], [below]).matched == 0.5
    assert box_differences(manifest, [below], [clear]).mean["invented"] == 0.5


def test_one_box_is_not_found_again_twice() -> None:
    """Two persons side by side, both above the overlap of suppression, of which the engine gives one."""
    near = np.array([[10, 10, 30, 50], [16, 10, 36, 50]], np.float32)
    both = detections(near, SCORES[:2], CLASSES[[0, 0]])
    one = detections(near[:1], SCORES[:1], CLASSES[:1])
    manifest = replace(DETECTOR, thresholds=replace(DETECTOR.thresholds, nms_iou=0.9))
    assert box_differences(manifest, [both], [one]).matched == 0.5
    assert box_differences(manifest, [one], [both]).mean["invented"] == 0.5


def test_energies_that_are_no_numbers_have_no_threshold() -> None:
    seen = scenes((INTACT, INTACT, "thermal black"))
    known, strange = labels(label_map(), 0.5), labels(label_map(), math.nan)
    assert threshold_of(seen, [known, known, strange]) == 0.5
    assert threshold_of(seen, [known, strange, known]) is None
    assert threshold_of(seen, [labels(label_map())] * 3) is None


def test_an_energy_that_is_not_finite_fails() -> None:
    parity = judge(SEGMENTER, scenes(), [labels(label_map(), 0.5)], [labels(label_map(), math.nan)], "int8", NAMES)
    assert not parity.passed
    assert json.loads(replace(SEGMENTER, parity=parity).to_json())["parity"]["passed"] is False


def moved(by: float) -> Outputs:
    return detections(BOXES + np.array([by, 0, by, 0], np.float32))


@pytest.mark.parametrize(
    ("got", "matched", "box_px"),
    [
        (moved(1), 1.0, 1.0),
        (moved(6), 1.0, 6.0),  # IoU 14 / 26
        (moved(7), 0.5, 7.0),  # 13 / 27 is less than a half; the wider box is found
        (moved(40), 0.0, 0.0),  # nothing overlaps
        (detections(classes=np.array([0, 1, 0], np.int32)), 0.5, 0.0),  # another class is not the same object
        (detections(scores=np.array([0.9, 0.04, 0.01], np.float32)), 0.5, 0.0),  # below the report threshold
        (detections(scores=np.array([0.9, 0.06, 0.01], np.float32)), 1.0, 0.0),  # weaker, and still there
        (detections(BOXES[[1, 0, 2]], classes=CLASSES[[1, 0, 2]]), 1.0, 0.0),  # ranks may change
        (detections(scores=np.zeros(3, np.float32)), 0.0, 0.0),
    ],
)
def test_what_counts_as_found_again(got: Outputs, matched: float, box_px: float) -> None:
    found = box_differences(DETECTOR, [detections()], [got])
    assert found.matched == matched
    assert found.largest["boxes_px"] == pytest.approx(box_px)


def test_where_nothing_was_found_nothing_can_be_found_again() -> None:
    """An untrained network: no share, rather than all of none."""
    nothing = detections(scores=np.zeros(3, np.float32))
    assert box_differences(DETECTOR, [nothing], [detections()]).matched is None


def test_a_moved_box_is_not_matched_and_fails() -> None:
    parity = judge_boxes(moved(40), "int8")
    assert not parity.passed
    assert parity.matched == 0
    assert parity.metrics["person/ap50"].engine == 0


def test_one_detection_does_not_answer_for_two() -> None:
    """Two persons side by side that suppression leaves; the engine has one between them."""
    near = np.array([[10, 10, 30, 50], [17, 10, 37, 50], [0, 0, 5, 5]], np.float32)
    pair = detections(near, classes=np.zeros(3, np.int32))
    one = detections(near[[0, 2, 2]], np.array([0.9, 0.01, 0.01], np.float32), np.zeros(3, np.int32))
    assert box_differences(DETECTOR, [pair], [pair]).matched == 1
    assert box_differences(DETECTOR, [pair], [one]).matched == 0.5


@given(st.lists(st.floats(0, 60), min_size=1, max_size=12))
def test_the_share_found_again_is_one_over_all_scenes(shifts: list[float]) -> None:
    alone = [box_differences(DETECTOR, [detections()], [moved(by)]) for by in shifts]
    together = box_differences(DETECTOR, [detections()] * len(shifts), [moved(by) for by in shifts])
    assert together.matched == pytest.approx(np.mean([found.matched for found in alone]))
    assert together.largest["boxes_px"] == max(found.largest["boxes_px"] for found in alone)


def test_scores_are_compared_where_a_detection_is_found_again() -> None:
    found = box_differences(DETECTOR, [detections()], [detections(scores=SCORES - np.float32(0.005))])
    assert found.largest["scores"] == pytest.approx(0.005)
    assert found.mean["scores"] == pytest.approx(0.005)


@pytest.mark.parametrize("precision", PRECISIONS)
def test_a_failing_camera_makes_no_persons(precision: str) -> None:
    """Accuracy is measured on intact scenes: what the engine invents on the others counts by itself."""
    seen = scenes((INTACT, "thermal black"))
    quiet = judge(DETECTOR, seen, [detections()] * 2, [detections()] * 2, precision, NAMES)
    loud = judge(DETECTOR, seen, [detections()] * 2, [detections(), with_one_more()], precision, NAMES)
    assert (quiet.passed, quiet.mean_abs["invented"]) == (True, 0)
    assert loud.mean_abs["invented"] == pytest.approx(1 / 5)
    assert (loud.passed, loud.matched) == (False, 1)
    assert "20.0% of its own invented" in describe(loud)


@pytest.mark.parametrize(("scores", "shift", "passed"), [(1.0, 0.0, True), (0.95, 0.0, False), (1.0, 0.8, False)])
def test_single_precision_has_numbers_of_its_own(scores: float, shift: float, passed: bool) -> None:
    """Ranks, and so every measure, are the same: only the values tell."""
    parity = judge_boxes(detections(BOXES + np.float32(shift), SCORES * np.float32(scores)), "fp32")
    assert parity.passed is passed
    assert parity.limits.items() >= {"scores": NEAR["fp32"]["scores"], "boxes_px": NEAR["fp32"]["boxes_px"]}.items()


@pytest.mark.parametrize("precision", ["fp16", "bf16"])
@pytest.mark.parametrize(
    ("got", "wanted"),
    [
        (detections(BOXES + np.float32(0.05), SCORES + np.float32(0.0005)), True),
        (detections(BOXES + np.float32(2)), False),
        (detections(BOXES, SCORES * np.float32(0.35)), False),
        (with_one_more(), False),
    ],
)
def test_a_file_says_what_its_twin_says_only_where_the_numbers_are_the_same(
    got: Outputs, wanted: bool, precision: str
) -> None:
    assert follows(DETECTOR, [detections()], [got], precision) is wanted


def test_an_energy_that_turned_round_does_not_follow() -> None:
    """It tells scenes apart as well as before, the other way."""
    seen = scenes((INTACT, "thermal black"))
    outputs = [labels(label_map(), energy) for energy in (1.0, 0.0)]
    turned = [labels(label_map(), -energy) for energy in (1.0, 0.0)]
    assert judge(SEGMENTER, seen, outputs, outputs, "int8", NAMES).passed
    found = judge(SEGMENTER, seen, outputs, turned, "int8", NAMES)
    assert found.metrics[AUROC].engine > found.metrics[AUROC].reference
    assert not found.passed
    assert not follows(SEGMENTER, outputs, turned, "fp16")


def test_an_engine_that_invents_boxes_loses_precision() -> None:
    """All of the reference's detections are there; wrong ones above them cost average precision."""
    wrong = np.array([[40, 5, 60, 15], [10, 10, 30, 50], [50, 20, 80, 60]], np.float32)
    parity = judge_boxes(detections(wrong, np.array([0.95, 0.9, 0.8], np.float32), np.array([0, 0, 2], np.int32)))
    assert parity.matched == 1
    assert parity.metrics["person/ap50"].engine == pytest.approx(0.5, abs=0.01)
    assert not parity.passed


@pytest.mark.parametrize(
    ("change", "passes"),
    [
        (lambda limit: 0.9 * limit, True),
        (lambda limit: 1.1 * limit, False),
    ],
)
@pytest.mark.parametrize("precision", PRECISIONS)
def test_the_limit_of_a_loss_is_that_of_the_precision(
    precision: str, change: Callable[[float], float], passes: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Measures forced: no few scenes lose a thousandth."""
    found = iter([{"person/ap50": 0.75}, {"person/ap50": 0.75 - change(LOSS[precision])}])
    monkeypatch.setitem(gate.JUDGES, "detect", (gate.box_differences, lambda *_: next(found)))
    assert judge_boxes(detections(), precision).passed is passes


def test_a_gain_is_no_loss(monkeypatch: pytest.MonkeyPatch) -> None:
    found = iter([{"person/ap50": 0.5}, {"person/ap50": 0.9}])
    monkeypatch.setitem(gate.JUDGES, "detect", (gate.box_differences, lambda *_: next(found)))
    assert judge_boxes(detections(), "fp32").passed


def test_only_intact_scenes_are_measured_but_all_are_compared() -> None:
    both = scenes((INTACT, "thermal black"))
    broken = [detections(), moved(40)]
    parity = judge(DETECTOR, both, [detections()] * 2, broken, "int8", NAMES)
    assert parity.metrics["person/ap50"].engine == pytest.approx(1)
    assert parity.matched == 0.5
    assert not parity.passed


@pytest.mark.parametrize(("columns", "share"), [(48, 0.0), (49, 1 / 96), (96, 0.5), (0, 0.5)])
def test_label_maps_differ_by_their_share_of_pixels(columns: int, share: float) -> None:
    found = label_differences(SEGMENTER, [labels(label_map())] * 2, [labels(label_map(columns=columns))] * 2)
    assert found.largest["labels"] == found.mean["labels"] == pytest.approx(share)


def test_label_maps_that_differ_too_much_fail() -> None:
    """Half of the pixels of one scene in four: the mean counts, the largest is reported."""
    wanted = [labels(label_map())] * 4
    for columns, passes in ((96, False), (60, True)):
        got = [labels(label_map(columns=columns)), *wanted[1:]]
        of_failing = scenes(("visible black",) * 4)[:1] + scenes((INTACT,) * 3)
        parity = judge(SEGMENTER, of_failing, wanted, got, "int8", NAMES)
        assert parity.passed is passes
        assert parity.max_abs["labels"] == pytest.approx((columns - 48) / 96)
        assert parity.mean_abs["labels"] == pytest.approx((columns - 48) / 96 / 4)


def test_measures_of_label_maps_and_energies() -> None:
    """Two of nine classes occur, both exact; strange scenes have the higher energy."""
    of = scenes((INTACT, INTACT, "thermal black"))
    outputs = [labels(label_map(), energy) for energy in (0.1, 0.2, 0.3)]
    found = label_measures(SEGMENTER, of, outputs)
    assert found["mean/accuracy"] == found["mean/iou"] == pytest.approx(2 / 9)
    assert found[AUROC] == found[TNR95] == 1
    assert set(label_measures(SEGMENTER, of[:2], outputs[:2])) == {"mean/accuracy", "mean/iou"}  # nothing to tell from


@pytest.mark.parametrize("label", [9, 40, 255, 300, -1])
def test_what_is_no_class_counts_as_the_background(label: int) -> None:
    """As in the runtime; the engine fails, and not the check."""
    found = label_measures(SEGMENTER, scenes(), [labels(label_map(label=label))])
    assert found["mean/accuracy"] == pytest.approx(1 / 9)  # the background alone is right
    parity = judge(SEGMENTER, scenes(), [labels(label_map())], [labels(label_map(label=label))], "int8", NAMES)
    assert not parity.passed


def test_the_line_for_people_names_what_counts() -> None:
    line = describe(judge_boxes(moved(7)))
    for words in (
        "person/ap50 1.0000 → 0.0000 (may lose 0.003)",
        "50.0% of detections found again (least 98%)",
        "boxes_px differ by 7 at most",
        "1 scenes of these tests",
    ):
        assert words in line


def test_the_page_names_the_limits() -> None:
    """docs/export.md has them in one table; who changes a limit changes the page."""
    page = (Path(__file__).resolve().parents[2] / "docs" / "export.md").read_text(encoding="utf-8")
    shares = [f"{100 * least:g} %" for least in LEAST_MATCHED.values()]
    pixels = [f"{100 * most:g} %" for most in MOST_LABELS.values()]
    for title, values in (
        ("each measure may lose", [f"{loss:g}" for loss in LOSS.values()]),
        ("detections found again, at least", shares),
        (
            "`mean/accuracy`, `overall/accuracy` of a classify engine may lose",
            [f"{x:g}" for x in ACCURACY_LOSS.values()],
        ),
        ("pixels with another class, at most", pixels),
        ("`person/detection_rate` may lose", [f"{loss:g}" for loss in DETECTION_RATE_LOSS.values()]),
        ("invented detections, at most", [f"{100 - 100 * least:.3g} %" for least in LEAST_MATCHED.values()]),
        ("`energy/auroc` may change by", [f"{loss:g}" for loss in AUROC_LOSS.values()]),
    ):
        assert f"| {title} | {' | '.join(values)} |" in page
