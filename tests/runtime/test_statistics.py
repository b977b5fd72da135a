"""Accounting of a run."""

from __future__ import annotations

from dataclasses import replace

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from mdrun import statistics
from mdrun.frames import Detections, Frame, FramePair, Modality, Provenance, Result, Segmentation
from mdrun.statistics import Distribution, Statistics
from tests.runtime.engines import CLASSES, LABELS


def make_result(
    sequence: int = 0,
    provenance: Provenance = Provenance.MEASURED,
    skew_ms: float | None = 5.0,
    scores: tuple[float, ...] = (0.9, 0.3),
    pair_ms: float = 1.0,
) -> Result:
    image = np.zeros((72, 96, 3), np.uint8)
    visible = Frame(image, Modality.VISIBLE, sequence * 33_000_000, sequence, "cam0", f"{sequence:03}.png")
    thermal = None if provenance is Provenance.ABSENT else Frame(image[..., 0], Modality.THERMAL, 0, sequence, "cam1")
    pair = FramePair(sequence, visible, thermal, provenance, "", skew_ms, skew_ms)
    boxes = np.tile(np.array([[8, 8, 40, 60]], np.float32), (len(scores), 1))
    found = Detections(boxes, np.array(scores, np.float32), np.zeros(len(scores), np.int64))
    stages = {"pair": pair_ms, "preprocess": 0.5, "infer": 2.0, "postprocess": 0.25}
    return Result(pair, "blob", "detect", found, None, stages)


@given(st.lists(st.floats(0, 1e6), min_size=1, max_size=200))
def test_percentiles_are_those_of_numpy(values: list[float]) -> None:
    distribution = Distribution()
    for value in values:
        distribution.add(value)
    got = distribution.to_dict()
    assert got is not None
    wanted = [*np.percentile(values, [50, 95, 99]), max(values)]
    np.testing.assert_allclose(list(got.values()), wanted, atol=6e-4)
    assert list(got) == ["p50", "p95", "p99", "max"]


def test_no_values_no_percentiles() -> None:
    assert Distribution().to_dict() is None


def test_percentiles_forget_the_maximum_does_not(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(statistics, "WINDOW", 10)
    distribution = Distribution()
    distribution.add(1000.0)
    for _ in range(20):
        distribution.add(1.0)
    assert distribution.to_dict() == {"p50": 1, "p95": 1, "p99": 1, "max": 1000}
    assert distribution.count == 21


@given(st.lists(st.sampled_from(["result", "ffc", "stale", "no_thermal", ""])))
def test_captured_is_results_plus_drops(events: list[str]) -> None:
    counted = Statistics(CLASSES, 0.5)
    for event in events:
        if event == "result":
            counted.add_result(make_result())
        else:
            visible = make_result().pair.visible
            counted.add_drop(FramePair(0, visible, None, Provenance.ABSENT, event))
    counted.check(len(events))
    with pytest.raises(ValueError, match="accounted for"):
        counted.check(len(events) + 1)
    summary = counted.to_dict()
    assert summary["results"] + sum(summary["drops"].values()) == len(events)
    assert sum(summary["thermal_provenance"].values()) == summary["results"]
    assert set(summary["drops"]) <= {"thermal_ffc", "thermal_stale", "thermal_no_thermal", "thermal_missing"}


def test_objects_count_from_the_display_threshold() -> None:
    counted = Statistics(CLASSES, 0.5)
    counted.add_result(make_result(scores=(0.9, 0.5, 0.49)))
    assert counted.to_dict()["objects"] == {"person": 2, "bicycle": 0, "car": 0}


def test_skew_is_a_distance() -> None:
    counted = Statistics(CLASSES, 0.5)
    for skew in (-30.0, 30.0):
        counted.add_result(make_result(skew_ms=skew))
    assert counted.to_dict()["skew_ms"]["p50"] == 30


def test_an_engine_without_thermal_input_has_no_thermal_numbers() -> None:
    counted = Statistics(CLASSES, 0.5, thermal_used=False)
    counted.add_result(make_result())
    summary = counted.to_dict()
    assert summary["thermal_provenance"] == {"absent": 1}
    assert summary["skew_ms"] is None


def test_areas_are_means_over_the_results() -> None:
    counted = Statistics(LABELS, 0.5, task="segment")
    assert (counted.to_dict()["objects"], counted.to_dict()["areas"]) == ({}, None)
    for share in (4, 1):
        labels = np.zeros((10, 10), np.uint8)
        labels[:share] = 2
        counted.add_result(replace(make_result(), detections=None, segmentation=Segmentation(labels)))
    found = counted.to_dict()
    assert found["objects"] == {}
    assert found["areas"] == dict.fromkeys(LABELS, 0.0) | {"unlabelled": 0.75, "person": 0.25}


def test_a_detector_has_no_areas() -> None:
    counted = Statistics(CLASSES, 0.5)
    counted.add_result(make_result())
    assert counted.to_dict()["areas"] is None
