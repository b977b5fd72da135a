"""What a segmenter is judged by and learns from, against numbers counted by hand and against its exported engine."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from numpy.typing import NDArray
from torch import Tensor

from mdexport.onnx_export import export_onnx
from mdtrain.build import sizes
from mdtrain.config import Config, load_config
from mdtrain.data.batches import Batch
from mdtrain.data.records import IGNORE_LABEL, LABEL_CLASSES
from mdtrain.data.sets.mfnet import read_mfnet
from mdtrain.data.street_set import write_street_set
from mdtrain.models.segmenter import Segments
from mdtrain.models.streams import Prediction
from mdtrain.recipes import baseline
from mdtrain.tasks.segment import Segment
from tests.training.evaluating import Eval
from tests.training.test_segment import SEGMENT, config_of
from tests.training.tree import write_mfnet

UNLABELLED, CAR, PERSON, BIKE, CONE = 0, 1, 2, 3, 7  # MFNet's own indices, not those of the code under test
STRIDE = 16
LEVELS = np.linspace(-1.0, 2.0, 9)  # logits of the nine classes, the same at every pixel


def mfnet_config(tmp_path: Path, *more: str) -> Config:
    """Of a network that sees (128, 96); the images and label maps of the tests have other sizes."""
    settings = ("data.street=null", "data.sets=[mfnet]", "data.validation=mfnet", f"data.root={tmp_path}")
    return load_config(None, (*SEGMENT, *settings, *more))


def halves(batch: Batch) -> Prediction:
    """A car on the left half of every image, a person on the right one."""
    count, _, height, width = batch.visible.shape
    logits = torch.zeros(count, 9, height // STRIDE, width // STRIDE)
    logits[:, CAR, :, : width // STRIDE // 2] = 5
    logits[:, PERSON, :, width // STRIDE // 2 :] = 5
    return Prediction(Segments(logits))


@pytest.fixture
def judged(tmp_path: Path) -> dict[str, float]:
    """Scores of `halves` on a pair by day and one by night, ten of them, so that they fill more than a batch.

    Their label maps are 40 wide and 30 high. By day the right half is above a person and below a cone. By night the
    upper row is ignored, and the four quarters of the width are unlabelled, car, bike, car.
    """
    root = write_mfnet(tmp_path / "mfnet")
    day, night = np.full((30, 40), CAR, np.uint8), np.full((30, 40), CAR, np.uint8)
    day[:15, 20:], day[15:, 20:] = PERSON, CONE
    night[:, :10], night[:, 20:30] = UNLABELLED, BIKE
    night[0] = IGNORE_LABEL
    write_map(root, "00003D", day)
    write_map(root, "00004N", night)
    config = mfnet_config(tmp_path)
    records = 5 * read_mfnet(root, "val")
    evaluation = Segment(config).evaluate(halves, records, sizes(config), torch.device("cpu"))
    assert evaluation.display_score == 0.5
    return evaluation.scores


def write_map(root: Path, name: str, label_map: NDArray[np.uint8]) -> None:
    assert cv2.imwrite(str(root / "labels" / f"{name}.png"), label_map)


def test_mean_accuracy_overall_by_day_and_by_night(judged: dict[str, float]) -> None:
    """Recall over the pixels of all pairs together, its mean over nine classes; an absent class counts as 0."""
    assert judged["mean/day/accuracy"] == pytest.approx((600 / 600 + 300 / 300 + 0 / 300) / 9)
    assert judged["mean/night/accuracy"] == pytest.approx((290 / 580 + 0 / 290 + 0 / 290) / 9)
    assert judged["mean/accuracy"] == pytest.approx((890 / 1180 + 300 / 300) / 9)


def test_accuracy_of_each_class_has_its_name(judged: dict[str, float]) -> None:
    accuracy = {
        "car": 890 / 1180,
        "car/day": 1,
        "car/night": 0.5,
        "person": 1,
        "person/day": 1,
        "color_cone": 0,
        "color_cone/day": 0,
        "bike": 0,
        "bike/night": 0,
        "unlabelled": 0,
        "unlabelled/night": 0,
    }
    assert {name: judged[f"{name}/accuracy"] for name in accuracy} == pytest.approx(accuracy)
    for absent in ("person/night", "color_cone/night", "bike/day", "unlabelled/day", "guardrail", "curve", "bump"):
        assert math.isnan(judged[f"{absent}/accuracy"])


def test_iou_counts_false_pixels_on_either_side(judged: dict[str, float]) -> None:
    assert judged["car/day/iou"] == 1
    assert judged["person/day/iou"] == pytest.approx(300 / 600)
    assert judged["car/night/iou"] == pytest.approx(290 / (580 + 290))
    assert judged["car/iou"] == pytest.approx(890 / (1180 + 290))
    assert judged["person/night/iou"] == 0  # predicted, and not there
    assert judged["mean/iou"] == pytest.approx((890 / 1470 + 300 / 1180) / 9)


def labels_of(counts: Mapping[int, int], shape: tuple[int, int, int]) -> Tensor:
    """(B, H, W) with so many pixels of each label."""
    labels = torch.cat([torch.full((count,), label) for label, count in counts.items()])
    return labels.reshape(shape)


def mean_cost(levels: NDArray[np.float64], counts: Mapping[int, int], weights: Mapping[int, float]) -> float:
    """Weighted mean of the cross-entropy of pixels whose logits are all alike."""
    cost = {label: math.log(np.exp(levels).sum()) - levels[label] for label in counts}
    total = sum(count * weights[label] * cost[label] for label, count in counts.items())
    return float(total / sum(count * weights[label] for label, count in counts.items()))


@pytest.mark.parametrize("weighting", ["enet", "none"])
def test_pixels_of_the_training_pairs_weigh_both_losses(weighting: str, tmp_path: Path) -> None:
    """Of the three maps, two have 768 pixels of car, 576 of person, 1728 of nothing; the third has 90 of cones."""
    root = write_mfnet(tmp_path / "mfnet")
    cones = np.full((10, 10), CONE, np.uint8)
    cones[0] = IGNORE_LABEL
    write_map(root, "00002N", cones)
    task = Segment(mfnet_config(tmp_path, f"optimiser.class_weights={weighting}"))
    task.study(read_mfnet(root, "train"))

    counts = {UNLABELLED: 100, CAR: 50, PERSON: 20, BIKE: 6, CONE: 10}
    label_map = labels_of(counts | {IGNORE_LABEL: 6}, (2, 8, 12))
    levels = {"logits": LEVELS, "auxiliary": LEVELS[::-1] / 2}
    output = Segments(
        *(torch.tensor(v.copy()).float()[None, :, None, None].expand(2, 9, 2, 3) for v in levels.values())
    )
    losses = task.losses(output, Batch(*(torch.zeros(2),) * 3, [], [], label_map))

    studied = {UNLABELLED: 2 * 1728, CAR: 2 * 768, PERSON: 2 * 576, BIKE: 0, CONE: 90}
    total = sum(studied.values())
    weights = {label: 1 / math.log(1.02 + count / total) for label, count in studied.items()}
    if weighting == "none":
        weights = dict.fromkeys(studied, 1.0)
    assert float(losses["segmentation"]) == pytest.approx(mean_cost(levels["logits"], counts, weights), rel=1e-4)
    auxiliary = mean_cost(levels["auxiliary"], counts, weights)
    assert float(losses["auxiliary"]) == pytest.approx(0.4 * auxiliary, rel=1e-4)
    assert set(losses) == {"segmentation", "auxiliary"}


@pytest.mark.slow
def test_a_run_and_its_exported_engine_have_the_same_accuracy(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    """The one judges the checkpoint at network size, the other an ONNX file through the runtime's own resizing."""
    street = tmp_path / "street"
    for _ in write_street_set(street, scenes=4, seed=2, validation=3):  # two by day, one by night
        pass
    settings = (
        "optimiser.iterations=100",
        "optimiser.learning_rate=0.01",
        "optimiser.ema_decay=0.9",
        "evaluate_every=100",
        "data.mosaic_share=0",
    )
    trained = baseline.train(config_of(street, *settings), tmp_path / "run", "mdtrain")
    engine = tmp_path / "student.onnx"
    export_onnx(trained.weights, engine, str(street / "vi"), str(street / "ir"), pairs=4)
    outcome = Eval(capsys)(
        "mfnet", "--set", "street", "--data", street, "--engine", engine, "--thermal-size", "32x24", "--json"
    )
    assert outcome.code == 0, outcome.err
    of_run = json.loads((trained.folder / "result.json").read_text())["accuracy"]
    judged = json.loads(outcome.out.splitlines()[-1])
    assert of_run["street_val/mean/accuracy"] > 1.3 / len(LABEL_CLASSES)  # unlabelled everywhere would be 1 of 9
    for group, infix in (("all", ""), ("day", "/day"), ("night", "/night")):
        found = judged[group]
        assert found["mean_accuracy"] == pytest.approx(of_run[f"street_val/mean{infix}/accuracy"], abs=0.02)
        assert found["mean_iou"] == pytest.approx(of_run[f"street_val/mean{infix}/iou"], abs=0.02)
        for name in ("unlabelled", "car", "person"):
            accuracy = of_run.get(f"street_val/{name}{infix}/accuracy")
            assert found["classes"][name]["accuracy"] == (
                None if accuracy is None else pytest.approx(accuracy, abs=0.02)
            )
