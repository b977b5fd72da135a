"""KAIST's miss rate in validation, sweeps and the report: the number of `mdtrain eval kaist`, for every network."""

from __future__ import annotations

import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from numpy.typing import NDArray

from mdrun.boxes import Boxes as Corners
from mdrun.command import run_command
from mdtrain.build import sizes, spec_of
from mdtrain.cli import mdtrain
from mdtrain.config import Config, load_config
from mdtrain.data.batches import Batch
from mdtrain.data.records import Record
from mdtrain.data.sets.kaist import read_kaist
from mdtrain.loop import run
from mdtrain.metrics.kaist_files import read_annotations, read_detections
from mdtrain.metrics.kaist_images import MISS_RATES, ImageTruth, join, miss_rate_scores, split
from mdtrain.models.detector import Boxes, DetectorSpec
from mdtrain.models.streams import Prediction
from mdtrain.recipes import baseline, teacher
from mdtrain.tasks import Evaluation, make_task
from tests.training.evaluating import Eval
from tests.training.test_recipes import TINY, tiny
from tests.training.test_train_cli import flags
from tests.training.tree import write_kaist, write_msrs

SIZE = (128, 96)  # of the networks of TINY
TO_KAIST = np.array([640 / 128, 512 / 96] * 2)
ON_KAIST = ("data.sets=[msrs]", "data.validation=kaist", "data.validation_list=test-all-20")
FRAMES = tuple(f"set{number}/V000/I{frame:05d}" for number in ("06", "09") for frame in range(19, 399, 20))


@pytest.fixture
def data(tmp_path: Path) -> Path:
    """A folder of sets: a tiny MSRS to learn from, a tiny KAIST to judge."""
    write_msrs(tmp_path / "data" / "msrs")
    lists = write_kaist(tmp_path / "data" / "kaist") / "imageSets"
    (lists / "test-all-20.txt").write_text((lists / "train.txt").read_text())
    return tmp_path / "data"


def on_kaist(data: Path, *more: str) -> Config:
    return load_config(None, (*TINY, f"data.root={data}", *ON_KAIST, "optimiser.iterations=1", *more))


def write_annotations(path: Path, boxes: dict[str, list[list[float]]]) -> Path:
    """The published format; boxes x, y, w, h by image."""
    one = {"category_id": 1, "occlusion": 0, "ignore": 0}
    document = {
        "images": [{"id": index, "im_name": name} for index, name in enumerate(boxes)],
        "annotations": [{**one, "image_id": i, "bbox": b} for i, some in enumerate(boxes.values()) for b in some],
        "categories": [{"id": 1, "name": "person"}],
    }
    path.write_text(json.dumps(document))
    return path


def write_detections(path: Path, persons: Sequence[tuple[Corners, NDArray[np.float32]]]) -> Path:
    """Boxes of the network's image as the published format has them: 640x512, counted from 1."""
    lines = []
    for image, (boxes, scores) in enumerate(persons, start=1):
        for box, score in zip(boxes.astype(float) * TO_KAIST, scores.tolist(), strict=True):
            x, y, width, height = box[0] + 1, box[1] + 1, box[2] - box[0], box[3] - box[1]
            lines.append(f"{image},{x:.8f},{y:.8f},{width:.8f},{height:.8f},{score:.9f}\n")
    path.write_text("".join(lines))
    return path


def random_boxes(rng: np.random.Generator, count: int) -> Corners:
    corner = rng.uniform((2, 2), (100, 50), (count, 2))
    return np.concatenate([corner, corner + rng.uniform((5, 15), (20, 40), (count, 2))], 1).astype(np.float32)


# ---------------------------------------------------------------- the number


def test_the_same_detections_give_the_number_of_the_command(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    """Persons found more or less well, and boxes on nothing."""
    rng = np.random.default_rng(2)
    boxes: dict[str, list[list[float]]] = {}
    persons = []
    for name in FRAMES:
        truth = random_boxes(rng, 4)
        xywh = np.concatenate([truth[:, :2], truth[:, 2:] - truth[:, :2]], 1) * TO_KAIST + (1, 1, 0, 0)
        boxes[name] = xywh.tolist()
        found = np.concatenate([truth[:3] + rng.normal(0, 1.5, (3, 4)), random_boxes(rng, 5)]).astype(np.float32)
        persons.append((found, rng.uniform(0, (1, 1, 1, *[0.6] * 5)).astype(np.float32)))
    annotations = write_annotations(tmp_path / "truth.json", boxes)
    detections = write_detections(tmp_path / "found.txt", persons)
    outcome = Eval(capsys)("kaist", "--annotations", annotations, "--detections", detections, "--json").json
    truths = split(read_annotations(annotations), "truth.json")
    scores = miss_rate_scores([truths[name] for name in FRAMES], persons, SIZE)
    assert [100 * scores[name] for name in MISS_RATES] == pytest.approx([outcome[n] for n in ("all", "day", "night")])
    assert 0 < outcome["all"] < 100
    assert outcome["day"] != outcome["night"]


@pytest.mark.realdata
def test_published_detections_give_the_published_number(real_data: Path) -> None:
    """GAFF's on the 2252 test images, as validation would have them: counted from 0."""
    folder = real_data / "rgbt" / "kaist_eval"
    annotations = read_annotations(folder / "KAIST_annotation.json.gz")
    found = read_detections(folder / "results" / "GAFF_result.txt.gz", annotations)
    corners = np.concatenate([found.boxes_xywh[:, :2], found.boxes_xywh[:, :2] + found.boxes_xywh[:, 2:]], 1) - 1
    persons = [
        (corners[mine].astype(np.float32), found.scores[mine].astype(np.float32))
        for mine in (found.images == image for image in range(len(annotations.image_names)))
    ]
    scores = miss_rate_scores(list(split(annotations, "").values()), persons, (640, 512))
    assert [100 * scores[name] for name in MISS_RATES] == pytest.approx([6.48, 8.35, 3.46], abs=0.01)


@pytest.fixture
def one_anchor(data: Path) -> tuple[Config, int, list[float]]:
    """Configuration, index of an anchor well inside of the image, and its box as KAIST's annotations count it."""
    config = on_kaist(data)
    spec = spec_of(config)
    assert isinstance(spec, DetectorSpec)
    anchors = spec.make_anchors(SIZE).numpy()
    inside = (np.abs(anchors[:, :2] - (64, 48)) + anchors[:, 2:] / 2 < (60, 44)).all(1) & (anchors[:, 3] > 16)
    index = int(np.flatnonzero(inside)[0])
    (cx, cy, width, height), (across, down) = anchors[index], TO_KAIST[:2]
    box = [(cx - width / 2) * across + 1, (cy - height / 2) * down + 1, width * across, height * down]
    return config, index, [float(value) for value in box]


def judge(config: Config, records: list[Record], anchor: int, kind: int = 0) -> Evaluation:
    """Of a network that finds one box in every image: an anchor."""
    spec = spec_of(config)
    assert isinstance(spec, DetectorSpec)
    logits = torch.full((len(spec.make_anchors(SIZE)), 3), -9.0)
    logits[anchor, kind] = 4.0

    def predict(batch: Batch) -> Prediction:
        count = len(batch.visible)
        return Prediction(Boxes(logits.expand(count, -1, -1), torch.zeros(count, len(logits), 4)))

    return make_task(config).evaluate(predict, records, sizes(config), torch.device("cpu"))


def test_a_known_answer(one_anchor: tuple[Config, int, list[float]]) -> None:
    """Two persons by day, of whom one is found, and one by night, when the box lies on nothing.

    The hit comes before the false alarm, so that the curve holds its recall at all nine rates.
    """
    config, anchor, box = one_anchor
    root = config.data.root / "kaist"
    away = [9.0, 9.0, 60.0, 80.0] if box[0] > 200 else [500.0, 300.0, 60.0, 80.0]
    write_annotations(root / "KAIST_annotation.json", {"set00/V000/I00001": [box, away], "set03/V001/I00041": [away]})
    records = read_kaist(root, "test-all-20")
    scored = judge(config, records, anchor)
    assert [scored.scores[name] for name in MISS_RATES] == pytest.approx([2 / 3, 1 / 2, 1])
    assert scored.facts == {"miss_rate_labels": "KAIST_annotation.json"}
    assert judge(config, records, anchor, kind=1).scores["miss_rate"] == pytest.approx(1)  # a bicycle is nobody


# ---------------------------------------------------------------- the truth


def test_labels_become_regions(data: Path) -> None:
    """Only persons count; those too small to learn from are among them, and the subset's height sorts them out."""
    day, night = read_kaist(data / "kaist", "train")
    assert day.kaist is not None
    assert night.kaist is not None
    assert (day.kaist.name, day.kaist.source) == ("set00/V000/I00001", "annotations_sanitized")
    assert day.kaist.ignored.tolist() == [False, True, True, False]
    assert day.kaist.boxes_xywh[0].tolist() == [64, 128, 32, 64]
    assert len(night.kaist.boxes_xywh) == 0


def test_occlusion_is_read(data: Path) -> None:
    file = data / "kaist" / "annotations_sanitized" / "set03" / "V001" / "I00041.txt"
    file.write_text("% bbGt version=3\nperson 9 9 40 90 2 0 0\nperson 9 9 40 90\n")
    truth = read_kaist(data / "kaist", "train")[1].kaist
    assert truth is not None
    assert truth.occlusion.tolist() == [2, 0]


def test_the_published_annotations_judge_where_they_have_every_frame(data: Path) -> None:
    path = data / "kaist" / "KAIST_annotation.json"

    def sources() -> set[str]:
        return {record.kaist.source for record in read_kaist(data / "kaist", "train") if record.kaist is not None}

    one: dict[str, list[list[float]]] = {"set00/V000/I00001": [[1, 2, 30, 60]]}
    write_annotations(path, one)
    assert sources() == {"annotations_sanitized"}
    write_annotations(path, one | {"set03/V001/I00041": []})
    assert sources() == {"KAIST_annotation.json"}
    assert len(read_kaist(data / "kaist", "train")[0].boxes) == 1  # the truth is what is learnt, too


def test_split_and_join(tmp_path: Path) -> None:
    boxes: dict[str, list[list[float]]] = {
        FRAMES[2]: [[1, 2, 3, 4], [5, 6, 7, 8]],
        FRAMES[0]: [],
        FRAMES[1]: [[9, 10, 11, 12]],
    }
    before = read_annotations(write_annotations(tmp_path / "truth.json", boxes))
    parts = split(before, "truth.json")
    after = join(list(parts.values()))
    assert after.image_names == before.image_names
    assert after.images.tolist() == before.images.tolist() == [0, 0, 2]
    np.testing.assert_array_equal(after.boxes_xywh, before.boxes_xywh)


def test_nobody_to_find_is_no_number() -> None:
    nothing = np.zeros((0, 4), np.float32), np.zeros(0, np.float32)
    empty = ImageTruth(FRAMES[0], np.zeros((0, 4)), np.zeros(0, np.int64), np.zeros(0, np.bool_), "")
    assert all(np.isnan(rate) for rate in miss_rate_scores([empty], [nothing], SIZE).values())


# ---------------------------------------------------------------- runs, sweeps, report


def accuracy(folder: Path) -> dict[str, Any]:
    found: dict[str, Any] = json.loads((folder / "result.json").read_text())["accuracy"]
    return found


def test_a_run_says_its_miss_rate(data: Path, tmp_path: Path) -> None:
    """Nobody stands there by night: no number."""
    config = on_kaist(data)
    run(config, teacher.make(config), tmp_path / "run", "mdtrain")
    rates = {name: rate for name, rate in accuracy(tmp_path / "run").items() if "miss_rate" in name}
    assert set(rates) == {f"kaist-sanitized_test-all-20/{name}" for name in MISS_RATES[:2]}
    assert all(0 <= rate <= 1 for rate in rates.values())
    facts = json.loads((tmp_path / "run" / "result.json").read_text())
    assert facts["miss_rate_labels"] == "annotations_sanitized"


@pytest.mark.parametrize("validation", ["msrs", "[kaist,msrs]"])
def test_other_pairs_have_none(validation: str, data: Path, tmp_path: Path) -> None:
    lists = data / "kaist" / "imageSets"
    (lists / "val.txt").write_text((lists / "train.txt").read_text())
    config = tiny(tmp_path, "optimiser.iterations=1", f"data.validation={validation}")
    baseline.train(config, tmp_path / "run", "mdtrain")
    assert not any("miss_rate" in name for name in accuracy(tmp_path / "run"))
    assert "miss_rate_labels" not in json.loads((tmp_path / "run" / "result.json").read_text())


def command(*arguments: str | Path) -> int:
    return run_command(mdtrain, "mdtrain", [str(argument) for argument in arguments])


def test_training_prints_it(data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    settings = flags(*TINY, *ON_KAIST, "optimiser.iterations=1")
    assert command("train", "baseline", "--data", data, "--output", tmp_path / "run", *settings) == 0
    assert "KAIST miss rate, reasonable (%), all / day / night, lower is better: 100.00" in capfd.readouterr().out


@pytest.mark.slow
def test_every_fusion_stage_is_in_the_sweep_and_the_report(
    data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    short = [pair for pair in TINY if "thermal" not in pair and "iterations" not in pair]
    arguments = ["--data", str(data), "--iterations", "1", *flags(*short, *ON_KAIST)]
    assert command("sweep", "fusion", "--output", tmp_path / "runs" / "fusion", *arguments) == 0
    out = capfd.readouterr().out
    assert "| miss_rate | day/miss_rate | night/miss_rate |" in out
    rows = json.loads((tmp_path / "runs" / "fusion" / "results.json").read_text())["rows"]
    assert len(rows) == 6
    assert all("miss_rate" in row["runs"][0] for row in rows)
    assert command("report", "paper", "--runs", tmp_path / "runs") == 0
    report = capfd.readouterr().out
    for label, count in (("visible-only", 1), ("feature-level", 1), ("Ours (teacher)", 1)):
        lines = [line for line in report.splitlines() if line.startswith(f"| {label} |") and "test-all-20" in line]
        assert len(lines) == count, report
        assert " / - / 100.00 | " in lines[0]  # by night nobody
        judged = "kaist-sanitized_test-all-20 by annotations_sanitized, not comparable"
        assert f"| 1 | 1 x 2 pairs, 128x96, AdamW 0.001 | {judged} |" in lines[0]


def test_seeds_judged_by_different_labels_do_not_join(
    data: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """One machine had the published annotations, the other had not; packed or not they are the same."""
    short = [pair for pair in TINY if "thermal" not in pair and "iterations" not in pair]
    arguments = ["--data", str(data), "--iterations", "1", "--rows", "thermal-only", *flags(*short, *ON_KAIST)]
    output, root = tmp_path / "fusion", data / "kaist"

    def sweep(seeds: str) -> int:
        return command("sweep", "fusion", "--output", output, "--seeds", seeds, *arguments)

    write_annotations(root / "KAIST_annotation.json", {"set00/V000/I00001": [[1, 2, 30, 60]], "set03/V001/I00041": []})
    assert sweep("0") == 0
    result = output / "thermal-only" / "seed-0" / "result.json"
    result.write_text(result.read_text().replace("KAIST_annotation.json", "KAIST_annotation.json.gz"))
    assert sweep("0,1") == 0
    (row,) = json.loads((output / "results.json").read_text())["rows"]
    assert row["judged_on"] == "kaist-sanitized_test-all-20 by KAIST_annotation.json"
    (root / "KAIST_annotation.json").unlink()
    capfd.readouterr()
    assert sweep("2") == 2
    (line,) = [line for line in capfd.readouterr().err.splitlines() if "error" in line]
    assert "judged by different labels" in line
    assert f"{result} by KAIST_annotation.json" in line
    assert "seed-2/result.json by annotations_sanitized; train those again that lacked KAIST_annotation.json" in line
