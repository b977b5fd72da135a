from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from mdrun.command import run_command
from mdrun.errors import UsageError
from mdtrain.cli import mdtrain
from mdtrain.loop import Start, prepare
from mdtrain.plan import count_macs, plan
from mdtrain.recipes import baseline, teacher
from mdtrain.tasks import DivergedError
from tests.training.test_recipes import TINY, tiny
from tests.training.test_train_cli import flags


def test_macs_are_those_of_the_convolutions(tmp_path: Path) -> None:
    """Counted by hand: output places times kernel, one number a convolution."""
    session = prepare(config := tiny(tmp_path), baseline.make(config))
    counted = 0

    def hook(module: nn.Module, _: object, output: torch.Tensor) -> None:
        nonlocal counted
        assert isinstance(module, nn.Conv2d)
        counted += output[0].numel() * module.weight[0].numel()

    for part in session.state.average.modules():
        if isinstance(part, nn.Conv2d):
            part.register_forward_hook(hook)
    width, height = config.model.visible
    with torch.no_grad():
        session.state.average(torch.zeros(1, 3, height, width), torch.zeros(1, 1, 24, 32))
    by_hand = counted
    assert count_macs(session) == by_hand


def test_a_plan_measures_and_leaves_the_data_and_folder_alone(tmp_path: Path) -> None:
    config = tiny(tmp_path)
    found = plan(config, baseline.make(config), tmp_path / "run")
    assert (found.pairs, found.validation_pairs, found.iterations) == (4, 2, 4)
    assert found.epochs == 2.0
    assert found.minutes * 60 > 4 * found.seconds_per_iteration > 0
    assert found.memory_mb > 50
    assert {p.name for p in tmp_path.iterdir()} == {"data"}


def test_dry_run_from_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    tiny(tmp_path)
    arguments = ["train", "baseline", "--data", "data", "--output", "run", "--dry-run", *flags(*TINY)]
    assert run_command(mdtrain, "mdtrain", arguments) == 0
    assert "multiply-accumulates" in capfd.readouterr().out
    assert not (tmp_path / "run").exists()
    assert run_command(mdtrain, "mdtrain", [*arguments[:3], "nowhere", *arguments[4:]]) == 4


def test_a_dry_run_keeps_no_teacher_outputs(tmp_path: Path) -> None:
    weights = teacher.train(tiny(tmp_path, "optimiser.iterations=1"), tmp_path / "teacher", "mdtrain").weights
    arguments = ["train", "distill", "--data", str(tmp_path / "data"), "--teacher", str(weights), "--dry-run"]
    cache = flags("distill.inherit=false", f"distill.cache={tmp_path / 'cache'}")
    assert run_command(mdtrain, "mdtrain", [*arguments, "--output", str(tmp_path / "run"), *flags(*TINY), *cache]) == 0
    assert not (tmp_path / "cache").exists()


def test_a_dry_run_fails_at_the_folder_where_the_run_would(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """All before the data are read, which are not there."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "file").touch()
    checkpoint = tmp_path / "held" / "checkpoints" / "last.ckpt"
    checkpoint.parent.mkdir(parents=True)
    checkpoint.touch()
    for more, code, said in (
        (["--output", "held"], 2, "held: holds a run already; pass --resume"),
        (["--output", "new", "--resume"], 2, "new: no checkpoints/last.ckpt to resume from"),
        (["--output", "file"], 6, "file: cannot write a folder there"),
        (["--output", "held", "--resume"], 3, "not a readable checkpoint"),
    ):
        assert run_command(mdtrain, "mdtrain", ["train", "baseline", "--dry-run", *flags(*TINY), *more]) == code
        assert said in capfd.readouterr().err
    assert {path.name for path in tmp_path.iterdir()} == {"file", "held"}


def test_a_plan_of_a_continued_run_counts_what_is_left(tmp_path: Path) -> None:
    run = baseline.train(tiny(tmp_path), tmp_path / "run", "mdtrain").folder
    config = tiny(tmp_path)
    assert plan(config, baseline.make(config), run, Start(resume=True)).minutes == 0
    other = tiny(tmp_path, "seed=1")
    with pytest.raises(UsageError, match="seed was 0, is 1"):
        plan(other, baseline.make(other), run, Start(resume=True))


def test_a_plan_that_diverges_names_no_file(tmp_path: Path) -> None:
    """There is none: a plan keeps nothing."""
    wild = ("optimiser.name=sgd", "optimiser.learning_rate=1e20", "optimiser.warmup=0", "optimiser.clip_norm=1e30")
    config = tiny(tmp_path, *wild)
    with pytest.raises(DivergedError, match=r"not finite \(.*\); lower optimiser\.learning_rate"):
        plan(config, baseline.make(config), tmp_path / "run")
