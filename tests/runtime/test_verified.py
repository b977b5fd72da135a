"""Engines whose export is proven, and others: the flag that refuses them, the warning, what `mdrun info` shows."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from mdrun import Engine
from mdrun.cli import cli
from mdrun.command import run_command
from mdrun.errors import EngineError
from mdrun.manifest import Build, Change, Manifest, Parity
from mdrun.manifest_report import print_manifest
from mdrun.models import shipped
from mdrun.onnx_file import read_manifest
from mdrun.verified import find_doubt
from tests.runtime.engines import PASSED, make_manifest, write_blob, write_constant
from tests.runtime.test_pipeline import write_folders

FAILED = replace(PASSED, passed=False)
ACCEPTED = replace(FAILED, accepted="night only;\nmeasured by hand")
DOUBTS = [
    (None, "it carries no parity report"),
    (FAILED, "its parity check did not pass"),
    (ACCEPTED, "exported with --accept 'night only; measured by hand'"),
    (replace(ACCEPTED, passed=True), "exported with --accept"),
    (replace(PASSED, metrics={"mean/ap50": Change(0.6, 0.6)}, matched=None), "the reference finds nothing"),
    (
        replace(PASSED, metrics={"person/ap50": Change(0.0, 0.0), "mean/ap50": Change(0.009, 0.0)}, matched=1.0),
        "what the reference finds is wrong on these pairs (these tests), so they prove nothing",
    ),
    (replace(PASSED, pairs=7), "only 7 pairs were compared, wanted at least 8"),
    (
        replace(PASSED, not_run="no OpenVINO here"),
        "the file itself was not run, only what it should compute was judged",
    ),
]


def write_engine(path: Path, parity: Parity | None) -> Path:
    """An engine whose manifest has this parity report."""
    manifest = replace(make_manifest("constant"), parity=parity)
    boxes = np.array([[0, 0, 48, 36], [0, 0, 1, 1]], np.float32)
    return write_constant(path, boxes, np.array([0.75, 0], np.float32), np.array([2, 0], np.int32), manifest=manifest)


@pytest.mark.parametrize(("parity", "words"), DOUBTS)
def test_engines_that_are_not_verified(parity: Parity | None, words: str, tmp_path: Path) -> None:
    path = write_engine(tmp_path / "e.onnx", parity)
    Engine.load(path).close()  # they run
    with pytest.raises(EngineError) as caught:
        Engine.load(path, require_verified=True)
    text = str(caught.value)
    assert re.search(f"^{re.escape(str(path))}: not verified: .*{re.escape(words)}", text)
    assert text.endswith("export or check it again so that it passes, or leave out require-verified")
    assert len(text.splitlines()) == 1


@pytest.mark.parametrize(
    ("task", "classes", "accuracy", "proven"),
    [
        ("segment", 9, 1 / 9, False),  # `unlabelled` everywhere
        ("segment", 9, 0.119, False),
        ("segment", 9, 0.13, True),
        ("classify", 2, 0.5, False),
        ("classify", 2, 0.59375, True),
        ("detect", 3, 0.0, True),  # no measure of a detector
    ],
)
def test_a_reference_that_guesses_proves_nothing(task: str, classes: int, accuracy: float, *, proven: bool) -> None:
    measures = {"mean/accuracy": Change(accuracy, accuracy), "person/ap50": Change(0.02, 0.0)}
    parity = replace(PASSED, metrics=measures, matched=1.0)
    names = [str(index) for index in range(classes)]
    doubt = find_doubt(replace(make_manifest(), task=task, classes=names, parity=parity))
    wanted = "the reference is no better than chance on these pairs (these tests), so they prove nothing"
    assert doubt == (None if proven else wanted)


def test_a_verified_engine(tmp_path: Path) -> None:
    Engine.load(write_engine(tmp_path / "e.onnx", PASSED), require_verified=True).close()


def run(arguments: list[str], capfd: pytest.CaptureFixture[str]) -> tuple[int, str]:
    code = run_command(cli, "mdrun", arguments)
    return code, capfd.readouterr().err


@pytest.mark.parametrize(("parity", "words"), DOUBTS)
def test_one_warning_or_a_refusal(
    parity: Parity | None, words: str, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    visible, _ = write_folders(tmp_path)
    path = write_engine(tmp_path / "e.onnx", parity)
    arguments = ["--engine", str(path), "--visible", str(visible), "--output", str(tmp_path / "out"), "--no-overlay"]
    code, err = run([*arguments, "--require-verified"], capfd)
    assert (code, (tmp_path / "out").exists()) == (3, False)
    assert re.fullmatch(r"mdrun: error: [^\n]+\n", err)
    assert words in err
    code, err = run(arguments, capfd)
    assert (code, (tmp_path / "out").exists()) == (0, True)
    assert re.fullmatch(r"mdrun: warning: [^\n]+; --require-verified refuses such engines\n", err)
    assert words in err


def test_no_warning_for_a_verified_engine(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    visible, thermal = write_folders(tmp_path)
    path = write_blob(tmp_path / "blob.onnx")
    sources = ["--visible", str(visible), "--thermal", str(thermal), "--output", str(tmp_path / "out"), "--no-overlay"]
    assert run(["--engine", str(path), *sources, "--require-verified"], capfd) == (0, "")


def shown(path: Path, manifest: Manifest, capsys: pytest.CaptureFixture[str]) -> str:
    """The printed table as one line."""
    print_manifest(path, manifest)
    return " ".join(capsys.readouterr().out.split())


def test_info_shows_the_report(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    measures = {"person/ap50": Change(0.8125, 0.80119)}
    parity = replace(ACCEPTED, mean_abs={"scores": 2.5e-4}, matched=0.975, metrics=measures)
    path = write_engine(tmp_path / "e.onnx", parity)
    text = shown(path, read_manifest(path), capsys)
    for words in (
        "verified no: its parity check did not pass, and it was exported with --accept",
        "parity did not pass: 16 pairs of these tests, compared with arithmetic by hand",
        "largest change scores 0",
        "mean change scores 0.00025",
        "found again 97.5 % of the detections",
        "measures person/ap50 0.8125 → 0.8012",
        "limits scores 0.001",
    ):
        assert words in text
    assert "built" not in text


def test_info_shows_a_verified_engine_and_one_without_a_report(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    path = write_engine(tmp_path / "e.onnx", PASSED)
    text = shown(path, read_manifest(path), capsys)
    assert "verified yes parity passed: 16 pairs" in text
    assert "mean change" not in text  # what nobody measured has no row
    text = shown(path, replace(make_manifest(), parity=None), capsys)
    assert "verified no: it carries no parity report" in text


def test_info_shows_what_the_export_measured(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_engine(tmp_path / "e.onnx", PASSED)
    errors = {name: index / 8 for index, name in enumerate("abcdef")}
    bare = make_manifest()
    origin = replace(bare.origin, calibration="64 pairs of msrs train", kept=["conv_f", "conv_e"], sensitivity=errors)
    text = shown(path, replace(bare, origin=origin, energy={"fp32": -2.5, "int8": -2.25}), capsys)
    for words in (
        "calibrated on 64 pairs of msrs train",
        "higher precision conv_f, conv_e",
        "worst layers f 0.62, e 0.5, d 0.38, c 0.25, b 0.12",
        "energy thresholds fp32 -2.5, int8 -2.25",
    ):
        assert words in text
    text = shown(path, bare, capsys)
    assert not [words for words in ("calibrated", "higher", "worst", "energy") if words in text]


def test_info_shows_how_a_plan_was_built(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    build = Build(
        "tensorrt",
        "10.3.0",
        ["8.7"],
        "Orin",
        "linux-aarch64",
        "ab" * 32,
        {"max-batch": "4"},
        "mdexport plan e.onnx",
        driver="12.6",
        l4t="36.4.3",
        layers={"fp16": 61, "fp32": 2},
    )
    path = write_engine(tmp_path / "e.onnx", PASSED)
    text = shown(path, replace(make_manifest(), build=build), capsys)
    for words in (
        "built with TensorRT 10.3.0",
        "built for linux-aarch64, compute capability 8.7, timed on Orin",
        "built beside CUDA driver 12.6, Jetson Linux 36.4.3",
        "built from ONNX file abababababababab",
        "layers fp16 61, fp32 2",
        "options max-batch 4",
        "built by mdexport plan e.onnx",
    ):
        assert words in text
    bare = replace(build, target="rtx", device=None, driver=None, l4t=None, layers={}, options={})
    text = shown(path, replace(make_manifest(), build=bare), capsys)
    assert "built with TensorRT for RTX 10.3.0" in text
    assert not [words for words in ("timed on", "beside", "layers", "options") if words in text]


def test_a_plan_is_not_verified_by_its_onnx_file(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    path = write_engine(tmp_path / "e.onnx", PASSED)
    build = Build("rtx", "1.7", ["8.9"], None, "linux-x86_64", "ab" * 32, {}, "mdexport plan e.onnx")
    plan = replace(make_manifest(), build=build)
    assert "the plan was not run yet" in str(find_doubt(plan))
    assert "of the ONNX file passed: 16 pairs" in shown(path, plan, capsys)
    ran = replace(plan, build=replace(build, parity=replace(PASSED, data="its GPU"), energy_threshold=-2.125))
    assert "own threshold energy -2.125" in shown(path, ran, capsys)
    assert (ran.energy_threshold, plan.energy_threshold) == (-2.125, None)
    assert ran.digest() == plan.digest()  # it has its name since it was built
    assert find_doubt(ran) is None
    assert "parity passed: 16 pairs of its GPU" in shown(path, ran, capsys)
    assert "did not pass" in str(find_doubt(replace(plan, build=replace(build, parity=FAILED))))
    unrun = replace(PASSED, not_run="no OpenVINO here")
    assert "the file itself was not run" in str(find_doubt(replace(plan, build=replace(build, parity=unrun))))
    assert find_doubt(replace(ran, parity=unrun)) is None  # the plan itself was
    assert "did not pass" in str(find_doubt(replace(ran, parity=FAILED)))  # built from a file that did not


def test_the_shipped_engines_are_verified() -> None:
    assert [find_doubt(model.manifest) for model in shipped()] == [None] * len(shipped())
