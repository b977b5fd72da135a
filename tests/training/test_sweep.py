from __future__ import annotations

import json
import math
from pathlib import Path

import pytest

from mdrun.command import run_command
from mdtrain.cli import mdtrain
from mdtrain.config import load_config
from mdtrain.recipes import teacher
from mdtrain.sweep import Row, Variant, variants, write_table
from mdtrain.tasks import make_task
from tests.training.test_recipes import TINY, tiny
from tests.training.test_train_cli import flags

SHORT = tuple(pair for pair in TINY if "thermal" not in pair and "iterations" not in pair)


def test_thermal_resolutions_are_fractions_of_the_pixels() -> None:
    rows = variants("thermal", load_config(None, ("model.visible=[640,512]",)))
    pixels = {row.name: row.pixels for row in rows}
    assert pixels["full-native"] == 640 * 512
    assert pixels["16x-distilled"] == 160 * 128  # the paper's practical setting
    assert pixels["64x-native"] * 64 == pixels["full-native"]
    assert pixels["none-distilled"] == 0
    assert len(rows) == 10


def test_all_fusion_stages_see_the_same_thermal_image() -> None:
    """The paper's Table 1 is at full resolution: its image level is the first row of Table 3."""
    config = load_config(None)
    full = {row.name: row for row in variants("thermal", config)}["full-native"]
    image_level = {row.name: row for row in variants("fusion", config)}["image-level"]
    assert (image_level.recipe, image_level.overrides) == (full.recipe, full.overrides)


def test_a_row_of_another_teacher_is_not_taken_over(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    for seed in (0, 1):
        teacher.train(tiny(tmp_path, "optimiser.iterations=1", f"seed={seed}"), tmp_path / f"teacher{seed}", "mdtrain")
    more = ("--rows", "A", "--iterations", "1")
    first, second = (("--teacher", str(tmp_path / f"teacher{seed}" / "weights.safetensors")) for seed in (0, 1))
    assert sweep("ablation", tmp_path, *more, *first) == 0
    assert sweep("ablation", tmp_path, *more, *first) == 0
    assert sweep("ablation", tmp_path, *more, *second) == 2
    assert "the run has another teacher_sha256" in capfd.readouterr().err


def test_the_ablation_switches_each_loss() -> None:
    rows = {row.name: row.overrides for row in variants("ablation", load_config(None))}
    assert rows["S-M"] == ("distill.semantic_loss=mse", "distill.semantic=1", "distill.attention=0")
    assert rows["none"][1:] == ("distill.semantic=0", "distill.attention=0")
    assert set(rows) == {"none", "S-M", "S-F", "A", "S-M-A", "S-F-A"}


def test_mean_and_standard_error() -> None:
    """1, 2, 3: standard deviation 1, error 1 / sqrt 3."""
    row = Row(Variant("x", "baseline"), [{"person": v} for v in (1.0, 2.0, 3.0)])
    mean, error = row.mean("person")
    assert mean == 2.0
    assert error == pytest.approx(1 / math.sqrt(3))
    assert math.isnan(Row(row.variant, row.runs[:1]).mean("person")[1])
    assert all(math.isnan(value) for value in row.mean("car"))


def test_the_table_has_a_row_a_variant(tmp_path: Path) -> None:
    rows = [
        Row(Variant("a", "baseline"), [{"person/ap50": 0.5}]),
        Row(Variant("b", "teacher"), [{"person/ap50": 0.25}] * 2),
    ]
    lines = write_table(rows, make_task(load_config(None)), "T", tmp_path).splitlines()
    assert lines[4].startswith("| a | 1 | 0.500 |")
    assert lines[5].startswith("| b | 2 | 0.250 ± 0.000 |")
    assert {line.count("|") for line in lines[2:6]} == {lines[2].count("|")}
    assert json.loads((tmp_path / "results.json").read_text())["rows"][1]["runs"] == [{"person/ap50": 0.25}] * 2


def sweep(table: str, tmp_path: Path, *more: str) -> int:
    arguments = ["sweep", table, "--data", str(tmp_path / "data"), "--output", str(tmp_path / table), *more]
    return run_command(mdtrain, "mdtrain", [*arguments, *flags(*SHORT)])


def test_a_sweep_trains_every_variant_once(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    tiny(tmp_path)
    more = ("--iterations", "1", "--seeds", "0,3")
    assert sweep("fusion", tmp_path, *more) == 0
    table = capfd.readouterr().out
    assert "decision-level | 2" in table
    weights = sorted((tmp_path / "fusion").glob("*/seed-*/weights.safetensors"))
    assert len(weights) == 12
    times = [path.stat().st_mtime_ns for path in weights]
    assert sweep("fusion", tmp_path, *more) == 0
    assert capfd.readouterr().out == table
    assert [path.stat().st_mtime_ns for path in weights] == times  # only read again
    assert sweep("fusion", tmp_path, *more, "--rows", "image-level,thermal-only") == 0
    assert len(capfd.readouterr().out.splitlines()) == len(table.splitlines()) - 4
    assert sweep("fusion", tmp_path, "--iterations", "2", "--seeds", "0,3") == 2
    assert "had 1 iterations, the sweep asks for 2" in capfd.readouterr().err


def test_the_thermal_sweep_draws_its_curves(tmp_path: Path) -> None:
    teacher.train(tiny(tmp_path, "optimiser.iterations=1"), tmp_path / "teacher", "mdtrain")
    weights = ("--teacher", str(tmp_path / "teacher" / "weights.safetensors"))
    settings = flags("distill.inherit=false")
    assert sweep("thermal", tmp_path, "--iterations", "1", *weights, *settings) == 0
    assert (tmp_path / "thermal" / "thermal.png").read_bytes().startswith(b"\x89PNG")
    assert len(json.loads((tmp_path / "thermal" / "results.json").read_text())["rows"]) == 10


@pytest.mark.parametrize(
    ("table", "more", "named"),
    [
        ("thermal", (), "--teacher"),
        ("fusion", ("--seeds", "1,1"), "--seeds"),
        ("fusion", ("--seeds", "a"), "--seeds"),
        ("fusion", ("--set", "inputs=visible"), "the sweep itself varies"),
        ("fusion", ("--rows", "image-level,16x"), "--rows names 16x, wanted some of visible-only"),
        ("everything", (), "ablation"),
    ],
)
def test_bad_input(
    table: str, more: tuple[str, ...], named: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    tiny(tmp_path)
    assert sweep(table, tmp_path, *more) == 2
    (line,) = capfd.readouterr().err.splitlines()
    assert named in line
