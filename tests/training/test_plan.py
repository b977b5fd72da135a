from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch import nn

from mdrun.command import run_command
from mdtrain.cli import mdtrain
from mdtrain.loop import prepare
from mdtrain.plan import count_macs, plan
from mdtrain.recipes import baseline, teacher
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
    found = plan(config, baseline.make(config))
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
