"""16-bit thermal images in calibration and gate, and one engine of them from its training to the runtime."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest

from mdexport.onnx_export import export_onnx
from mdexport.pairs import intact, parse_pairs
from mdrun.engine import Engine
from mdrun.errors import DataError
from mdrun.manifest import Manifest
from mdrun.preprocess import Preprocess
from mdrun.thermal.normalise import Rule, normalise
from mdtrain.config import load_config
from mdtrain.data.records import make_record
from mdtrain.recipes import baseline
from tests import thermal_golden
from tests.runtime.engines import make_manifest
from tests.training.test_recipes import TINY
from tests.training.tree import write_counts

RULE = "percentile(1,99)"


def with_rule(text: str, thermal_wh: tuple[int, int]) -> Manifest:
    manifest = make_manifest(thermal_wh=thermal_wh)
    spec = replace(manifest.inputs["thermal"], normalisation=text)
    return replace(manifest, inputs=manifest.inputs | {"thermal": spec})


@pytest.mark.parametrize("text", [text for text, _ in thermal_golden.RULES])
def test_golden_vectors_by_way_of_calibration(text: str, tmp_path: Path) -> None:
    size = (thermal_golden.WIDTH, thermal_golden.HEIGHT)
    manifest = with_rule(text, size)
    cv2.imwrite(str(tmp_path / "vi.png"), np.full((size[1] * 4, size[0] * 4, 3), (9, 60, 120), np.uint8))
    for index, (counts, image) in enumerate(zip(*thermal_golden.firsts(text), strict=True)):
        path = tmp_path / f"{index}.png"
        cv2.imwrite(str(path), np.array(counts, np.uint16))
        record = make_record("a", (tmp_path / "vi.png", path), np.zeros((0, 4)), np.zeros(0, np.int64))
        (scene,) = intact(manifest, [record])
        wanted = np.array(image, float)
        assert (np.isnan(wanted) | (scene.feeds["thermal"][0] == wanted)).all()


def test_calibration_feeds_what_the_runtime_feeds(tmp_path: Path) -> None:
    manifest = with_rule(RULE, (32, 24))
    records = parse_pairs(str(write_counts(tmp_path / "coco"))).read("val", Rule.parse(RULE))
    for scene, record in zip(intact(manifest, records), records, strict=True):
        counts = np.asarray(cv2.imread(str(record.thermal_file.path), cv2.IMREAD_UNCHANGED))
        fed = Preprocess(manifest)(record.visible, counts)
        for name, array in fed.items():
            np.testing.assert_array_equal(scene.feeds[name], array)


def test_pairs_of_another_depth_than_the_engine_are_refused(tmp_path: Path) -> None:
    pairs = parse_pairs(str(write_counts(tmp_path / "coco")))
    with pytest.raises(DataError, match="raw counts"):
        pairs.read("val")
    records = pairs.read("val", Rule.parse(RULE))
    with pytest.raises(DataError, match="raw counts"):
        intact(make_manifest(thermal_wh=(32, 24)), records)


@pytest.mark.slow
def test_an_engine_of_counts_from_training_to_the_runtime(tmp_path: Path) -> None:
    root = write_counts(tmp_path / "coco")
    for split, index in (("train", 0), ("val", 1)):  # a pair each: none may both teach and judge
        data = json.loads((root / f"{split}.json").read_text())
        image = data["images"][index]
        boxes = [entry | {"image_id": image["id"]} for entry in data["annotations"]]
        (root / f"{split}.json").write_text(json.dumps(data | {"images": [image], "annotations": boxes}))
    sets = (f"data.root={tmp_path}", "data.sets=[coco]", "data.validation=coco", f"data.normalisation={RULE}")
    config = load_config(None, (*TINY, *sets, "optimiser.iterations=2"))
    weights = baseline.train(config, tmp_path / "run", "mdtrain train baseline").weights
    output = tmp_path / "counts.onnx"
    manifest = export_onnx(weights, output, str(root / "visible"), str(root / "thermal"), pairs=2)
    assert manifest.inputs["thermal"].normalisation == RULE
    visible = np.zeros((48, 64, 3), np.uint8)
    counts = np.asarray(cv2.imread(str(root / "thermal" / "gate_1.png"), cv2.IMREAD_UNCHANGED), np.uint16)
    with Engine.load(output) as engine:
        raw = engine.infer(visible, counts)
        made = engine.infer(visible, normalise(counts, Rule.parse(RULE)), normalised=True)
        np.testing.assert_array_equal(raw.scores, made.scores)
        np.testing.assert_array_equal(raw.boxes_xyxy, made.boxes_xyxy)
        with pytest.raises(DataError, match=r"rule percentile\(1,99\) wants 16-bit counts"):
            engine.infer(visible, np.zeros((48, 64), np.uint8))
