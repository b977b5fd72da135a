"""What a person reads of an engine's accuracy."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path

import pytest

from mdrun.manifest import Change, Parity
from mdrun.manifest_report import print_manifest, print_models
from mdrun.models import shipped
from mdrun.onnx_file import read_manifest
from mdrun.report import print_rig_report
from mdrun.rig.run import RigReport
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


def test_of_a_converted_engine_its_own_accuracy_comes_first_and_labels_are_told(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    manifest = make_manifest("blob")
    data = ["MSRS street pairs, train.txt (visible labels)"]
    origin = replace(manifest.origin, accuracy={"msrs_val/person/ap50": 0.5}, data=data)
    measured = Parity("blob.onnx fp32", 60, "msrs val, fusion labels", {}, {}, passed=True,
                      metrics={"person/ap50": Change(0.31, 0.29)})  # fmt: skip
    save(tmp_path / "a.onnx", replace(manifest, origin=origin), [], {})
    int8 = replace(manifest, origin=replace(origin, precision="int8"), parity=measured)
    save(tmp_path / "b.onnx", int8, [], {})
    models = [model.to_dict() for model in shipped(tmp_path)]
    print_models(models)
    before, after = (" ".join(text.split()) for text in capsys.readouterr().out.split("licence")[:2])
    assert "accuracy msrs_val/person/ap50 0.5; visible labels" in before
    assert "before, in FP32" not in before
    assert "accuracy person/ap50 0.29 (0.31); on msrs val, fusion labels, in brackets blob.onnx fp32" in after
    assert "before, in FP32 msrs_val/person/ap50 0.5; visible labels" in after
    assert [model["data"] for model in models] == [data, data]
    assert models[1]["parity"]["metrics"] == {"person/ap50": {"reference": 0.31, "engine": 0.29}}
    print_manifest(tmp_path / "b.onnx", int8)
    text = " ".join(capsys.readouterr().out.split())
    assert "before, in FP32 msrs_val/person/ap50 0.5; visible labels" in text
    assert "person/ap50 0.31 → 0.29" in text


def test_new_runs_have_the_labels_in_the_name_of_the_set(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    manifest = make_manifest("blob")
    origin = replace(manifest.origin, accuracy={"msrs-visible_val/person/ap50": 0.5}, data=["x (visible labels)"])
    save(tmp_path / "a.onnx", replace(manifest, origin=origin), [], {})
    print_models([model.to_dict() for model in shipped(tmp_path)])
    assert "msrs-visible_val/person/ap50 0.5 licence" in " ".join(capsys.readouterr().out.split())


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


def test_the_table_of_a_run_says_what_an_output_lost(capsys: pytest.CaptureFixture[str]) -> None:
    sinks = {
        "jsonl:a.jsonl": {"written": 39, "dropped": 0, "errors": 0, "lost": 0},
        "mqtt://b:1": {"written": 0, "dropped": 7, "errors": 0, "lost": 9},
    }
    summary = {
        "rig": "gate",
        "ladder": {"engines": [], "transitions": []},
        "captured": {"visible": 39, "thermal": 39},
        "results": 39,
        "cameras": {},
        "thermal_provenance": {},
        "skew_ms": None,
        "objects": {},
        "sinks": sinks,
        "fps": None,
        "stages_ms": {},
        "latency_ms": None,
    }
    print_rig_report(RigReport(summary, []))
    text = " ".join(capsys.readouterr().out.split())
    assert "output jsonl:a.jsonl: 39 written, 0 dropped, 0 errors, 0 lost" in text
    assert "output mqtt://b:1: 0 written, 7 dropped, 0 errors, 9 lost" in text
