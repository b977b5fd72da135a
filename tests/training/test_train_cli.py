"""What `mdtrain train` and `mdtrain street` say to wrong input: one line, a documented exit code, nothing left."""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path

import cv2
import numpy as np
import pytest
import torch

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
        (["train", "teacher", "--output", "run", "--iterations", "-1"], 2, "--iterations"),
        (["train", "teacher", "--output", "run", "--seed", "-1"], 2, "--seed"),
        (["sweep", "fusion", "--output", "run", "--iterations", "0"], 2, "--iterations"),
        (["train", "baseline", "--output", "run", "--set", "model.visible=[0,0]"], 2, "model.visible.0 (--set)"),
        (["train", "baseline", "--output", "run", "--resume", "--start", "w"], 2, "got --resume with --start"),
        (["train", "teacher", "--output", "run", "--resume", "--backbone-weights", "w"], 2, "--backbone-weights"),
        (
            ["train", "teacher", "--output", "run", "--start", "a", "--backbone-weights", "b"],
            2,
            "got --start with",
        ),
        (["train", "baseline", "--output", "run", "--set", f"model.widths={[10**13] * 4}"], 2, "GiB of memory at once"),
        (["train", "baseline", "--output", "run", "--set", f"model.widths={[10**18] * 4}"], 2, "than can be counted"),
        (["train", "baseline", "--output", "file"], 6, "file"),  # found before the data are read, which are not there
        (["train", "baseline", "--output", "file/run"], 6, "file"),
        (["train", "baseline", "--output", "/proc/run"], 6, "/proc/run"),
        (["street", "--output", "file"], 6, "file"),
        (["street", "--output", "/proc/run"], 6, "/proc/run"),
        (["sweep", "fusion", "--output", "file"], 6, "file"),
        (["report", "paper", "--runs", ".", "--output", "file/report.md"], 6, "file"),
        (["report", "paper", "--runs", ".", "--output", "folder"], 6, "is a folder"),
        (["data", "check", "msrs", "--sheet", "file/sheet.png"], 6, "file"),
        (["eval", "robustness", "--data", "msrs", "--engine", "none.onnx", "--plot", "folder"], 6, "is a folder"),
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
    (tmp_path / "file").write_text("in the way")
    (tmp_path / "folder").mkdir()
    assert run_command(mdtrain, "mdtrain", arguments) == code
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith(("mdtrain: error:", "mdtrain eval: error:"))
    assert named in line
    assert {path.name for path in tmp_path.iterdir()} == {"file", "folder"}


def empty_validation(root: Path) -> None:
    (root / "val.txt").write_text("")


def swapped(root: Path) -> None:
    (root / "vi").rename(root / "keep")
    (root / "ir").rename(root / "vi")
    (root / "keep").rename(root / "ir")


def cut(root: Path) -> None:
    for path in (root / "ir").glob("*.jpg"):
        path.write_bytes(path.read_bytes()[:900])


def black(root: Path) -> None:
    for path in (root / "vi").glob("*.jpg"):
        cv2.imwrite(str(path), np.zeros((48, 64, 3), np.uint8))


@pytest.mark.parametrize(
    ("damage", "code", "named"),
    [
        (black, 5, "its visible images are black"),
        (empty_validation, 4, "names no pairs"),
        (swapped, 5, "thermal image is coloured"),
        (cut, 4, "truncated"),
    ],
)
def test_no_training_starts_on_damaged_data(
    damage: Callable[[Path], None],
    code: int,
    named: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    damage(write_msrs(tmp_path / "data" / "msrs"))
    arguments = ["train", "baseline", "--data", "data", "--output", "run", *flags(*TINY)]
    assert run_command(mdtrain, "mdtrain", arguments) == code
    (line,) = capfd.readouterr().err.splitlines()
    assert named in line
    assert not (tmp_path / "run").exists()


@pytest.mark.skipif(torch.cuda.is_available(), reason="has a CUDA device")
def test_an_accelerator_that_is_not_there(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    write_msrs(tmp_path / "data" / "msrs")
    arguments = ["train", "baseline", "--data", "data", "--output", "run", *flags(*TINY, "accelerator=cuda")]
    assert run_command(mdtrain, "mdtrain", arguments) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert "no CUDA device here" in line
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
    mine = ("precision=bf16-mixed", "evaluate_every=1")
    overrides = flags(*(pair for pair in TINY if "iterations" not in pair), *mine)
    assert run_command(mdtrain, "mdtrain", [*arguments, *overrides]) == 0
    said = capfd.readouterr()
    assert "person" in said.out
    *others, first, last = said.err.splitlines()
    # Lightning keeps quiet; the line is ours, on processors without bfloat16
    assert all("precision=bf16-mixed is emulated here" in line for line in others)
    stands = r"iteration {} of 2: loss \d+\.\d{{3}}(, person ap50 [01]\.\d\d)?"
    assert re.fullmatch(stands.format(1) + r", about \d+ minutes left", first)  # a file of it is not silent to the end
    assert re.fullmatch(stands.format(2), last)
    assert (tmp_path / "run" / "weights.safetensors").exists()
    assert run_command(mdtrain, "mdtrain", [*arguments, *overrides]) == 2
    assert "--resume" in capfd.readouterr().err
