"""COCO results and the data set beside them, read by the reference code."""

from __future__ import annotations

import json
import tracemalloc
from collections.abc import Iterable
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from mdrun.frames import Detections, Provenance, Result
from mdrun.sinks import SinkWorker
from mdrun.sinks.coco import CocoSink
from mdrun.sinks.uri import build_sink
from tests.runtime.engines import CLASSES
from tests.runtime.live import make_context
from tests.runtime.test_statistics import make_result

CORE = ["image_id", "category_id", "bbox", "score"]
EXTRA = ["frame", "captured_ns", "thermal_provenance", "energy", "track_id", "celsius"]


def write(path: Path, results: Iterable[Result]) -> tuple[list[dict[str, Any]], dict[str, Any]]:
    sink = CocoSink(path, CLASSES)
    for result in results:
        sink.write(result)
    sink.finish()
    assert not path.exists()
    assert sink.written
    assert sink.commit() == path
    return _read(path), _read(path.with_suffix(".dataset.json"))


def _read(path: Path) -> Any:
    return json.loads(path.read_text(encoding="utf-8"), parse_constant=pytest.fail)  # NaN is no JSON


def _named(result: Result, name: str | None) -> Result:
    return replace(result, pair=replace(result.pair, visible=replace(result.pair.visible, name=name)))


def test_the_rows_are_coco_results_and_more(tmp_path: Path) -> None:
    result = replace(
        _named(make_result(4), None), track_ids=np.array([3, -1]), celsius=np.array([36.504, np.nan], np.float32)
    )
    rows, _ = write(tmp_path / "run.coco.json", [result])
    assert [list(row) for row in rows] == [CORE + EXTRA] * 2
    assert rows[0] == {
        "image_id": 5,
        "category_id": 1,
        "bbox": [8.0, 8.0, 32.0, 52.0],
        "score": 0.9,
        "frame": 4,
        "captured_ns": 132_000_000,
        "thermal_provenance": "measured",
        "energy": None,
        "track_id": 3,
        "celsius": 36.5,
    }
    assert (rows[1]["track_id"], rows[1]["celsius"]) == (None, None)


def test_the_provenance_is_what_the_engine_got(tmp_path: Path) -> None:
    result = replace(make_result(), thermal_provenance=Provenance.HALLUCINATED, energy=float("inf"))
    rows, _ = write(tmp_path / "x.json", [result])
    assert (rows[0]["thermal_provenance"], rows[0]["energy"]) == ("hallucinated", None)


def test_pycocotools_loads_both(tmp_path: Path) -> None:
    coco = pytest.importorskip("pycocotools.coco")
    path = tmp_path / "run.coco.json"
    write(path, [_named(make_result(index), None) for index in range(3)])
    images = coco.COCO(str(tmp_path / "run.coco.dataset.json"))
    found = images.loadRes(str(path))
    assert [category["name"] for category in images.loadCats(images.getCatIds())] == CLASSES
    assert sorted(found.getImgIds()) == [1, 2, 3]
    assert len(found.getAnnIds(imgIds=[2], catIds=[1])) == 2
    assert found.loadAnns([1])[0]["area"] == 32 * 52
    assert images.loadImgs([3])[0]["width"] == 96


def test_they_are_measured_against_a_truth(tmp_path: Path) -> None:
    """Results that are the truth itself have an average precision of 1, under the truth's own image numbers."""
    coco = pytest.importorskip("pycocotools.coco")
    evaluation = pytest.importorskip("pycocotools.cocoeval")
    path = tmp_path / "run.json"
    write(path, [_named(make_result(index, scores=(0.9,)), f"{1000 + index:012}.jpg") for index in range(3)])
    truth = _read(tmp_path / "run.dataset.json")
    truth["annotations"] = [
        {
            "id": index + 1,
            "image_id": 1000 + index,
            "category_id": 1,
            "bbox": [8, 8, 32, 52],
            "area": 1664,
            "iscrowd": 0,
        }
        for index in range(3)
    ]
    (tmp_path / "truth.json").write_text(json.dumps(truth), encoding="utf-8")
    reference = coco.COCO(str(tmp_path / "truth.json"))
    judge = evaluation.COCOeval(reference, reference.loadRes(str(path)), "bbox")
    judge.evaluate()
    judge.accumulate()
    judge.summarize()
    assert judge.stats[0] == pytest.approx(1.0)


def test_the_first_image_decides_how_they_are_numbered(tmp_path: Path) -> None:
    results = [make_result(index) for index in range(3)]
    named = [_named(result, name) for result, name in zip(results, ("000042.jpg", "000007.jpg", "9.png"), strict=True)]
    _, dataset = write(tmp_path / "a.json", named)
    assert [image["id"] for image in dataset["images"]] == [42, 7, 9]
    assert [image["file_name"] for image in dataset["images"]] == ["000042.jpg", "000007.jpg", "9.png"]
    mixed = [_named(result, name) for result, name in zip(results, ("00004N.jpg", "000007.jpg", "9.png"), strict=True)]
    _, dataset = write(tmp_path / "b.json", mixed)
    assert [image["id"] for image in dataset["images"]] == [1, 2, 3]


def test_without_results_there_are_two_valid_files(tmp_path: Path) -> None:
    rows, dataset = write(tmp_path / "x.json", [])
    assert rows == []
    assert (dataset["images"], dataset["annotations"]) == ([], [])
    assert [category["id"] for category in dataset["categories"]] == list(range(1, len(CLASSES) + 1))


def test_images_without_boxes_are_images(tmp_path: Path) -> None:
    none = Detections(np.zeros((0, 4), np.float32), np.zeros(0, np.float32), np.zeros(0, np.int64))
    empty = replace(make_result(0), detections=none)
    other = replace(make_result(1), task="segment", detections=None)
    rows, dataset = write(tmp_path / "x.json", [empty, other])
    assert rows == []
    assert len(dataset["images"]) == 2


def test_discard_leaves_nothing_and_the_older_file(tmp_path: Path) -> None:
    (tmp_path / "x.json").write_text("older", encoding="utf-8")
    sink = CocoSink(tmp_path / "x.json", CLASSES)
    sink.write(make_result())
    assert len(list(tmp_path.iterdir())) == 3
    sink.discard()
    assert [path.name for path in tmp_path.iterdir()] == ["x.json"]
    assert (tmp_path / "x.json").read_text(encoding="utf-8") == "older"


def test_it_is_called_as_it_was_asked_for(tmp_path: Path) -> None:
    sink = build_sink("coco:out/c.json", make_context(), tmp_path)
    assert sink.name == "coco:out/c.json"
    assert CocoSink(tmp_path / "c.json", CLASSES).name == "c.json"


def test_a_worker_writes_it(tmp_path: Path) -> None:
    worker = SinkWorker(CocoSink(tmp_path / "x.json", CLASSES))
    for index in range(20):
        worker.offer(make_result(index))
    worker.finish()
    worker.sink.commit()
    assert len(_read(tmp_path / "x.json")) == 40


def test_names_that_are_no_text_are_written(tmp_path: Path) -> None:
    _, dataset = write(tmp_path / "x.json", [_named(make_result(), "caf\udce9-é.png")])
    assert dataset["images"][0]["file_name"] == "caf\udce9-é.png"


def test_memory_does_not_grow_with_the_run(tmp_path: Path) -> None:
    sink, result = CocoSink(tmp_path / "x.json", CLASSES), make_result()
    for _ in range(50):
        sink.write(result)
    tracemalloc.start()
    try:
        for _ in range(2000):
            sink.write(result)
        grown = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    sink.discard()
    assert grown < 50_000  # 2000 results are 1.2 MB of text
