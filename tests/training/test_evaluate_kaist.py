"""`mdtrain eval kaist`: result files, and an engine over a tree in the true layout."""

from __future__ import annotations

import csv
import gzip
import json
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from mdrun.sinks.scene import MUTED
from mdrun.sinks.sheet import HEADER, MARGIN
from mdtrain.commands.evaluate_kaist import SUBSETS
from mdtrain.metrics import kaist
from mdtrain.metrics.box_pictures import PANE_WIDTH
from mdtrain.metrics.error_frame import FALSE, MISSED, RIGHT
from mdtrain.metrics.kaist_errors import person_errors
from mdtrain.metrics.kaist_files import read_annotations
from tests.runtime.engines import make_manifest, write_areas, write_blob, write_constant
from tests.training.evaluating import Eval, Outcome, refused


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Eval:
    return Eval(capsys)


def test_subsets_are_those_of_the_measure() -> None:
    assert tuple(kaist.SUBSETS) == SUBSETS


@pytest.fixture
def truth(tmp_path: Path) -> Path:
    """One person by day, one by night."""
    box = {"category_id": 1, "bbox": [100, 100, 30, 80], "occlusion": 0, "ignore": 0}
    data = {
        "images": [{"id": 0, "im_name": "set06/V000/I00019"}, {"id": 1, "im_name": "set09/V000/I00019"}],
        "annotations": [{**box, "image_id": 0}, {**box, "image_id": 1}],
        "categories": [{"id": 1, "name": "person"}],
    }
    path = tmp_path / "truth.json.gz"
    path.write_bytes(gzip.compress(json.dumps(data).encode()))
    return path


def test_kaist_json(run: Eval, truth: Path, tmp_path: Path) -> None:
    found = tmp_path / "found.txt"
    found.write_text("1,100,100,30,80,0.9\n")
    outcome = run("kaist", "--annotations", truth, "--detections", found, "--json")
    assert (outcome.code, outcome.err) == (0, "")
    assert outcome.json == {"all": pytest.approx(50), "day": pytest.approx(0, abs=1e-7), "night": 100}


def test_kaist_table(run: Eval, truth: Path, tmp_path: Path) -> None:
    found = tmp_path / "found.txt"
    found.write_text("")  # nothing found: everything missed
    outcome = run("kaist", "--annotations", truth, "--detections", found)
    assert outcome.code == 0
    assert outcome.out.count("100.00") == 3


def test_kaist_subset_without_persons(run: Eval, truth: Path, tmp_path: Path) -> None:
    found = tmp_path / "found.txt"
    found.write_text("1,100,100,30,80,0.9\n")
    outcome = run("kaist", "--annotations", truth, "--detections", found, "--subset", "near", "--json")
    assert outcome.json == {"all": None, "day": None, "night": None}


def test_kaist_bad_input(run: Eval, truth: Path, tmp_path: Path) -> None:
    def judge(content: bytes | None, annotations: Path = truth) -> Outcome:
        path = tmp_path / "found.txt"
        path.unlink(missing_ok=True)
        if content is not None:
            path.write_bytes(content)
        return run("kaist", "--annotations", annotations, "--detections", path, "--json")

    refused(judge(None), 4, "detections", "found.txt is not there")
    refused(judge(gzip.compress(b"1,2,3,4,5,6\n" * 99)[:-9]), 4, "truncated")
    refused(judge(b"1,2,3,4,5,6\n3,2,3,4,5,6\n"), 5, "line 2", "image_id is 3, wanted 1 to 2")
    refused(judge(b"1,2,3,4,5\n"), 5, "line 1", "wanted 6 as image_id,x,y,w,h,score")
    refused(judge(b"1,2,3,4,5,nan\n"), 5, "NaN")
    refused(judge(b"{}"), 5, "got a JSON object, wanted a list")
    refused(judge(b"1,2,3,4,5,6\n", annotations=tmp_path), 4, "is a folder")
    refused(judge(b"1,2,3,4,5,6\n", annotations=tmp_path / "found.txt"), 5, "not JSON")
    refused(run("kaist", "--annotations", truth), 2, "--detections")
    refused(run("kaist", "--annotations", truth, "--detections", truth, "--subset", "small"), 2, "reasonable")


@pytest.mark.realdata
def test_kaist_published(run: Eval, real_data: Path) -> None:
    folder = real_data / "rgbt" / "kaist_eval"
    found = folder / "results" / "GAFF_result.txt.gz"
    outcome = run("kaist", "--annotations", folder / "KAIST_annotation.json.gz", "--detections", found, "--json")
    assert outcome.json == pytest.approx({"all": 6.48, "day": 8.35, "night": 3.46}, abs=0.01)


# ---------------------------------------------------------------- an engine

WARM_BODY = (100, 128, 140, 320)  # xyxy pixels from 0; whole pixels of the engine's 32x24 thermal image
IN_FILE = [101, 129, 40, 192]  # the same as result files count it


@pytest.fixture
def frames(tmp_path: Path, truth: Path) -> Path:
    """The two test images: a warm body by day, nothing warm by night; the truth has one by night as well."""
    data = json.loads(gzip.decompress(truth.read_bytes()))
    for box in data["annotations"]:
        box["bbox"] = IN_FILE
    truth.write_bytes(gzip.compress(json.dumps(data).encode()))
    x1, y1, x2, y2 = WARM_BODY
    for name, warm in (("set06/V000", 250), ("set09/V000", 40)):
        thermal = np.full((512, 640), 40, np.uint8)
        thermal[y1:y2, x1:x2] = warm
        for sensor, image in (("visible", np.full((512, 640, 3), (20, 60, 90), np.uint8)), ("lwir", thermal)):
            (tmp_path / "kaist" / "images" / name / sensor).mkdir(parents=True)
            file = tmp_path / "kaist" / "images" / name / sensor / "I00019.jpg"
            cv2.imwrite(str(file), image, [cv2.IMWRITE_JPEG_QUALITY, 100])
    return tmp_path / "kaist"


def test_an_engine_writes_the_published_format_and_is_scored(
    run: Eval, truth: Path, frames: Path, tmp_path: Path
) -> None:
    """Found by day, missed by night; x and y of the file count from 1."""
    engine, result = write_blob(tmp_path / "blob.onnx"), tmp_path / "results" / "blob.txt"
    outcome = run("kaist", "--annotations", truth, "--engine", engine, "--data", frames, "--write", result, "--json")
    assert outcome.code == 0, outcome.err
    assert outcome.json == {"all": pytest.approx(50), "day": pytest.approx(0, abs=1e-7), "night": 100}
    (found,) = result.read_text().splitlines()
    image_id, *box, score = found.split(",")
    assert image_id == "1"
    assert list(map(float, box)) == pytest.approx(IN_FILE, abs=1e-3)
    assert float(score) == pytest.approx(250 / 255, abs=0.01)


def test_a_written_file_scores_as_the_run_did(run: Eval, truth: Path, frames: Path, tmp_path: Path) -> None:
    rng = np.random.default_rng(0)
    corners = rng.uniform(0, 70, (9, 2)).astype(np.float32)
    boxes = np.concatenate([corners, corners + rng.uniform(1, 20, (9, 2)).astype(np.float32)], 1)
    boxes[2] = np.array(WARM_BODY) * np.array([96 / 640, 72 / 512] * 2)
    scores = np.sort(rng.uniform(0.1, 0.9, 9))[::-1].astype(np.float32)
    classes = np.array([0, 2, 0, 1, 0, 0, 0, 2, 0], np.int32)
    engine, result = write_constant(tmp_path / "some.onnx", boxes, scores, classes), tmp_path / "some.txt"
    by_engine = run("kaist", "--annotations", truth, "--engine", engine, "--data", frames, "--write", result, "--json")
    by_file = run("kaist", "--annotations", truth, "--detections", result, "--json")
    assert by_engine.json == by_file.json
    assert 0 < by_file.json["all"] < 100
    lines = result.read_text().splitlines()
    assert len(lines) == 2 * int((classes == 0).sum())  # persons only
    assert [line.split(",")[0] for line in lines] == ["1"] * 6 + ["2"] * 6


def test_a_smaller_thermal_camera(run: Eval, truth: Path, frames: Path, tmp_path: Path) -> None:
    """At 2x2 pixels nobody is warm any more."""
    engine = write_blob(tmp_path / "blob.onnx")
    arguments = ("kaist", "--annotations", truth, "--engine", engine, "--data", frames, "--thermal-size", "2x2")
    assert run(*arguments, "--json").json["all"] == 100


# ---------------------------------------------------------------- pictures

BESIDE = [400, 128, 40, 192]  # people in the day image, a region to ignore


@pytest.fixture
def crowd(truth: Path, frames: Path) -> Path:
    """Adds people to the day image."""
    data = json.loads(gzip.decompress(truth.read_bytes()))
    data["annotations"].append({"image_id": 0, "category_id": 1, "bbox": BESIDE, "occlusion": 0, "ignore": 1})
    truth.write_bytes(gzip.compress(json.dumps(data).encode()))
    return truth


def edge(picture: Path, box: list[int]) -> NDArray[np.uint8]:
    """(N, 3) RGB on the left line of a box, x y w h as files count, in the visible pane of a picture."""
    image, scale = cv2.imread(str(picture)), PANE_WIDTH / 640
    assert image is not None
    x, y, _, height = (round(scale * value) for value in (box[0] - 1, box[1] - 1, *box[2:]))
    return np.asarray(image[HEADER + y : HEADER + y + height, MARGIN + x, ::-1], np.uint8)


def is_drawn(pixels: NDArray[np.uint8], colour: tuple[int, int, int]) -> bool:
    return bool((pixels == colour).all(axis=1).mean() > 0.15)


def test_errors_of_an_engine_are_drawn(run: Eval, crowd: Path, frames: Path, tmp_path: Path) -> None:
    """Found by day, missed by night: one picture, and an index of persons alone."""
    engine, folder = write_blob(tmp_path / "blob.onnx"), tmp_path / "e"
    call = ("kaist", "--annotations", crowd, "--engine", engine, "--data", frames, "--errors", folder)
    outcome = run(*call)
    assert f"{folder}: 1 picture of the worst pairs; errors.csv lists all 2" in outcome.out.replace("\n", "")
    with (folder / "errors.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    columns = ["rank", "name", "time", "objects", "missed", "false", "person_objects", "person_missed", "person_false"]
    assert list(rows[0]) == [*columns, "picture"]
    assert [list(row.values()) for row in rows] == [
        ["1", "set09/V000/I00019", "night", *"110110", "01_set09_V000_I00019_1-missed_0-false.png"],
        ["2", "set06/V000/I00019", "day", *"100100", ""],
    ]
    assert is_drawn(edge(folder / rows[0]["picture"], IN_FILE), MISSED)
    shown = run(*call, "--json").json
    assert shown["all"] == pytest.approx(50)
    assert shown["errors"] == {"pictures": 1, "thresholds": {"person": pytest.approx(250 / 255, abs=0.01)}}


def test_errors_of_a_file_leave_out_what_the_measure_leaves_out(
    run: Eval, crowd: Path, frames: Path, tmp_path: Path
) -> None:
    """By day: the person, people whom nobody counts, and a false alarm below the best F1."""
    result, folder = tmp_path / "some.txt", tmp_path / "e"
    boxes = ((IN_FILE, 0.9), (BESIDE, 0.8), ([250, 128, 40, 192], 0.3))
    result.write_text("".join(f"1,{','.join(map(str, box))},{score}\n" for box, score in boxes))
    call = ("kaist", "--annotations", crowd, "--detections", result, "--data", frames, "--errors", folder, "--json")
    outcome = run(*call)
    assert outcome.json["errors"] == {"pictures": 1, "thresholds": {"person": 0.9}}
    outcome = run(*call, "--error-threshold", "0.1")
    assert outcome.json["errors"]["pictures"] == 2
    picture = folder / "01_set06_V000_I00019_0-missed_1-false.png"
    assert is_drawn(edge(picture, IN_FILE), RIGHT)
    assert is_drawn(edge(picture, BESIDE), MUTED)
    assert is_drawn(edge(picture, [250, 128, 40, 192]), FALSE)
    assert outcome.json["all"] == run(*call[:5], "--json").json["all"]
    result.write_text("")
    assert run(*call).json["errors"] == {"pictures": 2, "thresholds": {"person": 0.5}}  # nothing found: no best F1


def test_errors_agree_with_the_measure(truth: Path) -> None:
    """Over a crowd of boxes: as many hits, false alarms and boxes left out as the curve of the miss rate counts."""
    rng = np.random.default_rng(1)
    annotations = read_annotations(truth)
    corners, sizes = rng.uniform(20, 300, (300, 2)), np.tile([60.0, 120.0], (300, 1))
    boxes = np.concatenate([corners, sizes], axis=1)
    annotations = replace(
        annotations,
        images=rng.integers(0, 2, 24),
        boxes_xywh=boxes[:24],
        occlusion=rng.integers(0, 3, 24),
        ignored=rng.random(24) < 0.3,
    )
    found = kaist.PersonDetections(rng.integers(0, 2, 276), boxes[24:], rng.random(276))
    subset = kaist.SUBSETS["reasonable"]
    ignore, ordered = kaist.ignore_regions(annotations, subset), found.best_first()
    outcomes = kaist.match(annotations, ordered, ignore)
    for threshold in (0.0, 0.6):
        counts = [int(((outcomes == kind) & (ordered.scores >= threshold)).sum()) for kind in (1, 0, -1)]
        pairs = person_errors(annotations, found, subset, threshold)
        assert [sum(int(pair.hits.sum()) for pair in pairs), sum(pair.counts()[2] for pair in pairs)] == counts[:2]
        assert sum(len(pair.left_out) for pair in pairs) == counts[2] + ignore.sum()
        assert sum(int((~pair.missed).sum()) for pair in pairs) == counts[0]
        assert min(counts) > 5


def test_errors_bad_input(run: Eval, truth: Path, frames: Path, tmp_path: Path) -> None:
    found = tmp_path / "found.txt"
    found.write_text("1,100,100,30,80,0.9\n")
    call = ("kaist", "--annotations", truth, "--detections", found)
    folder = ("--errors", tmp_path / "e")
    refused(run(*call, *folder), 2, "got --errors without --data")
    refused(run(*call, *folder, "--data", frames, "--thermal-size", "4x4"), 2, "got --thermal-size with --detections")
    refused(run(*call, "--worst", "3"), 2, "got --worst without --errors")
    refused(run(*call, *folder, "--data", frames, "--error-threshold", "nan"), 2, "nan is not a finite number")
    small = frames / "images" / "set06" / "V000" / "visible" / "I00019.jpg"
    cv2.imwrite(str(small), np.full((256, 320, 3), (20, 60, 90), np.uint8))
    refused(run(*call, *folder, "--data", frames), 5, "wanted KAIST's 640x512")
    small.unlink()
    refused(run(*call, *folder, "--data", frames), 4, "I00019.jpg", "missing")
    assert not (tmp_path / "e").exists()


def test_engine_bad_input(run: Eval, truth: Path, frames: Path, tmp_path: Path) -> None:
    engine = write_blob(tmp_path / "blob.onnx")
    annotations = ("kaist", "--annotations", truth)

    def judge(*more: str | Path) -> Outcome:
        return run(*annotations, *more)

    refused(judge(), 2, "neither of --detections and --engine")
    refused(judge("--detections", truth, "--engine", engine), 2, "both of --detections and --engine")
    refused(judge("--engine", engine), 2, "--engine without --data")
    refused(judge("--detections", truth, "--data", frames), 2, "got --data with --detections")
    refused(judge("--detections", truth, "--write", truth), 2, "got --write with --detections")
    of_engine = ("--data", frames, "--engine")
    refused(judge(*of_engine, engine, "--write", tmp_path), 6, "is a folder")
    refused(judge(*of_engine, tmp_path / "none.onnx"), 3, "none.onnx")
    refused(judge(*of_engine, write_areas(tmp_path / "areas.onnx")), 3, "its task is 'segment', wanted 'detect'")
    none = np.zeros((1, 4), np.float32)
    manifest = replace(make_manifest("cars", 1), classes=["car"])
    cars = write_constant(tmp_path / "cars.onnx", none, none[0, :1], np.zeros(1, np.int32), manifest=manifest)
    refused(judge(*of_engine, cars), 3, "its classes are car, wanted person among them")
    small = frames / "images" / "set09" / "V000" / "visible" / "I00019.jpg"
    cv2.imwrite(str(small), np.full((256, 320, 3), (20, 60, 90), np.uint8))
    result = tmp_path / "new" / "result.txt"
    refused(judge(*of_engine, engine, "--write", result), 5, "image is 320x256, wanted KAIST's 640x512")
    assert not result.parent.exists()  # nothing half-written stays
    small.unlink()
    refused(judge(*of_engine, engine), 4, "I00019.jpg", "missing")
