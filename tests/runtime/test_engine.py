"""The engine as a user sees it, and what shipping one means."""

from __future__ import annotations

import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import onnx
import pytest

import mdrun
from mdrun import Engine, models
from mdrun.errors import DataError, EngineError, UsageError
from mdrun.frames import Detections, Segmentation
from mdrun.manifest import METADATA_KEY
from mdrun.onnx_file import graph_sha256
from tests.runtime.engines import (
    LABELS,
    RED_LABEL,
    THERMAL_WH,
    VISIBLE_WH,
    WARM_LABEL,
    make_manifest,
    save,
    write_areas,
    write_blob,
    write_constant,
    write_labels,
)


@pytest.fixture(scope="module")
def blob(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_blob(tmp_path_factory.mktemp("engine") / "blob.onnx")


@pytest.fixture(scope="module")
def segment(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_areas(tmp_path_factory.mktemp("engine") / "areas.onnx")


SIZES = [
    ((96, 72), (32, 24)),  # the model's own sizes
    ((1280, 1024), (160, 120)),  # larger cameras
    ((48, 36), (16, 12)),  # smaller ones
    ((960, 540), (80, 60)),  # other proportions
]


@pytest.mark.parametrize(("visible_wh", "thermal_wh"), SIZES)
def test_a_warm_body_is_found_where_it_is(blob: Path, visible_wh: tuple[int, int], thermal_wh: tuple[int, int]) -> None:
    """The right half, lower three quarters of the thermal image is warm: so is the box, in visible pixels."""
    width, height = thermal_wh
    thermal = np.zeros((height, width), np.uint8)
    thermal[height // 4 :, width // 2 :] = 230
    with Engine.load(blob) as engine:
        found = engine.infer(np.zeros((*visible_wh[::-1], 3), np.uint8), thermal)
    wanted = np.array([0.5, 0.25, 1, 1]) * [*visible_wh, *visible_wh]
    pixel = visible_wh[0] / THERMAL_WH[0]
    assert len(found) == 1
    assert abs(found.boxes_xyxy[0] - wanted).max() <= pixel + 1e-3  # interpolation may move an edge by one model pixel
    assert found.scores[0] == pytest.approx(230 / 255, abs=1e-4)


@pytest.mark.parametrize(("visible_wh", "thermal_wh"), SIZES)
def test_pixels_are_labelled_where_they_are(
    segment: Path, visible_wh: tuple[int, int], thermal_wh: tuple[int, int]
) -> None:
    """Lower half warm, left half red; what is warm is a person, also where it is red."""
    visible, thermal = np.zeros((*visible_wh[::-1], 3), np.uint8), np.zeros(thermal_wh[::-1], np.uint8)
    visible[:, : visible_wh[0] // 2, 0] = 255
    thermal[thermal_wh[1] // 2 :] = 230
    with Engine.load(segment) as engine:
        labels = engine.segment(visible, thermal).label_map
    assert labels.dtype == np.uint8
    assert labels.shape == visible_wh[::-1]
    height, width = labels.shape
    wanted = np.zeros((height, width), np.uint8)
    wanted[:, : width // 2], wanted[height // 2 :] = RED_LABEL, WARM_LABEL
    model_pixel = -(-width // VISIBLE_WH[0])
    thermal_pixel = -(-height // THERMAL_WH[1])  # interpolation may move an edge by one pixel of the model's input
    wrong = labels != wanted
    wrong[height // 2 - thermal_pixel : height // 2 + thermal_pixel] = False
    wrong[:, width // 2 - model_pixel : width // 2 + model_pixel] = False
    assert not wrong.any()


def test_labels_outside_the_classes_are_background(tmp_path: Path) -> None:
    raw = np.tile(np.array([0, 1, 8, 9, -1, 257], np.int32), (VISIBLE_WH[1], 16))
    with Engine.load(write_labels(tmp_path / "l.onnx", raw), threads=1) as engine:
        assert not engine.takes_thermal
        found = engine.segment(np.zeros((*VISIBLE_WH[::-1], 3), np.uint8)).label_map
    assert found[0, :6].tolist() == [0, 1, 8, 0, 0, 0]
    assert found.max() < len(LABELS)


def test_the_method_of_another_task(blob: Path, segment: Path) -> None:
    pair = np.zeros((72, 96, 3), np.uint8), np.zeros((24, 32), np.uint8)
    with Engine.load(segment) as engine, pytest.raises(EngineError) as caught:
        engine.infer(*pair)
    assert str(caught.value) == "areas: its task is 'segment', and Engine.infer gives boxes; call Engine.segment"
    with Engine.load(blob) as engine, pytest.raises(EngineError) as caught:
        engine.segment(*pair)
    assert str(caught.value) == "blob: its task is 'detect', and Engine.segment gives label maps; call Engine.infer"


def test_label_maps_have_no_threshold(segment: Path) -> None:
    with pytest.raises(UsageError, match="threshold is given, and areas makes label maps, which have no scores"):
        Engine.load(segment, threshold=0.5)


def test_nothing_warm_nothing_found(blob: Path) -> None:
    with Engine.load(blob) as engine:
        assert len(engine.infer(np.full((72, 96, 3), 255, np.uint8), np.zeros((24, 32), np.uint8))) == 0


def test_results_survive_the_next_call(blob: Path) -> None:
    """Buffers are reused inside; what was handed out is not."""
    visible, warm = np.zeros((72, 96, 3), np.uint8), np.full((24, 32), 220, np.uint8)
    with Engine.load(blob) as engine:
        first = engine.infer(visible, warm)
        kept = first.boxes_xyxy.copy(), first.scores.copy()
        warm[:, 16:] = 0
        engine.infer(visible, warm)
    np.testing.assert_array_equal(first.boxes_xyxy, kept[0])
    np.testing.assert_array_equal(first.scores, kept[1])


def test_missing_thermal_is_refused_never_zero(blob: Path) -> None:
    with Engine.load(blob) as engine:
        assert engine.takes_thermal
        with pytest.raises(DataError, match="no thermal image"):
            engine.infer(np.zeros((72, 96, 3), np.uint8))


def test_visible_only_engine(tmp_path: Path) -> None:
    path = write_constant(
        tmp_path / "c.onnx",
        np.array([[0, 0, 48, 36], [0, 0, 1, 1]], np.float32),
        np.array([0.75, 0.0], np.float32),
        np.array([2, 0], np.int32),
    )
    with Engine.load(path, threshold=0.1, threads=1) as engine:
        assert not engine.takes_thermal
        found = engine.infer(np.zeros((144, 192, 3), np.uint8))
    assert found.boxes_xyxy.tolist() == [[0, 0, 96, 72]]


@pytest.mark.parametrize(
    ("options", "named"),
    [
        ({"threads": 0}, "threads is 0, wanted 1 to 256"),
        ({"threads": 10**6}, "threads is 1000000"),  # the library would hang
        ({"threshold": -0.1}, "threshold is -0.1, wanted 0 to 1"),
        ({"threshold": float("nan")}, "threshold is nan"),
    ],
)
def test_options_out_of_range(blob: Path, options: dict[str, Any], named: str) -> None:
    with pytest.raises(UsageError, match=named):
        Engine.load(blob, **options)


@pytest.mark.parametrize("visible", [None, [[0, 0, 0]], "street.jpg"])
def test_what_is_no_image_is_refused(blob: Path, visible: Any) -> None:
    warm = np.zeros((24, 32), np.uint8)
    with Engine.load(blob) as engine:
        with pytest.raises(DataError, match=r"visible image is (NoneType|list|str), wanted uint8"):
            engine.infer(visible, warm)
        with pytest.raises(DataError, match="thermal image is list"):
            engine.infer(np.zeros((72, 96, 3), np.uint8), warm.tolist())  # type: ignore[arg-type]  # what is tested


def test_closed_engine(blob: Path) -> None:
    engine = Engine.load(blob)
    engine.close()
    with pytest.raises(EngineError, match="closed"):
        engine.infer(np.zeros((72, 96, 3), np.uint8), np.zeros((24, 32), np.uint8))


def test_engine_for_another_task(tmp_path: Path) -> None:
    text = make_manifest().to_json().replace('"detect"', '"depth"')
    path = save(tmp_path / "depth.onnx", make_manifest(), [], {}, embedded=text)
    with pytest.raises(EngineError, match="task is 'depth', wanted one of detect, segment, classify"):
        Engine.load(path)


def test_a_classify_engine_that_gives_boxes(tmp_path: Path) -> None:
    path = save(tmp_path / "class.onnx", replace(make_manifest(), task="classify"), [], {})
    with pytest.raises(EngineError, match=r"outputs are boxes float32 .*, wanted scores float32 and classes int32"):
        Engine.load(path)


def test_a_segment_engine_that_gives_boxes(tmp_path: Path) -> None:
    """Refused by its manifest, before any engine library sees the graph, which is no sound one here."""
    path = save(tmp_path / "seg.onnx", replace(make_manifest(), task="segment"), [], {})
    with pytest.raises(EngineError, match=r"outputs are boxes float32 .*, wanted labels int32 \[1, 72, 96\]"):
        Engine.load(path)


def test_engine_without_a_visible_input(tmp_path: Path) -> None:
    both = make_manifest(thermal_wh=THERMAL_WH)
    alone = replace(both, inputs={"thermal": both.inputs["thermal"]}, needs=["thermal"])
    with pytest.raises(EngineError, match="no visible input"):
        Engine.load(save(tmp_path / "t.onnx", alone, [], {}))


def test_an_engine_with_an_input_it_can_do_without(tmp_path: Path) -> None:
    """Nothing stands for a missing image, so such a graph could never be fed."""
    spare = replace(make_manifest(thermal_wh=THERMAL_WH), needs=["visible"])
    with pytest.raises(EngineError, match="input thermal but does not need it"):
        Engine.load(save(tmp_path / "spare.onnx", spare, [], {}))


def test_a_graph_changed_after_export_never_reaches_the_library(blob: Path, tmp_path: Path) -> None:
    model = onnx.load(str(blob))
    manifest = make_manifest(thermal_wh=THERMAL_WH)
    manifest = replace(manifest, origin=replace(manifest.origin, graph_sha256=graph_sha256(blob)))
    model.graph.name = manifest.network_name()
    onnx.helper.set_model_props(model, {METADATA_KEY: manifest.to_json()})
    whole, changed = tmp_path / "whole.onnx", tmp_path / "changed.onnx"
    onnx.save(model, str(whole))
    Engine.load(whole).close()
    weights = next(tensor for tensor in model.graph.initializer if tensor.name == "warm")
    weights.raw_data = np.float32(100).tobytes()  # still a sound graph
    onnx.save(model, str(changed))
    with pytest.raises(EngineError, match="changed or damaged after export; copy or export it again"):
        Engine.load(changed)


def test_shipped_engines_by_name(tmp_path: Path) -> None:
    assert models.shipped(tmp_path) == []
    with pytest.raises(UsageError, match="none ships"):
        models.default(tmp_path)
    path = write_blob(tmp_path / "blob.onnx")
    assert models.default(tmp_path) == models.resolve("blob", tmp_path) == path
    entry = models.shipped(tmp_path)[0].to_dict()
    assert (entry["name"], entry["path"], entry["task"]) == ("blob", str(path), "detect")
    assert entry["needs"] == ["visible", "thermal"]
    write_blob(tmp_path / "other.onnx", "other")
    with pytest.raises(UsageError, match="blob, other"):
        models.default(tmp_path)
    with pytest.raises(EngineError, match="neither a file nor one that ships"):
        models.resolve("blub", tmp_path)


def test_every_engine_of_this_package_runs() -> None:
    for model in models.shipped():
        assert model.path.stat().st_size <= 16e6
        with Engine.load(model.name) as engine:
            thermal = np.zeros((120, 160), np.uint8) if engine.takes_thermal else None
            found, _ = engine.run_timed(np.zeros((480, 640, 3), np.uint8), thermal)
            if isinstance(found, Detections):
                assert len(found) <= model.manifest.thresholds.max_detections
            elif isinstance(found, Segmentation):
                assert found.label_map.shape == (480, 640)
            else:
                assert found.energy is not None


def test_importing_is_cheap_and_lazy() -> None:
    code = "import sys, mdrun; print(*sys.modules); mdrun.Manifest; print(mdrun.__version__)"
    loaded = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True).stdout.split()
    assert not {"numpy", "cv2", "onnxruntime", "av", "rich", "mdrun.engine"} & set(loaded)
    assert set(mdrun.__all__) <= set(dir(mdrun))
    with pytest.raises(AttributeError, match="no attribute 'Motor'"):
        _ = mdrun.Motor
