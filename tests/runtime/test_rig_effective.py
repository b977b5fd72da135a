"""`--print-config`: a rig file that does the same, with every value that will be used."""

from __future__ import annotations

from pathlib import Path

import pytest
import yaml

from mdrun.cli import cli
from mdrun.command import run_command
from mdrun.models import default_ladder
from mdrun.onnx_file import read_manifest
from mdrun.rig.config import NO_HURRY_MS, RigConfig, read_rigs
from mdrun.rig.effective import effective, print_config
from mdrun.rig.flags import rigs_of
from mdrun.rig.session import Session

CAMERAS = """\
cameras:
  cam0: {source: "rtsp://viewer:${GATE_PASSWORD}@10.0.0.5/visible", role: visible}
  cam1: {source: "/dev/v4l/by-id/usb-thermal?format=y16", role: thermal, offset_ms: -42, normalise: {rule: agc8}}
"""
STREETS = "cameras: {a: {source: 'test://street', role: visible}, b: {source: 'test://street', role: thermal}}\n"
RIGS = {
    "defaults": CAMERAS,
    "one camera": "cameras: {cam0: {source: 'test://street', role: visible}}\n",
    "recordings": STREETS,
    "recordings that do not wait": STREETS + "pairing: {wait_ms: 0}\n",
    "a replay": "cameras: {a: {source: 'replay://r', role: visible}, b: {source: 'replay://r', role: thermal}}\n",
    "a source of the environment": "cameras: {cam0: {source: '${CAMERA}', role: visible}}\n",
    "one threshold for all": CAMERAS + "display_threshold: 0.4\n",
    "a threshold for one": CAMERAS
    + "display_threshold: 0.4\nladder: {engines: [md-r18-slim_int8, {engine: md-r18-slim, display_threshold: 0.3, "
    "threshold: 0.1, backend: onnxruntime}]}\n",
    "odd words": CAMERAS + "rig: 'no'\ntracking: {alarms: [{on: new, classes: ['on', 'null', '1e3']}]}\n"
    "outputs: ['mqtt://m:${M}@broker', 'webhook:https://h/x?token=${T}', 'runs/ümlaut: x']\n",
    "several": "rigs:\n- rig: a\n  cameras: {a: {source: 'test://street', role: visible}}\n"
    "- rig: b\n  cameras: {a: {source: 'test://street?pace=live', role: visible}}\n",
}


def printed(tmp_path: Path, text: str) -> tuple[list[RigConfig], str]:
    path = tmp_path / "gate.yaml"
    path.write_text(text, encoding="utf-8")
    rigs = rigs_of([path], {})
    return rigs, print_config(rigs)


@pytest.mark.parametrize("name", RIGS)
def test_what_is_printed_is_the_same_rig(name: str, tmp_path: Path) -> None:
    rigs, text = printed(tmp_path, RIGS[name])
    again, same = printed(tmp_path, text)
    assert same == text
    assert again == [effective(rig) for rig in rigs]
    told = ["wait_ms" in rig.pairing.model_fields_set for rig in again]  # else a recording waits and a camera does not
    assert all(told) or name == "a source of the environment"


def test_the_ladder_and_its_thresholds_are_written_out(tmp_path: Path) -> None:
    _, text = printed(tmp_path, CAMERAS)
    found = yaml.safe_load(text)
    manifests = [read_manifest(path) for path in default_ladder()]
    assert found["ladder"]["engines"] == [
        {
            "engine": path.stem,
            "backend": "auto",
            "threshold": manifest.thresholds.report,
            "display_threshold": manifest.thresholds.display,
        }
        for path, manifest in zip(default_ladder(), manifests, strict=True)
    ]
    assert found["drift"]["limit_px"] == 3.0  # defaults that stand alone, too


@pytest.mark.parametrize(("name", "wait_ms"), [("recordings", NO_HURRY_MS), ("a replay", 0.0), ("defaults", 0.0)])
def test_how_long_pairs_wait(name: str, wait_ms: float, tmp_path: Path) -> None:
    _, text = printed(tmp_path, RIGS[name])
    assert yaml.safe_load(text)["pairing"]["wait_ms"] == wait_ms


def test_a_printed_rig_runs_as_the_one_it_came_from(tmp_path: Path) -> None:
    cameras = {role: {"source": f"test://street?frames=4&thermal_fps={fps}", "role": role}
               for role, fps in (("visible", 9), ("thermal", 9))}  # fmt: skip
    rig = {"cameras": cameras, "ladder": {"engines": ["md-r18-slim_int8"]}, "tracking": {"least_hits": 1}}
    found = []
    _, text = printed(tmp_path, yaml.safe_dump(rig))
    (tmp_path / "printed.yaml").write_text(text)
    for file in ("gate.yaml", "printed.yaml"):
        with Session(read_rigs(tmp_path / file)[0]) as session:
            results = list(session)
        found.append([
            (result.engine, result.display, result.thermal_provenance, result.track_ids.tolist(),
             result.detections.scores.tolist())
            for result in results
            if result.detections is not None and result.track_ids is not None
        ])  # fmt: skip
    assert len(found[0]) == 4
    assert found[0] == found[1]


def test_flags_are_in_it_and_paths_hold_anywhere(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "gate.yaml").write_text(
        CAMERAS + "ladder: {engines: [{engine: md-r18-slim, display_threshold: 0.3}]}\n"
    )
    Path("mine.onnx").symlink_to(default_ladder()[0])
    arguments = ["--rig", "gate.yaml", "--display-threshold", "0.6", "--threshold", "0.2", "--calibration", "c.yaml"]
    assert run_command(cli, "mdrun", [*arguments, "--print-config"]) == 0
    found = yaml.safe_load(capsys.readouterr().out)
    assert found["ladder"]["engines"] == [
        {"engine": "md-r18-slim", "backend": "auto", "threshold": 0.2, "display_threshold": 0.6}
    ]
    assert found["calibration"] == str(tmp_path / "c.yaml")
    assert run_command(cli, "mdrun", [*arguments, "--engine", "mine.onnx", "--print-config"]) == 0
    found = yaml.safe_load(capsys.readouterr().out)
    assert found["ladder"]["engines"][0]["engine"] == str(tmp_path / "mine.onnx")


def test_secrets_are_left_out_and_references_are_none(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    text = """\
rig: gate
cameras:
  cam0: {source: "rtsp://viewer:hunter2@10.0.0.5/visible?token=${TOKEN}", role: visible}
  cam1: {source: "rtsp://${USER_}:${GATE_PASSWORD}@10.0.0.5/ir", role: thermal}
outputs: ["mqtt://m:half${M}@broker", "webhook:https://h/x?token=hunter2&api_key=${KEY}"]
"""
    (tmp_path / "gate.yaml").write_text(text)
    assert run_command(cli, "mdrun", ["--rig", str(tmp_path / "gate.yaml"), "--print-config"]) == 0
    out, err = capsys.readouterr()
    found = yaml.safe_load(out)
    assert found["cameras"]["cam0"]["source"] == "rtsp://10.0.0.5/visible?token=${TOKEN}"
    assert found["cameras"]["cam1"]["source"] == "rtsp://${USER_}:${GATE_PASSWORD}@10.0.0.5/ir"
    assert found["outputs"] == ["mqtt://broker", "webhook:https://h/x?token=***&api_key=${KEY}"]
    assert err.startswith("mdrun: warning: gate: cam0, gate: outputs: passwords are left out")
