"""Results in the types of other libraries."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace

import numpy as np
import pytest

import mdrun
from mdrun.errors import UsageError
from mdrun.frames import Detections
from mdrun.interop import to_supervision
from tests.runtime.engines import CLASSES
from tests.runtime.test_statistics import make_result

sv = pytest.importorskip("supervision")


def test_boxes_scores_and_classes_are_the_same() -> None:
    found = make_result().detections
    assert found is not None
    got = to_supervision(found, CLASSES)
    np.testing.assert_array_equal(got.xyxy, found.boxes_xyxy)
    np.testing.assert_array_equal(got.confidence, found.scores)
    np.testing.assert_array_equal(got.class_id, found.classes)
    assert list(got.data["class_name"]) == [CLASSES[0]] * 2
    assert got.tracker_id is None


def test_a_result_brings_ids_and_temperatures() -> None:
    result = replace(make_result(), track_ids=np.array([7, -1]), celsius=np.array([36.5, np.nan], np.float32))
    got = to_supervision(result)
    assert got.tracker_id is not None
    assert got.tracker_id.tolist() == [7, -1]
    np.testing.assert_array_equal(got.data["celsius"], np.array([36.5, np.nan], np.float32))
    assert "class_name" not in got.data
    best = got[0:1]  # what supervision cuts stays whole
    assert isinstance(best, sv.Detections)
    assert best.tracker_id is not None
    assert best.tracker_id.tolist() == [7]


def test_no_boxes_are_an_empty_set() -> None:
    none = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))
    assert len(to_supervision(none, CLASSES)) == 0
    assert to_supervision(none, CLASSES).is_empty()


def test_its_annotator_draws_them() -> None:
    image = np.zeros((72, 96, 3), np.uint8)
    drawn = sv.BoxAnnotator().annotate(image.copy(), to_supervision(make_result(), CLASSES))
    assert drawn.any()


def test_other_tasks_have_no_boxes() -> None:
    result = replace(make_result(), task="segment", detections=None)
    with pytest.raises(UsageError, match="task segment has none; wanted detect"):
        to_supervision(result)


def test_without_supervision_one_line_says_so(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setitem(sys.modules, "supervision", None)
    with pytest.raises(UsageError, match="pip install supervision"):
        to_supervision(make_result())


def test_it_is_a_public_name_and_loads_nothing() -> None:
    assert mdrun.to_supervision is to_supervision
    code = "import sys, mdrun.interop, mdrun.tracking; print({'supervision', 'lap', 'cv2'} & set(sys.modules))"
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert done.stdout.strip() == "set()"
