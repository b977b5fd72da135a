from __future__ import annotations

import json
import shutil
from pathlib import Path

import numpy as np
import pytest
from safetensors.numpy import save_file

from mdrun.command import run_command
from mdrun.errors import DataError, SourceError
from mdtrain.build import load_trained
from mdtrain.cli import mdtrain
from mdtrain.config import load_config
from mdtrain.models.weights import hash_weights
from mdtrain.paper import TABLES, TEACHER
from mdtrain.recipes import baseline, teacher
from mdtrain.report import Found, paper_report, read_runs
from mdtrain.sweep import Row, Variant, variants, write_table
from mdtrain.tasks import make_task
from tests.training.test_recipes import tiny


def test_every_row_of_a_table_is_one_of_the_sweep() -> None:
    config = load_config(None)
    for table in TABLES:
        names = {variant.name for variant in variants(table.sweep, config)}
        assert {row.variant for row in table.rows} <= names | {TEACHER, None}


def test_known_numbers_of_the_paper() -> None:
    """The two that its abstract rests on: native 10.17 and distilled 8.03 at 16 times fewer pixels."""
    third = {row.variant: row.paper[2] for row in TABLES[2].rows}
    assert third["16x-native"] == "10.17 ± 0.42"
    assert third["16x-distilled"] == "8.03 ± 0.19"
    assert [table.number for table in TABLES] == list(range(1, 9))


def test_the_runtimes_of_the_paper() -> None:
    """Its abstract: 10.97 ms of the teacher, 6.55 ms of the student; ours are told from those of others."""
    assert {row.variant: row.runtime for row in TABLES[0].rows}["feature-level-gaff"] == "10.97"
    assert {row.variant: row.runtime for row in TABLES[0].rows}["image-level"] == "6.55"
    assert [table.number for table in TABLES if table.timed] == [1, 2, 5, 6]
    others = [[row.label for row in table.rows if row.variant is None] for table in TABLES]
    assert [len(labels) for labels in others] == [0, 0, 0, 0, 10, 4, 0, 0]
    assert next(row for row in TABLES[4].rows if row.label == "MBNet").paper == ("8.28", "7.86", "8.13")


@pytest.mark.slow
def test_networks_are_timed_side_by_side(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """Those whose weights are on disk and whose runtime the paper prints; the two-stream one takes longer."""
    config = tiny(tmp_path, "optimiser.iterations=1", "model.visible=[320,256]", "model.size=slim")
    runs, task = tmp_path / "runs" / "fusion", make_task(config)
    teacher.train(config, runs / "feature-level-gaff" / "seed-0", "mdtrain")
    baseline.train(config, runs / "image-level" / "seed-0", "mdtrain")
    scores = [dict.fromkeys(task.measures, 0.5)]
    rows = [Row(Variant(name, "baseline"), scores) for name in ("feature-level-gaff", "image-level", "decision-level")]
    write_table(rows, task, "Fusion", runs)
    command = ["report", "paper", "--runs", str(tmp_path / "runs"), "--time", "--rounds", "12"]
    assert run_command(mdtrain, "mdtrain", command) == 0
    text = capfd.readouterr().out
    assert "one pair at a time, from images to head, 12 interleaved rounds a task" in text
    assert text.count(") at 320x256 |") == 3  # image level and the teacher, who stands in two tables
    first = text.partition("## Table 1")[2].partition("## Table 2")[0]
    cells = {row[0]: row[-1] for line in first.splitlines() if len(row := line.strip("| ").split(" | ")) == 9}
    assert cells["decision-level"] == cells["visible-only"] == "-"
    times = {name: float(cells[name].partition(" ")[0]) for name in ("feature-level", "image-level")}
    assert times["feature-level"] > times["image-level"] > 0
    assert "| ACF | 42.57 / 56.17 / 47.32 | - | - | - | - | - | 2730 | - |" in text


def test_rows_that_were_not_run_stay_blank() -> None:
    runs = [{"person/ap50": 0.5, "person/day/ap50": 0.6, "person/night/ap50": 0.4}]
    text = paper_report({("detect", "16x-native"): Row(Variant("16x-native", "baseline"), runs)}, "T")
    (line,) = [line for line in text.splitlines() if "60.00 / 40.00 / 50.00" in line]
    assert line == "| 16x fewer | 12.09 / 6.73 / 10.17 ± 0.42 | - | 60.00 / 40.00 / 50.00 | 1 | - | - |"  # not on KAIST
    assert text.count("not run") == 3 * (4 + 10 + 3 + 5) - 2  # two measures of boxes, one of label maps


def test_the_miss_rate_stands_beside_the_paper_where_there_is_one() -> None:
    """In every table of KAIST, and where every seed has it."""
    rates = {"miss_rate": 0.09, "day/miss_rate": 0.10, "night/miss_rate": 0.08, "person/ap50": 0.5}
    names = {("detect", row.variant) for table in TABLES for row in table.rows if row.variant}
    assert {table.number for table in TABLES if table.task == "detect"} == {1, 3, 5, 7}
    found: Found = {
        ("detect", name): Row(Variant(name, "baseline"), [rates], "kaist-paired_val", "5 x 2 pairs, 64x64")
        for _, name in names
    }
    lines = paper_report(found, "T").splitlines()
    headings = [line for line in lines if "ours: KAIST miss rate, %, lower is better" in line]
    assert len(headings) == 4
    assert all(line.count("KAIST miss rate") == 2 for line in headings)
    cells = "| 10.00 / 8.00 / 9.00 | - / - / 50.00 | 1 | 5 x 2 pairs, 64x64 | kaist-paired_val, not comparable |"
    assert sum(cells in line for line in lines) == 4 + 10 + 3 + 5
    older: Found = {("detect", "A"): Row(Variant("A", "distill"), [rates, {"person/ap50": 0.5}])}
    assert "| - | - / - / 50.00 ± 0.00 | 2 |" in paper_report(older, "T")


@pytest.mark.parametrize(
    ("judged_on", "said"),
    [
        ("kaist-paired_test-all-20 by KAIST_annotation.json", ""),
        ("kaist-paired_test-all-20 by annotations_paired", ", not comparable"),
        ("kaist-paired_val by KAIST_annotation.json", ", not comparable"),
        ("kaist-paired_test-all-20", ", not comparable"),  # of an earlier version: nothing says the truth
    ],
)
def test_a_miss_rate_is_the_papers_on_its_list_by_the_improved_annotations(judged_on: str, said: str) -> None:
    row = Row(Variant("A", "distill"), [{"miss_rate": 0.09}], judged_on)
    text = paper_report({("detect", "A"): row}, "T")
    assert f"| {judged_on}{said} |" in text
    assert "the paper's measure where the row was judged on test-all-20 by KAIST_annotation.json" in text


def test_teachers_judged_by_different_labels_are_no_row(tmp_path: Path) -> None:
    """Seeds of two machines, one of which had the published annotations."""
    name = "kaist-sanitized_test-all-20"
    for seed, truth in enumerate(("KAIST_annotation.json", "annotations_sanitized")):
        config = load_config(None, (f"seed={seed}", "data.validation=kaist", "data.validation_list=test-all-20"))
        facts = {"accuracy": {f"{name}/miss_rate": 0.5}, "miss_rate_labels": truth}
        metadata = {"kind": "teacher", "config": config.model_dump_json(), "facts": json.dumps(facts)}
        (tmp_path / truth).mkdir()
        save_file({"weight": np.zeros(1)}, tmp_path / truth / "weights.safetensors", metadata)
    row = read_runs(tmp_path)["detect", TEACHER]
    assert (row.runs, row.judged_on) == ([], "judged by different labels")


def own_teacher(tmp_path: Path) -> tuple[str, ...]:
    """Cells of Table 5's first row, from the runs on disk."""
    (line,) = [line for line in paper_report(read_runs(tmp_path / "runs"), "T").splitlines() if "7.77 |" in line]
    label, paper, *ours = line.strip("| ").split(" | ")
    assert (label, paper) == ("Ours (teacher)", "9.37 / 4.71 / 7.77")
    return tuple(ours)


def test_the_teacher_is_found_on_disk(tmp_path: Path) -> None:
    """One run, two seeds, and then one of other settings; a sweep's own row comes first."""
    runs = tmp_path / "runs"
    short = "optimiser.iterations=1"
    teacher.train(tiny(tmp_path, short, "model.fusion=addition"), runs / "sum", "mdtrain")
    baseline.train(tiny(tmp_path, short), runs / "student", "mdtrain")
    with pytest.raises(SourceError, match=r"no results\.json of a sweep and no weights\.safetensors of a GAFF teacher"):
        read_runs(runs)
    for seed in (0, 1):
        teacher.train(tiny(tmp_path, short, f"seed={seed}"), runs / f"teacher{seed}", "mdtrain")
        trained = "1 x 2 pairs, 128x96, AdamW 0.001"
        assert own_teacher(tmp_path)[2:] == (str(seed + 1), trained, "msrs-fusion_val", "11", "-")
    teacher.train(tiny(tmp_path, short, "optimiser.warmup=0"), runs / "other", "mdtrain")
    assert own_teacher(tmp_path) == ("-", "-", "0", "-", "several teachers", "11", "-")
    row = Row(Variant("feature-level-gaff", "teacher"), [{"person/ap50": 0.25}], "msrs-fusion_val")
    write_table([row], make_task(load_config(None)), "Fusion", runs / "fusion")
    assert own_teacher(tmp_path) == ("-", "- / - / 25.00", "1", "-", "msrs-fusion_val", "11", "-")


@pytest.mark.parametrize(
    ("changed", "runs"),
    [
        (("data.root=elsewhere", "data.threads=2", "evaluate_every=7", "seed=1"), 2),
        (("optimiser.iterations=7",), 0),
        (("optimiser.warmup=0",), 0),
    ],
)
def test_teachers_on_different_machines_are_one(changed: tuple[str, ...], runs: int, tmp_path: Path) -> None:
    for name, overrides in (("a", ()), ("b", changed)):
        metadata = {
            "kind": "teacher",
            "config": load_config(None, overrides).model_dump_json(),
            "facts": json.dumps({"accuracy": {"msrs/person/ap50": 0.5}}),
        }
        (tmp_path / name).mkdir()
        save_file({"weight": np.zeros(1)}, tmp_path / name / "weights.safetensors", metadata)
    assert read_runs(tmp_path)["detect", TEACHER].runs == [{"person/ap50": 0.5}] * runs


def test_the_teacher_is_the_one_that_taught(tmp_path: Path) -> None:
    """Not the fusion sweep's row, nor another teacher; where it is gone, nobody stands for it."""
    runs, task = tmp_path / "runs", make_task(load_config(None))
    for name, iterations in (("a", 1), ("b", 2)):
        teacher.train(tiny(tmp_path, f"optimiser.iterations={iterations}"), runs / name, "mdtrain")
    taught = hash_weights(load_trained(runs / "b" / "weights.safetensors").model.state_dict())
    scores = [{"person/ap50": 0.25}]
    rows = [
        Row(Variant("feature-level-gaff", "teacher"), scores, "x"),
        Row(Variant("16x-distilled", "distill"), scores, "x", "", taught),
    ]
    write_table(rows[:1], task, "Fusion", runs / "fusion")
    write_table(rows[1:], task, "Thermal", runs / "thermal")
    assert own_teacher(tmp_path)[2:4] == ("1", "2 x 2 pairs, 128x96, AdamW 0.001")
    shutil.rmtree(runs / "b")
    assert own_teacher(tmp_path)[:4] == ("-", "-", "0", "-")
    assert own_teacher(tmp_path)[4] == "its weights are not below the folder"


def test_tables_that_the_paper_does_not_have_do_not_disturb(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """A sweep of classifiers, and a file of another program of the same name."""
    runs, task = tmp_path / "runs", make_task(load_config(None))
    write_table([Row(Variant("A", "distill"), [{"person/ap50": 0.25}])], task, "Ablation", runs / "ablation")
    (runs / "classify").mkdir()
    row = {"variant": "A", "runs": [{"mean/accuracy": 1.0}]}
    (runs / "classify" / "results.json").write_text(json.dumps({"task": "classify", "rows": [row]}))
    (runs / "results.json").write_text('[{"image_id": 1}]')
    assert set(read_runs(runs)) == {("detect", "A")}
    (line,) = capfd.readouterr().err.splitlines()
    assert f"{runs / 'results.json'}: left out, is not the table of a sweep" in line


def test_there_is_no_such_folder(tmp_path: Path) -> None:
    with pytest.raises(SourceError, match="nowhere: no such folder"):
        read_runs(tmp_path / "nowhere")
    (tmp_path / "file").touch()
    with pytest.raises(SourceError, match="file: is a file"):
        read_runs(tmp_path / "file")


def test_weights_that_cannot_be_read(tmp_path: Path) -> None:
    (tmp_path / "weights.safetensors").write_bytes(b"torn")
    with pytest.raises(DataError, match=r"weights\.safetensors: not the weights of a run"):
        read_runs(tmp_path)


def test_the_tasks_do_not_mix() -> None:
    runs = [{"mean/accuracy": 0.5, "mean/day/accuracy": 0.6, "mean/night/accuracy": 0.4}]
    text = paper_report({("segment", "16x-native"): Row(Variant("16x-native", "baseline"), runs)}, "T")
    (line,) = [line for line in text.splitlines() if "60.00 / 40.00 / 50.00" in line]
    assert line.startswith("| 16x fewer | 53.85 / 55.43 / 58.21 ± 0.46 |")


def test_the_command_reads_sweeps_anywhere_below(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    task = make_task(load_config(None))
    row = Row(Variant("S-F-A", "distill"), [dict.fromkeys(task.measures, 0.7)] * 3)
    write_table([row], task, "Ablation", tmp_path / "runs" / "deep" / "ablation")
    output = tmp_path / "out" / "report.md"
    arguments = ["report", "paper", "--runs", str(tmp_path / "runs")]
    assert run_command(mdtrain, "mdtrain", [*arguments, "--output", str(output)]) == 0
    assert "| 70.00 ± 0.00 / 70.00 ± 0.00 / 70.00 ± 0.00 | 3 |" in output.read_text()
    capfd.readouterr()
    assert run_command(mdtrain, "mdtrain", arguments) == 0
    assert capfd.readouterr().out.strip() == output.read_text().strip()


@pytest.mark.parametrize(
    ("content", "said"),
    [
        (None, "no results.json"),
        ('{"a": 1}', "left out, is not the table of a sweep"),
        ("[1]", "left out"),
        ('{"task": ["a"], "rows": []}', "left out"),
        ('{"task": "detect", "rows": [{"variant": "full-native", "runs": [{"person/ap50": "high"}]}]}', "left out"),
        ('{"task": "detect", "rows": [{"variant": "v", "runs": [], "teacher_sha256": ["a"]}]}', "left out"),
    ],
)
def test_bad_input(content: str | None, said: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    if content is not None:
        (tmp_path / "results.json").write_text(content)
    assert run_command(mdtrain, "mdtrain", ["report", "paper", "--runs", str(tmp_path)]) == 4
    assert said in capfd.readouterr().err
