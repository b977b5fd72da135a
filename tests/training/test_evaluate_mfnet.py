"""`mdtrain eval mfnet`: a real engine over trees in the true layouts, and how it fails."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest
from onnx import helper

from mdtrain.data.records import LABEL_CLASSES
from mdtrain.data.street_set import write_street_set
from tests.runtime.engines import VISIBLE_WH, make_segment_manifest, save, write_areas, write_blob, write_labels
from tests.training.evaluating import Eval, Outcome, refused
from tests.training.tree import write_mfnet, write_msrs

WIDTH, HEIGHT = VISIBLE_WH


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Eval:
    return Eval(capsys)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """A car and a person by day and by night, as the engine of `write_areas` sees them."""
    return write_mfnet(tmp_path / "mfnet", VISIBLE_WH)


@pytest.fixture
def areas(tmp_path: Path) -> Path:
    return write_areas(tmp_path / "areas.onnx")


def of(run: Eval, tree: Path, engine: Path, *more: str) -> Any:
    outcome = run("mfnet", "--data", tree, "--engine", engine, "--json", *more)
    assert outcome.code == 0, outcome.err
    return outcome.json


def test_an_engine_that_sees_all_scores_one_on_present_classes(run: Eval, tree: Path, areas: Path) -> None:
    scores = of(run, tree, areas)
    assert (scores["set"], scores["split"], scores["definition"]) == ("mfnet", "test", "RTFNet")
    assert [scores[group]["pairs"] for group in ("all", "day", "night")] == [2, 1, 1]
    for group in ("all", "day", "night"):
        found = scores[group]
        assert found["mean_accuracy"] == found["mean_iou"] == pytest.approx(3 / 9)
        assert found["present_classes"] == {"mean_accuracy": 1, "mean_iou": 1}
        assert found["mfnet"]["overall_accuracy"] == 1
        assert found["mfnet"]["mean_iou"] == pytest.approx(2 / 9)
        assert found["classes"]["bump"] == {"pixels": 0, "accuracy": None, "iou": None}
    assert scores["day"]["classes"]["car"] == {"pixels": WIDTH * HEIGHT // 4, "accuracy": 1, "iou": 1}
    assert np.trace(scores["all"]["confusion"]) == 2 * WIDTH * HEIGHT


def test_errors_show_where_they_were_made(run: Eval, tree: Path, areas: Path) -> None:
    """By night the car is not red, and a quarter of the pixels of the person are labelled as a cone."""
    labels = np.zeros((HEIGHT, WIDTH), np.uint8)
    labels[HEIGHT // 2 :, : WIDTH // 2] = 1
    labels[HEIGHT // 4 :, WIDTH * 3 // 4 :] = 2
    person = int((labels == 2).sum())
    labels[HEIGHT // 4 : HEIGHT // 4 + HEIGHT * 3 // 16, WIDTH * 3 // 4 :] = 7
    pair = np.full((HEIGHT, WIDTH, 4), (40, 60, 80, 50), np.uint8)
    pair[(labels == 2) | (labels == 7), 3] = 220
    cv2.imwrite(str(tree / "images" / "00006N.png"), pair)
    labels[:4] = 255
    cv2.imwrite(str(tree / "labels" / "00006N.png"), labels)
    scores = of(run, tree, areas)
    night, overall = scores["night"]["classes"], scores["all"]["classes"]
    assert night["car"]["accuracy"] == night["car"]["iou"] == 0
    assert overall["car"]["accuracy"] == overall["car"]["iou"] == 0.5
    cones = night["color_cone"]["pixels"]
    assert night["person"] == {"pixels": person - cones, "accuracy": 1, "iou": pytest.approx(1 - cones / person)}
    assert night["color_cone"]["accuracy"] == 0
    assert scores["night"]["mfnet"]["classes"]["person"]["accuracy"] == pytest.approx(1 - cones / person)
    assert np.sum(scores["night"]["confusion"]) == (HEIGHT - 4) * WIDTH  # ignored pixels do not count
    assert scores["day"]["classes"]["car"]["iou"] == 1


def test_label_maps_are_compared_at_their_own_size(run: Eval, tree: Path, areas: Path) -> None:
    for name in ("00005D", "00006N"):
        path = str(tree / "labels" / f"{name}.png")
        labels = cv2.imread(path, cv2.IMREAD_UNCHANGED)
        assert labels is not None
        cv2.imwrite(path, np.kron(labels, np.ones((2, 2), np.uint8)))
    scores = of(run, tree, areas)
    assert scores["day"]["classes"]["car"] == {"pixels": WIDTH * HEIGHT, "accuracy": 1, "iou": 1}


def test_classes_are_matched_by_name(run: Eval, tree: Path, tmp_path: Path) -> None:
    """The engine says 0 everywhere and calls that a car; what it calls otherwise counts as unlabelled."""
    nodes = [helper.make_node("Identity", ["all_labels"], ["labels"])]
    found = np.zeros((1, HEIGHT, WIDTH), np.int32)
    found[:, :, WIDTH // 2 :] = 1
    manifest = replace(make_segment_manifest("cars"), classes=["car", "tree"])
    engine = save(tmp_path / "cars.onnx", manifest, nodes, {"all_labels": found})
    classes = of(run, tree, engine)["all"]["classes"]
    assert classes["car"] == {"pixels": WIDTH * HEIGHT // 2, "accuracy": 1, "iou": 0.5}
    assert classes["person"]["accuracy"] == 0
    assert classes["unlabelled"]["accuracy"] == pytest.approx(5 / 9)  # of 9/16 of the picture, 4/16 are called a car


def test_a_smaller_thermal_camera_sees_less(run: Eval, tree: Path, areas: Path) -> None:
    """At one pixel the person is averaged away."""
    classes = of(run, tree, areas, "--thermal-size", "1x1")["all"]["classes"]
    assert classes["person"]["accuracy"] == 0
    assert classes["car"]["accuracy"] == 1


@pytest.mark.parametrize(("split", "pairs"), [("test_day", [1, 1, 0]), ("test_night", [1, 0, 1]), ("val", [2, 1, 1])])
def test_other_lists(split: str, pairs: list[int], run: Eval, tree: Path, areas: Path) -> None:
    scores = of(run, tree, areas, "--split", split)
    assert [scores[group]["pairs"] for group in ("all", "day", "night")] == pairs
    for group in ("day", "night"):
        assert (scores[group]["mean_iou"] is None) == (scores[group]["pairs"] == 0)


def test_the_table_says_which_definition(run: Eval, tree: Path, areas: Path) -> None:
    outcome = run("mfnet", "--data", tree, "--engine", areas)
    assert outcome.code == 0
    words = " ".join(outcome.out.split())
    for said in (
        "RTFNet",
        "all 9 classes",
        "Acc (recall)",
        "areas on mfnet test, thermal as stored: 2 pairs, 1 by day, 1 by night",
        *LABEL_CLASSES,
    ):
        assert said in words
    (mean,) = (line for line in outcome.out.splitlines() if "mean " in line and "│" in line)
    assert mean.count("33.3") == 6
    (bump,) = (line for line in outcome.out.splitlines() if "bump" in line)
    assert bump.count("-") == 6


def test_a_street_set(run: Eval, tmp_path: Path) -> None:
    """Nothing but background: its recall is one, its IoU its share of the pixels."""
    list(write_street_set(tmp_path / "street", scenes=1, seed=0, validation=2))
    engine = write_labels(tmp_path / "none.onnx", np.zeros((HEIGHT, WIDTH), np.int32))
    scores = of(run, tmp_path / "street", engine, "--set", "street")
    assert (scores["set"], scores["split"], scores["all"]["pairs"]) == ("street", "val", 2)
    background = scores["all"]["classes"]["unlabelled"]
    assert background["accuracy"] == 1
    assert background["iou"] == pytest.approx(background["pixels"] / (2 * 640 * 480))
    assert scores["all"]["mfnet"]["overall_accuracy"] == 0
    for path in (tmp_path / "street" / "label_maps").iterdir():
        path.unlink()
    (tmp_path / "street" / "label_maps").rmdir()
    refused(judge(run, tmp_path / "street", engine, "--set", "street"), 5, "has no label_maps/", "mdtrain street")


def judge(run: Eval, tree: Path, engine: Path, *more: str) -> Outcome:
    return run("mfnet", "--data", tree, "--engine", engine, *more)


def test_bad_input(run: Eval, tree: Path, areas: Path, tmp_path: Path) -> None:
    detector = write_blob(tmp_path / "blob.onnx")
    refused(judge(run, tree, detector), 3, "its task is 'detect', wanted 'segment'; `mdtrain eval boxes` judges it")
    refused(judge(run, tree, areas, "--split", "nights"), 4, "nights.txt", "MFNet layout")
    refused(judge(run, tree, areas, "--set", "kaist"), 2, "mfnet", "street")
    refused(judge(run, tree, areas, "--thermal-size", "9"), 2, "such as 160x128")
    refused(judge(run, tree, tmp_path / "none.onnx"), 3, "none.onnx")
    manifest = replace(make_segment_manifest("trees"), classes=["unlabelled", "tree"])
    nodes = [helper.make_node("Identity", ["all_labels"], ["labels"])]
    trees = save(tmp_path / "trees.onnx", manifest, nodes, {"all_labels": np.zeros((1, HEIGHT, WIDTH), np.int32)})
    refused(judge(run, tree, trees), 3, "its classes are unlabelled, tree, wanted some of car, person")
    (tree / "labels" / "00006N.png").unlink()
    refused(judge(run, tree, areas), 4, "00006N.png", "missing")
    cv2.imwrite(str(tree / "labels" / "00006N.png"), np.full((4, 4), 9, np.uint8))
    refused(judge(run, tree, areas), 5, "value 9", "wanted 0 to 8 or 255")


def test_a_label_map_engine_is_no_detector(run: Eval, areas: Path, tmp_path: Path) -> None:
    root = write_msrs(tmp_path / "msrs")
    outcome = run("msrs", "--data", root, "--engine", areas)
    refused(outcome, 3, "its task is 'segment', wanted 'detect'; `mdtrain eval mfnet` judges it")


@pytest.mark.realdata
def test_real_pairs_with_labels_of_the_tests(run: Eval, real_data: Path, tmp_path: Path) -> None:
    """Native MFNet files beside label maps that say `person` everywhere: the score is known."""
    root = tmp_path / "mfnet"
    for part in ("images", "labels"):
        (root / part).mkdir(parents=True)
    names = ("01234N", "01477D")
    for name in names:
        (root / "images" / f"{name}.png").symlink_to(real_data / "rgbt" / "mfnet_native" / f"{name}.png")
        cv2.imwrite(str(root / "labels" / f"{name}.png"), np.full((480, 640), 2, np.uint8))
    (root / "test.txt").write_text("\n".join(names))
    engine = write_labels(tmp_path / "persons.onnx", np.full((HEIGHT, WIDTH), 2, np.int32))
    outcome = run("mfnet", "--data", root, "--engine", engine, "--json")
    scores = json.loads(outcome.out)
    assert scores["all"]["classes"]["person"] == {"pixels": 2 * 480 * 640, "accuracy": 1, "iou": 1}
    assert [scores[group]["pairs"] for group in ("day", "night")] == [1, 1]
