from __future__ import annotations

from pathlib import Path

import pytest

from mdrun.command import run_command
from mdtrain.cli import mdtrain
from mdtrain.config import load_config
from mdtrain.report import TABLES, paper_report
from mdtrain.sweep import Row, Variant, variants, write_table
from mdtrain.tasks import make_task


def test_every_row_of_a_table_is_one_of_the_sweep() -> None:
    config = load_config(None)
    for table in TABLES:
        names = {variant.name for variant in variants(table.sweep, config)}
        assert {row.variant for row in table.rows} <= names


def test_known_numbers_of_the_paper() -> None:
    """The two that its abstract rests on: native 10.17 and distilled 8.03 at 16 times fewer pixels."""
    third = {row.variant: row.paper[2] for row in TABLES[2].rows}
    assert third["16x-native"] == "10.17 ± 0.42"
    assert third["16x-distilled"] == "8.03 ± 0.19"
    assert [table.number for table in TABLES] == list(range(1, 9))


def test_rows_that_were_not_run_stay_blank() -> None:
    runs = [{"person/ap50": 0.5, "person/day/ap50": 0.6, "person/night/ap50": 0.4}]
    text = paper_report({("detect", "16x-native"): Row(Variant("16x-native", "baseline"), runs)}, "T")
    (line,) = [line for line in text.splitlines() if "60.00 / 40.00 / 50.00" in line]
    assert line.startswith("| 16x fewer | 12.09 / 6.73 / 10.17 ± 0.42 |")
    assert text.count("not run") == 2 * (4 + 10 + 2 + 5) - 1


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
    ("content", "code", "named"),
    [(None, 4, "no results.json"), ('{"a": 1}', 5, "results.json"), ('{"task": "x", "rows": []}', 5, "task x")],
)
def test_bad_input(
    content: str | None, code: int, named: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    if content is not None:
        (tmp_path / "results.json").write_text(content)
    assert run_command(mdtrain, "mdtrain", ["report", "paper", "--runs", str(tmp_path)]) == code
    assert named in capfd.readouterr().err
