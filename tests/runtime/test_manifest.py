"""The manifest refuses what no reader could obey, whoever made it."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from mdrun.manifest import ManifestError, parse_manifest, read_sidecar
from tests.runtime.engines import THERMAL_WH, make_manifest

GOOD = make_manifest(thermal_wh=THERMAL_WH)


def changed(path: str, value: Any) -> str:
    """The good manifest as JSON with the value at a dotted path changed."""
    data = json.loads(GOOD.to_json())
    *parents, last = path.split(".")
    place = data
    for key in parents:
        place = place[key]
    place[last] = value
    return json.dumps(data)  # writes NaN and Infinity, as Python's json does


def test_a_good_one_survives_the_way_through_json() -> None:
    assert parse_manifest(GOOD.to_json(), "here") == GOOD


@pytest.mark.parametrize(
    ("path", "value", "words"),
    [
        ("inputs.visible.height", 0, "inputs.visible is 96x0 pixels"),
        ("inputs.thermal.width", -32, "inputs.thermal is -32x24 pixels"),
        ("inputs.visible.dtype", "uint9", "inputs.visible.dtype is 'uint9'"),
        ("inputs.visible.layout", "NCHW", "inputs.visible.layout is 'NCHW'"),
        ("inputs.visible.colour_order", "BGR", "inputs.visible.colour_order is 'BGR'"),
        ("outputs.boxes.dtype", "float", "outputs.boxes.dtype is 'float'"),
        ("outputs.boxes.shape", [1, 0, 4], r"outputs.boxes.shape is \[1, 0, 4\]"),
        ("thresholds.report", -0.1, "thresholds.report is -0.1"),
        ("thresholds.display", 1.5, "thresholds.display is 1.5"),
        ("thresholds.nms_iou", float("nan"), "NaN is no JSON number"),
        ("thresholds.max_detections", 0, "thresholds.max_detections is 0"),
        ("origin.accuracy", {"ap": float("inf")}, "Infinity is no JSON number"),
        ("origin.accuracy", {"ap": float("-inf")}, "-Infinity is no JSON number"),
        ("origin.accuracy", {"ap": 10**400}, r"origin.accuracy.ap is 1000"),  # an integer beyond every float
    ],
)
def test_values_out_of_range(path: str, value: Any, words: str) -> None:
    with pytest.raises(ManifestError, match=words) as caught:
        parse_manifest(changed(path, value), "here")
    assert str(caught.value).startswith("here: ")


def test_a_number_too_large_for_a_float() -> None:
    text = changed("origin.accuracy", {"ap": 1.5}).replace("1.5", "1e999")
    with pytest.raises(ManifestError, match=r"origin\.accuracy\.ap"):
        parse_manifest(text, "here")


def test_nan_is_refused_in_python_too() -> None:
    with pytest.raises(ManifestError, match=r"thresholds\.report is nan"):
        replace(GOOD, thresholds=replace(GOOD.thresholds, report=float("nan")))


@pytest.mark.parametrize("text", ["[" * 100_000, '{"a":' * 100_000])
def test_deep_nesting_is_no_manifest(text: str) -> None:
    with pytest.raises(ManifestError, match="not JSON"):
        parse_manifest(text, "deep.onnx")


def test_a_sidecar_that_is_no_text(tmp_path: Path) -> None:
    (tmp_path / "a.json").write_bytes(b"\xff\xfe{")
    with pytest.raises(ManifestError, match=r"a\.json: not a readable text file"):
        read_sidecar(tmp_path / "a.plan")
