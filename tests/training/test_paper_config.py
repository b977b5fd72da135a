"""The paper's settings by name: section 4.2 of Modality Distillation, one training of each task on a tiny set."""

from __future__ import annotations

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch
from torch import nn

from mdrun.command import run_command
from mdtrain.build import load_trained, sizes
from mdtrain.cli import mdtrain
from mdtrain.commands.train import config_file
from mdtrain.config import load_config
from mdtrain.data.augment import Sizes, augment, plain_sample
from mdtrain.models.resnet import ResNetStem, ResNetTop
from mdtrain.recipes import teacher
from mdtrain.state import learning_rate, make_optimiser
from tests.training.test_augment import record_with_marker
from tests.training.test_recipes import TINY, tiny
from tests.training.test_train_cli import flags
from tests.training.tree import write_kaist, write_mfnet

PAPER = Path("paper")
SMALL = (
    "model.visible=[64,64]",
    "model.thermal=[16,16]",
    "optimiser.batch_size=2",
    "optimiser.iterations=1",
    "optimiser.warmup=0",
    "model.widths=[8,8,16,24]",  # the last ones differ, as in the file of ImageNet weights: then both have a downsample
    "model.neck=16",
    "model.decoder=16",
    "precision=32-true",
)


@pytest.mark.parametrize(
    ("task", "iterations", "size", "thermal"),
    [("detect", 3500, (640, 512), (160, 128)), ("segment", 14_000, (640, 480), (160, 120))],
)
def test_the_paper_settings(task: str, iterations: int, size: tuple[int, int], thermal: tuple[int, int]) -> None:
    config = load_config(config_file("student", task, PAPER))
    assert (config.task, config.optimiser.iterations, config.optimiser.batch_size) == (task, iterations, 16)
    assert (config.model.visible, config.model.thermal) == (size, thermal)
    assert config.model.widths == (64, 128, 256, 512)
    assert (config.model.tower, config.model.anchors, config.model.output_stride) == (4, 9, 8)
    assert (config.distill.attention, config.distill.semantic) == (1, 1)
    assert (config.distill.semantic_loss, config.distill.temperature) == ("focal_mse", "sum")
    assert not config.distill.inherit
    rates = [learning_rate(iteration, config.optimiser) for iteration in (0, 250, 500, iterations)]
    assert rates == pytest.approx([1e-6, 0.5e-2 + 0.5e-6, 1e-2, 1e-6])
    assert (config.precision, config.optimiser.clip_norm, config.optimiser.ema_decay) == ("auto", 10, 0.998)


@pytest.mark.parametrize("task", ["detect", "segment"])
def test_the_paper_optimiser(task: str) -> None:
    """Mutual Guidance's: SGD with plain momentum; biases and norms do not decay."""
    optimiser = make_optimiser(nn.Linear(2, 3), load_config(config_file("student", task, PAPER)).optimiser)
    assert isinstance(optimiser, torch.optim.SGD)
    groups = [
        (len(group["params"]), group["lr"], group["momentum"], group["nesterov"], group["weight_decay"])
        for group in optimiser.param_groups
    ]
    assert groups == [(1, 1e-2, 0.9, False, 5e-4), (1, 1e-2, 0.9, False, 0.0)]


@pytest.mark.parametrize(("task", "small"), [("detect", (160, 128)), ("segment", (160, 120))])
def test_the_paper_reduces_thermal_images_bilinearly(task: str, small: tuple[int, int]) -> None:
    """Section 4.2: in every sample, learnt from or judged by."""
    of_paper, record = sizes(load_config(config_file("student", task, PAPER))), record_with_marker()
    for seed in range(5):
        sample = augment(record, of_paper, np.random.default_rng(seed))
        wanted = cv2.resize(sample.thermal_full, small, interpolation=cv2.INTER_LINEAR)
        np.testing.assert_array_equal(sample.thermal_low, wanted)
    wanted = cv2.resize(record.thermal, small, interpolation=cv2.INTER_LINEAR)
    np.testing.assert_array_equal(plain_sample(record, of_paper).thermal_low, wanted)


def test_thermal_images_are_averaged_by_default() -> None:
    record = record_with_marker()
    wanted = cv2.resize(record.thermal, (80, 64), interpolation=cv2.INTER_AREA)
    by_default = sizes(load_config(None, ("model.visible=[192,160]", "model.thermal=[80,64]")))
    assert by_default == Sizes((192, 160), (80, 64))
    np.testing.assert_array_equal(plain_sample(record, by_default).thermal_low, wanted)


@pytest.mark.parametrize("task", ["detect", "segment"])
def test_from_the_command_line(task: str, tmp_path: Path) -> None:
    """Teacher and student by the published commands, only smaller, on lists of the published names."""
    data = tmp_path / "data"
    if task == "detect":
        kaist = write_kaist(data / "kaist", "annotations_paired")
        (kaist / "imageSets" / "train.txt").rename(kaist / "imageSets" / "train-all-02.txt")
        (kaist / "imageSets" / "test-all-20.txt").write_text("set06/V000/I00001\n")
        for folder in ("images", "annotations_paired"):
            shutil.copytree(kaist / folder / "set00", kaist / folder / "set06")
    else:
        write_mfnet(data / "mfnet")
    small = ["model.visible=[64,64]", "model.thermal=[16,16]", "optimiser.batch_size=2", "optimiser.iterations=1"]
    small += [
        "optimiser.warmup=0",
        "model.widths=[8,8,16,16]",
        "model.neck=16",
        "model.decoder=16",
        "precision=32-true",
    ]
    for recipe, more in (
        ("teacher", []),
        ("distill", ["--teacher", str(tmp_path / "teacher" / "weights.safetensors")]),
    ):
        arguments = ["train", recipe, "--task", task, "--config", "paper", "--data", str(data), *more, *flags(*SMALL)]
        assert run_command(mdtrain, "mdtrain", [*arguments, "--output", str(tmp_path / recipe)]) == 0


def test_a_sweep_starts_every_run_from_imagenet(tmp_path: Path) -> None:
    """Native, two-stream and distilled: after a step of no length their streams are still those of the file."""
    write_mfnet(tmp_path / "data" / "mfnet")
    widths = (8, 8, 16, 24)
    torch.manual_seed(3)
    file = ResNetStem(3, widths).state_dict() | ResNetTop(widths).state_dict()
    torch.save(file, tmp_path / "resnet18.pth")
    common = ["--task", "segment", "--config", "paper", "--data", str(tmp_path / "data"), *flags(*SMALL)]
    common += flags("optimiser.learning_rate=1e-12")
    begin = ["--backbone-weights", str(tmp_path / "resnet18.pth")]
    fusion, ablation = tmp_path / "fusion", tmp_path / "ablation"
    rows = ["--rows", "visible-only,feature-level-gaff"]
    assert run_command(mdtrain, "mdtrain", ["sweep", "fusion", *rows, *begin, *common, "--output", str(fusion)]) == 0
    taught = fusion / "feature-level-gaff" / "seed-0" / "weights.safetensors"
    more = ["--rows", "S-F-A", "--teacher", str(taught), "--output", str(ablation)]
    assert run_command(mdtrain, "mdtrain", ["sweep", "ablation", *more, *begin, *common]) == 0
    for run, name in (
        (fusion / "visible-only", "stem.layer2.0.conv1.weight"),
        (fusion / "feature-level-gaff", "thermal.layer2.0.conv1.weight"),
        (ablation / "S-F-A", "stem.layer2.0.conv1.weight"),
    ):
        weights = load_trained(run / "seed-0" / "weights.safetensors").model.state_dict()
        torch.testing.assert_close(weights[name], file["layer2.0.conv1.weight"], rtol=0, atol=1e-9)
    # one that was killed behind its last checkpoint goes on, and is known again as a run from this file
    (ablation / "S-F-A" / "seed-0" / "result.json").unlink()
    for _ in range(2):
        assert run_command(mdtrain, "mdtrain", ["sweep", "ablation", *more, *begin, *common]) == 0


def test_a_student_cannot_start_from_both(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    tiny(tmp_path)
    weights = teacher.train(tiny(tmp_path, "optimiser.iterations=1"), tmp_path / "teacher", "mdtrain").weights
    torch.save(ResNetStem(3, (8, 8, 16, 16)).state_dict(), tmp_path / "resnet18.pth")
    arguments = ["train", "distill", "--data", str(tmp_path / "data"), "--teacher", str(weights), *flags(*TINY)]
    arguments += ["--backbone-weights", str(tmp_path / "resnet18.pth"), "--output", str(tmp_path / "run")]
    assert run_command(mdtrain, "mdtrain", arguments) == 2
    assert "--set distill.inherit=false" in capfd.readouterr().err
