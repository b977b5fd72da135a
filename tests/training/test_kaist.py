"""KAIST miss rate: every rule by a hand-made case, the whole by published numbers."""

from __future__ import annotations

from pathlib import Path
from time import process_time

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

from mdrun.errors import DataError
from mdtrain.metrics.kaist import (
    FALSE_POSITIVE,
    LEFT_OUT,
    SUBSETS,
    TRUE_POSITIVE,
    Annotations,
    PersonDetections,
    ignore_regions,
    log_average_miss_rate,
    match_image,
    miss_rates,
    overlaps,
    plain_miss_rate,
)
from mdtrain.metrics.kaist_files import read_annotations, read_detections

Box = tuple[float, float, float, float]
HIT, FALSE, OUT = TRUE_POSITIVE, FALSE_POSITIVE, LEFT_OUT
PERSON: Box = (100, 100, 30, 80)


def truth_of(
    boxes: list[tuple[int, Box]], images: int = 1, occlusion: int = 0, ignored: bool = False, names: str = "set06"
) -> Annotations:
    """Ground truth of (image, box) entries that share their attributes."""
    return Annotations(
        image_names=tuple(f"{names}/V000/I{index:05d}" for index in range(images)),
        image_ids=tuple(range(images)),
        person_category=1,
        images=np.array([image for image, _ in boxes], dtype=np.int64),
        boxes_xywh=np.array([box for _, box in boxes], dtype=np.float64).reshape(-1, 4),
        occlusion=np.full(len(boxes), occlusion, dtype=np.int64),
        ignored=np.full(len(boxes), ignored, dtype=np.bool_),
    )


def found_in(rows: list[tuple[int, Box, float]]) -> PersonDetections:
    """Detections of (image, box, score) rows."""
    return PersonDetections(
        images=np.array([image for image, _, _ in rows], dtype=np.int64),
        boxes_xywh=np.array([box for _, box, _ in rows], dtype=np.float64).reshape(-1, 4),
        scores=np.array([score for _, _, score in rows], dtype=np.float64),
    )


def judged(found: list[Box], truth: list[Box], ignore: list[bool]) -> list[int]:
    """Outcomes of the detections of one image, given best first."""
    region = np.array(ignore, dtype=np.bool_)
    boxes = np.array(truth, dtype=np.float64).reshape(-1, 4)
    return list(match_image(overlaps(np.array(found, dtype=np.float64), boxes, region), region))


# ---------------------------------------------------------------- the measure


def test_no_detection_misses_everything() -> None:
    assert miss_rates(truth_of([(0, PERSON)]), found_in([]))["all"] == 100.0


def test_perfect_detections_miss_nothing() -> None:
    truth = truth_of([(0, PERSON), (1, PERSON)], images=2)
    assert miss_rates(truth, found_in([(0, PERSON, 0.9), (1, PERSON, 0.2)]))["all"] == pytest.approx(0, abs=1e-7)


@pytest.mark.parametrize(
    ("fppi", "recall", "wanted"),
    [
        ([], [], 1.0),  # nothing detected
        ([0.0], [0.75], 0.25),  # a flat curve is its own mean
        ([0.0, 0.05], [0.5, 0.75], 2 ** (-15 / 9)),  # three points at 1/2, six at 1/4
        ([0.02, 0.02], [0.0, 0.75], 2 ** (-14 / 9)),  # no curve below 0.02: recall 0 at the first two points
        ([0.01], [0.75], 0.25),  # equal to the reference counts as reached
        ([0.0, 1.5], [0.5, 1.0], 0.5),  # beyond one false positive an image nothing counts
    ],
)
def test_log_average(fppi: list[float], recall: list[float], wanted: float) -> None:
    assert log_average_miss_rate(np.array(fppi), np.array(recall)) == pytest.approx(wanted)


@pytest.mark.parametrize("seed", range(4))
def test_where_nothing_is_left_out_boxes_of_any_set_give_the_same(seed: int) -> None:
    """Scores in any order, images with and without persons, some detections right and some nearly."""
    rng = np.random.default_rng(seed)
    corners = rng.uniform(20, 300, (12, 2)).round()
    sizes = np.column_stack([rng.uniform(20, 40, 12), rng.uniform(60, 110, 12)]).round()
    truth = np.column_stack([corners, sizes])
    images = rng.integers(0, 6, 12)
    found = np.concatenate([truth + rng.integers(-9, 10, truth.shape), truth + np.array([150, 90, 0, 0])])
    of_found = np.concatenate([images, images])
    scores = rng.permutation(24) / 24
    boxes = [(int(image), tuple(box)) for image, box in zip(images, truth.tolist(), strict=True)]
    rows = [(int(i), tuple(box), float(s)) for i, box, s in zip(of_found, found.tolist(), scores, strict=True)]
    published = miss_rates(truth_of(boxes, images=7), found_in(rows))["all"]
    plain = plain_miss_rate(
        [_xyxy(truth[images == image]) for image in range(7)],
        [(_xyxy(found[of_found == image]), scores[of_found == image].astype(np.float32)) for image in range(7)],
    )
    assert published is not None
    assert 0 < published < 100
    assert plain == pytest.approx(published / 100, rel=1e-5)


def test_without_a_person_there_is_no_miss_rate() -> None:
    nobody = np.zeros((0, 4), np.float32)
    assert plain_miss_rate([nobody], [(nobody, np.zeros(0, np.float32))]) is None
    assert plain_miss_rate([], []) is None


def _xyxy(boxes_xywh: NDArray[np.float64]) -> NDArray[np.float32]:
    return np.column_stack([boxes_xywh[:, :2], boxes_xywh[:, :2] + boxes_xywh[:, 2:]]).astype(np.float32)


def test_empty_images_count_as_images() -> None:
    """One false positive above the only hit: 1 an image if alone, 1/200 with 199 empty images, which costs nothing."""
    rows = [(0, (300.0, 300.0, 30.0, 80.0), 0.9), (0, PERSON, 0.5)]
    assert miss_rates(truth_of([(0, PERSON)]), found_in(rows))["all"] == pytest.approx(100 * 1e-10 ** (1 / 9))
    assert miss_rates(truth_of([(0, PERSON)], images=200), found_in(rows))["all"] == pytest.approx(0, abs=1e-7)


def test_score_order_decides() -> None:
    """Of two detections of one person the surer is the hit, whatever the order in the file."""
    poor: Box = (100, 100, 30, 60)
    surest_hit = miss_rates(truth_of([(0, PERSON)]), found_in([(0, poor, 0.3), (0, PERSON, 0.8)]))
    assert surest_hit["all"] == pytest.approx(0, abs=1e-7)


def test_equal_scores_keep_the_order_of_the_file() -> None:
    away: Box = (300, 300, 30, 80)
    hit_first = miss_rates(truth_of([(0, PERSON)]), found_in([(0, PERSON, 0.5), (0, away, 0.5)]))["all"]
    hit_last = miss_rates(truth_of([(0, PERSON)]), found_in([(0, away, 0.5), (0, PERSON, 0.5)]))["all"]
    assert hit_first == pytest.approx(0, abs=1e-7)
    assert hit_last is not None
    assert hit_last > 1


@pytest.mark.parametrize(
    ("folder", "day"),
    [
        ("set00", True),  # training: campus, road, downtown by day
        ("set02", True),
        ("set03", False),  # and by night
        ("set05", False),
        ("set06", True),  # test
        ("set08", True),
        ("set09", False),
        ("set11", False),
    ],
)
def test_set_number_tells_day_from_night(folder: str, day: bool) -> None:
    rates = miss_rates(truth_of([(0, PERSON)], names=folder), found_in([]))
    assert rates == {"all": 100.0, "day": 100.0 if day else None, "night": None if day else 100.0}


@pytest.mark.parametrize("folder", ["set12", "night", "images"])
def test_name_without_set_number_is_refused(folder: str) -> None:
    with pytest.raises(DataError, match="set00"):
        miss_rates(truth_of([(0, PERSON)], names=folder), found_in([]))


# ---------------------------------------------------------------- who counts


@pytest.mark.parametrize(
    ("box", "occlusion", "counted"),
    [
        ((100, 100, 22, 55), 0, True),  # exactly 55 px high counts
        ((100, 100, 22, 54), 0, False),  # one pixel less is an ignore region
        ((100, 100, 22, 400), 0, True),  # no upper limit
        ((100, 100, 22, 80), 1, True),  # partial occlusion
        ((100, 100, 22, 80), 2, False),  # heavy occlusion
        ((5, 100, 22, 80), 0, True),  # left edge on the border
        ((4, 100, 22, 80), 0, False),  # beyond it
        ((100, 5, 22, 80), 0, True),  # top edge
        ((100, 4, 22, 80), 0, False),
        ((613, 100, 22, 80), 0, True),  # right edge at 635
        ((614, 100, 22, 80), 0, False),
        ((100, 427, 22, 80), 0, True),  # bottom edge at 507
        ((100, 428, 22, 80), 0, False),
    ],
)
def test_reasonable_subset(box: Box, occlusion: int, counted: bool) -> None:
    truth = truth_of([(0, box)], occlusion=occlusion)
    assert ignore_regions(truth, SUBSETS["reasonable"]).tolist() == [not counted]


@pytest.mark.parametrize(
    ("subset", "height", "occlusion", "counted"),
    [
        ("near", 115, 0, True),
        ("near", 114, 0, False),
        ("near", 115, 1, False),  # scale subsets want no occlusion
        ("medium", 45, 0, True),  # both limits belong to it
        ("medium", 115, 0, True),
        ("medium", 116, 0, False),
        ("far", 45, 0, True),  # 45 px are medium and far, as in the wrapper
        ("far", 46, 0, False),
        ("occlusion-none", 20, 0, True),  # any height
        ("occlusion-partial", 20, 1, True),
        ("occlusion-partial", 20, 0, False),
        ("occlusion-heavy", 20, 2, True),
        ("occlusion-heavy", 20, 1, False),
    ],
)
def test_other_subsets(subset: str, height: int, occlusion: int, counted: bool) -> None:
    truth = truth_of([(0, (100, 100, 20, height))], occlusion=occlusion)
    assert ignore_regions(truth, SUBSETS[subset]).tolist() == [not counted]


def test_other_classes_are_ignore_regions() -> None:
    crowd = truth_of([(0, PERSON)], ignored=True)
    assert ignore_regions(crowd, SUBSETS["reasonable"]).all()
    assert miss_rates(crowd, found_in([(0, PERSON, 0.9)])) == {"all": None, "day": None, "night": None}


# ---------------------------------------------------------------- matching


@pytest.mark.parametrize(
    ("found", "truth", "ignore", "outcomes"),
    [
        ([PERSON, PERSON], [PERSON], [False], [HIT, FALSE]),  # a person takes one detection
        ([PERSON] * 3, [PERSON], [True], [OUT] * 3),  # an ignore region absorbs many
        ([(100, 100, 30, 40)], [PERSON], [False], [HIT]),  # IoU exactly 0.5
        ([(100, 100, 30, 39)], [PERSON], [False], [FALSE]),  # just below
        ([(100, 100, 10, 20)], [PERSON], [False], [FALSE]),  # inside a person: IoU is small
        ([(100, 100, 10, 20)], [PERSON], [True], [OUT]),  # inside an ignore region: all of the detection
        ([(90, 100, 20, 20)], [PERSON], [True], [OUT]),  # half of the detection
        ([(89, 100, 20, 20)], [PERSON], [True], [FALSE]),  # less than half
        ([(0, 0, 300, 300)], [PERSON], [True], [FALSE]),  # covers the region, yet most of it lies outside
        ([PERSON, PERSON], [PERSON, PERSON], [True, False], [HIT, OUT]),  # a person comes first, then the region
        ([(100, 100, 30, 60)], [(100, 100, 30, 60), PERSON], [True, False], [HIT]),  # even where the region fits better
        ([PERSON], [], [], [FALSE]),  # an image without anybody
        ([(100, 100, 0, 80)], [PERSON], [True], [FALSE]),  # a box without area overlaps nothing
    ],
)
def test_matching(found: list[Box], truth: list[Box], ignore: list[bool], outcomes: list[int]) -> None:
    assert judged(found, truth, ignore) == outcomes


def test_best_overlap_wins_and_frees_the_other() -> None:
    left, right = (100.0, 100.0, 40.0, 80.0), (110.0, 100.0, 40.0, 80.0)
    assert judged([right, left], [left, right], [False, False]) == [HIT, HIT]


def test_of_equal_overlaps_the_last_is_taken() -> None:
    """The first detection fits both persons alike and takes the last; the second only fits the first."""
    overlap = np.array([[0.6, 0.6], [0.7, 0.1]])
    assert match_image(overlap, np.array([False, False])).tolist() == [HIT, HIT]
    assert match_image(overlap[:, ::-1], np.array([False, False])).tolist() == [HIT, FALSE]


def plain_match(overlap: NDArray[np.float64], ignore: NDArray[np.bool_]) -> list[int]:
    """The rule word for word: persons first, regions last; the running best must be reached, regions never fill up."""
    order = sorted(range(len(ignore)), key=lambda index: bool(ignore[index]))
    taken: set[int] = set()
    outcomes = []
    for row in overlap:
        best, chosen = 0.5, None
        for index in order:
            if index in taken or row[index] < best:
                continue
            if chosen is not None and not ignore[chosen] and ignore[index]:
                break
            best, chosen = row[index], index
        if chosen is None:
            outcomes.append(FALSE)
        elif ignore[chosen]:
            outcomes.append(OUT)
        else:
            taken.add(chosen)
            outcomes.append(HIT)
    return outcomes


@given(st.data())
@settings(deadline=None)
def test_matching_equals_the_plain_rule(data: st.DataObject) -> None:
    found, truth = data.draw(st.integers(1, 8)), data.draw(st.integers(0, 8))
    values = st.sampled_from([0.0, 0.3, 0.5, 0.6, 0.8, 1.0])  # few values: many ties
    overlap = np.array([[data.draw(values) for _ in range(truth)] for _ in range(found)]).reshape(found, truth)
    ignore = np.array([data.draw(st.booleans()) for _ in range(truth)], dtype=np.bool_)
    assert match_image(overlap, ignore).tolist() == plain_match(overlap, ignore)


# ---------------------------------------------------------------- published numbers


@pytest.mark.realdata
@pytest.mark.parametrize(
    ("name", "published"),
    [
        ("GAFF", {"all": 6.48, "day": 8.35, "night": 3.46}),
        ("MLPD", {"all": 7.58, "day": 7.95, "night": 6.95}),
        ("MBNet", {"all": 8.13, "day": 8.28, "night": 7.86}),
        ("MSDS-RCNN", {"all": 11.34, "day": 10.53, "night": 12.94}),
    ],
)
def test_published_miss_rates(real_data: Path, name: str, published: dict[str, float]) -> None:
    folder = real_data / "rgbt" / "kaist_eval"
    truth = read_annotations(folder / "KAIST_annotation.json.gz")
    found = read_detections(folder / "results" / f"{name}_result.txt.gz", truth)
    start = process_time()
    assert miss_rates(truth, found) == pytest.approx(published, abs=0.01)
    assert process_time() - start < 3  # seconds of processor time: other work on the machine does not count


@pytest.mark.realdata
def test_counts_of_the_test_set(real_data: Path) -> None:
    """2,252 images, 1,455 by day; 1,455 reasonable persons, 989 by day: both as the literature counts them."""
    folder = real_data / "rgbt" / "kaist_eval"
    truth = read_annotations(folder / "KAIST_annotation.json.gz")
    assert truth.image_names == tuple((folder / "test-all-20.txt").read_text().split())
    assert (len(truth.is_day), int(truth.is_day.sum())) == (2252, 1455)
    counted = ~ignore_regions(truth, SUBSETS["reasonable"])
    assert (int(counted.sum()), int(truth.is_day[truth.images[counted]].sum())) == (1455, 989)
