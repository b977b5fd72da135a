"""Engine outputs to detections."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st
from hypothesis.extra import numpy as hnp

from mdrun.backends.base import Outputs
from mdrun.errors import EngineError
from mdrun.frames import Detections
from mdrun.manifest import OutputSpec
from mdrun.postprocess import Postprocess, above
from tests.runtime.engines import VISIBLE_WH, make_manifest

FRAME_WH = (192, 144)  # twice the model's size


def outputs(*rows: tuple[tuple[float, ...], float, int]) -> Outputs:
    return {
        "boxes": np.array([[row[0] for row in rows]], np.float32).reshape(1, -1, 4),
        "scores": np.array([[row[1] for row in rows]], np.float32),
        "classes": np.array([[row[2] for row in rows]], np.int32),
    }


def run(*rows: tuple[tuple[float, ...], float, int], threshold: float | None = None) -> Detections:
    return Postprocess(make_manifest(), threshold)(outputs(*rows), FRAME_WH)


def test_boxes_come_back_in_pixels_of_the_frame() -> None:
    found = run(((10, 20, 30, 40), 0.9, 2))
    assert found.boxes_xyxy.tolist() == [[20, 40, 60, 80]]
    assert found.boxes_xyxy.dtype == np.float32
    assert found.classes.tolist() == [2]
    assert found.classes.dtype == np.int64


@pytest.mark.parametrize(
    ("row", "stays"),
    [
        (((10, 10, 30, 30), 0.05, 0), True),  # exactly the report threshold
        (((10, 10, 30, 30), 0.0499, 0), False),  # just below
        (((10, 10, 30, 30), float("nan"), 0), False),  # an overflow in a half-precision graph
        (((10, 10, float("inf"), 30), 0.9, 0), False),
        (((10, 10, 10, 30), 0.9, 0), False),  # no width
        (((100, 10, 120, 30), 0.9, 0), False),  # wholly outside of the 96 pixels
        (((90, 10, 120, 30), 0.9, 0), True),  # partly outside
        (((10, 10, 30, 30), 0.9, 3), False),  # a class that has no name
        (((10, 10, 30, 30), 0.9, -1), False),  # padding
    ],
)
def test_what_is_reported(row: tuple[tuple[float, ...], float, int], stays: bool) -> None:
    assert len(run(row)) == stays


def test_suppression_is_by_class() -> None:
    box = (10, 10, 30, 30)
    found = run((box, 0.9, 0), (box, 0.8, 0), (box, 0.7, 2))
    assert found.classes.tolist() == [0, 2]
    np.testing.assert_allclose(found.scores, [0.9, 0.7])


def test_threshold_overrides_the_manifest() -> None:
    rows = (((10, 10, 30, 30), 0.6, 0), ((50, 10, 70, 30), 0.3, 0))
    assert len(run(*rows)) == 2
    assert len(run(*rows, threshold=0.5)) == 1
    assert len(run(*rows, threshold=0.0)) == 2


def test_most_boxes_of_one_frame() -> None:
    manifest = make_manifest(count=3)
    few = replace(manifest, thresholds=replace(manifest.thresholds, max_detections=2))
    rows = [((20.0 * i, 10.0, 20.0 * i + 9, 30.0), 0.5 + 0.1 * i, 0) for i in range(3)]
    found = Postprocess(few)(outputs(*rows), FRAME_WH)
    np.testing.assert_allclose(found.scores, [0.7, 0.6])


@given(
    hnp.arrays(np.float32, (1, 12, 4), elements=st.floats(-500, 500, width=32)),
    hnp.arrays(np.float32, (1, 12), elements=st.floats(0, 1, width=32)),
    hnp.arrays(np.int32, (1, 12), elements=st.integers(-2, 4)),
)
def test_detections_are_always_sound(
    boxes: np.ndarray[tuple[int, ...], np.dtype[np.float32]],
    scores: np.ndarray[tuple[int, ...], np.dtype[np.float32]],
    classes: np.ndarray[tuple[int, ...], np.dtype[np.int32]],
) -> None:
    found = Postprocess(make_manifest())({"boxes": boxes, "scores": scores, "classes": classes}, FRAME_WH)
    assert (np.diff(found.scores) <= 0).all()
    assert (found.boxes_xyxy >= 0).all()
    assert (found.boxes_xyxy <= [*FRAME_WH, *FRAME_WH]).all()
    assert (found.boxes_xyxy[:, :2] < found.boxes_xyxy[:, 2:]).all()


def test_above_keeps_the_limit_itself() -> None:
    found = run(((0, 0, *VISIBLE_WH), 0.5, 0), ((10, 10, 20, 20), 0.25, 1))
    assert above(found, 0.5).classes.tolist() == [0]
    assert len(above(found, 0.51)) == 0


def test_an_engine_without_boxes_is_refused() -> None:
    manifest = replace(make_manifest(), outputs={"labels": OutputSpec("int32", [1, 72, 96], "class index")})
    with pytest.raises(EngineError, match="labels int32, wanted boxes float32"):
        Postprocess(manifest)
