"""`mdtrain eval mfnet --errors`: real files through the command, and what is where in the pictures."""

from __future__ import annotations

import csv
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from mdrun.sinks.scene import GAP
from mdrun.sinks.sheet import HEADER, MARGIN
from mdrun.sinks.text import Colour
from mdtrain.data.records import IGNORE_LABEL, LABEL_CLASSES
from mdtrain.data.street_set import write_street_set
from mdtrain.metrics.error_frame import FALSE, MISSED, RIGHT
from mdtrain.metrics.label_pictures import LOOK, PANE_WIDTH, error_kinds, worst_first
from mdtrain.metrics.segmentation import confusion
from tests.runtime.engines import VISIBLE_WH, write_areas, write_labels
from tests.training.evaluating import Eval, refused
from tests.training.tree import write_mfnet

WIDTH, HEIGHT = VISIBLE_WH  # 96 x 72: panes of 480 x 360
PANE_HEIGHT = PANE_WIDTH * HEIGHT // WIDTH
CAR, PERSON, BIKE, CONE, BUMP = (LABEL_CLASSES.index(name) for name in ("car", "person", "bike", "color_cone", "bump"))
SIXTH = WIDTH // 6
# Upright strips from left to right, each a sixth of the image: truth, prediction, colour in the map of errors.
STRIPS: list[tuple[int, int, Colour | None]] = [
    (CAR, CAR, None),
    (PERSON, 0, MISSED),
    (0, BIKE, FALSE),
    (CONE, BUMP, RIGHT),  # "another class" has the colour of found boxes, which are in no such picture
    (IGNORE_LABEL, BUMP, None),
    (0, 0, None),
]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Eval:
    return Eval(capsys)


def strips(position: int) -> NDArray[np.uint8]:
    """(H, W) label map of the strips' truth (0) or prediction (1)."""
    row = np.repeat([strip[:2][position] for strip in STRIPS], SIXTH)
    return np.tile(row, (HEIGHT, 1)).astype(np.uint8)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    """By day the strips, by night what the engine says; a grey pair, so that colours are those of the drawing."""
    root = write_mfnet(tmp_path / "mfnet", VISIBLE_WH)
    for name, labels in (("00005D", strips(0)), ("00006N", strips(1))):
        cv2.imwrite(str(root / "labels" / f"{name}.png"), labels)
        cv2.imwrite(str(root / "images" / f"{name}.png"), np.full((HEIGHT, WIDTH, 4), (79, 80, 84, 50), np.uint8))
    return root


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    return write_labels(tmp_path / "strips.onnx", strips(1).astype(np.int32))


def listing(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir())


def pane(path: Path, row: int, column: int) -> NDArray[np.int64]:
    """(h, w, 3) of one pane."""
    image = cv2.imread(str(path))
    assert image is not None
    y, x = HEADER + row * (PANE_HEIGHT + GAP), MARGIN + column * (PANE_WIDTH + GAP)
    return image[y : y + PANE_HEIGHT, x : x + PANE_WIDTH, ::-1].astype(np.int64)


def strip_colours(part: NDArray[np.int64]) -> list[tuple[int, ...]]:
    """Colour in the middle of each strip."""
    width = PANE_WIDTH // len(STRIPS)
    return [tuple(part[PANE_HEIGHT // 2, width // 2 + index * width]) for index in range(len(STRIPS))]


@pytest.mark.parametrize("factor", [1, 2])
def test_wrong_pixels_have_the_colour_of_their_kind(
    run: Eval, tree: Path, engine: Path, tmp_path: Path, factor: int
) -> None:
    """Also where the truth is larger than the images."""
    large = np.kron(strips(0), np.ones((factor, factor), np.uint8))
    cv2.imwrite(str(tree / "labels" / "00005D.png"), large)
    outcome = run("mfnet", "--data", tree, "--engine", engine, "--errors", tmp_path / "e", "--json")
    assert outcome.code == 0
    assert outcome.json["errors"] == {"pictures": 1}
    # car 1, unlabelled 1/2 (one of its two strips is a false bike), person 0, cone 0
    name = f"01_00005D_accuracy-{100 * 1.5 / 4:.1f}.png"
    assert listing(tmp_path / "e") == [name, "errors.csv"]  # the pair by night has no errors
    errors = pane(tmp_path / "e" / name, 1, 2)
    for seen, (_, _, colour) in zip(strip_colours(errors), STRIPS, strict=True):
        if colour is None:
            assert max(seen) < 60  # the dimmed image
        else:
            assert seen == colour
    for kind in (MISSED, FALSE, RIGHT):  # each fills its strip, from edge to edge below the name of the pane
        assert (errors[30:] == kind).all(axis=2).mean() == pytest.approx(1 / 6)


def test_truth_and_prediction_are_tinted_by_class(run: Eval, tree: Path, engine: Path, tmp_path: Path) -> None:
    run("mfnet", "--data", tree, "--engine", engine, "--errors", tmp_path / "e")
    path = tmp_path / "e" / listing(tmp_path / "e")[0]
    plain = np.array(strip_colours(pane(path, 0, 0)))
    for position, column in ((0, 0), (1, 1)):
        tinted = np.array(strip_colours(pane(path, 1, column)))
        labels = [strip[:2][position] for strip in STRIPS]
        for label, before, after in zip(labels, plain, tinted, strict=True):
            if label == 0:
                assert (before == after).all()
            elif label == IGNORE_LABEL:
                assert (after < before).all()
            else:
                wanted = 0.55 * before + 0.45 * np.array(LOOK.colour(label))
                np.testing.assert_allclose(after, wanted, atol=2)
    table = pane(path, 0, 2).reshape(-1, 3)
    for label in (CAR, PERSON, BIKE, CONE, BUMP):  # every class that is there or was found has its colour in the table
        assert (table == LOOK.colour(label)).all(axis=1).any()
    assert not (table == LOOK.colour(LABEL_CLASSES.index("guardrail"))).all(axis=1).any()


def test_index_lists_every_pair(run: Eval, tree: Path, engine: Path, tmp_path: Path) -> None:
    outcome = run("mfnet", "--data", tree, "--engine", engine, "--errors", tmp_path / "e", "--thermal-size", "16x12")
    assert "1 picture of the worst pairs; errors.csv lists all 2" in outcome.out
    assert "strips on mfnet test, thermal at 16x12: 2 pairs" in outcome.out
    with (tmp_path / "e" / "errors.csv").open(newline="") as lines:
        first, second = csv.DictReader(lines)
    assert (first["rank"], first["name"], first["time"]) == ("1", "00005D", "day")
    assert (first["picture"], second["picture"]) == ("01_00005D_accuracy-37.5.png", "")
    assert float(first["mean_accuracy"]) == pytest.approx(1.5 / 4)
    strip = SIXTH * HEIGHT
    assert [int(first[key]) for key in ("pixels", "wrong_pixels", "car_pixels")] == [5 * strip, 3 * strip, strip]
    assert [first[f"{name}_accuracy"] for name in ("car", "person", "bike")] == ["1.000000", "0.000000", ""]
    assert (second["name"], second["time"], second["wrong_pixels"]) == ("00006N", "night", "0")


def test_the_lowest_mean_accuracy_comes_first(run: Eval, tmp_path: Path) -> None:
    """By night it misses a person of a few pixels and nothing else; by day, half of a car that is half the picture."""
    root = write_mfnet(tmp_path / "mfnet", VISIBLE_WH)
    labels = {name: np.zeros((HEIGHT, WIDTH), np.uint8) for name in ("00005D", "00006N")}
    labels["00005D"][:, : WIDTH // 2] = CAR
    labels["00006N"][:, : WIDTH // 4] = CAR
    labels["00006N"][:4, -4:] = PERSON
    for name, label_map in labels.items():
        cv2.imwrite(str(root / "labels" / f"{name}.png"), label_map)
    found = np.zeros((HEIGHT, WIDTH), np.int32)
    found[:, : WIDTH // 4] = CAR
    engine = write_labels(tmp_path / "cars.onnx", found)
    run("mfnet", "--data", root, "--engine", engine, "--errors", tmp_path / "e", "--worst", "1")
    assert listing(tmp_path / "e") == ["01_00006N_accuracy-66.7.png", "errors.csv"]
    run("mfnet", "--data", root, "--engine", engine, "--errors", tmp_path / "e")
    assert listing(tmp_path / "e")[1] == "02_00005D_accuracy-75.0.png"


def test_pairs_where_nothing_counts_come_last() -> None:
    ignored = confusion(np.full((2, 2), IGNORE_LABEL), np.zeros((2, 2), np.int64), 9)
    wrong, right = (confusion(np.full((2, 2), value), np.zeros((2, 2), np.int64), 9) for value in (1, 0))
    assert worst_first([ignored, right, wrong, right]) == [2, 1, 3, 0]


def test_kinds_of_errors() -> None:
    truth = np.array([[0, 0, 1, 1, 1, 255, 255]], np.uint8)
    predicted = np.array([[0, 2, 1, 0, 2, 0, 1]], np.uint8)
    assert error_kinds(truth, predicted).tolist() == [[0, 2, 0, 1, 3, 0, 0]]


def test_a_street(run: Eval, tmp_path: Path) -> None:
    list(write_street_set(tmp_path / "street", scenes=1, seed=0, validation=2))
    engine = write_areas(tmp_path / "areas.onnx")
    options = ("--set", "street", "--thermal-size", "160x120", "--errors", tmp_path / "e")
    outcome = run("mfnet", "--data", tmp_path / "street", "--engine", engine, *options)
    assert outcome.code == 0
    assert len(listing(tmp_path / "e")) == 3
    for name in listing(tmp_path / "e")[:2]:
        assert (pane(tmp_path / "e" / name, 1, 2) == MISSED).all(axis=2).any()  # it knows neither kerbs nor signs


def test_bad_input(run: Eval, tree: Path, engine: Path, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("mine")
    data = ("mfnet", "--data", tree, "--engine", engine)
    refused(run(*data, "--worst", "2"), 2, "got --worst without --errors")
    refused(run(*data, "--errors", tmp_path / "file"), 6, "cannot write a folder there")
    refused(run("mfnet", "--data", tree, "--engine", tmp_path / "no.onnx", "--errors", tmp_path / "e"), 3, "no.onnx")
    assert not (tmp_path / "e").exists()
