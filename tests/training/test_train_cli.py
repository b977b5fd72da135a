"""What `mdtrain train` and `mdtrain street` say to wrong input: one line, a documented exit code, nothing left."""

from __future__ import annotations

from pathlib import Path

import pytest

from mdrun.command import run_command
from mdtrain.cli import mdtrain
from mdtrain.commands.train import command_line
from tests.training.test_recipes import TINY
from tests.training.tree import write_msrs


def flags(*pairs: str) -> list[str]:
    return [part for pair in pairs for part in ("--set", pair)]


@pytest.mark.parametrize(
    ("arguments", "code", "named"),
    [
        (["train", "baseline"], 2, "--output"),  # a required flag
        (["train", "nothing"], 2, "nothing"),  # an unknown recipe
        (["train", "baseline", "--output", "run", "--sed", "1"], 2, "--sed"),  # an unknown flag
        (["train", "baseline", "--output", "run", "--set", "optimiser.iteration=3"], 2, "optimiser.iteration"),
        (["train", "baseline", "--output", "run", "--config", "none.yaml"], 2, "none.yaml"),
        (["train", "baseline", "--output", "run", "--data", "nowhere"], 4, "train.txt"),  # no data
        (["train", "distill", "--output", "run", "--teacher", "none.safetensors"], 3, "none.safetensors"),
        (["train", "distill", "--output", "run"], 2, "--teacher"),
        (["train", "baseline", "--output", "run", "--start", "none.safetensors"], 3, "none.safetensors"),
        (["train", "teacher", "--output", "run", "--backbone-weights", "none.pth"], 3, "none.pth"),
        (["train", "teacher", "--output", "run", "--set", "model.size=huge"], 2, "r18-fast"),
        (["street", "--output", "run", "--scenes", "0"], 2, "--scenes"),
    ],
)
def test_bad_input(
    arguments: list[str],
    code: int,
    named: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    assert run_command(mdtrain, "mdtrain", arguments) == code
    lines = [line for line in capfd.readouterr().err.splitlines() if line.startswith("mdtrain: error:")]
    assert len(lines) == 1
    assert named in lines[0]
    assert not (tmp_path / "run").exists()


def test_the_recorded_command_names_no_folder_of_this_machine_and_no_resume() -> None:
    arguments = [
        "train",
        "baseline",
        "--data",
        "/home/me/sets/rgbt",
        "--output",
        "runs/a",
        "--set",
        "a=b c",
        "--resume",
    ]
    assert command_line(arguments) == "mdtrain train baseline --data sets/rgbt --output runs/a --set 'a=b c'"


def test_a_run_from_the_command_line(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_msrs(tmp_path / "data" / "msrs")
    arguments = ["train", "baseline", "--data", "data", "--output", "run", "--iterations", "2", "--seed", "5"]
    overrides = flags(*(pair for pair in TINY if "iterations" not in pair))
    assert run_command(mdtrain, "mdtrain", [*arguments, *overrides]) == 0
    assert "person" in capfd.readouterr().out
    assert (tmp_path / "run" / "weights.safetensors").exists()
    assert run_command(mdtrain, "mdtrain", [*arguments, *overrides]) == 2
    assert "--resume" in capfd.readouterr().err
