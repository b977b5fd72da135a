"""Real short trainings of segmenters on a few drawn scenes: they learn, distil, resume and leave usable weights."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from torch import nn

from mdrun.command import run_command
from mdrun.errors import DataError, UsageError
from mdtrain import loop
from mdtrain.build import load_trained
from mdtrain.cli import mdtrain
from mdtrain.config import Config, load_config
from mdtrain.contract import draft_manifest
from mdtrain.data.batches import Batch
from mdtrain.data.records import LABEL_CLASSES
from mdtrain.data.street_set import write_street_set
from mdtrain.loop import Start
from mdtrain.models.streams import Prediction
from mdtrain.recipes import baseline, distill, teacher
from mdtrain.tasks import Evaluation
from tests.training.test_recipes import TINY, tiny
from tests.training.test_train_cli import flags
from tests.training.tree import write_mfnet

SEGMENT = (
    *(setting for setting in TINY if "sets" not in setting),
    "task=segment",
    "model.decoder=16",
    "data.sets=[]",
    "data.validation=street",
    "optimiser.class_weights=enet",
)


@pytest.fixture(scope="module")
def street(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("street")
    for _ in write_street_set(folder, scenes=4, seed=3, validation=2):
        pass
    return folder


def config_of(street: Path, *more: str) -> Config:
    return load_config(None, (*SEGMENT, f"data.street={street}", *more))


@pytest.mark.slow
def test_a_segmenter_learns(street: Path, tmp_path: Path) -> None:
    """A hundred small steps on four scenes."""
    settings = ("optimiser.learning_rate=0.003", "data.mosaic_share=0", "optimiser.class_weights=none")
    config = config_of(street, "optimiser.iterations=100", *settings)
    session = loop.prepare(config, baseline.make(config))
    steps = [session.step(batch, tmp_path) for batch in session.draw(100)]
    assert steps[0]["segmentation"] == pytest.approx(math.log(9), rel=0.1)
    assert steps[0]["auxiliary"] == pytest.approx(0.4 * math.log(9), rel=0.1)
    assert sum(step["segmentation"] for step in steps[-20:]) / 20 < 0.6 * math.log(9)


def test_a_killed_run_continues_to_the_same_bits(street: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Dropout draws random numbers: a resumed run draws the same."""
    config = config_of(street)
    whole = baseline.train(config, tmp_path / "whole", "mdtrain")
    validate, calls = loop.Session.validate, []

    def killed(session: loop.Session) -> Evaluation:
        calls.append(1)
        if len(calls) == 2:
            raise KeyboardInterrupt
        return validate(session)

    monkeypatch.setattr(loop.Session, "validate", killed)
    with pytest.raises(KeyboardInterrupt):
        baseline.train(config, tmp_path / "killed", "mdtrain")
    monkeypatch.undo()
    torch.rand(7)  # whatever else has drawn from the global generator in between
    continued = baseline.train(config, tmp_path / "killed", "mdtrain", start=Start(resume=True))
    first, second = (load_trained(run.weights).model.state_dict() for run in (whole, continued))
    assert all(torch.equal(first[name], second[name]) for name in first)


@pytest.mark.parametrize("fusion", ["gaff", "addition", "decision"])
def test_every_fusion_stage_trains(fusion: str, street: Path, tmp_path: Path) -> None:
    run = teacher.train(config_of(street, f"model.fusion={fusion}", "optimiser.iterations=1"), tmp_path, "mdtrain")
    assert load_trained(run.weights, "teacher").config.task == "segment"


@pytest.mark.parametrize("inherit", ["true", "false"])
def test_teacher_then_student(inherit: str, street: Path, tmp_path: Path) -> None:
    settings = ("optimiser.iterations=2", "evaluate_every=2")
    taught = teacher.train(config_of(street, *settings), tmp_path / "teacher", "mdtrain")
    config = config_of(street, *settings, f"distill.inherit={inherit}")
    run = distill.train(config, taught.weights, tmp_path / "student", "mdtrain")
    accuracy = json.loads((run.folder / "result.json").read_text())["accuracy"]
    assert 0 <= accuracy["street_val/mean/accuracy"] <= 1
    assert {"street_val/mean/iou", "street_val/person/accuracy", "street_val/unlabelled/iou"} <= set(accuracy)
    trained = load_trained(run.weights, "student")
    manifest = draft_manifest(trained.config, trained.model.state_dict(), trained.facts)
    assert (manifest.task, manifest.classes) == ("segment", list(LABEL_CLASSES))
    assert manifest.outputs["labels"].shape == [1, 96, 128]


def test_a_teacher_of_another_task_or_stride_is_refused(street: Path, tmp_path: Path) -> None:
    settings = ("optimiser.iterations=1",)
    taught = teacher.train(config_of(street, *settings), tmp_path / "teacher", "mdtrain").weights
    with pytest.raises(UsageError, match="task=detect, its teacher task=segment"):
        distill.make(tiny(tmp_path), taught)
    with pytest.raises(UsageError, match="stride 8, those of the teacher 16"):
        distill.make(config_of(street, "model.output_stride=8"), taught)


def test_a_batch_that_does_not_fit_names_no_size_that_cannot_be_trained(street: Path, tmp_path: Path) -> None:
    config = config_of(street, "optimiser.batch_size=4")
    recipe = baseline.make(config)

    def losses(model: nn.Module, batch: Batch) -> tuple[Prediction, dict[str, torch.Tensor]]:
        raise torch.OutOfMemoryError("CUDA out of memory.")

    with pytest.raises(UsageError, match="take a smaller one, or a smaller"):
        loop.run(config, recipe._replace(losses=losses), tmp_path / "run", "mdtrain")


def test_pairs_without_label_maps_are_refused(tmp_path: Path) -> None:
    config = tiny(tmp_path, "task=segment", "model.decoder=16")
    with pytest.raises(DataError, match=r"vi/\S+\.jpg: has no label map"):
        baseline.train(config, tmp_path / "run", "mdtrain")
    assert not (tmp_path / "run").exists()


def test_pairs_without_a_box_are_no_detection_set(tmp_path: Path) -> None:
    write_mfnet(tmp_path / "data" / "mfnet")
    config = tiny(tmp_path, "data.sets=[mfnet]", "data.validation=mfnet")
    with pytest.raises(DataError, match=r"images/\S+\.png: neither it nor another of the \d+ pairs .* has a box"):
        baseline.train(config, tmp_path / "run", "mdtrain")


def test_the_task_has_a_flag_of_its_own(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    arguments = ["train", "baseline", "--set", "task=segment", "--output", str(tmp_path / "run")]
    assert run_command(mdtrain, "mdtrain", arguments) == 2
    assert "wanted --task" in capfd.readouterr().err


def test_a_task_without_data_names_the_way_out(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    arguments = ["train", "baseline", "--task", "segment", "--output", str(tmp_path / "run")]
    assert run_command(mdtrain, "mdtrain", arguments) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert "configuration: data.sets is [], wanted something to learn from: give scenes with --street" in line


def test_mfnet_from_the_command_line(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    write_mfnet(tmp_path / "data" / "mfnet")
    arguments = ["train", "baseline", "--task", "segment", "--data", str(tmp_path / "data")]
    small = [setting for setting in SEGMENT if "data" not in setting and "task" not in setting]
    settings = flags(*small, "data.sets=[mfnet]", "data.validation=mfnet", "optimiser.iterations=1")
    output = ["--output", str(tmp_path / "run")]
    assert run_command(mdtrain, "mdtrain", [*arguments, *settings, *output]) == 0
    table = capfd.readouterr().out
    assert "class accuracy" in table
    assert "color_cone" in table
    assert "MFNet" in " ".join(_manifest(tmp_path / "run").origin.data)


def _manifest(run: Path):  # type: ignore[no-untyped-def]  # noqa: ANN202
    trained = load_trained(run / "weights.safetensors", "student")
    return draft_manifest(trained.config, trained.model.state_dict(), trained.facts)


@pytest.mark.slow
def test_a_sweep_of_segmenters(street: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    small = [setting for setting in SEGMENT if "data" not in setting and "task" not in setting]
    arguments = ["sweep", "fusion", "--task", "segment", "--street", str(street), "--output", str(tmp_path / "sweep")]
    rows = ["--rows", "visible-only,decision-level", "--iterations", "1"]
    settings = flags(*(s for s in small if "iterations" not in s))
    assert run_command(mdtrain, "mdtrain", [*arguments, *rows, *settings]) == 0
    assert "| variant | seeds | mean/accuracy | mean/day/accuracy |" in capfd.readouterr().out
    assert json.loads((tmp_path / "sweep" / "results.json").read_text())["task"] == "segment"
    assert run_command(mdtrain, "mdtrain", ["report", "paper", "--runs", str(tmp_path)]) == 0
    report = capfd.readouterr().out
    row, blank = [line for line in report.splitlines() if line.startswith("| visible-only | 50.83 / 52.26")]
    assert row.count("/") == 4
    assert "| 1 | 1 x 2 pairs, 128x96, AdamW 0.001 | street_val |" in row
    assert "not run" in blank  # the row of the thermal sweep


@pytest.mark.parametrize(
    ("setting", "named"),
    [
        ("model.backbone=vgg16", "resnet18"),
        ("optimiser.batch_size=1", "at least 2 pairs a process"),
        ("model.output_stride=4", "output_stride"),
        ("model.widths=[8,8,16,18]", "a multiple of 4"),
        ("data.sets=[street]", "data.sets"),
        ("data.street=null", "something to learn from"),
    ],
)
def test_settings_that_no_segmenter_can_have(setting: str, named: str, street: Path) -> None:
    with pytest.raises(UsageError, match=named):
        config_of(street, setting)
