"""Label maps from cameras to files: what a run of a segment engine writes, and what it never touches."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
from dataclasses import replace
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import pytest

import mdrun
from mdrun import Engine
from mdrun.cli import cli
from mdrun.command import run_command
from mdrun.errors import DataError, OutputError, UsageError
from mdrun.pipeline import RunOptions, RunReport, run
from mdrun.sources import open_pair
from tests.runtime.engines import LABELS, WARM_LABEL, make_segment_manifest, save, write_areas, write_blob
from tests.runtime.test_cli import TWICE
from tests.runtime.test_pipeline import FAST, run_pair, write_folders
from tests.runtime.test_sinks_labels import read_labels

STREET = "test://street?seed=1&frames=4&width=128&height=96&thermal_width=32&thermal_height=24"
NAMES = ["results.jsonl", "labels/", "overlay.mp4", "overlay.png", "summary.json"]


@pytest.fixture(scope="module")
def areas(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return write_areas(tmp_path_factory.mktemp("engine") / "areas.onnx")


@pytest.fixture
def cameras(tmp_path: Path) -> tuple[str, str]:
    visible, thermal = write_folders(tmp_path)
    return str(visible), str(thermal)


def check_files(report: RunReport, lines: list[dict[str, Any]], output: Path) -> None:
    """Lines, label maps and summary tell the same story."""
    summary = report.summary
    assert summary["captured"]["visible"] == summary["results"] + sum(summary["drops"].values())
    assert len(lines) == summary["results"]
    maps = {f"labels/{path.name}" for path in (output / "labels").iterdir()}
    assert {line["label_map"] for line in lines} == maps
    assert len(maps) == len(lines)
    total = dict.fromkeys(LABELS, 0.0)
    for line in lines:
        labels = read_labels(output / line["label_map"])
        shares = np.bincount(labels.ravel(), minlength=len(LABELS)) / labels.size
        assert line["areas"] == {name: round(share, 6) for name, share in zip(LABELS, shares, strict=True) if share}
        total = {name: total[name] + line["areas"].get(name, 0) for name in LABELS}
    assert summary["areas"] == pytest.approx({name: share / len(lines) for name, share in total.items()}, abs=2e-6)
    assert summary["objects"] == {}
    assert not list(output.glob(".*"))


def test_files_of_a_run(areas: Path, cameras: tuple[str, str], tmp_path: Path) -> None:
    report, lines = run_pair(areas, *cameras, tmp_path / "out", RunOptions())
    check_files(report, lines, tmp_path / "out")
    assert report.paths == [tmp_path / "out" / name for name in NAMES]
    assert json.loads((tmp_path / "out" / "summary.json").read_text())["files"] == NAMES
    for index, line in enumerate(lines):  # the warm body moves by one thermal pixel, which is three visible ones
        labels = read_labels(tmp_path / "out" / line["label_map"])
        wanted = np.zeros_like(labels)
        wanted[18:54, 3 * (2 + index) : 3 * (8 + index)] = WARM_LABEL
        np.testing.assert_array_equal(labels, wanted)
        assert (line["task"], line["detections"]) == ("segment", None)


def test_label_maps_have_the_size_of_the_frame(areas: Path, tmp_path: Path) -> None:
    report, lines = run_pair(areas, STREET, STREET, tmp_path / "out")
    check_files(report, lines, tmp_path / "out")
    assert read_labels(tmp_path / "out" / lines[0]["label_map"]).shape == (96, 128)


def test_dropped_pairs_leave_a_gap(areas: Path, tmp_path: Path) -> None:
    uri = f"{STREET}&fps=10&ffc_every=1&ffc=0.5".replace("frames=4", "frames=16")
    report, lines = run_pair(areas, uri, uri, tmp_path / "out")
    check_files(report, lines, tmp_path / "out")
    assert report.summary["drops"]["thermal_ffc"] >= 3
    assert [line["label_map"] for line in lines] == [f"labels/{line['sequence']:06}.png" for line in lines]


def test_a_shorter_run_leaves_no_label_map_of_the_one_before(
    areas: Path, cameras: tuple[str, str], tmp_path: Path
) -> None:
    run_pair(areas, *cameras, tmp_path / "out")
    report, lines = run_pair(areas, *cameras, tmp_path / "out", replace(FAST, frames=2))
    check_files(report, lines, tmp_path / "out")
    assert len(lines) == 2


@pytest.mark.parametrize("by", ["option", "task"])
def test_a_run_without_label_maps_removes_those_of_the_one_before(
    areas: Path, cameras: tuple[str, str], tmp_path: Path, by: str
) -> None:
    run_pair(areas, *cameras, tmp_path / "out")
    engine = areas if by == "option" else write_blob(tmp_path / "blob.onnx")
    report, lines = run_pair(engine, *cameras, tmp_path / "out", replace(FAST, labels=False))
    assert [path.name for path in report.paths] == ["results.jsonl", "summary.json"]
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"results.jsonl", "summary.json"}
    assert {line["label_map"] for line in lines} == {None}
    assert (lines[0]["areas"] is None, report.summary["areas"] is None) == (by == "task", by == "task")


def test_a_failure_keeps_the_label_maps_of_the_run_before(
    areas: Path, cameras: tuple[str, str], tmp_path: Path
) -> None:
    run_pair(areas, *cameras, tmp_path / "out")
    before = {path: path.read_bytes() for path in (tmp_path / "out").rglob("*.*")}
    cv2.imwrite(str(Path(cameras[1]) / "0003.png"), np.zeros((40, 50), np.uint8))
    with pytest.raises(DataError):
        run_pair(areas, *cameras, tmp_path / "out")
    assert {path: path.read_bytes() for path in (tmp_path / "out").rglob("*.*")} == before


def test_a_failure_leaves_no_folder(areas: Path, cameras: tuple[str, str], tmp_path: Path) -> None:
    cv2.imwrite(str(Path(cameras[1]) / "0003.png"), np.zeros((40, 50), np.uint8))
    with pytest.raises(DataError):
        run_pair(areas, *cameras, tmp_path / "out", RunOptions())
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("place", ["without a run", "beside a detector's run", "within an earlier run's"])
def test_label_maps_of_somebody_else_are_never_replaced(
    areas: Path, cameras: tuple[str, str], tmp_path: Path, place: str
) -> None:
    """A folder `labels` with numbered pictures may be the truth of a data set."""
    output = tmp_path / "out"
    if place == "within an earlier run's":
        run_pair(areas, *cameras, output)
        (output / "labels" / "000001D.png").write_text("truth")
    else:
        if place == "beside a detector's run":
            run_pair(write_blob(tmp_path / "blob.onnx"), *cameras, output)
        (output / "labels").mkdir(parents=True)
        (output / "labels" / "000001.png").write_text("truth")
    before = {path: path.read_bytes() for path in output.rglob("*.*")}
    with pytest.raises(OutputError, match=r"labels: holds what no run wrote.*choose another --output") as caught:
        run_pair(areas, *cameras, output)
    assert "\n" not in str(caught.value)
    assert {path: path.read_bytes() for path in output.rglob("*.*")} == before
    run_pair(areas, *cameras, output, replace(FAST, labels=False))  # a run that writes none leaves them alone
    truth = [path for path in before if before[path] == b"truth"]
    assert [path.read_text() for path in truth] == ["truth"]


@pytest.mark.parametrize("kind", ["file", "link"])
def test_what_is_no_folder_of_label_maps(areas: Path, cameras: tuple[str, str], tmp_path: Path, kind: str) -> None:
    (tmp_path / "out").mkdir()
    if kind == "file":
        (tmp_path / "out" / "labels").touch()
    else:
        (tmp_path / "out" / "labels").symlink_to(tmp_path / "visible")
    with pytest.raises(OutputError, match="is in the way of the label maps"):
        run_pair(areas, *cameras, tmp_path / "out")
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["labels"]


def test_leftovers_of_a_killed_run_go(areas: Path, cameras: tuple[str, str], tmp_path: Path) -> None:
    run_pair(areas, *cameras, tmp_path / "out")
    for left in (".labels.0123abcd.part", ".labels.0123abcd.older.part"):
        (tmp_path / "out" / left).mkdir(parents=True)
        (tmp_path / "out" / left / "000000.png").touch()
    report, lines = run_pair(areas, *cameras, tmp_path / "out")
    check_files(report, lines, tmp_path / "out")


@pytest.mark.parametrize("then", ["fails", "succeeds", "has no label maps"])
def test_label_maps_survive_a_run_that_was_killed_while_replacing_them(
    areas: Path, cameras: tuple[str, str], tmp_path: Path, then: str
) -> None:
    """It had moved them away and not yet named its own."""
    output = tmp_path / "out"
    run_pair(areas, *cameras, output)
    before = {path: path.read_bytes() for path in output.rglob("*.*")}
    (output / "labels").rename(output / ".labels.0123abcd.older.part")
    (output / ".labels.0123abcd.part").mkdir()
    if then == "fails":
        cv2.imwrite(str(Path(cameras[1]) / "0003.png"), np.zeros((40, 50), np.uint8))
        with pytest.raises(DataError):
            run_pair(areas, *cameras, output)
        assert {path: path.read_bytes() for path in output.rglob("*.*")} == before
    elif then == "succeeds":
        check_files(*run_pair(areas, *cameras, output), output)
    else:
        run_pair(areas, *cameras, output, replace(FAST, labels=False))
        assert {path.name for path in output.iterdir()} == {"results.jsonl", "summary.json"}


def test_a_full_disk_leaves_nothing(
    areas: Path, cameras: tuple[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    write = Path.write_bytes

    def full(path: Path, data: bytes) -> int:
        if path.name == "000003.png":
            write(path, data[:10])
            raise OSError(28, "No space left on device")
        return write(path, data)

    monkeypatch.setattr(Path, "write_bytes", full)
    with pytest.raises(OutputError, match=r"labels/: cannot be written \(No space left on device\)"):
        run_pair(areas, *cameras, tmp_path / "out", RunOptions())
    assert not (tmp_path / "out").exists()


def test_a_signal_finishes_the_label_maps(areas: Path, cameras: tuple[str, str], tmp_path: Path) -> None:
    seen = 0

    def interrupt(pairs: int) -> None:
        nonlocal seen
        seen += pairs
        if seen == 3:
            os.kill(os.getpid(), signal.SIGTERM)

    with Engine.load(areas) as engine:
        report = run(engine, *open_pair(*cameras), tmp_path / "out", options=FAST, progress=interrupt)
    lines = [json.loads(line) for line in (tmp_path / "out" / "results.jsonl").read_text().splitlines()]
    check_files(report, lines, tmp_path / "out")
    assert (len(lines), report.exit_code) == (3, 128 + signal.SIGTERM)


def test_a_signal_before_the_first_result(areas: Path, cameras: tuple[str, str], tmp_path: Path) -> None:
    """No result, so no mean and no label maps; those of the run before go with its other files."""
    run_pair(areas, *cameras, tmp_path / "out")
    late = f"{cameras[1]}?fps=9&offset_ms=60000"  # nothing fits: every pair is dropped
    with Engine.load(areas) as engine:
        sources = open_pair(f"{cameras[0]}?fps=30", late)
        report = run(
            engine, *sources, tmp_path / "out", options=FAST, progress=lambda _: os.kill(os.getpid(), signal.SIGTERM)
        )
    assert (report.summary["results"], report.summary["areas"]) == (0, None)
    assert {path.name for path in (tmp_path / "out").iterdir()} == {"results.jsonl", "summary.json"}


@pytest.mark.slow
@pytest.mark.parametrize("delay", [0.0, 0.02])
def test_a_second_signal_leaves_no_label_map(areas: Path, tmp_path: Path, delay: float) -> None:
    street = "test://street?seed=1&width=320&height=240&duration=60"
    arguments = ["--engine", str(areas), "--visible", street, "--thermal", street, "--output", "out"]
    search = os.environ | {"PYTHONPATH": str(Path(mdrun.__file__).parents[1])}
    done = subprocess.run(
        [sys.executable, "-c", TWICE, *arguments],
        cwd=tmp_path,
        env=search | {"SIGNAL": str(int(signal.SIGTERM)), "DELAY": str(delay)},
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    left = sorted(path.name for path in (tmp_path / "out").iterdir()) if (tmp_path / "out").exists() else []
    assert left in ([], sorted(name.rstrip("/") for name in NAMES)), done.stderr


def call(capfd: pytest.CaptureFixture[str], *arguments: str) -> tuple[int, str, str]:
    code = run_command(cli, "mdrun", list(arguments))
    return code, *capfd.readouterr()


def test_the_command_on_the_street(areas: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    out = tmp_path / "out"
    arguments = ["--engine", str(areas), "--visible", STREET, "--thermal", STREET, "--output", str(out)]
    code, printed, err = call(capfd, *arguments)
    assert (code, err) == (0, "")
    assert {path.name for path in out.iterdir()} == {name.rstrip("/") for name in NAMES}
    assert len(list((out / "labels").iterdir())) == 4
    for words in ("mean areas", "unlabelled", " %", f"wrote {out}/labels/\n", "overlay.mp4"):
        assert words in printed
    assert "objects" not in printed
    code, printed, _ = call(capfd, *arguments, "--no-labels", "--no-overlay")
    assert (code, "mean areas" in printed) == (0, True)
    assert {path.name for path in out.iterdir()} == {"results.jsonl", "summary.json"}


@pytest.mark.parametrize("flag", ["--threshold", "--display-threshold"])
def test_thresholds_do_not_go_with_label_maps(
    areas: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], flag: str
) -> None:
    arguments = ["--engine", str(areas), "--visible", STREET, "--thermal", STREET, "--output", str(tmp_path / "out")]
    code, out, err = call(capfd, *arguments, flag, "0.5")
    assert (code, out, len(err.splitlines())) == (2, "", 1)
    assert "areas makes label maps, which have no scores; leave it out" in err
    assert list(tmp_path.iterdir()) == []


def test_from_python_a_display_threshold_is_refused_too(areas: Path, cameras: tuple[str, str], tmp_path: Path) -> None:
    with pytest.raises(UsageError, match="display threshold is given"):
        run_pair(areas, *cameras, tmp_path / "out", replace(FAST, display=0.5))


def test_info_and_models(
    areas: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    code, out, _ = call(capfd, "info", str(areas))
    assert code == 0
    for words in ("segment", "unlabelled, car, person", "int32 1x72x96"):
        assert words in out
    assert "thresholds" not in out
    write_areas(tmp_path / "areas.onnx")
    monkeypatch.setattr("mdrun.models.FOLDER", tmp_path)
    code, out, _ = call(capfd, "models")
    assert (code, "labels" in out, "unlabelled, car, person" in out) == (0, True, True)
    code, out, _ = call(capfd, "models", "--json")
    assert (code, json.loads(out)[0]["task"]) == (0, "segment")


def test_a_graph_that_is_not_the_manifests(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    """`info` still reads it; a run names what the engine gives and what it should."""
    manifest = make_segment_manifest()
    boxes = replace(manifest, outputs={"boxes": replace(manifest.outputs["labels"], shape=[1, 2, 4])})
    path = save(tmp_path / "boxes.onnx", boxes, [], {})
    assert call(capfd, "info", str(path))[0] == 0
    code, _, err = call(capfd, "--engine", str(path), "--visible", STREET)
    assert (code, len(err.splitlines())) == (3, 1)
    assert "outputs are boxes int32 [1, 2, 4], wanted labels int32 [1, 72, 96]" in err
