"""Cameras in, results out: accounting, provenance, clean ends. Real sources, real engine, real files."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

from mdrun import Engine
from mdrun.errors import DataError, MdrunError, OutputError, UsageError
from mdrun.frames import Modality
from mdrun.pairing import PairLimits
from mdrun.pipeline import RunOptions, RunReport, run
from mdrun.sources import open_pair, open_source
from tests.runtime.engines import THERMAL_WH, VISIBLE_WH, write_blob, write_constant

FAST = RunOptions(overlay=False)


def write_folders(root: Path, visible: int = 6, thermal: int = 6, bits: int = 8) -> tuple[Path, Path]:
    """A visible and a thermal folder; the warm body moves by one thermal pixel a frame, so that no two are equal."""
    folders = root / "visible", root / "thermal"
    for folder, count in zip(folders, (visible, thermal), strict=True):
        folder.mkdir(parents=True)
        for index in range(count):
            if folder.name == "visible":
                image = np.full((VISIBLE_WH[1], VISIBLE_WH[0], 3), (90, 60, 30 + index), np.uint8)
            else:
                image = np.full((THERMAL_WH[1], THERMAL_WH[0]), 80, np.uint8 if bits == 8 else np.uint16)
                image[6:18, 2 + index % 20 : 8 + index % 20] = 240
            cv2.imwrite(str(folder / f"{index:04}.png"), image)
    return folders


@pytest.fixture(scope="module")
def blob(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_blob(tmp_path_factory.mktemp("engine") / "blob.onnx")


def run_pair(
    engine: Path, visible: str, thermal: str | None, output: Path, options: RunOptions = FAST
) -> tuple[RunReport, list[dict[str, Any]]]:
    """One whole run; returns its report and its lines."""
    first, second = open_pair(visible, thermal) if thermal else (open_source(visible, Modality.VISIBLE), None)
    with Engine.load(engine) as loaded:
        report = run(loaded, first, second, output, options=options)
    lines = (output / "results.jsonl").read_text(encoding="utf-8").splitlines()
    return report, [json.loads(line) for line in lines]


def check_account(report: RunReport, lines: list[dict[str, Any]]) -> None:
    """The invariant of the design, and that files and summary tell the same story."""
    summary = report.summary
    assert summary["captured"]["visible"] == summary["results"] + sum(summary["drops"].values())
    assert len(lines) == summary["results"]
    for provenance, count in summary["thermal_provenance"].items():
        assert count == sum(line["thermal"]["provenance"] == provenance for line in lines)
    assert all(path.is_file() for path in report.paths)
    assert not list(report.paths[0].parent.glob(".*"))


def test_stills_pair_one_to_one(blob: Path, tmp_path: Path) -> None:
    visible, thermal = write_folders(tmp_path)
    report, lines = run_pair(blob, str(visible), str(thermal), tmp_path / "out")
    check_account(report, lines)
    assert [line["visible"]["name"] for line in lines] == [f"{index:04}.png" for index in range(6)]
    for index, line in enumerate(lines):
        left = (2 + index) * 3.0  # three visible pixels to a thermal one
        box = {"class": "person", "score": 0.9412, "box_xyxy": [left, 18.0, left + 18, 54.0]}
        assert line["detections"] == [box]
        assert line["engine"] == "blob"


def test_a_slow_thermal_camera_is_measured_or_held(blob: Path, tmp_path: Path) -> None:
    """30 Hz and 9 Hz: some pairs are near enough, some hold the last image, none is dropped."""
    visible, thermal = write_folders(tmp_path, 60, 18)
    options = RunOptions(PairLimits(skew_ms=20, age_ms=250), overlay=False)
    report, lines = run_pair(blob, f"{visible}?fps=30", f"{thermal}?fps=9", tmp_path / "out", options)
    check_account(report, lines)
    assert report.summary["results"] == 60
    assert set(report.summary["thermal_provenance"]) == {"measured", "held"}
    for line in lines:
        near = abs(line["skew_ms"]) <= 20
        assert line["thermal"]["provenance"] == ("measured" if near else "held")
        assert line["thermal"]["age_ms"] <= 250


def test_a_lost_thermal_camera_is_dropped_by_cause(blob: Path, tmp_path: Path) -> None:
    """It ends after a third of the run; no zero image takes its place."""
    visible, thermal = write_folders(tmp_path, 60, 6)
    report, lines = run_pair(blob, f"{visible}?fps=30", f"{thermal}?fps=9", tmp_path / "out")
    check_account(report, lines)
    assert set(report.summary["drops"]) == {"thermal_no_thermal"}
    assert report.summary["drops"]["thermal_no_thermal"] > 20
    assert all(line["thermal"]["provenance"] != "absent" for line in lines)


def test_shutter_events_of_the_street_are_dropped_by_cause(blob: Path, tmp_path: Path) -> None:
    uri = "test://street?frames=16&fps=10&ffc_every=1&ffc=0.5&width=64&height=48&thermal_width=32&thermal_height=24"
    report, lines = run_pair(blob, uri, uri, tmp_path / "out")
    check_account(report, lines)
    assert report.summary["captured"]["visible"] == 16
    assert report.summary["drops"]["thermal_ffc"] >= 3


def test_visible_only_engine_uses_no_thermal_image(tmp_path: Path) -> None:
    engine = write_constant(
        tmp_path / "c.onnx", np.eye(2, 4, 2, dtype=np.float32), np.zeros(2, np.float32), np.zeros(2, np.int32)
    )
    visible, thermal = write_folders(tmp_path)
    for source in (None, str(thermal)):
        report, lines = run_pair(engine, str(visible), source, tmp_path / "out")
        check_account(report, lines)
        assert report.summary["thermal_provenance"] == {"absent": 6}
        assert lines[0]["thermal"]["name"] is None


def test_limit_counts_visible_frames(blob: Path, tmp_path: Path) -> None:
    visible, thermal = write_folders(tmp_path)
    report, lines = run_pair(blob, str(visible), str(thermal), tmp_path / "out", RunOptions(frames=2, overlay=False))
    check_account(report, lines)
    assert report.summary["captured"]["visible"] == 2


def test_display_threshold_counts_but_does_not_filter_lines(blob: Path, tmp_path: Path) -> None:
    visible, thermal = write_folders(tmp_path)
    strict = RunOptions(overlay=False, display=0.99)
    report, lines = run_pair(blob, str(visible), str(thermal), tmp_path / "out", strict)
    assert report.summary["objects"]["person"] == 0
    assert sum(len(line["detections"]) for line in lines) == 6


def test_all_files_of_a_run(blob: Path, tmp_path: Path) -> None:
    visible, thermal = write_folders(tmp_path)
    report, lines = run_pair(blob, str(visible), str(thermal), tmp_path / "out", RunOptions())
    check_account(report, lines)
    names = ["results.jsonl", "overlay.mp4", "overlay.png", "summary.json"]
    assert [path.name for path in report.paths] == names
    written = json.loads((tmp_path / "out" / "summary.json").read_text(encoding="utf-8"))
    assert written == report.summary | {"files": names}
    assert all("sinks" not in line["stages_ms"] for line in lines)
    for stage in ("pair", "preprocess", "infer", "postprocess", "sinks"):
        points = written["stages_ms"][stage]
        assert 0 <= points["p50"] <= points["p95"] <= points["p99"] <= points["max"]


def test_a_run_without_overlays_leaves_none_of_the_run_before(blob: Path, tmp_path: Path) -> None:
    visible, thermal = write_folders(tmp_path)
    run_pair(blob, str(visible), str(thermal), tmp_path / "out", RunOptions())
    (tmp_path / "out" / "notes.txt").touch()
    report, _ = run_pair(blob, str(visible), str(thermal), tmp_path / "out")
    names = {path.name for path in (tmp_path / "out").iterdir()}
    assert names == {"results.jsonl", "summary.json", "notes.txt"}
    assert [path.name for path in report.paths] == ["results.jsonl", "summary.json"]


def test_a_run_that_drops_every_frame_is_an_error(blob: Path, tmp_path: Path) -> None:
    visible, thermal = write_folders(tmp_path)
    late = f"{thermal}?fps=9&offset_ms=60000"
    with pytest.raises(DataError, match=r"thermal_no_thermal 6\).*offset_ms.*fps.*--max-age"):
        run_pair(blob, f"{visible}?fps=30", late, tmp_path / "out")
    assert not (tmp_path / "out").exists()


def test_missing_thermal_source(blob: Path, tmp_path: Path) -> None:
    visible, _ = write_folders(tmp_path)
    with pytest.raises(UsageError, match="--thermal is missing"):
        run_pair(blob, str(visible), None, tmp_path / "out")
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("damage", ["truncated", "other size", "raw counts"])
def test_a_failure_on_the_way_leaves_nothing(blob: Path, tmp_path: Path, damage: str) -> None:
    visible, thermal = write_folders(tmp_path, bits=16 if damage == "raw counts" else 8)
    victim = thermal / "0004.png"
    if damage == "truncated":
        victim.write_bytes(victim.read_bytes()[:-20])
    elif damage == "other size":
        cv2.imwrite(str(victim), np.zeros((40, 50), np.uint8))
    with pytest.raises(MdrunError) as caught:
        run_pair(blob, str(visible), str(thermal), tmp_path / "out", RunOptions())
    assert "\n" not in str(caught.value)
    assert not (tmp_path / "out").exists()


def test_a_failure_keeps_the_files_of_the_run_before(blob: Path, tmp_path: Path) -> None:
    visible, thermal = write_folders(tmp_path)
    run_pair(blob, str(visible), str(thermal), tmp_path / "out", RunOptions())
    before = {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()}
    cv2.imwrite(str(thermal / "0003.png"), np.zeros((40, 50), np.uint8))
    with pytest.raises(DataError):
        run_pair(blob, str(visible), str(thermal), tmp_path / "out", RunOptions())
    assert {path.name: path.read_bytes() for path in (tmp_path / "out").iterdir()} == before


def test_output_that_cannot_be_written(blob: Path, tmp_path: Path) -> None:
    visible, thermal = write_folders(tmp_path)
    (tmp_path / "out").touch()
    with pytest.raises(OutputError, match="choose another --output"):
        run_pair(blob, str(visible), str(thermal), tmp_path / "out")


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_a_signal_finishes_the_files(blob: Path, tmp_path: Path, number: signal.Signals) -> None:
    """After the third pair: three lines, a video that plays, the summary, the shell's exit code."""
    visible, thermal = write_folders(tmp_path)
    seen = 0

    def interrupt(pairs: int) -> None:
        nonlocal seen
        seen += pairs
        if seen == 3:
            os.kill(os.getpid(), number)

    before = signal.getsignal(number)
    sources = open_pair(str(visible), str(thermal))
    with Engine.load(blob) as engine:
        report = run(engine, *sources, tmp_path / "out", progress=interrupt)
    lines = (tmp_path / "out" / "results.jsonl").read_text(encoding="utf-8").splitlines()
    check_account(report, [json.loads(line) for line in lines])
    assert (report.exit_code, report.summary["stopped_by"]) == (128 + number, number.name)
    assert len(lines) == 3
    assert cv2.VideoCapture(str(tmp_path / "out" / "overlay.mp4")).read()[0]
    assert signal.getsignal(number) is before
