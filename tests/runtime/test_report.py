"""What a person reads of an engine's accuracy."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mdrun.manifest_report import print_manifest, print_models
from mdrun.models import shipped
from mdrun.onnx_file import read_manifest
from tests.runtime.engines import make_manifest, make_segment_manifest, save

CLASSES_AND_MEAN = (
    "unlabelled",
    "car",
    "person",
    "bike",
    "curve",
    "car_stop",
    "guardrail",
    "color_cone",
    "bump",
    "mean",
)


def test_of_label_maps_the_means_are_shown_and_of_boxes_every_score(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    segment, detect = make_segment_manifest("areas"), make_manifest("blob")
    of_classes = {f"street_val/{name}/night/iou": 0.25 for name in CLASSES_AND_MEAN}
    of_boxes = {"msrs_val/person/ap50": 0.5, "msrs_val/car/ap50": 0.75}
    for manifest, scores in ((segment, of_classes), (detect, of_boxes)):
        told = replace(manifest, origin=replace(manifest.origin, accuracy=scores))
        save(tmp_path / f"{manifest.name}.onnx", told, [], {})
        print_manifest(tmp_path / f"{manifest.name}.onnx", read_manifest(tmp_path / f"{manifest.name}.onnx"))
    print_models([model.to_dict() for model in shipped(tmp_path)])
    printed = capsys.readouterr().out
    text = " ".join(printed.split())
    assert text.count("street_val/mean/night/iou 0.25; by class: --json") == 2
    assert "street_val/car/" not in text
    assert text.count("msrs_val/car/ap50 0.75, msrs_val/person/ap50 0.5") == 2
    assert len(printed.splitlines()) < 80
