"""`mdtrain eval boxes`, and `eval robustness` on the same sets: tiny trees in every layout, a real engine."""

from __future__ import annotations

import csv
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest

from mdtrain.commands.labelled import BOX_SETS, LABELS, MAP_SETS
from mdtrain.data.sets import SET_NAMES
from mdtrain.data.sets.kaist import FOLDERS
from mdtrain.data.street_set import write_street_set
from mdtrain.metrics.robustness import BLACKOUTS, SHIFTS_PX
from tests.runtime.engines import VISIBLE_WH, write_areas, write_constant
from tests.training.evaluating import Eval, refused
from tests.training.tree import write_coco, write_flir, write_kaist, write_llvip, write_msrs, write_roadscene

PERSON, CAR = 0, 2
QUARTER = (0.25, 0.25, 0.5, 0.75)  # the box of trees in PASCAL VOC and COCO
Row = tuple[int, tuple[float, float, float, float]]


def write_street(root: Path) -> Path:
    list(write_street_set(root, scenes=1, seed=0, validation=1))
    return root


# layout: writer, a list that it has, what its first pair holds
TREES: dict[str, tuple[Callable[[Path], Path], str, list[Row]]] = {
    "roadscene": (write_roadscene, "train", [(PERSON, (0.05, 0.2, 0.15, 0.8)), (CAR, (0.25, 0.5, 0.45, 0.8))]),
    "kaist": (write_kaist, "train", [(PERSON, (0.1, 0.25, 0.15, 0.375))]),
    "flir": (write_flir, "train", [(CAR, QUARTER)]),
    "llvip": (write_llvip, "val", [(PERSON, QUARTER)]),  # val is its test
    "coco": (write_coco, "val", [(PERSON, QUARTER)]),
    "msrs": (write_msrs, "train", []),
    "street": (write_street, "val", []),
}
NAMED = [name for name, (_, _, rows) in TREES.items() if rows]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Eval:
    return Eval(capsys)


def write_finder(path: Path, rows: list[Row]) -> Path:
    """An engine that finds these boxes in every pair, the first one surest; a person in a corner if there are none."""
    rows = rows or [(PERSON, (0.0, 0.0, 0.1, 0.1))]
    table = np.array([box for _, box in rows], np.float32) * np.array(VISIBLE_WH * 2, np.float32)
    scores = np.linspace(0.9, 0.8, len(rows), dtype=np.float32)
    return write_constant(path, table, scores, np.array([kind for kind, _ in rows], np.int32))


def test_every_set_is_judged_by_what_it_has() -> None:
    assert set(TREES) == set(BOX_SETS)
    assert {*BOX_SETS, *MAP_SETS, "folders"} == set(SET_NAMES)
    assert LABELS["kaist"] == ("sanitized", "original", "paired")
    assert set(LABELS["kaist"]) == set(FOLDERS)


@pytest.mark.parametrize("layout", NAMED)
def test_boxes_of_every_layout(run: Eval, layout: str, tmp_path: Path) -> None:
    """An engine that finds the labels themselves; classes that do not occur have no number."""
    writer, split, rows = TREES[layout]
    engine = write_finder(tmp_path / "finder.onnx", rows)
    outcome = run("boxes", "--data", writer(tmp_path / layout), "--list", split, "--engine", engine, "--json")
    assert (outcome.code, outcome.err) == (0, "")
    scores = outcome.json
    assert (scores["set"], scores["split"]) == (layout, split)
    classes = scores["all"]["classes"]
    for kind, name in enumerate(("person", "bicycle", "car")):
        there = sum(label == kind for label, _ in rows)
        assert classes[name]["objects"] == there
        assert classes[name]["ap50"] == (pytest.approx(1) if there else None)
    known = layout in ("coco", "kaist")  # sets that say when a pair was taken
    assert (scores["day"]["images"], scores["night"]["images"]) == ((1, 1) if known else (0, 0))
    assert (
        outcome.json == run("boxes", "--data", tmp_path / layout, "--split", split, "--engine", engine, "--json").json
    )


def test_kaist_is_judged_by_its_own_measure_when_a_pair_is_not_as_it_should_be(run: Eval, tmp_path: Path) -> None:
    """The person of the day is found, the same box by night is a false alarm and nobody is missed there."""
    writer, split, rows = TREES["kaist"]
    engine = write_finder(tmp_path / "finder.onnx", rows)
    call = ("robustness", "--data", writer(tmp_path / "kaist"), "--list", split, "--engine", engine, "--scenes", "1")
    outcomes = {one["condition"]: one["scores"] for one in run(*call, "--json").json}
    none = pytest.approx(0, abs=1e-6)
    assert outcomes["thermal black"]["miss_rate"] == {"all": none, "day": none, "night": None}
    assert "miss_rate" not in outcomes["100 ms"]  # on drawn scenes
    shown = " ".join(run(*call).out.split())
    assert "miss rate (MR): KAIST's log-average" in shown
    assert "MR by night" in shown
    blind = write_finder(tmp_path / "blind.onnx", [])
    missed = run(*call[:6], blind, "--scenes", "0", "--json").json[0]["scores"]["miss_rate"]
    assert missed["day"] == pytest.approx(1)
    boxes = write_finder(tmp_path / "others.onnx", TREES["msrs"][2])
    other = ("robustness", "--data", write_msrs(tmp_path / "msrs"), "--list", "train", "--engine", boxes)
    assert "MR" not in run(*other, "--scenes", "0").out


def test_streets_and_msrs_are_sets_as_others(run: Eval, tmp_path: Path) -> None:
    engine = write_finder(tmp_path / "finder.onnx", [])
    for layout in ("street", "msrs"):
        data = TREES[layout][0](tmp_path / layout)
        here = run("boxes", "--data", data, "--engine", engine, "--json").json
        for shown_by in ("split", "set"):
            here.pop(shown_by)
        there = run("msrs", "--data", data, "--engine", engine, "--json").json
        assert here == {group: there[group] for group in ("all", "day", "night")}


def test_the_table_by_day_and_by_night_and_pictures(run: Eval, tmp_path: Path) -> None:
    """The engine sees a person in every pair; the one by day has none."""
    data, folder = write_coco(tmp_path / "own"), tmp_path / "errors"
    engine = write_finder(tmp_path / "finder.onnx", TREES["coco"][2])
    call = ("boxes", "--data", data, "--set", "coco", "--engine", engine, "--errors", folder)
    outcome = run(*call)
    assert outcome.out.startswith("finder on own val, thermal as stored")
    words = " ".join(outcome.out.split())
    for said in (
        "AP50 all (2)",
        "AP50 day (1)",
        "AP50 night (1)",
        "1 picture of the worst pairs; errors.csv lists all",
    ):
        assert said in words
    with (folder / "errors.csv").open(newline="") as lines:
        rows = [(row["name"], row["time"], row["false"], row["picture"]) for row in csv.DictReader(lines)]
    assert rows == [
        ("gate_2", "day", "1", "01_gate_2_0-missed_1-false.png"),
        ("gate_1", "night", "0", ""),
    ]
    assert (folder / rows[0][3]).is_file()
    again = run(*call, "--error-threshold", "0.95", "--json").json["errors"]
    assert again == {"pictures": 1, "thresholds": dict.fromkeys(("person", "bicycle", "car"), 0.95)}


@pytest.mark.parametrize("labels", ["original", "paired"])
def test_labels_of_kaist(run: Eval, labels: str, tmp_path: Path) -> None:
    """Sanitized labels cover the training frames alone: test lists want another kind."""
    data = write_kaist(tmp_path / "kaist", FOLDERS[labels])  # type: ignore[index]
    (data / "imageSets" / "train.txt").rename(data / "imageSets" / "test-all-20.txt")
    engine = write_finder(tmp_path / "finder.onnx", TREES["kaist"][2])
    call = ("boxes", "--data", data, "--list", "test-all-20", "--engine", engine)
    scores = run(*call, "--labels", labels, "--json").json
    assert scores["labels"] == labels
    assert scores["all"]["classes"]["person"]["ap50"] == pytest.approx(1)
    refused(run(*call), 4, "annotations_sanitized", "no such file of labels")
    assert f"test-all-20, {labels} labels" in run(*call, "--labels", labels).out


@pytest.mark.parametrize("layout", ["kaist", "roadscene", "flir", "llvip", "coco"])
def test_blackouts_and_shifts_on_every_set(run: Eval, layout: str, tmp_path: Path) -> None:
    """The engine looks at no thermal image and its boxes are fixed: all conditions are alike."""
    writer, split, rows = TREES[layout]
    data, engine = writer(tmp_path / layout), write_finder(tmp_path / "finder.onnx", rows)
    call = ("robustness", "--data", data, "--engine", engine, "--scenes", "0")
    outcome = run(*call, "--list", split, "--json")
    assert outcome.code == 0, outcome.err
    assert len(outcome.json) == len(BLACKOUTS) + len(SHIFTS_PX)
    kind = ("person", "bicycle", "car")[rows[0][0]]
    assert {round(entry["scores"]["all"]["classes"][kind]["ap50"], 6) for entry in outcome.json} == {1.0}
    plot = tmp_path / "loss.png"
    table = run(*call, "--list", split, "--set", layout, "--plot", plot)
    assert f"AP50 of finder, {layout} {split}" in " ".join(table.out.split())
    assert plot.read_bytes().startswith(b"\x89PNG")


@pytest.mark.parametrize("command", ["boxes", "robustness"])
@pytest.mark.parametrize(
    ("layout", "wanted", "code", "said"),
    [
        ("roadscene", "val", 2, "roadscene has no list 'val', all of it is 'train'"),
        ("kaist", "val", 4, "imageSets/val.txt: no such list of frames"),
        ("kaist", "val", 4, "lists that are there: train"),
        ("flir", "val", 4, "align_validation.txt: no such list of names"),
        ("flir", "val", 4, "lists that are there: train"),
        ("llvip", "dusk", 4, "lists that are there: test, train"),
        ("coco", "dusk", 4, "lists that are there: train, val"),
        ("msrs", "dusk", 4, "lists that are there: train, val"),
        ("street", "dusk", 4, "lists that are there: train, val"),
    ],
)
def test_a_list_that_is_not_there(
    run: Eval, command: str, layout: str, wanted: str, code: int, said: str, tmp_path: Path
) -> None:
    data, engine = TREES[layout][0](tmp_path / layout), write_finder(tmp_path / "finder.onnx", [])
    chosen = () if wanted == "val" else ("--list", wanted)
    refused(run(command, "--data", data, "--engine", engine, *chosen), code, said)


def test_bad_input(run: Eval, tmp_path: Path) -> None:
    engine, data = write_finder(tmp_path / "finder.onnx", []), write_coco(tmp_path / "own")
    call = ("boxes", "--data", data, "--engine")
    refused(run(*call, engine), 2, "its name 'own' is no layout with boxes", "--set: msrs, roadscene", "or street")
    refused(run(*call, engine, "--set", "mfnet"), 2, "'mfnet' is not one of", "roadscene")
    refused(run(*call, engine, "--set", "coco", "--labels", "fusion"), 2, "--labels fusion for coco", "leave --labels")
    refused(run(*call, engine, "--set", "kaist", "--labels", "fusion"), 2, "wanted sanitized, original, paired")
    refused(run(*call, engine, "--set", "coco", "--worst", "3"), 2, "--worst without --errors")
    refused(run(*call, write_areas(tmp_path / "areas.onnx"), "--set", "coco"), 3, "`mdtrain eval mfnet` judges it")
    refused(run(*call, tmp_path / "none.onnx", "--set", "coco"), 3, "none.onnx")
    (data / "thermal" / "gate_1.jpg").unlink()
    refused(run(*call, engine, "--set", "coco"), 4, "gate_1", "missing")
