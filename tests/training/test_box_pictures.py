"""`mdtrain eval msrs --errors`: real files through the command, and what is where in the pictures."""

from __future__ import annotations

import csv
import itertools
import json
from pathlib import Path

import cv2
import numpy as np
import pytest
from numpy.typing import NDArray

from mdrun.sinks.scene import GAP, INK
from mdrun.sinks.sheet import HEADER, MARGIN
from mdtrain.metrics.box_pictures import ALARM, HIT, MISS, PANE_WIDTH, Outline, draw_outline
from mdtrain.metrics.error_frame import FALSE, MISSED, RIGHT
from tests.runtime.engines import VISIBLE_WH, write_constant
from tests.training.evaluating import Eval, Outcome, refused
from tests.training.test_evaluate_cli import line, write_lines

WIDTH, HEIGHT = VISIBLE_WH  # 96 x 72: a pane of 800 x 600
SCALE = PANE_WIDTH / WIDTH
PERSON = (12.0, 24.0, 24.0, 48.0)
CAR = (48.0, 24.0, 84.0, 48.0)
ELSEWHERE = (36.0, 54.0, 60.0, 66.0)
OBJECTS = {  # what is there, by pair; the engine finds a person at PERSON and a car at ELSEWHERE in each
    "00001D": [(0, PERSON), (2, ELSEWHERE)],
    "00002N": [],
    "00003D": [(0, PERSON), (2, CAR)],
    "00004": [(0, PERSON)],
}
PANES = {"visible": MARGIN, "thermal": MARGIN + PANE_WIDTH + GAP}  # left ends
Box = tuple[float, float, float, float]


@pytest.fixture
def run(capsys: pytest.CaptureFixture[str]) -> Eval:
    return Eval(capsys)


@pytest.fixture
def tree(tmp_path: Path) -> Path:
    root = tmp_path / "msrs"
    for part in ("vi", "ir", "labels/fusion"):
        (root / part).mkdir(parents=True)
    for name, objects in OBJECTS.items():
        cv2.imwrite(str(root / "vi" / f"{name}.jpg"), np.full((HEIGHT, WIDTH, 3), (60, 90, 120), np.uint8))
        cv2.imwrite(str(root / "ir" / f"{name}.jpg"), np.full((HEIGHT, WIDTH), 90, np.uint8))
        lines = []
        for kind, (x1, y1, x2, y2) in objects:
            fractions = (x1 + x2) / 2 / WIDTH, (y1 + y2) / 2 / HEIGHT, (x2 - x1) / WIDTH, (y2 - y1) / HEIGHT
            lines.append(" ".join(map(str, (kind, *fractions))))
        (root / "labels" / "fusion" / f"{name}.txt").write_text("\n".join(lines))
    (root / "val.txt").write_text("\n".join(OBJECTS))
    return root


@pytest.fixture
def engine(tmp_path: Path) -> Path:
    boxes, scores = np.array([PERSON, ELSEWHERE], np.float32), np.array([0.9, 0.8], np.float32)
    return write_constant(tmp_path / "same.onnx", boxes, scores, np.array([0, 2], np.int32))


def listing(path: Path) -> list[str]:
    return sorted(entry.name for entry in path.iterdir())


def read(path: Path) -> NDArray[np.uint8]:
    image = cv2.imread(str(path))
    assert image is not None
    return np.asarray(image[..., ::-1], np.uint8)


def along(picture: NDArray[np.uint8], pane: str, box: Box) -> NDArray[np.uint8]:
    """(N, 3) pixels on the outline of a box of the visible image, in one pane."""
    x1, y1, x2, y2 = (round(SCALE * value) for value in box)
    part = picture[HEADER:, PANES[pane] :]
    upright = [part[y1:y2, x] for x in (x1, x2)]
    return np.concatenate([*(part[y, x1:x2] for y in (y1, y2)), *upright])


def shares(pixels: NDArray[np.uint8]) -> list[float]:
    """Shares of the pixels in the colours of what was found, missed, a false alarm."""
    return [float((pixels == colour).all(axis=1).mean()) for colour in (RIGHT, MISSED, FALSE)]


def test_every_box_is_drawn_as_what_it_is(run: Eval, tree: Path, engine: Path, tmp_path: Path) -> None:
    outcome = run("msrs", "--data", tree, "--engine", engine, "--errors", tmp_path / "errors", "--json")
    assert (outcome.code, outcome.err) == (0, "")
    # no bicycle is in the truth: the display threshold of the engine
    assert outcome.json["errors"]["thresholds"] == pytest.approx({"person": 0.9, "bicycle": 0.5, "car": 0.8})
    names = ["01_00002N_0-missed_2-false.png", "02_00003D_1-missed_1-false.png", "03_00004_0-missed_1-false.png"]
    assert listing(tmp_path / "errors") == [*names, "errors.csv"]
    assert outcome.json["errors"]["pictures"] == 3
    picture = read(tmp_path / "errors" / names[1])
    for pane in PANES:
        found, missed, false = (along(picture, pane, box) for box in (PERSON, CAR, ELSEWHERE))
        assert shares(found) == [1, 0, 0]
        assert shares(missed)[0] == shares(missed)[2] == shares(false)[0] == shares(false)[1] == 0
        for dashed, share in ((missed, shares(missed)[1]), (false, shares(false)[2])):
            assert 0.5 < share < 0.95
            assert (dashed == INK).all(axis=1).any()  # the gaps of the line
    for box, colour in ((PERSON, RIGHT), (CAR, MISSED), (ELSEWHERE, FALSE)):  # tags: on the visible image alone
        x, y = (HEADER + round(SCALE * box[1]) - 4, round(SCALE * box[0]) + 1)
        assert tuple(picture[x, PANES["visible"] + y]) == colour
        assert tuple(picture[x, PANES["thermal"] + y]) != colour
    key = picture[HEADER + 600 :].reshape(-1, 3)
    assert all((key == colour).all(axis=1).any() for colour in (RIGHT, MISSED, FALSE))


def test_index_lists_every_pair(run: Eval, tree: Path, engine: Path, tmp_path: Path) -> None:
    outcome = run("msrs", "--data", tree, "--engine", engine, "--errors", tmp_path / "e", "--worst", "1")
    assert f"{tmp_path / 'e'}: 1 picture of the worst pairs; errors.csv lists all 4" in outcome.out
    with (tmp_path / "e" / "errors.csv").open(newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert [(row["rank"], row["name"], row["time"], row["picture"]) for row in rows] == [
        ("1", "00002N", "night", "01_00002N_0-missed_2-false.png"),
        ("2", "00003D", "day", ""),
        ("3", "00004", "", ""),
        ("4", "00001D", "day", ""),
    ]
    columns = (
        "objects",
        "missed",
        "false",
        "person_objects",
        "person_missed",
        "car_objects",
        "car_missed",
        "car_false",
    )
    assert [rows[1][column] for column in columns] == ["2", "1", "1", "1", "0", "1", "1", "1"]
    assert listing(tmp_path / "e") == ["01_00002N_0-missed_2-false.png", "errors.csv"]


def test_results_at_a_given_threshold(run: Eval, tree: Path, tmp_path: Path) -> None:
    """Of the first pair the person is found and the car scores too low; a huge box of the second is still drawn."""
    results = write_lines(
        tmp_path / "results.jsonl",
        line("00001D.jpg", ("person", 0.7, PERSON), ("car", 0.6, ELSEWHERE)),
        line("00002N.jpg", ("bicycle", 0.8, (-1e9, 24, 1e9, 48))),
        line("00003D.jpg", ("person", 0.7, PERSON), ("car", 0.7, CAR)),
        line("00004.jpg"),
    )
    data = ("msrs", "--data", tree, "--results", results, "--errors", tmp_path / "e", "--json")
    outcome = run(*data, "--error-threshold", "0.65")
    assert outcome.json["errors"] == {"pictures": 3, "thresholds": dict.fromkeys(("person", "bicycle", "car"), 0.65)}
    assert listing(tmp_path / "e")[:3] == [
        "01_00001D_1-missed_0-false.png",
        "02_00002N_0-missed_1-false.png",
        "03_00004_1-missed_0-false.png",
    ]
    first, second = (read(tmp_path / "e" / name) for name in listing(tmp_path / "e")[:2])
    assert shares(along(first, "thermal", PERSON))[0] == 1
    assert shares(along(first, "thermal", ELSEWHERE))[1] > 0.5
    top = second[HEADER + round(24 * SCALE), MARGIN : MARGIN + PANE_WIDTH]
    assert shares(top)[2] > 0.5
    assert run(*data).json["errors"]["thresholds"] == pytest.approx({"person": 0.7, "bicycle": 0.5, "car": 0.6})


def test_another_run_replaces_the_pictures(run: Eval, tree: Path, engine: Path, tmp_path: Path) -> None:
    data = ("msrs", "--data", tree, "--engine", engine, "--errors", tmp_path / "e")
    run(*data)
    run(*data, "--error-threshold", "0.85")  # no cars any more
    assert listing(tmp_path / "e") == [
        "01_00001D_1-missed_0-false.png",
        "02_00002N_0-missed_1-false.png",
        "03_00003D_1-missed_0-false.png",
        "errors.csv",
    ]


def test_without_errors_there_is_an_index_alone(run: Eval, tree: Path, engine: Path, tmp_path: Path) -> None:
    (tree / "val.txt").write_text("00001D\n")
    outcome = run("msrs", "--data", tree, "--engine", engine, "--errors", tmp_path / "e")
    assert "0 pictures of the worst pairs; errors.csv lists all 1" in outcome.out
    assert listing(tmp_path / "e") == ["errors.csv"]


@pytest.mark.parametrize(
    ("options", "code", "said"),
    [
        (["--worst", "3"], 2, "got --worst without --errors"),
        (["--error-threshold", "0.5"], 2, "got --error-threshold without --errors"),
        (["--errors", "E", "--worst", "0"], 2, "--worst"),
        (["--errors", "E", "--worst", "many"], 2, "--worst"),
        (["--errors", "E", "--error-threshold", "1.5"], 2, "--error-threshold"),
        (["--errors", "E", "--error-threshold", "nan"], 2, "--error-threshold"),
        (["--errors", "E", "--split", "test"], 4, "test.txt"),
        (["--errors", "FILE"], 6, "cannot write a folder there"),
        (["--errors", "FILE/deeper"], 6, "cannot write a folder there"),
        (["--errors", "FOREIGN"], 6, "errors.csv: was not written by `mdtrain eval`"),
    ],
)
def test_bad_input(
    run: Eval, tree: Path, engine: Path, tmp_path: Path, options: list[str], code: int, said: str
) -> None:
    (tmp_path / "FILE").write_text("mine")
    (tmp_path / "FOREIGN").mkdir()
    (tmp_path / "FOREIGN" / "errors.csv").write_text("frame;error\n")
    placed = [str(tmp_path / option) if option[0].isupper() else option for option in options]
    refused(judge(run, tree, engine, *placed), code, said)
    assert not (tmp_path / "E").exists()
    assert listing(tmp_path / "FOREIGN") == ["errors.csv"]


def judge(run: Eval, tree: Path, engine: Path, *more: str) -> Outcome:
    return run("msrs", "--data", tree, "--engine", engine, *more)


def test_a_broken_image_leaves_no_folder(run: Eval, tree: Path, engine: Path, tmp_path: Path) -> None:
    (tree / "vi" / "00004.jpg").write_bytes((tree / "vi" / "00004.jpg").read_bytes()[:-20])
    refused(judge(run, tree, engine, "--errors", str(tmp_path / "a" / "e")), 4, "00004.jpg")
    assert not (tmp_path / "a").exists()


@pytest.mark.parametrize("outline", [HIT, MISS, ALARM], ids=lambda outline: outline.name)
@pytest.mark.parametrize("corner", [[5, 5, 5, 5], [5, 5, 60, 5], [60, 40, 5, 5], [0, 0, 63, 47], [5, 5, 8, 30]])
def test_outlines_of_any_shape(outline: Outline, corner: list[int]) -> None:
    """A point, a line, a box turned inside out, the whole pane, a narrow one: something is drawn, and only there."""
    pane = np.full((48, 64, 3), 99, np.uint8)
    draw_outline(pane, corner, outline)
    drawn = np.argwhere((pane == outline.colour).all(axis=2))
    assert len(drawn) > 0
    rows, columns = sorted(corner[1::2]), sorted(corner[::2])
    assert (drawn >= (rows[0] - 1, columns[0] - 1)).all()
    assert (drawn <= (rows[1] + 1, columns[1] + 1)).all()


# Machado, Oliveira, Fernandes: A Physiologically-based Model for Simulation of Color Vision Deficiency, TVCG 2009:
# linear RGB as it is seen without one kind of cones.
VISION = {
    "full": [[1, 0, 0], [0, 1, 0], [0, 0, 1]],
    "protanopia": [[0.152286, 1.052583, -0.204868], [0.114503, 0.786281, 0.099216], [-0.003882, -0.048116, 1.051998]],
    "deuteranopia": [[0.367322, 0.860646, -0.227968], [0.280085, 0.672501, 0.047413], [-0.01182, 0.04294, 0.968881]],
    "tritanopia": [[1.255528, -0.076749, -0.178779], [-0.078411, 0.930809, 0.147602], [0.004733, 0.691367, 0.3039]],
}


@pytest.mark.parametrize("vision", VISION)
def test_colours_remain_apart_with_any_colour_vision(vision: str) -> None:
    """At least 30 in CIELAB, where 2 can just be told apart side by side."""
    seen = []
    for colour in (RIGHT, MISSED, FALSE):
        value = np.array(colour) / 255
        linear = np.where(value <= 0.04045, value / 12.92, ((value + 0.055) / 1.055) ** 2.4)
        shown = np.clip(np.array(VISION[vision]) @ linear, 0, 1)
        gamma = np.where(shown <= 0.0031308, 12.92 * shown, 1.055 * shown ** (1 / 2.4) - 0.055)
        seen.append(cv2.cvtColor(gamma.astype(np.float32).reshape(1, 1, 3), cv2.COLOR_RGB2LAB)[0, 0])
    assert min(np.linalg.norm(a - b) for a, b in itertools.combinations(seen, 2)) > 30


@pytest.mark.realdata
def test_real_pairs(run: Eval, real_data: Path, tmp_path: Path) -> None:
    """Labels as results, one car left out: that pair alone has an error, and its picture is of full size."""
    from mdtrain.data.records import CLASSES
    from mdtrain.data.sets.msrs import read_msrs

    root = real_data / "rgbt" / "msrs"
    records = read_msrs(root, "val")
    left_out = next(record for record in records if 2 in record.classes)
    lines = []
    for record in records:
        boxes = (record.boxes * np.array([640, 480] * 2)).tolist()
        found = [(CLASSES[kind], 0.9, tuple(box)) for kind, box in zip(record.classes.tolist(), boxes, strict=True)]
        if record is left_out:
            found.remove(next(entry for entry in found if entry[0] == "car"))
        lines.append(json.dumps(line(f"{record.name}.jpg", *found)))
    results = write_lines(tmp_path / "r.jsonl", *lines)
    run("msrs", "--data", root, "--results", results, "--errors", tmp_path / "e")
    name = f"01_{left_out.name}_1-missed_0-false.png"
    assert listing(tmp_path / "e") == [name, "errors.csv"]
    picture = read(tmp_path / "e" / name)
    assert picture.shape[1] == 2 * PANE_WIDTH + GAP + 2 * MARGIN
    assert (picture == MISSED).all(axis=2).any()
