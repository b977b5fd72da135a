"""One class a pair: reader, measure, and real short trainings of classifiers."""

from __future__ import annotations

import json
import math
from pathlib import Path

import pytest
import torch
from torch import nn

from mdrun.command import run_command
from mdrun.errors import DataError, SourceError, UsageError
from mdtrain import loop
from mdtrain.build import build_student, load_trained
from mdtrain.cli import mdtrain
from mdtrain.config import Config, load_config
from mdtrain.contract import draft_manifest
from mdtrain.data.augment import Sizes, augment, mosaic
from mdtrain.data.batches import TrainingBatches, collate
from mdtrain.data.check import check_set, draw_sheet
from mdtrain.data.sets import read_set
from mdtrain.data.sets.folders import read_folders, write_lists
from mdtrain.metrics.classes import NONE, class_scores
from mdtrain.models.classifier import Classes, GlobalPooling
from mdtrain.recipes import baseline, distill, quantise, teacher
from mdtrain.tasks import make_task
from tests.training.test_recipes import TINY, tiny
from tests.training.test_train_cli import flags
from tests.training.tree import write_class_folders, write_msrs

CLASSIFY = (
    *(setting for setting in TINY if "sets" not in setting),
    "task=classify",
    "data.sets=[folders]",
    "data.validation=folders",
    "data.classes=[cold,warm]",
    "data.mosaic_share=0",
)
SIZES = Sizes((128, 96), (32, 24))


def config_of(root: Path, *more: str) -> Config:
    """A tiny run on `root/folders`."""
    return load_config(None, (*CLASSIFY, f"data.root={root}", *more))


@pytest.fixture(scope="module")
def root(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("classes")
    write_lists(write_class_folders(folder / "folders", 8), 0.25, seed=0)
    return folder


def test_the_reader_follows_its_lists(tmp_path: Path) -> None:
    write_class_folders(tmp_path, 2)
    (tmp_path / "train.txt").write_text("warm/001\ncold/000.png\n\n")
    found = read_folders(tmp_path, "train")
    assert [(record.name, record.class_name, record.night) for record in found] == [
        ("warm/001", "warm", None),
        ("cold/000", "cold", None),
    ]
    assert found[0].visible_file.path == tmp_path / "visible" / "warm" / "001.png"
    assert found[0].thermal_file.path == tmp_path / "thermal" / "warm" / "001.jpg"  # another ending
    assert not len(found[0].boxes)


@pytest.mark.parametrize(
    ("line", "error", "words"),
    [
        ("001", DataError, "a line is '001', wanted CLASS/NAME"),
        ("warm/a/001", DataError, "wanted CLASS/NAME"),
        ("hot/001", SourceError, "names hot/001, and .*visible has no such file"),
        ("warm/900", SourceError, "names warm/900"),
    ],
)
def test_lines_that_name_no_pair(line: str, error: type[Exception], words: str, tmp_path: Path) -> None:
    write_class_folders(tmp_path, 2)
    (tmp_path / "train.txt").write_text(f"{line}\n")
    with pytest.raises(error, match=words) as caught:
        read_folders(tmp_path, "train")
    assert "\n" not in str(caught.value)


def test_without_lists_the_command_that_writes_them_is_named(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match=r"`mdtrain data split .*` writes both lists"):
        read_folders(write_class_folders(tmp_path, 2), "train")


def test_the_split_takes_the_same_share_of_each_class(tmp_path: Path) -> None:
    write_class_folders(tmp_path, 8)
    (tmp_path / "visible" / "cold" / "007.png").unlink()  # no pair any more
    lists = write_lists(tmp_path, 0.25, seed=3)
    counts = {
        split: [sum(kind in name for name in names) for kind in ("cold", "warm")] for split, names in lists.items()
    }
    assert counts == {"train": [5, 6], "val": [2, 2]}
    assert not set(lists["train"]) & set(lists["val"])
    assert [record.name for record in read_folders(tmp_path, "val")] == lists["val"]
    with pytest.raises(UsageError, match=r"holds train\.txt already"):
        write_lists(tmp_path, 0.25, seed=3)
    for split in lists:
        (tmp_path / f"{split}.txt").unlink()
    assert write_lists(tmp_path, 0.25, seed=3) == lists
    for split in lists:
        (tmp_path / f"{split}.txt").unlink()
    assert write_lists(tmp_path, 0.25, seed=4) != lists


def test_a_class_of_one_pair_cannot_be_split(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="its class cold has one pair; wanted 2 of each class"):
        write_lists(write_class_folders(tmp_path, 1), 0.5, seed=0)
    with pytest.raises(SourceError, match="holds no pairs"):
        write_lists(tmp_path / "empty", 0.5, seed=0)


def test_sets_with_a_time_of_day_have_two_classes(tmp_path: Path) -> None:
    records = read_set("msrs", write_msrs(tmp_path), "train")
    assert [record.class_name for record in records] == ["day", "night", "day", "night"]
    assert {record.label for record in records} == {None}


def test_a_sample_keeps_its_class_and_a_mosaic_has_none(root: Path) -> None:
    import numpy as np

    records = read_folders(root / "folders", "train")
    rng = np.random.default_rng(0)
    samples = [augment(records[0], SIZES, rng), augment(records[-1], SIZES, rng), mosaic(records[:4], SIZES, rng)]
    batch = collate(samples, torch.device("cpu"))
    assert list(batch.class_names) == [records[0].label, records[-1].label, None]
    assert list(batch.first(1).class_names) == [records[0].label]
    batches = TrainingBatches(records, SIZES, 4, 0, mosaic_until=0, mosaic_share=0.0)
    assert {sample.class_name for iteration in range(4) for sample in batches.samples(iteration)} == {"cold", "warm"}


def test_accuracies_by_hand() -> None:
    scores = class_scores([0, 0, 0, 1, 1], [0, 0, 1, 1, NONE], ["a", "b", "c"])
    assert scores["overall"] == pytest.approx(3 / 5)
    assert scores["a"] == pytest.approx(2 / 3)
    assert scores["b"] == 0.5
    assert math.isnan(scores["c"])
    assert scores["mean"] == pytest.approx((2 / 3 + 1 / 2) / 2)  # of the classes that occur
    assert all(math.isnan(value) for value in class_scores([], [], ["a", "b"]).values())


def test_pooling_is_the_mean_of_the_last_map() -> None:
    first, last = torch.rand(2, 4, 6, 8), torch.rand(2, 5, 3, 4)
    torch.testing.assert_close(GlobalPooling()((first, last)), nn.functional.adaptive_avg_pool2d(last, 1).flatten(1))


@pytest.mark.parametrize(
    ("settings", "words"),
    [
        (("data.classes=[warm]",), r"data\.classes \(--set\) is \['warm'\], wanted 2 or more with task=classify"),
        (("data.classes=[warm,warm]",), "wanted each name once"),
        (("data.classes=[warm,a/b]",), "wanted names of folders"),
        (("data.classes=[warm,mean]",), "other than mean and overall"),
        (("data.mosaic_share=0.4",), "wanted 0 with task=classify: a mosaic of four pairs has no class"),
    ],
)
def test_configurations_that_cannot_classify(settings: tuple[str, ...], words: str, tmp_path: Path) -> None:
    with pytest.raises(UsageError, match=words) as caught:
        config_of(tmp_path, *settings)
    assert "\n" not in str(caught.value)


def test_pairs_of_other_classes_and_classes_without_pairs(root: Path, tmp_path: Path) -> None:
    with pytest.raises(DataError, match=r"warm/\d+\.png: its class is warm, data\.classes are cold, hot"):
        baseline.train(config_of(root, "data.classes=[cold,hot]"), tmp_path / "run", "mdtrain")
    with pytest.raises(DataError, match="no training pair is of the class hot"):
        baseline.train(config_of(root, "data.classes=[cold,warm,hot]"), tmp_path / "run", "mdtrain")
    assert not (tmp_path / "run").exists()


def test_it_learns_and_says_what_it_has_learnt(root: Path, tmp_path: Path) -> None:
    """Sixty small steps: every pair right, where the first step knows nothing."""
    settings = (
        "optimiser.learning_rate=0.003",
        "optimiser.iterations=60",
        "evaluate_every=60",
        "optimiser.ema_decay=0.9",
    )
    config = config_of(root, *settings)
    session = loop.prepare(config, baseline.make(config))
    assert session.step(next(session.draw(1)), tmp_path)["classification"] == pytest.approx(math.log(2), rel=0.1)
    run = baseline.train(config, tmp_path / "run", "mdtrain")
    scores = run.accuracy.scores
    assert (scores["mean/accuracy"], scores["overall/accuracy"], scores["warm/accuracy"]) == (1, 1, 1)
    assert math.isnan(scores["mean/night/accuracy"])  # these pairs know no time
    assert set(scores) >= {name for row in run.task.rows for name in run.task.row_measures(row)}
    trained = load_trained(run.weights, "student")
    manifest = draft_manifest(trained.config, trained.model.state_dict(), trained.facts)
    assert (manifest.task, manifest.classes) == ("classify", ["cold", "warm"])
    assert {name: spec.shape for name, spec in manifest.outputs.items()} == {
        "scores": [1, 2],
        "classes": [1, 2],
        "energy": [1],
    }
    assert manifest.thresholds.report == 0
    assert manifest.energy is not None
    assert manifest.energy["fp32"] == run.accuracy.energy_threshold
    assert manifest.origin.accuracy["folders_val/overall/accuracy"] == 1
    assert manifest.origin.licence == "your own pairs: your terms"


def test_day_and_night_of_a_street_set(tmp_path: Path) -> None:
    settings = ("task=classify", "data.classes=[day,night]", "data.mosaic_share=0", "optimiser.iterations=1")
    run = baseline.train(tiny(tmp_path, *settings), tmp_path / "run", "mdtrain")
    trained = load_trained(run.weights)
    manifest = draft_manifest(trained.config, trained.model.state_dict(), trained.facts)
    assert manifest.origin.data == ["MSRS street pairs, train.txt (class labels)"]
    assert 0 <= run.accuracy.scores["mean/night/accuracy"] <= 1


@pytest.mark.parametrize("fusion", ["gaff", "addition", "decision"])
def test_every_fusion_stage_trains(fusion: str, root: Path, tmp_path: Path) -> None:
    run = teacher.train(config_of(root, f"model.fusion={fusion}", "optimiser.iterations=1"), tmp_path, "mdtrain")
    assert load_trained(run.weights, "teacher").config.task == "classify"


@pytest.mark.parametrize(
    "settings", [("distill.inherit=true",), ("distill.inherit=false", "distill.semantic_loss=mse")]
)
def test_teacher_then_student_then_int8(settings: tuple[str, ...], root: Path, tmp_path: Path) -> None:
    short = ("optimiser.iterations=2", "evaluate_every=2")
    taught = teacher.train(config_of(root, *short), tmp_path / "teacher", "mdtrain").weights
    config, recipe = distill.make(config_of(root, *short, *settings), taught)
    session = loop.prepare(config, recipe)
    values = session.step(next(session.draw(1)), tmp_path)
    assert set(values) == {"classification", "attention", "semantic", "loss", "gradient_norm"}
    run = loop.run(config, recipe, tmp_path / "student", "mdtrain")
    assert "teacher_sha256" in json.loads((run.folder / "result.json").read_text())
    tuned = quantise.train(run.weights, ("optimiser.iterations=1",), None, tmp_path / "int8", "mdtrain")
    assert load_trained(tuned.weights, "student").config.quantise is not None


def test_a_teacher_of_other_classes_or_another_task_is_refused(root: Path, tmp_path: Path) -> None:
    taught = teacher.train(config_of(root, "optimiser.iterations=1"), tmp_path / "teacher", "mdtrain").weights
    with pytest.raises(
        UsageError, match=r"data\.classes=\['warm', 'cold'\], its teacher \['cold', 'warm'\]; give both"
    ):
        distill.make(config_of(root, "data.classes=[warm,cold]"), taught)
    with pytest.raises(UsageError, match="task=detect, its teacher task=classify"):
        distill.make(tiny(tmp_path), taught)


def test_other_backbone_and_decision_level_give_one_row_a_pair(root: Path) -> None:
    student = build_student(config_of(root, "model.backbone=vgg16")).eval()
    output = student(torch.rand(3, 3, 96, 128), torch.rand(3, 1, 24, 32)).output
    assert isinstance(output, Classes)
    assert output.logits.shape == (3, 2)
    mean = output.mean(Classes(torch.zeros(3, 2)))
    torch.testing.assert_close(mean.logits, output.logits / 2)
    assert make_task(config_of(root)).foreground(None) is None  # type: ignore[arg-type]  # it looks at nothing


def call(capsys: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = run_command(mdtrain, "mdtrain", list(arguments))
    return code, *capsys.readouterr()


def test_commands(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    data = write_class_folders(tmp_path / "folders", 4)
    code, out, _ = call(capsys, "data", "split", str(data), "--share", "0.25", "--seed", "1")
    assert (code, out) == (0, f"{data}: train.txt 6 pairs, val.txt 2 pairs\n")
    code, out, _ = call(capsys, "data", "check", str(data))
    assert code == 0
    assert "cold 3, warm 3" in out
    settings = [setting for setting in CLASSIFY if not setting.startswith("task=")]
    arguments = ["train", "baseline", "--task", "classify", "--data", str(tmp_path), "--output", str(tmp_path / "run")]
    code, out, err = call(capsys, *arguments, *flags(*settings), "--dry-run")
    assert (code, err) == (0, "")
    assert "6 to learn from, 2 to validate" in out
    assert not (tmp_path / "run").exists()
    code, out, _ = call(capsys, *arguments, *flags(*settings))
    assert code == 0
    for words in ("accuracy", "mean", "overall", "cold", "warm"):
        assert words in out
    code, out, err = call(capsys, *arguments, "--config", "paper")
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert "--config paper has no settings for --task classify" in err


def test_a_sheet_of_the_set_shows_its_classes(root: Path, tmp_path: Path) -> None:
    report, usable = check_set(read_folders(root / "folders", "train"), (128, 96))
    assert report.classes == {"cold": 6, "warm": 6}
    draw_sheet(usable, "folders train", tmp_path / "sheet.png")
    assert (tmp_path / "sheet.png").stat().st_size > 0


@pytest.mark.parametrize("recipe", ["teacher", "student"])
def test_the_shipped_configurations_are_sound(recipe: str) -> None:
    from mdtrain.commands.train import config_file

    config = load_config(config_file(recipe, "classify"))
    assert (config.task, config.data.classes, config.data.validation) == ("classify", ["day", "night"], ["msrs"])
