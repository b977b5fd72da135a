"""A run that is refused leaves everything as it was; another registration is told."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pytest

from mdrun.errors import OutputError
from mdrun.frames import Notice
from mdrun.registration.model import Origin, Registration
from mdrun.rig.config import RigConfig
from mdrun.rig.engines import EnginePool
from mdrun.rig.run import RigRun, run_rigs
from mdrun.sinks.rotate import RotatingFile, Rotation
from tests.runtime.engines import THERMAL_WH, VISIBLE_WH, write_blob
from tests.runtime.test_pipeline import write_folders


@pytest.fixture(scope="module")
def bench(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Recordings of four frames and an engine; no test changes it."""
    root = tmp_path_factory.mktemp("run")
    write_folders(root, 4, 4)
    write_blob(root / "blob.onnx")
    return root


def _rig(bench: Path, outputs: list[str], name: str = "bench") -> RigConfig:
    cameras = {
        "cam0": {"source": f"{bench}/visible?fps=10", "role": "visible"},
        "cam1": {"source": f"{bench}/thermal?fps=10", "role": "thermal"},
    }
    ladder = {"engines": [str(bench / "blob.onnx")], "threads": 1}
    data = {"rig": name, "cameras": cameras, "ladder": ladder, "drift": {"enabled": False}, "outputs": outputs}
    return RigConfig.model_validate(data)


def _contents(folder: Path) -> dict[str, bytes | None]:
    return {str(path.relative_to(folder)): path.read_bytes() if path.is_file() else None for path in folder.rglob("*")}


@pytest.mark.parametrize("rigs", [1, 2])
def test_a_run_that_is_refused_leaves_nothing_and_changes_nothing(bench: Path, tmp_path: Path, rigs: int) -> None:
    """Not the other outputs' files either, nor their folders, nor those that the rig before has begun."""
    for name in ("old.jsonl", "old.mp4", "run/results.jsonl", "run/overlay.mp4", "run/summary.json", "hls/index.m3u8"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).write_bytes(b'{"sequence": 1}\n{"seq')  # also a line that a power cut broke off
    (tmp_path / "hls" / "stream-7.ts").write_bytes(b"of an earlier run")
    os.utime(tmp_path / "old.jsonl", (0, 0))  # it is due
    (tmp_path / "empty.jsonl").touch()
    outputs = ["run", "new", "jsonl:old.jsonl?rotate=1d&keep=1", "jsonl:empty.jsonl", "video:old.mp4", "hls:hls"]
    outputs += ["jsonl:deep/er/x.jsonl", "video:deep/x.mp4", "coco:deeper/x.json", "hls:deep/hls"]
    outputs = [f"{word}:{tmp_path / path}" if path else str(tmp_path / word) for word, _, path in map(_parts, outputs)]
    taken = f"jsonl:{tmp_path}/taken.jsonl"
    held = RotatingFile(tmp_path / "taken.jsonl", Rotation())
    held.open(append=True)
    before = _contents(tmp_path)
    configs = [_rig(bench, [*outputs, taken])] if rigs == 1 else [_rig(bench, outputs), _rig(bench, [taken], "yard")]
    with pytest.raises(OutputError, match=r"taken\.jsonl: another process writes it"):
        run_rigs(configs)
    assert _contents(tmp_path) == before
    held.discard()
    run_rigs(configs)
    assert (tmp_path / "run" / "results.1.jsonl").read_bytes() == before["run/results.jsonl"]
    assert (tmp_path / "deep" / "er" / "x.jsonl").stat().st_size
    assert (tmp_path / "deeper" / "x.json").exists()
    assert not (tmp_path / "hls" / "stream-7.ts").exists()
    assert [len(path.read_bytes().splitlines()) for path in sorted(tmp_path.glob("old*.jsonl"))] == [2, 4]


def _parts(output: str) -> tuple[str, str, str]:
    return output.partition(":")


def test_another_registration_is_told_everywhere(
    bench: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = tmp_path / "gate.yaml"
    matrix = np.diag([VISIBLE_WH[0] / THERMAL_WH[0], VISIBLE_WH[1] / THERMAL_WH[1], 1.0])
    origin = Origin(residual_median_px=0.42)
    Registration.from_homography(matrix, VISIBLE_WH, THERMAL_WH, origin=origin).save(path)
    told: list[Notice] = []
    with EnginePool() as pool:
        run = RigRun(_rig(bench, [f"jsonl:{tmp_path}/x.jsonl"]), pool)
        monkeypatch.setattr(run.dispatch, "notify", told.append)  # which hands it to every output
        with caplog.at_level("INFO"):
            run.session.monitor.set_registration({"drift": {"shift_px": 9.0, "confidence": 0.9, "alarm": True}})
            run.session.set_registration(path)
        status = run.session.monitor.snapshot()
        run.stop()
        run.run()
    data = {"file": str(path), "mapping": "homography", "residual_px": 0.42}
    (notice,) = told
    assert (notice.kind, notice.data) == ("registration", data)
    assert {key: status["notices"][-1][key] for key in ("kind", *data)} == {"kind": "registration"} | data
    assert (status["registration"]["kind"], status["registration"]["drift"]) == ("homography", None)
    assert f"registration {path} is in use: homography, median error 0.42 px" in caplog.text
