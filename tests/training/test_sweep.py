from __future__ import annotations

import errno
import json
import math
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from matplotlib import pyplot as plt

from mdrun.command import run_command
from mdtrain.cli import mdtrain
from mdtrain.config import Config, load_config
from mdtrain.loop import Recipe, RunResult, run
from mdtrain.recipes import teacher
from mdtrain.report import read_runs
from mdtrain.sweep import Row, Variant, describe_training, draw_thermal, variants, write_table
from mdtrain.tasks import DivergedError, make_task
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
    assert rows["S-M"][:3] == ("distill.semantic_loss=mse", "distill.semantic=1", "distill.attention=0")
    assert rows["none"][1:3] == ("distill.semantic=0", "distill.attention=0")
    assert set(rows) == {"none", "S-M", "S-F", "A", "S-M-A", "S-F-A"}


def test_the_ablation_has_the_thermal_camera_of_the_paper() -> None:
    """Tables 7 and 8 are at 16 times fewer pixels, whatever the configuration's camera is."""
    config = load_config(None)
    assert config.model.thermal == (160, 128)
    practical = {row.name: row for row in variants("thermal", config)}["16x-distilled"].overrides
    assert practical == ("model.thermal=[96,72]", "data.coarser_share=0")
    assert {row.overrides[3:] for row in variants("ablation", config)} == {practical}


@pytest.mark.parametrize(
    ("settings", "facts", "wanted"),
    [
        ((), {}, "3500 x 16 pairs, 384x288, AdamW 0.001"),
        (("distill.inherit=true", "distill.temperature=mean"), {}, "3500 x 16 pairs, 384x288, AdamW 0.001"),  # native
        (
            ("optimiser.name=sgd", "optimiser.learning_rate=0.01"),
            {"backbone_sha256": "a", "teacher_sha256": "b"},
            "3500 x 16 pairs, 384x288, SGD 0.01, from ImageNet",
        ),
        (
            ("distill.inherit=true", "distill.temperature=mean"),
            {"teacher_sha256": "b"},
            "3500 x 16 pairs, 384x288, AdamW 0.001, from the teacher, temperature mean",
        ),
    ],
)
def test_how_a_row_was_trained(settings: tuple[str, ...], facts: dict[str, str], wanted: str) -> None:
    assert describe_training(load_config(None, settings).model_dump(mode="json"), facts) == wanted


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
    assert {row["trained"] for row in written(tmp_path)} == {"1 x 2 pairs, 128x96, AdamW 0.001"}
    weights = sorted((tmp_path / "fusion").glob("*/seed-*/weights.safetensors"))
    assert len(weights) == 12
    times = [path.stat().st_mtime_ns for path in weights]
    assert sweep("fusion", tmp_path, *more) == 0
    assert capfd.readouterr().out == table
    assert [path.stat().st_mtime_ns for path in weights] == times  # only read again
    results = (tmp_path / "fusion" / "results.json").read_text()
    assert sweep("fusion", tmp_path, "--iterations", "1", "--rows", "image-level, thermal-only") == 0
    assert capfd.readouterr().out == table  # a command for less leaves what others have made
    assert (tmp_path / "fusion" / "results.json").read_text() == results


def one(tmp_path: Path, name: str, *more: str) -> int:
    """One row of the fusion table, after one iteration."""
    tiny(tmp_path)
    return sweep("fusion", tmp_path, "--iterations", "1", "--rows", name, *more)


def written(tmp_path: Path) -> list[dict[str, Any]]:
    rows: list[dict[str, Any]] = json.loads((tmp_path / "fusion" / "results.json").read_text())["rows"]
    return rows


def rows_of(tmp_path: Path) -> list[str]:
    return [row["variant"] for row in written(tmp_path)]


def test_machines_share_a_sweep_row_by_row(tmp_path: Path) -> None:
    assert one(tmp_path, "thermal-only") == 0
    assert one(tmp_path, "visible-only", "--seeds", "4") == 0
    assert rows_of(tmp_path) == ["visible-only", "thermal-only"]


def test_a_folder_has_one_table(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Another sweep, or the same of another task, would replace it; a damaged one is written again."""
    assert one(tmp_path, "thermal-only") == 0
    arguments = ["--data", str(tmp_path / "data"), "--output", str(tmp_path / "fusion"), "--iterations", "1"]
    for more in (
        ["thermal", "--rows", "16x-native"],
        ["fusion", "--task", "segment", "--rows", "image-level", "--set", "data.validation=mfnet"],
    ):
        capfd.readouterr()
        assert run_command(mdtrain, "mdtrain", ["sweep", *more, *arguments, *flags(*SHORT)]) == 2
        (line,) = capfd.readouterr().err.splitlines()
        assert "is the table of another sweep (task detect: thermal-only); name another --output" in line
    assert rows_of(tmp_path) == ["thermal-only"]
    (tmp_path / "fusion" / "results.json").write_text("torn")
    assert one(tmp_path, "thermal-only") == 0
    assert rows_of(tmp_path) == ["thermal-only"]


def test_runs_of_another_configuration_do_not_join_the_table(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Found before the work, and where this command would not train the row."""
    assert one(tmp_path, "thermal-only") == 0
    capfd.readouterr()
    for key, said in (
        ("optimiser.iterations=2", "had 1 iterations, the sweep asks for 2; name another --output"),
        ("model.neck=8", "model.neck was 16, is 8; name another --output"),
    ):
        arguments = ["sweep", "fusion", "--data", str(tmp_path / "data"), "--output", str(tmp_path / "fusion")]
        settings = flags(*SHORT, "optimiser.iterations=1", key)
        assert run_command(mdtrain, "mdtrain", [*arguments, "--rows", "visible-only", *settings]) == 2
        (line,) = capfd.readouterr().err.splitlines()
        assert said in line
    assert not (tmp_path / "fusion" / "visible-only").exists()
    assert rows_of(tmp_path) == ["thermal-only"]


@pytest.mark.parametrize("content", ["", '{"accuracy": {"msrs/per', "[]", '{"accuracy": {"msrs/person/ap50": null}}'])
def test_a_result_that_cannot_be_read(content: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """It is written again where there is a checkpoint to do it from."""
    assert one(tmp_path, "thermal-only") == 0
    place = tmp_path / "fusion" / "thermal-only" / "seed-0"
    result = (place / "result.json").read_text()
    capfd.readouterr()
    (place / "result.json").write_text(content)
    assert one(tmp_path, "thermal-only") == 0
    assert json.loads((place / "result.json").read_text())["accuracy"] == json.loads(result)["accuracy"]
    capfd.readouterr()
    (place / "result.json").write_text(content)
    (place / "checkpoints" / "last.ckpt").unlink()
    assert one(tmp_path, "thermal-only") == 4
    (line,) = capfd.readouterr().err.splitlines()
    assert f"{place / 'result.json'}: not the result of a run" in line
    assert "remove the file" in line


def test_a_full_disk_leaves_no_half_result(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    write = Path.write_text

    def fill(path: Path, text: str, *more: Any) -> int:
        if "result" not in path.name:
            return write(path, text, *more)
        path.touch()
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    with monkeypatch.context() as patch:
        patch.setattr(Path, "write_text", fill)
        assert one(tmp_path, "thermal-only") == 6
    assert "result.json: cannot be written (No space left on device); make room" in capfd.readouterr().err
    assert not list((tmp_path / "fusion" / "thermal-only" / "seed-0").glob("*result*"))
    assert one(tmp_path, "thermal-only") == 0


def test_a_run_that_diverges_does_not_end_the_others(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def diverge(config: Config, recipe: Recipe, folder: Path, *more: Any) -> RunResult:
        if folder.parent.name == "visible-only":
            raise DivergedError("iteration 3: not finite")
        return run(config, recipe, folder, *more)

    monkeypatch.setattr("mdtrain.sweep.run", diverge)
    assert one(tmp_path, "visible-only, thermal-only") == DivergedError.exit_code == 1
    told, *_, error = capfd.readouterr().err.splitlines()
    assert "warning: visible-only/seed-0: iteration 3: not finite; the sweep goes on" in told
    assert "error: 1 of 2 runs diverged (visible-only/seed-0)" in error
    assert rows_of(tmp_path) == ["thermal-only"]


def test_a_killed_sweep_has_a_table_of_what_is_finished(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def kill(config: Config, recipe: Recipe, folder: Path, *more: Any) -> RunResult:
        if folder.parent.name == "thermal-only":
            raise KeyboardInterrupt
        return run(config, recipe, folder, *more)

    monkeypatch.setattr("mdtrain.sweep.run", kill)
    assert one(tmp_path, "visible-only,thermal-only") == 130
    assert rows_of(tmp_path) == ["visible-only"]
    assert set(read_runs(tmp_path)) == {("detect", "visible-only")}


@pytest.mark.parametrize(
    ("path", "said"),
    [
        ("student.onnx", "an engine, wanted the weights of a run; name its RUN/weights.safetensors"),
        ("last.ckpt", "a checkpoint or another file of torch.save, wanted the weights of a run"),
        ("torn.safetensors", "not a readable safetensors file"),
        ("run", "is a folder, wanted a file of weights; name {folder}/run/weights.safetensors"),
        ("empty", "is a folder without weights.safetensors"),
        ("none", "no such file of weights"),
    ],
)
def test_what_is_no_teacher(path: str, said: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    tiny(tmp_path)
    for name in ("student.onnx", "torn.safetensors", "run/weights.safetensors"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b"\x08\x09torn")
    (tmp_path / "empty").mkdir()
    torch.save({"iteration": 1}, tmp_path / "last.ckpt")
    assert sweep("ablation", tmp_path, "--rows", "A", "--teacher", str(tmp_path / path)) == 3
    (line,) = capfd.readouterr().err.splitlines()
    assert f"{tmp_path / path}: {said.format(folder=tmp_path)}" in line


@pytest.mark.slow
def test_the_thermal_sweep_draws_its_curves(tmp_path: Path) -> None:
    teacher.train(tiny(tmp_path, "optimiser.iterations=1"), tmp_path / "teacher", "mdtrain")
    weights = ("--teacher", str(tmp_path / "teacher" / "weights.safetensors"))
    settings = flags("distill.inherit=false")
    assert sweep("thermal", tmp_path, "--iterations", "1", *weights, *settings) == 0
    assert (tmp_path / "thermal" / "thermal.png").read_bytes().startswith(b"\x89PNG")
    assert len(json.loads((tmp_path / "thermal" / "results.json").read_text())["rows"]) == 10


@pytest.mark.parametrize(
    ("validation", "lacking", "label", "titles"),
    [
        ("msrs", (), "AP50", ["person, day, ap50", "person, night, ap50"]),
        ("kaist", (), "miss rate, lower is better", ["day, miss rate", "night, miss rate"]),
        ("kaist", ("night/miss_rate",), "AP50", ["person, day, ap50", "person, night, ap50"]),
    ],
)
def test_the_thermal_plot_names_cameras_and_shows_miss_rates(
    validation: str,
    lacking: tuple[str, ...],
    label: str,
    titles: list[str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """By day and by night where all runs have both, as published tables do."""
    config = load_config(None, (f"data.validation={validation}", "data.sets=[roadscene]", "model.visible=[640,512]"))
    task = make_task(config)
    scores = {measure: 0.5 for measure in task.measures if measure not in lacking}
    rows = [Row(variant, [scores]) for variant in variants("thermal", config)]
    monkeypatch.setattr(plt, "close", lambda _: None)
    draw_thermal(rows, task, "cameras", tmp_path / "thermal.png")
    axes = plt.gcf().axes
    monkeypatch.undo()
    plt.close("all")
    assert label in axes[0].get_ylabel()
    assert [axis.get_title() for axis in axes] == titles
    cameras = [
        (tick, text.get_text()) for tick, text in zip(axes[0].get_xticks(), axes[0].get_xticklabels(), strict=True)
    ]
    assert sorted(cameras)[0::3] == [(80 * 64, "80x64"), (640 * 512, "640x512")]


@pytest.mark.parametrize(
    ("table", "more", "named"),
    [
        ("thermal", (), "--teacher"),
        ("fusion", ("--seeds", "1,1"), "--seeds"),
        ("fusion", ("--seeds", "a"), "--seeds"),
        ("fusion", ("--seeds", "0, 0"), "--seeds"),
        ("fusion", ("--seeds", "0,00"), "--seeds"),
        ("fusion", ("--seeds", "0,"), "--seeds"),
        ("fusion", ("--rows", "image-level,"), "--rows names an empty one, wanted some of"),
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
