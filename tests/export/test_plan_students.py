"""From weights to an engine of TensorRT for RTX, as a user goes: `mdexport onnx --dynamic-batch`, `mdexport plan`."""

from __future__ import annotations

from pathlib import Path

import pytest

from mdexport.cli import mdexport
from mdrun.command import run_command
from mdrun.onnx_file import read_manifest
from tests.export.students import SETTINGS, STREET, write_student

pytest.importorskip("tensorrt_rtx", reason='wants pip install "mdrun[rtx]"', exc_type=ImportError)


@pytest.mark.slow
@pytest.mark.parametrize("task", list(SETTINGS))
def test_a_student_with_a_dynamic_batch(task: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    weights, onnx = write_student(tmp_path / "weights.safetensors", task), tmp_path / "student.onnx"
    sources = ["--visible", STREET, "--thermal", STREET, "--pairs", "1"]
    export = ["onnx", str(weights), "--output", str(onnx), *sources, "--dynamic-batch"]
    plan = ["plan", str(onnx), "--output", str(tmp_path / "student.rtx"), "--target", "rtx"]
    assert run_command(mdexport, "mdexport", export) == 0
    assert run_command(mdexport, "mdexport", plan) == 3
    assert "no optimization profile has been defined" in capsys.readouterr().err
    assert run_command(mdexport, "mdexport", [*plan, "--max-batch", "4"]) == 0, capsys.readouterr().err
    build = read_manifest(tmp_path / "student.rtx").build
    assert build is not None
    assert build.options == {"max-batch": "4"}
